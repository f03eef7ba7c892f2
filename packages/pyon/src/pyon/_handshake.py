"""TLS handshakes of a server, watched: what came, why it failed, and the alert that says so.

The one idea to keep in mind: asyncio makes the TLS object of a connection by `wrap_bio` of the
context that it was given. So `Handshake`, given in the context's place, sees each step.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Handshake"]

TIMEOUT = 10.0
"""Seconds for a TLS handshake: slow links need two; a port scanner holds a socket no longer."""

HEAD_SIZE = 60
"""Bytes kept of what came first: enough to recognise a client that does not speak TLS."""

_HANDSHAKE_RECORD = 0x16  # the first byte of every TLS connection


class Handshake(ssl.SSLContext):
    """Stands in for the context of one connection, and watches its handshake.

    A context itself only because event loops accept nothing else; nothing of its own is used.

    Parameters
    ----------
    context : ssl.SSLContext
        Of the server.
    sock : socket
        Accepted, not blocking.
    """

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._context = context
        self._sock = sock
        self._head = b""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        *_: Any,
        **__: Any,
    ) -> ssl.SSLObject:
        """See `ssl.SSLContext.wrap_bio`."""
        tls = self._context.wrap_bio(incoming, outgoing, server_side)
        step = tls.do_handshake

        def do_handshake() -> None:
            self._keep_head(incoming)
            self._step(step, outgoing)
            del tls.do_handshake  # done: nothing is to be watched any more

        tls.do_handshake = do_handshake  # type: ignore[method-assign]
        return tls

    def _keep_head(self, incoming: ssl.MemoryBIO) -> None:
        if not self._head and incoming.pending:
            data = incoming.read()
            incoming.write(data)
            self._head = data[:HEAD_SIZE]

    def _step(self, step: Callable[[], None], outgoing: ssl.MemoryBIO) -> None:
        try:
            step()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            # asyncio closes the connection and drops the alert that tells the client why.
            with contextlib.suppress(OSError):
                self._sock.send(outgoing.read())
            raise

    def failure(self, error: Exception) -> str | None:
        """Return why the handshake failed, None if the client has left without a word.

        Parameters
        ----------
        error : Exception
            What asyncio raised: an `OSError` (`ssl.SSLError`, `ConnectionError`, `TimeoutError`).
        """
        if not self._head:
            return (
                None if isinstance(error, ConnectionResetError) else f"{_text(error)}; got nothing"
            )
        if self._head[0] != _HANDSHAKE_RECORD:
            return f"expected TLS, got {self._head!r} ({_text(error)})"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the client's certificate was refused: {error.verify_message}"
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return f"the client has refused us: {_text(error)}"
        if isinstance(error, ConnectionResetError):
            return "the client left in the middle of it, perhaps because it refuses our certificate"
        return _text(error)


def _text(error: Exception) -> str:
    """Return what an error says, never empty."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
