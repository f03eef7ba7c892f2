"""Addresses with a scheme, as in ``nats://host/lab``: a publisher behind a gateway.

The one idea to keep in mind: a gateway acts as a publisher on one end of a socket pair, and the
subscriber has the other end. So a subscriber uses one protocol for all sources.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import socket
import urllib.parse
from typing import TYPE_CHECKING, Any

from sync_struct._protocol import read_banner

if TYPE_CHECKING:
    import ssl

    from sync_struct._subscriber_connection import SubscriberConnection

__all__ = ["connect_through", "gateway_of", "is_address", "name_in", "without_secrets"]

GATEWAYS = {"nats": "sync_struct.nats"}
"""The module of each scheme, imported when an address first needs it. It has two coroutine
functions. ``serve_subscriber(address, ssl, sock, request)`` returns when it is connected to its
source; it owns the socket from then on, and serves it until the subscriber closes it. `request` is
what the subscriber is going to send in its banner. ``read_history(address, ssl)`` returns the
records that the source still has."""


def is_address(host: str) -> bool:
    """Return whether a string is the address of a gateway, not a host."""
    return "://" in host


def name_in(address: str) -> str:
    """Return the name of the notifier in an address; empty if there is none."""
    return urllib.parse.unquote(urllib.parse.urlsplit(address).path.strip("/"))


def without_secrets(address: str) -> str:
    """Return an address for messages: without user, password and token."""
    return re.sub(r"(?<=//)[^/@]*@", "", address.partition("?")[0])


def gateway_of(address: str) -> Any:
    """Return the module of a gateway; raise `ValueError` for an unknown scheme."""
    scheme = address.partition("://")[0]
    if scheme not in GATEWAYS:
        known = ", ".join(f"{name}://" for name in GATEWAYS)
        raise ValueError(f"expected a host, or an address with {known}; got {scheme}://")
    return importlib.import_module(GATEWAYS[scheme])


async def connect_through(
    address: str, ssl: ssl.SSLContext | None, connection: SubscriberConnection
) -> None:
    """Connect a protocol object to the gateway of an address.

    Raises
    ------
    ValueError
        No gateway has this scheme.
    OSError
        The source of the gateway cannot be reached.
    """
    gateway = gateway_of(address)
    request = read_banner(connection.opening[0])
    near, far = socket.socketpair()
    try:
        near.setblocking(False)
        far.setblocking(False)
        await gateway.serve_subscriber(address, ssl, far, request)
    except BaseException:
        far.close()
        near.close()
        raise
    await asyncio.get_running_loop().create_connection(lambda: connection, sock=near)
