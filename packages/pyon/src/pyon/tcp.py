"""Functions for every TCP connection, blocking or not: keep-alive, addresses as text, TLS contexts.

Nothing here owns a socket. `ssl` is loaded only by the functions that create a context.
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
        """A socket, or the object that asyncio returns in place of one."""

        def setsockopt(self, level: int, optname: int, value: int, /) -> None: ...
        def shutdown(self, how: int, /) -> None: ...


__all__ = ["client_context", "format_address", "server_context", "set_keepalive", "shutdown"]

KEEPALIVE_IDLE = 10
"""Idle seconds before the first probe: routers drop an idle connection within minutes."""

KEEPALIVE_INTERVAL = 10
"""Seconds between probes."""

KEEPALIVE_PROBES = 3
"""Unanswered probes after which the connection is lost: 40 s in total."""

RETRANSMISSION_INTERVAL = 2.25
"""Maximum time between retransmissions, in seconds. Linux gives up after 15 of them, so a
connection whose peer does not acknowledge sent data is lost after some 35 s."""

UNACKNOWLEDGED_TIME = {"linux": 120, "darwin": 40, "win32": 40}
"""Seconds for which data may stay unacknowledged, where the retransmission interval cannot be set.
On Linux before 6.15 this limit also ends connections to live peers that do not read, such as a
server in a long call. Therefore it is longer there."""

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
"""The keep-alive options that this system has."""

_TCP_RTO_MAX_MS = 44  # Linux 6.15; the socket module has no names for these
_TCP_RXT_CONNDROPTIME = 0x80  # macOS
_TCP_MAXRT = 5  # Windows

_unknown: set[int] = set()
"""Options that this system does not support: later connections do not try them again."""


def set_keepalive(sock: _Socket) -> None:
    """Have the operating system detect within 40 s that a peer has disappeared.

    This works for idle connections and with data in flight. On Linux before 6.15 the detection
    takes 120 s if data is in flight. Connections to live peers that do not read are not affected.
    """
    # macOS refuses options on a connection that the peer has closed; the next read reports that.
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _TIMING:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        _limit_retransmissions(sock)
    except OSError:
        pass


def _limit_retransmissions(sock: _Socket) -> None:
    """Limit the time for which data may stay unacknowledged: there are no probes meanwhile."""
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
    """End a connection or a listening socket for all processes that have it.

    Closing the socket is not enough: while the child of a fork has it, the peer sees no end.
    """
    # OSError: closed already, or by the peer. TypeError: the sockets that uvloop returns refuse.
    with contextlib.suppress(OSError, TypeError):
        sock.shutdown(socket.SHUT_RDWR)


def format_address(address: Any) -> str:
    """Return a socket address as text.

    Parameters
    ----------
    address : tuple or None
        The result of `socket.getpeername`; None for a peer that has disconnected.

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
        This client's certificate and private key, PEM. The key must not be encrypted.
    peer_certificate : path
        The certificate of the server, or of the authority that signed it, PEM. No other server
        is accepted. Host names are not checked: instruments are moved, and the certificate is the
        identity.

    Raises
    ------
    OSError
        A file cannot be read (`FileNotFoundError`, `PermissionError`), or its content is wrong
        (`ssl.SSLError`, also an `OSError`). The error names the file and the parameter.

    Notes
    -----
    Create a certificate for each end, and copy it to the other end:

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
    # The pinned certificate is trusted as it is: it need not be that of an authority, nor have the
    # extensions that Python 3.13 and later require of public certificates.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
