"""Addresses with a scheme, as in ``nats://host/lab``: a publisher behind a gateway.

The one idea to keep in mind: a gateway speaks as a publisher does, on one end of a socket pair, and
the subscriber has the other end. So a subscriber has one protocol, wherever the bytes come from.
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
"""The module of each scheme, imported when an address first asks for it. It has a coroutine
function ``serve_subscriber(address, ssl, sock, request)``, which returns once the engine is reached
and then serves on the socket, which is its own from then on, until the subscriber closes it (what
the subscriber is going to ask for there is said beforehand), and one ``read_history(address, ssl)``
that returns the records of what the engine still has."""


def is_address(host: str) -> bool:
    """Tell whether this names a gateway, and no host."""
    return "://" in host


def name_in(address: str) -> str:
    """Return the name of the notifier in an address; empty if there is none."""
    return urllib.parse.unquote(urllib.parse.urlsplit(address).path.strip("/"))


def without_secrets(address: str) -> str:
    """Return an address as it may be shown: without user, password or token."""
    return re.sub(r"(?<=//)[^/@]*@", "", address.partition("?")[0])


def gateway_of(address: str) -> Any:
    """Return the module of a gateway, or raise `ValueError` if no one has this scheme."""
    scheme = address.partition("://")[0]
    if scheme not in GATEWAYS:
        known = ", ".join(f"{name}://" for name in GATEWAYS)
        raise ValueError(f"expected a host, or an address with {known}; got {scheme}://")
    return importlib.import_module(GATEWAYS[scheme])


async def connect_through(
    address: str, ssl: ssl.SSLContext | None, connection: SubscriberConnection
) -> None:
    """Connect a protocol object to what an address names.

    Raises
    ------
    ValueError
        No gateway has this scheme.
    OSError
        The engine cannot be reached.
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
