"""Subscriptions: the connections of a publisher's subscribers, and what they have in common.

Logs decide what each subscriber gets (see `_log`); here it is brought to the sockets. A
notifier wakes the loop once per turn, then every subscriber that keeps up is given the same bytes.
One whose socket is full is left alone until asyncio says that it takes data again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import threading
from collections.abc import Callable
from typing import NamedTuple

import pyon
from pyon.asyncio_connection import Connection
from pyon.framing import Message, frame_size

from sync_struct._change import Change
from sync_struct._errors import ProtocolError, SubscriptionLost, UnknownNotifier
from sync_struct._log import Chunks, Cursor, Encoding, Log
from sync_struct._protocol import (
    ABSENT_PARTS,
    BANNER_LIMIT,
    GROWING_ARRAYS,
    LEGACY_BANNER,
    RAW_BUFFERS,
    Request,
    control,
    read_banner,
    refusal,
    shorten,
)

__all__ = ["Channel", "Counters", "Subscription"]

_logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a client may take to say what it wants; it is one line, sent at once."""

MOST_STRANGERS = 1000
"""Clients that have not said yet what they want, at most; beyond that the oldest has to go. All the
subscribers of a laboratory may come back at once, and none of them takes long to say it."""

SNAPSHOT_LIFETIME = 2.0
"""Seconds that an encoded structure is kept: dashboards come back within seconds of each other
when a publisher restarts, and then nobody for a day."""


FEATURES = (RAW_BUFFERS, GROWING_ARRAYS, ABSENT_PARTS)

PIECE_SIZE = 256 * 2**10
"""Bytes that are handed to the socket at once; more is for the queue, which cuts it into pieces."""


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


class Channel:
    """One notifier of a publisher and the subscribers that are connected to it."""

    def __init__(self, log: Log, legacy_version: int, disconnects_slow: bool) -> None:
        self.log = log
        self.log.notify = self.wake
        self.disconnects_slow = disconnects_slow
        self.subscriptions: set[Subscription] = set()
        self.sent = 0
        self._with_v1 = legacy_version == 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._due = False
        self._forgetting: asyncio.TimerHandle | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to listen to the notifier."""
        self._loop, self._thread = loop, threading.get_ident()
        self.log.structure.add_sink(self._tell, self._with_v1)
        self.log.begin()

    def close(self, reason: str) -> None:
        """Stop to listen, and disconnect everybody."""
        if self._loop is None:
            return
        self._loop = None
        self.log.structure.remove_sink(self._tell, self._with_v1)
        self._forget_snapshots()
        for subscription in self.subscriptions.copy():
            subscription.end(SubscriptionLost(reason))

    def _tell(self, changes: list[Change]) -> None:
        """Take changes of the notifier, in whatever thread they were made."""
        self.log.tell(changes)
        self.wake()

    def wake(self) -> None:
        """Have everybody given what is new, soon. From any thread."""
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
        last = sent = 0
        number: int | None = -1
        encoding: Encoding | None = None
        chunks: Chunks | None = None
        size = 0
        for subscription in list(self.subscriptions):
            cursor = subscription.cursor
            if cursor.number != number or cursor.encoding is not encoding:
                number, encoding = cursor.number, cursor.encoding
                last, chunks, size = self._news(number, encoding)
            if chunks is None or not subscription.keeps_up:
                subscription.pump()
            else:  # the path that matters for speed
                cursor.number = last
                for chunk in chunks:
                    subscription.send_now(chunk)
                sent += size
        self.sent += sent

    def _news(self, number: int | None, encoding: Encoding) -> tuple[int, Chunks | None, int]:
        """Return what who has mod `number` lacks, if it can be written at once.

        That is up to which number it goes, the chunks and their size. (The log may get longer
        while it is delivered: a snapshot that somebody needs collects what other threads made.)
        """
        if number is not None and number >= self.log.oldest:
            last, chunks = self.log.span(number, encoding)
            size = 0 if chunks is None else frame_size(chunks)
            if last == self.log.number and size <= PIECE_SIZE:
                return last, chunks, size
        return 0, None, 0

    def keep_snapshots(self) -> None:
        """Forget the encoded structures after a while, counted from now."""
        if self._forgetting is None and self._loop is not None:
            self._forgetting = self._loop.call_later(SNAPSHOT_LIFETIME, self._forget_snapshots)

    def _forget_snapshots(self) -> None:
        self.log.forget_snapshots()
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None

    def counters(self) -> Counters:
        numbers = [subscription.cursor.number for subscription in self.subscriptions]
        slowest = min((number for number in numbers if number is not None), default=None)
        behind = 0 if slowest is None else self.log.size_behind(slowest)
        return Counters(len(numbers), behind, self.log.resyncs, self.sent)


class Subscription(Connection):
    """A subscriber's connection, from the first byte on.

    Attributes
    ----------
    cursor : Cursor
        What the subscriber has and needs; from when it is one of the channel's on.
    keeps_up : bool
        Whether it is given what is new at once, since it wants all of it and its socket takes more.
    """

    cursor: Cursor

    def __init__(
        self,
        find: Callable[[str], Channel],
        strangers: dict[Subscription, None],
        legacy_version: int,
        *,
        scratch: bytearray,
    ) -> None:
        super().__init__(limit=BANNER_LIMIT, scratch=scratch)
        self._find = find
        self._strangers = strangers  # in order of their coming
        self._channel: Channel | None = None
        self._legacy_version = legacy_version
        self._legacy = False  # the established banner has come, the name follows
        self._full = False  # the socket does not take more
        self.keeps_up = False
        self._pace: _Pace | None = None
        self._patience: asyncio.TimerHandle | None = None

    # What the subscriber says.

    def connection_opened(self) -> None:
        self._patience = self._loop.call_later(HANDSHAKE_TIMEOUT, self._lose_patience)
        self._strangers[self] = None
        if len(self._strangers) > MOST_STRANGERS:
            next(iter(self._strangers))._lose_patience()

    def _lose_patience(self) -> None:
        _logger.warning("%s: said nothing that a subscriber says; closed", self.peername)
        self._settle_in()
        self.abort()

    def _settle_in(self) -> None:
        """Be a stranger no more: known, or gone."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
            del self._strangers[self]

    def message_received(self, message: Message) -> None:
        try:
            if message.oversize:
                raise ProtocolError(f"got a line of {message.oversize} bytes, from a subscriber")
            line = bytes(message.line)
            if self._channel is not None:
                self._hear(line)
            elif self._legacy:
                self._serve_legacy(line)
            elif line == LEGACY_BANNER:
                self._legacy = True
            else:
                self._serve(read_banner(line))
        except (ProtocolError, UnknownNotifier, pyon.EncodeError) as error:
            _logger.warning("%s: %s; closed", self.peername, error)
            self.end(error)

    def _serve_legacy(self, line: bytes) -> None:
        try:
            name = line.decode()
        except UnicodeDecodeError:
            raise ProtocolError(f"expected a name in UTF-8, got {shorten(line)}") from None
        channel = self._find(name)
        self._begin(channel, Cursor(channel.log, Encoding(self._legacy_version, numbered=False)))

    def _serve(self, request: Request) -> None:
        channel = self._find(request.name)
        log = channel.log
        tells_absence = ABSENT_PARTS in request.features
        if request.wish.path and not request.wish.mods_only and not tells_absence:
            log.part(request.wish.path)  # else who resumes would be live before it is refused
        log.collect()
        resumed = request.position is not None and (
            request.position.stream == log.structure.stream_id
            and log.holds(request.position.number)
        )
        number = request.position.number if resumed and request.position else None
        features = [word for word in FEATURES if word in request.features]
        encoding = _encoding_of(RAW_BUFFERS in features, GROWING_ARRAYS in features)
        cursor = Cursor(log, encoding, request.wish, number, tells_absence=tells_absence)
        self.send(
            control(
                "hello",
                stream=log.structure.stream_id,
                number=log.number if cursor.number is None else cursor.number,
                resumed=resumed,
                features=features,
            )
        )
        if request.max_rate is not None:
            self._pace = _Pace(1.0 / request.max_rate)
        self._begin(channel, cursor)

    def _begin(self, channel: Channel, cursor: Cursor) -> None:
        self._settle_in()
        self.cursor, self._channel = cursor, channel
        self.keeps_up = cursor.is_plain and not self._full
        channel.subscriptions.add(self)
        self.pump()

    def _hear(self, line: bytes) -> None:
        """Handle what a subscriber says later on; those of the established protocol say nothing."""
        try:
            action = pyon.decode(line)["action"]
        except (pyon.DecodeError, TypeError, LookupError):
            action = None
        if self._legacy or type(action) is not str or action not in ("ack", "ping", "resync"):
            raise ProtocolError(f"expected an ack, ping or resync, got {shorten(line)}")
        if action == "ping":
            self.send(control("pong"))
            return
        if self._pace is not None:
            self._pace.unanswered = False
        if action == "resync":
            self.cursor.start_anew()
        self.pump()

    # What it is sent.

    def pump(self) -> None:
        """Send what the subscriber needs, as much as the socket is going to take."""
        cursor, channel = self.cursor, self._channel
        assert channel is not None
        if self._full or not cursor.behind or self.closed:
            return
        if self._pace is not None and not self._pace.may_send(self._loop, self.pump):
            return
        if channel.disconnects_slow and cursor.overrun:
            _logger.warning("%s: too slow for the backlog; closed", self.peername)
            self.abort()
            return
        try:
            anew = cursor.number is None or cursor.overrun
            chunks = cursor.take()
        except (UnknownNotifier, pyon.EncodeError) as error:
            _logger.warning("%s: %s; closed", self.peername, error)
            self.end(error)
            return
        if chunks is None:
            return  # the channel wakes us when the structure is complete
        if anew:
            channel.keep_snapshots()
        if chunks:
            if self._pace is not None:
                self._pace.sent(self._loop)
            self.send_chunks(chunks)
            channel.sent += frame_size(chunks)
        if cursor.behind:
            self._loop.call_soon(self.pump)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full = True
        self.keeps_up = False

    def resume_writing(self) -> None:
        self._full = False
        super().resume_writing()
        if self._channel is not None:
            self.keeps_up = self.cursor.is_plain and not self._full
            self.pump()

    # The end.

    def end(self, error: Exception) -> None:
        """Say why, to those who understand it, and close."""
        if not self._legacy:
            self.send(refusal(error))
        self.close()

    def connection_closed(self, exc: Exception | None) -> None:
        self._settle_in()
        if self._pace is not None:
            self._pace.stop()
        if self._channel is not None:
            self._channel.subscriptions.discard(self)


@functools.cache
def _encoding_of(raw: bool, grows: bool) -> Encoding:
    """Return the encoding of our own protocol with these features: one object for all who ask."""
    return Encoding(raw=raw, grows=grows)


class _Pace:
    """When a subscriber that wants only the newest is sent the next update.

    There is one on its way at most: the subscriber says when it has dealt with it. So nothing grows
    old in socket buffers, however slow it is.
    """

    def __init__(self, interval: float) -> None:
        self.unanswered = False
        self._interval = interval
        self._next = -math.inf  # loop time of the next update, at the earliest
        self._timer: asyncio.TimerHandle | None = None

    def may_send(self, loop: asyncio.AbstractEventLoop, retry: Callable[[], None]) -> bool:
        """Tell whether it is time; if only the clock is in the way, `retry` is called later."""
        if self.unanswered or self._timer is not None:
            return False
        if loop.time() >= self._next:
            return True
        self._timer = loop.call_at(self._next, self._ring, retry)
        return False

    def _ring(self, retry: Callable[[], None]) -> None:
        self._timer = None
        retry()

    def sent(self, loop: asyncio.AbstractEventLoop) -> None:
        self.unanswered = True
        self._next = loop.time() + self._interval

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
