"""Channel: one notifier of a publisher and its subscribers, on the event loop.

A subscriber's cursor decides what it is sent (see `_cursor`). A notifier wakes the loop once per
iteration; then every subscriber that is up to date is sent the same bytes. A subscriber whose
socket is full is skipped until asyncio reports that it accepts data again.
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
"""Seconds that an encoded structure is kept: when a publisher restarts, dashboards reconnect within
seconds of each other, and then none may connect for a day."""


class Counters(NamedTuple):
    """Counters of one notifier of a publisher."""

    subscribers: int
    """Subscribers at present."""

    backlog: int
    """Bytes of mods that the slowest subscriber has not been sent yet."""

    resyncs: int
    """How often a subscriber had to be sent the structure again, since the start."""

    sent: int
    """Bytes sent to subscribers since the start."""


class Outgoing(Protocol):
    """The interface of a subscriber's connection that a channel uses."""

    cursor: Cursor
    is_ready: bool  # it wants every mod, and its socket accepts data

    def send_now(self, data: bytes | memoryview) -> None:
        """Send bytes in this iteration of the loop."""

    def pump(self) -> None:
        """Send what the subscriber lacks, as much as the socket accepts."""

    def send_staleness(self) -> None:
        """Send whether the notifier is out of date, if that has changed."""

    def end(self, error: Exception) -> None:
        """Send an error and close."""


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
        """Start to record the changes of the notifier."""
        self._loop, self._thread = loop, threading.get_ident()
        self.log.structure.add_sink(self._record, self._with_v1)
        self.log.begin()

    def close(self, error: Exception) -> None:
        """Stop recording, and disconnect all subscribers with this error."""
        if self._loop is None:
            return
        self._loop = None
        self.log.structure.remove_sink(self._record, self._with_v1)
        self._forget_snapshots()
        for connection in self.connections.copy():
            connection.end(error)

    def set_stale(self, stale: bool) -> None:
        """Tell subscribers that the notifier is out of date, or up to date again."""
        if stale != self.log.stale:
            self.log.set_stale(stale)
            self._staleness_changed = True
            self.wake()

    def _record(self, changes: list[Change]) -> None:
        """Record changes of the notifier, in the thread that made them."""
        self.log.put(changes)
        if not self._due:
            self.wake()

    def wake(self) -> None:
        """Schedule the delivery of new mods to all subscribers. From any thread."""
        loop = self._loop
        if self._due or loop is None or loop.is_closed():
            return
        self._due = True
        if threading.get_ident() == self._thread:
            loop.call_soon(self._deliver)
        else:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        """Send new mods to the subscribers, once per iteration of the loop."""
        self._due = False
        self.log.collect()
        others: list[Outgoing] = []  # subscribers that need more than one small write
        chunks: Chunks | None = None
        number: int | None = -1
        encoding: Encoding | None = None
        last = size = sent = 0
        for connection in list(self.connections):  # with many subscribers, the hot loop
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
                connection.send_staleness()

    def schedule_forgetting(self) -> None:
        """Schedule forgetting the encoded structures, `SNAPSHOT_LIFETIME` after the first one."""
        if self._forgetting is None and self._loop is not None and self.log.has_snapshots:
            self._forgetting = self._loop.call_later(SNAPSHOT_LIFETIME, self._forget_snapshots)

    def _forget_snapshots(self) -> None:
        self.log.forget_snapshots()
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None

    def counters(self) -> Counters:
        """Return the present counters."""
        numbers = [connection.cursor.number for connection in self.connections]
        slowest = min((number for number in numbers if number is not None), default=None)
        behind = 0 if slowest is None else self.log.size_behind(slowest)
        return Counters(len(numbers), behind, self.log.resyncs, self.sent)
