"""TLS handshakes of a server, observed: the first bytes, the reason of a failure, the alert.

The one idea to keep in mind: asyncio creates the TLS object of a connection with the method
`wrap_bio` of the context. So a `Handshake`, passed in place of the context, sees each step.
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
"""Time-out of a TLS handshake, in seconds. Slow links need 2 s. A port scanner is cut off after
it."""

HEAD_SIZE = 60
"""Bytes kept of the beginning: enough to recognise a client that does not use TLS."""

_HANDSHAKE_RECORD = 0x16  # the first byte of every TLS connection


class Handshake(ssl.SSLContext):
    """A stand-in for the context of one connection that observes the handshake.

    It derives from `ssl.SSLContext` only because event loops accept nothing else; its own context
    is not used.

    Parameters
    ----------
    context : ssl.SSLContext
        The context of the server.
    sock : socket
        The accepted socket, non-blocking.
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
            del tls.do_handshake  # the handshake is complete: stop observing

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
            # asyncio closes the connection and discards the alert that tells the client why.
            with contextlib.suppress(OSError):
                self._sock.send(outgoing.read())
            raise

    def failure(self, error: Exception) -> str | None:
        """Return why the handshake failed; None if the client disconnected and sent nothing.

        Parameters
        ----------
        error : Exception
            The exception from asyncio: an `OSError` (`ssl.SSLError`, `ConnectionError`,
            `TimeoutError`).
        """
        if not self._head:
            return (
                None
                if isinstance(error, ConnectionResetError)
                else f"{_text(error)}; the client sent nothing"
            )
        if self._head[0] != _HANDSHAKE_RECORD:
            return f"expected TLS, got {self._head!r} ({_text(error)})"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the client's certificate was refused: {error.verify_message}"
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return f"the client refused the handshake: {_text(error)}"
        if isinstance(error, ConnectionResetError):
            return "the client disconnected during it, perhaps because it refuses our certificate"
        return _text(error)


def _text(error: Exception) -> str:
    """Return the text of an error, never empty."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
