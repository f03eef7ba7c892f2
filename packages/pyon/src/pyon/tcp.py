"""What every TCP connection of the stack has in common, blocking or not: keep-alive, names, TLS.

Nothing here owns a socket; `ssl` is loaded only by the functions that make a context.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    import ssl
    from typing import Protocol

    class _Socket(Protocol):
        """A socket, or what asyncio hands out in place of one."""

        def setsockopt(self, level: int, optname: int, value: int, /) -> None: ...
        def shutdown(self, how: int, /) -> None: ...


__all__ = ["client_context", "format_address", "server_context", "set_keepalive", "shutdown"]

KEEPALIVE_IDLE = 10
"""Seconds of silence before the first probe: routers forget a silent connection within minutes."""

KEEPALIVE_INTERVAL = 10
"""Seconds between probes."""

KEEPALIVE_PROBES = 3
"""Probes without an answer until the peer counts as gone: 40 s in all."""

RETRANSMISSION_INTERVAL = 2.25
"""Longest time between retransmissions, in seconds. Linux gives up after 15 of them, so that a peer
that does not acknowledge what was sent counts as gone after some 35 s."""

UNACKNOWLEDGED_TIME = {"linux": 120, "darwin": 40, "win32": 40}
"""Seconds that data may go unacknowledged, where the interval of retransmissions cannot be set. On
Linux before 6.15 the same limit ends connections to peers that are alive but do not read, such as a
server in the middle of a long call: it leaves them time."""

_IDLE = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # macOS
_TIMING = [
    (getattr(socket, name), value)
    for name, value in {
        _IDLE: KEEPALIVE_IDLE,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
    }.items()
    if hasattr(socket, name)
]
"""Those options of the system that it has."""

_TCP_RTO_MAX_MS = 44  # Linux 6.15; the socket module has no names for these
_TCP_RXT_CONNDROPTIME = 0x80  # macOS
_TCP_MAXRT = 5  # Windows

_unknown: set[int] = set()
"""Options that this system turned out not to have: no connection tries them again."""


def set_keepalive(sock: _Socket) -> None:
    """Have the operating system notice a peer that is gone without a goodbye, within 40 s.

    It is noticed whether the connection is silent or data is in flight. On Linux before 6.15 it
    takes 120 s if data is in flight. A peer that is alive but does not read is not affected.
    """
    # macOS refuses options on a connection that the peer has closed already: reading will tell.
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _TIMING:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        _limit_retransmissions(sock)
    except OSError:
        pass


def _limit_retransmissions(sock: _Socket) -> None:
    """Bound the time that data may go unacknowledged: keep-alive rests while some is in flight."""
    if sys.platform == "linux":
        if _TCP_RTO_MAX_MS not in _unknown:
            try:
                interval = int(1000 * RETRANSMISSION_INTERVAL)
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, interval)
                return
            except OSError as error:
                if error.errno == errno.ENOPROTOOPT:
                    _unknown.add(_TCP_RTO_MAX_MS)
        limit = 1000 * UNACKNOWLEDGED_TIME["linux"]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
    elif sys.platform == "darwin":
        limit = UNACKNOWLEDGED_TIME["darwin"]
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_RXT_CONNDROPTIME, limit)
    elif sys.platform == "win32":
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_MAXRT, UNACKNOWLEDGED_TIME["win32"])


def shutdown(sock: _Socket) -> None:
    """End a connection or a listening socket for every process that holds it.

    To close a socket is not enough: while the child of a fork has it still, the peer hears nothing.
    """
    # It is closed already, or the peer was faster; the sockets that uvloop shows refuse: TypeError.
    with contextlib.suppress(OSError, TypeError):
        sock.shutdown(socket.SHUT_RDWR)


def format_address(address: Any) -> str:
    """Return a socket address as people write it.

    Parameters
    ----------
    address : tuple or None
        What `socket.getpeername` returns; None for a peer that is already gone.

    Examples
    --------
    >>> format_address(("127.0.0.1", 3251)), format_address(("::1", 3251, 0, 0))
    ('127.0.0.1:3251', '[::1]:3251')
    """
    if not isinstance(address, tuple):
        return str(address or "unknown peer")
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def client_context(
    own_certificate: str | os.PathLike[str],
    own_key: str | os.PathLike[str],
    peer_certificate: str | os.PathLike[str],
) -> ssl.SSLContext:
    """Return the TLS context of a client that authenticates itself and pins its server.

    Parameters
    ----------
    own_certificate, own_key : path
        This client's certificate and private key, PEM. The key is not encrypted.
    peer_certificate : path
        The certificate of the server, or of the authority that signed it, PEM. No other server
        is accepted. Host names are not compared: instruments move, and the certificate is the
        identity.

    Raises
    ------
    OSError
        A file cannot be read (`FileNotFoundError`, `PermissionError`), or it is not what it should
        be (`ssl.SSLError`, also an `OSError`). The error names the file and the parameter.

    Notes
    -----
    Each end makes a certificate for itself, and gets a copy of the other one's:

    .. code-block:: sh

        openssl req -x509 -newkey rsa -nodes -days 3650 -subj /CN=server -keyout server.key -out server.pem
        openssl req -x509 -newkey rsa -nodes -days 3650 -subj /CN=client -keyout client.key -out client.pem
    """  # noqa: E501
    import ssl

    return _pinned(ssl.Purpose.SERVER_AUTH, own_certificate, own_key, peer_certificate)


def server_context(
    own_certificate: str | os.PathLike[str],
    own_key: str | os.PathLike[str],
    peer_certificate: str | os.PathLike[str],
) -> ssl.SSLContext:
    """Return the TLS context of a server that authenticates itself and pins its clients.

    The parameters and errors are those of `client_context`, seen from the other end.
    """
    import ssl

    return _pinned(ssl.Purpose.CLIENT_AUTH, own_certificate, own_key, peer_certificate)


def _pinned(
    purpose: ssl.Purpose,
    own_certificate: str | os.PathLike[str],
    own_key: str | os.PathLike[str],
    peer_certificate: str | os.PathLike[str],
) -> ssl.SSLContext:
    import ssl

    from pyon._certificates import load

    context = load(purpose, own_certificate, own_key, peer_certificate)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # The pinned certificate is trusted as it is: it need not be an authority's, nor have the
    # extensions that Python 3.13 and later ask of certificates from the open Internet.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
