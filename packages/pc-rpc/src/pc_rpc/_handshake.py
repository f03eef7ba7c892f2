"""The handshake at the server: banner and selection, within time limits.

The one idea to keep in mind: a `Handshake` reads the lines of a connection until the client has
selected a target, and then tells the session which. A client that does anything else is refused.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pyon.framing import Message

from pc_rpc._errors import ProtocolError
from pc_rpc._protocol import BANNER, SELECTION_LIMIT

if TYPE_CHECKING:
    from pc_rpc._protocol import ServerSide
    from pc_rpc._session import Session

BANNER_TIMEOUT = 10.0
"""Seconds until the banner must have come. Clients send it at once; a port scanner never does."""

SELECTION_TIMEOUT = 600.0
"""Seconds until a target must be selected: a person may be choosing it."""


class Handshake:
    """The handshake of one connection.

    Parameters
    ----------
    session : Session
        The connection. Its `refuse` is called with the reason to close it, its `greet` after the
        banner, and its `select` with the name of a target, after which no line may come.
    side : ServerSide
        Reads the selection.
    """

    __slots__ = ("_deadline", "_greeted", "_session", "_side")

    def __init__(self, session: Session, side: ServerSide) -> None:
        self._session = session
        self._side = side
        self._greeted = False
        self._deadline: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the time limits."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(BANNER_TIMEOUT, self._banner_timed_out)

    def stop(self) -> None:
        """Cancel the time limits."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def read(self, message: Message) -> None:
        """Read a line: the banner, then the selection."""
        if self._greeted:
            self._read_selection(message)
        elif message.line == BANNER:
            self._greeted = True
            self._session.greet()
        else:
            expected = f"expected the banner {BANNER.decode()!r}"
            self._session.refuse(f"{expected}, got {message.line[:60]!r}")

    def read_text(self, text: str) -> int:
        """Read a line that came alone in a read; see `Connection.lines_received`."""
        if text.count("\n") > 1 or len(text) > SELECTION_LIMIT:
            return 0
        self.read(Message(text[:-1].encode()))
        return len(text)

    def check_pending(self, size: int) -> None:
        """Refuse a client whose incomplete line is longer than a banner: TLS, for example."""
        if not self._greeted and size > len(BANNER):
            self._session.refuse("expected the banner, got something else")

    def _banner_timed_out(self) -> None:
        """Refuse a client that has sent no banner; else start the time-out of the selection."""
        if not self._greeted:
            self._session.refuse(f"no banner within {BANNER_TIMEOUT:g} s")
            return
        loop, more = asyncio.get_running_loop(), max(SELECTION_TIMEOUT - BANNER_TIMEOUT, 0)
        late = f"no target selected within {SELECTION_TIMEOUT:g} s"
        self._deadline = loop.call_later(more, self._session.refuse, late)

    def _read_selection(self, message: Message) -> None:
        try:
            name = self._side.read_selection(bytes(message.line))
        except ProtocolError as error:
            self._session.refuse(error)
            return
        self.stop()
        self._session.select(name)
