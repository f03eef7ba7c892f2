"""Channel: one notifier of a publisher and its subscribers, as the event loop sees them.

What each subscriber is sent is decided by its cursor (see `_cursor`). A notifier wakes the loop
once per turn; then every subscriber that is up to date is sent the same bytes. One whose socket is
full is left alone until asyncio says that it takes data again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sync_struct._cursor import Cursor, small_step

if TYPE_CHECKING:
    from sync_struct._change import Change
    from sync_struct._encoding import Chunks, Encoding
    from sync_struct._log import Log

__all__ = ["Channel", "Counters", "Outgoing"]

SNAPSHOT_LIFETIME = 2.0
"""Seconds that an encoded structure is kept: dashboards come back within seconds of each other
when a publisher restarts, and then nobody for a day."""


class Counters(NamedTuple):
    """Figures about one notifier of a publisher."""

    subscribers: int
    """Subscribers now."""

    backlog: int
    """Bytes of mods that the slowest subscriber has not been sent."""

    resyncs: int
    """How often a subscriber had to be sent the structure anew, since the start."""

    sent: int
    """Bytes sent to subscribers, since the start."""


class Outgoing(Protocol):
    """A subscriber's connection, as far as a channel knows it."""

    cursor: Cursor
    is_ready: bool  # it takes all that is new, at once

    def send_now(self, data: bytes | memoryview) -> None:
        """Send bytes, in this turn of the loop."""

    def pump(self) -> None:
        """Send what the subscriber needs, as much as the socket is going to take."""

    def tell_staleness(self) -> None:
        """Say whether the notifier is out of date, if the subscriber believes otherwise."""

    def end(self, error: Exception) -> None:
        """Say why, and close."""


class Channel:
    """One notifier of a publisher and the subscribers that are connected to it."""

    def __init__(self, log: Log, legacy_version: int, disconnects_slow: bool) -> None:
        self.log = log
        self.log.notify = self.wake
        self.disconnects_slow = disconnects_slow
        self.connections: set[Outgoing] = set()
        self.sent = 0
        self._with_v1 = legacy_version == 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._due = False
        self._staleness_changed = False
        self._forgetting: asyncio.TimerHandle | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to listen to the notifier."""
        self._loop, self._thread = loop, threading.get_ident()
        self.log.structure.add_sink(self._tell, self._with_v1)
        self.log.begin()

    def close(self, error: Exception) -> None:
        """Stop listening, and disconnect everybody for this reason."""
        if self._loop is None:
            return
        self._loop = None
        self.log.structure.remove_sink(self._tell, self._with_v1)
        self._forget_snapshots()
        for connection in self.connections.copy():
            connection.end(error)

    def set_stale(self, stale: bool) -> None:
        """Have subscribers told that the notifier is out of date, or not any more."""
        if stale != self.log.stale:
            self.log.set_stale(stale)
            self._staleness_changed = True
            self.wake()

    def _tell(self, changes: list[Change]) -> None:
        """Take changes of the notifier, in the thread in which they were made."""
        self.log.tell(changes)
        if not self._due:
            self.wake()

    def wake(self) -> None:
        """Have everybody sent what is new, soon. From any thread."""
        loop = self._loop
        if self._due or loop is None or loop.is_closed():
            return
        self._due = True
        if threading.get_ident() == self._thread:
            loop.call_soon(self._deliver)
        else:
            with contextlib.suppress(RuntimeError):  # it has been closed in this moment
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        """Bring what is new to the subscribers, in the turn of the loop after it was made."""
        self._due = False
        self.log.collect()
        others: list[Outgoing] = []  # those who need more than one small write
        chunks: Chunks | None = None
        number: int | None = -1
        encoding: Encoding | None = None
        last = size = sent = 0
        for connection in list(self.connections):  # with many of them, what matters for speed
            cursor = connection.cursor
            if not connection.is_ready:
                others.append(connection)
                continue
            if cursor.number != number or cursor.encoding is not encoding:
                number, encoding = cursor.number, cursor.encoding
                last, chunks, size = small_step(self.log, number, encoding)
            if chunks is None:
                others.append(connection)
                continue
            for chunk in chunks:
                connection.send_now(chunk)
            cursor.number = last
            sent += size
        self.sent += sent
        for connection in others:
            connection.pump()
        if self._staleness_changed:
            self._staleness_changed = False
            for connection in self.connections.copy():
                connection.tell_staleness()

    def keep_snapshots(self) -> None:
        """Forget the encoded structures after a while, counted from the first of them."""
        if self._forgetting is None and self._loop is not None and self.log.has_snapshots:
            self._forgetting = self._loop.call_later(SNAPSHOT_LIFETIME, self._forget_snapshots)

    def _forget_snapshots(self) -> None:
        self.log.forget_snapshots()
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None

    def counters(self) -> Counters:
        """Return the figures as they are now."""
        numbers = [connection.cursor.number for connection in self.connections]
        slowest = min((number for number in numbers if number is not None), default=None)
        behind = 0 if slowest is None else self.log.size_behind(slowest)
        return Counters(len(numbers), behind, self.log.resyncs, self.sent)
