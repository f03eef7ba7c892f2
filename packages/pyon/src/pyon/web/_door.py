"""Where a site is served: from the command line, with checks of the bound addresses.

The one idea to keep in mind: the addresses to which the sockets are bound are checked, not the one
that was requested, and they are checked before the first request is answered.
"""

from __future__ import annotations

import os
import secrets
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyon._accepting import cannot_listen
from pyon.web._access import SHORTEST_TOKEN, is_loopback

if TYPE_CHECKING:
    import argparse

__all__ = ["Door", "bind_sockets", "door_of", "require_guard"]


@dataclass(frozen=True)
class Door:
    """Where a site is served, and the conditions of access.

    Attributes
    ----------
    bind : str
        Address to listen on. An address that is not a loopback address needs `token` and `tls`.
    port : int
        TCP port. 0: any free port.
    token : str or None
        The token that visitors must enter, at least 16 characters. None: no token is required.
    tls : ssl.SSLContext or None
        Serve HTTPS with this context. None: serve HTTP.
    names : tuple of str
        Host names of the site, besides numeric addresses and "localhost".
    """

    bind: str = "127.0.0.1"
    port: int = 0
    token: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ValueError(
                f"expected a token of at least {SHORTEST_TOKEN} characters, got {len(self.token)}"
            )


def door_of(options: argparse.Namespace, *, always_token: bool = False) -> Door:
    """Return the `Door` of the options of `pyon.tcp_options.add_page_options`.

    Raises
    ------
    OSError
        A file cannot be used.
    ValueError
        An option is missing, or the token is too short or readable by others.
    """
    token = _token(Path(options.token_file)) if options.token_file else None
    if token is None and always_token:
        token = secrets.token_urlsafe(24)
    if (options.https_cert is None) != (options.https_key is None):
        raise ValueError("HTTPS needs --https-cert and --https-key")
    tls = None
    if options.https_cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.https_cert, options.https_key, _no_password)
    return Door(options.bind, options.serve_port, token, tls, tuple(options.host_name))


def _no_password() -> str:
    raise ValueError("the private key is encrypted; write it without a password: openssl pkey")


def _token(path: Path) -> str:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise ValueError(f"{path} can be read by other users; restrict it with chmod 600")
    return path.read_text(encoding="utf-8").strip()


def bind_sockets(door: Door) -> list[socket.socket]:
    """Return sockets that are bound but do not listen yet.

    Raises
    ------
    OSError
        The address cannot be bound.
    ValueError
        Other machines could connect without a token or without TLS.
    """
    try:
        return _bind_all(door)
    except OSError as error:
        raise cannot_listen(error, door.bind, door.port) from error


def _bind_all(door: Door) -> list[socket.socket]:
    found = socket.getaddrinfo(
        door.bind or None, door.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            port = sockets[0].getsockname()[1] if sockets else door.port
            sockets.append(_bind(family, kind, protocol, (address[0], port, *address[2:])))
        require_guard((one.getsockname()[0] for one in sockets), door)
    except BaseException:
        for one in sockets:
            one.close()
        raise
    return sockets


def _bind(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    one = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # on Windows it lets other programs take the port
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except BaseException:
        one.close()
        raise
    return one


def require_guard(addresses: Iterable[str], door: Door) -> None:
    """Refuse to serve other machines without both a token and TLS.

    Raises
    ------
    ValueError
        An address is not a loopback address, and the door has no token or no TLS.
    """
    outside = [host for host in addresses if not is_loopback(host)]
    if outside and (door.token is None or door.tls is None):
        raise ValueError(
            f"refusing to serve on {', '.join(outside)}: other computers can reach it, so a page "
            "needs a token (--token-file) and HTTPS (--https-cert, --https-key)"
        )
