"""A subscriber's connection at the publisher, between a socket and a `PublisherSide`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyon
from pyon.asyncio_connection import Connection
from pyon.framing import Message, frame_size

from sync_struct._errors import ProtocolError, SubscriptionLost, UnknownNotifier
from sync_struct._protocol import BANNER_LIMIT, refusal

if TYPE_CHECKING:
    from sync_struct._channel import Channel
    from sync_struct._cursor import Cursor
    from sync_struct._publisher_side import PublisherSide

__all__ = ["PublisherConnection", "Unidentified"]

_logger = logging.getLogger("sync_struct")

BANNER_TIMEOUT = 10.0
"""Seconds that a client may take to send its banner; it is one line, sent at once."""

MOST_UNIDENTIFIED = 1000
"""Maximum number of clients without a valid banner that are kept for longer than `LEAST_TIME`."""

LEAST_TIME = 2.0
"""Seconds that every client has for its banner, even if all subscribers of a laboratory reconnect
at once: thousands of connections are accepted before the first banner is read."""


class PublisherConnection(Connection):
    """A subscriber's connection.

    Parameters
    ----------
    side : PublisherSide
        The publisher's half of the conversation.
    find : callable
        Returns the channel of the notifier of a name; raises `UnknownNotifier`.
    unidentified : Unidentified
        The clients that have not sent a banner yet.

    Attributes
    ----------
    cursor : Cursor
        The subscriber's position; set when it has been identified.
    is_ready : bool
        Whether new mods can be sent at once: it wants every mod, and its socket accepts data.
    """

    cursor: Cursor

    def __init__(
        self,
        side: PublisherSide,
        find: Callable[[str], Channel],
        unidentified: Unidentified,
        *,
        scratch: bytearray,
    ) -> None:
        super().__init__(limit=BANNER_LIMIT, scratch=scratch)
        self._side = side
        self._find = find
        self._unidentified = unidentified
        self._channel: Channel | None = None
        self._full = False  # the socket accepts no data (`writable` considers the queue, too)
        self.is_ready = False
        self._timer: asyncio.TimerHandle | None = None

    # Receiving.

    def connection_opened(self) -> None:
        """See `Connection`."""
        self._unidentified.add(self, self._loop)

    def give_up(self, reason: str) -> None:
        """Close: the client has not identified itself."""
        _logger.warning("%s: %s; closed", self.peername, reason)
        self.abort()

    def message_received(self, message: Message) -> None:
        """See `Connection`."""
        try:
            if message.oversize:
                raise ProtocolError(f"the subscriber sent a line of {message.oversize} bytes")
            for answer in self._side.receive(bytes(message.line)):
                self.send(answer)
        except SubscriptionLost as error:
            self.end(error)
            return
        except (ProtocolError, UnknownNotifier) as error:
            _logger.warning("%s: %s; closed", self.peername, error)
            self.end(error)
            return
        if self._channel is None and self._side.cursor is not None:
            self._join(self._find(self._side.name), self._side.cursor)
        if self._channel is not None:
            self.pump()

    def _join(self, channel: Channel, cursor: Cursor) -> None:
        self._unidentified.remove(self)
        self.cursor, self._channel = cursor, channel
        self.is_ready = self._side.is_immediate and not self._full
        channel.connections.add(self)

    # Sending.

    def pump(self) -> None:
        """See `Outgoing`."""
        channel = self._channel
        wait = self._side.wait(self._loop.time())
        if self._full or self.closed or channel is None or wait is None:
            return
        if wait:
            if self._timer is None:
                self._timer = self._loop.call_later(wait, self._wake)
        elif channel.disconnects_slow and self.cursor.overrun:
            _logger.warning("%s: lags by more than the backlog; closed", self.peername)
            self.abort()
        else:
            self._send_next(channel)

    def _wake(self) -> None:
        self._timer = None
        self.pump()

    def _send_next(self, channel: Channel) -> None:
        try:
            chunks = self._side.take(self._loop.time())
        except (UnknownNotifier, pyon.EncodeError) as error:
            _logger.warning("%s: %s; closed", self.peername, error)
            self.end(error)
            return
        if chunks is None:
            return  # the channel calls `pump` when the structure is not being changed any more
        channel.schedule_forgetting()
        if chunks:
            self.send_chunks(chunks)
            channel.sent += frame_size(chunks)
        self.send_staleness()
        if self.cursor.behind:
            self._loop.call_soon(self.pump)

    def send_staleness(self) -> None:
        """See `Outgoing`."""
        if self._full or self.closed:
            return
        notice = self._side.staleness()
        if notice is not None:
            self.send(notice)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        super().pause_writing()
        self._full = True
        self.is_ready = False

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._full = False
        super().resume_writing()
        self.is_ready = self._side.is_immediate and not self._full
        self.pump()
        self.send_staleness()

    # Closing.

    def end(self, error: Exception) -> None:
        """Send the error, if the protocol has it, and close."""
        if not self._side.legacy:
            self.send(refusal(error))
        self.close()

    def connection_closed(self, exc: Exception | None) -> None:
        """See `Connection`."""
        self._unidentified.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._channel is not None:
            self._channel.connections.discard(self)


class Unidentified:
    """The clients of a publisher that have not sent a valid banner yet."""

    def __init__(self) -> None:
        self._timers: dict[PublisherConnection, asyncio.TimerHandle] = {}  # oldest first

    def add(self, connection: PublisherConnection, loop: asyncio.AbstractEventLoop) -> None:
        """Start to wait for the banner of a client; disconnect the oldest if there are too many."""
        reason = f"no valid banner within {BANNER_TIMEOUT:g} s"
        self._timers[connection] = loop.call_later(BANNER_TIMEOUT, connection.give_up, reason)
        oldest, timer = next(iter(self._timers.items()))
        since = BANNER_TIMEOUT - (timer.when() - loop.time())
        if len(self._timers) > MOST_UNIDENTIFIED and since >= LEAST_TIME:
            oldest.give_up(f"no valid banner yet, and {MOST_UNIDENTIFIED} clients wait already")

    def remove(self, connection: PublisherConnection) -> None:
        """Remove a client that has sent its banner or has disconnected."""
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()
