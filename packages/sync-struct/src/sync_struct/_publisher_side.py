"""The publisher's half of the conversation: see PROTOCOL.md.

Pure code: no socket, no loop and no clock, so every dialogue can be tested as a table. A `Cursor`
(see `_cursor`) decides what a subscriber is sent next; this module decides when.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyon
from pyon.framing import frame_size

from sync_struct._cursor import Cursor
from sync_struct._encoding import Chunks, Encoding
from sync_struct._errors import ProtocolError
from sync_struct._protocol import (
    ABSENT_PARTS,
    GROWING_ARRAYS,
    LEGACY_BANNER,
    RAW_BUFFERS,
    STALENESS,
    Line,
    Request,
    control,
    read_banner,
    shorten,
)

if TYPE_CHECKING:
    from sync_struct._log import Log

__all__ = ["PublisherSide"]

FEATURES = (RAW_BUFFERS, GROWING_ARRAYS, ABSENT_PARTS, STALENESS)

WHOLE_ARRAY_RATE = 20e6
"""Bytes per second, on average, of arrays that have grown and are sent as a whole, to subscribers
without `growing_arrays`. It costs a tenth of a core, however often they grow; the last state is
always sent."""


class PublisherSide:
    """The state of the conversation with one subscriber.

    Parameters
    ----------
    find : callable
        Returns the log of the notifier of a name; raises `UnknownNotifier`, or `SubscriptionLost`
        if nothing is published any more.
    legacy_version : {2, 1}
        Generation of PYON for subscribers of the established protocol.

    Attributes
    ----------
    name : str
        Name of the notifier, once the subscriber has sent it.
    cursor : Cursor or None
        The subscriber's position. None until it has been identified.
    legacy : bool
        Whether the subscriber has sent the established banner.
    """

    def __init__(self, find: Callable[[str], Log], legacy_version: int) -> None:
        self.name = ""
        self.cursor: Cursor | None = None
        self.legacy = False
        self._find = find
        self._legacy_version = legacy_version
        self._interval: float | None = None  # seconds between updates; None: send every mod
        self._wants_staleness = False  # whether the subscriber has the feature `staleness`
        self._stale = False  # as the subscriber was told last
        self._unanswered = False  # an update has been sent and not yet been acknowledged
        self._not_before = -math.inf  # earliest time of the next update

    # Receiving.

    def receive(self, line: Line) -> list[Line]:
        """Handle a line of the subscriber, and return the lines to reply at once.

        Raises
        ------
        ProtocolError, UnknownNotifier, SubscriptionLost
            The conversation is over.
        """
        if self.cursor is not None:
            return self._receive_later(line)
        if self.legacy:
            return self._begin_legacy(line)
        if line == LEGACY_BANNER:
            self.legacy = True  # the name follows
            return []
        return self._begin(read_banner(line))

    def _begin_legacy(self, line: Line) -> list[Line]:
        try:
            self.name = line.decode()
        except UnicodeDecodeError:
            raise ProtocolError(f"expected a name in UTF-8, got {shorten(line)}") from None
        encoding = _encoding(self._legacy_version, numbered=False)
        self.cursor = Cursor(self._find(self.name), encoding)
        return []

    def _begin(self, request: Request) -> list[Line]:
        log = self._find(request.name)
        wants_absence = ABSENT_PARTS in request.features
        if request.wish.path and not request.wish.mods_only and not wants_absence:
            log.part(request.wish.path)  # refused before hello: `resumed` would make it live
        log.collect()
        at = request.position
        resumed = at is not None and at.stream == log.structure.stream_id and log.holds(at.number)
        number = at.number if at is not None and resumed else None
        features = [word for word in FEATURES if word in request.features]
        encoding = _encoding(2, raw=RAW_BUFFERS in features, grows=GROWING_ARRAYS in features)
        self.name = request.name
        self._wants_staleness = STALENESS in features
        self._stale = self._wants_staleness and log.stale
        self.cursor = Cursor(log, encoding, request.wish, number, wants_absence=wants_absence)
        if request.max_rate is not None:
            self._interval = 1.0 / request.max_rate
        hello = control(
            "hello",
            stream=log.structure.stream_id,
            number=log.number if self.cursor.number is None else self.cursor.number,
            resumed=resumed,
            features=features,
            **({"known": log.number} if number is not None and number < log.number else {}),
            **({"stale": True} if self._stale else {}),
        )
        return [hello]

    def _receive_later(self, line: Line) -> list[Line]:
        """Handle an ack, ping or resync. The established protocol allows no more lines."""
        try:
            action = pyon.decode(line)["action"]
        except (pyon.DecodeError, TypeError, LookupError):
            action = None
        if self.legacy or type(action) is not str or action not in ("ack", "ping", "resync"):
            raise ProtocolError(f"expected an ack, ping or resync, got {shorten(line)}")
        if action == "ping":
            return [control("pong")]
        self._unanswered = False
        if action == "resync" and self.cursor is not None:
            self.cursor.start_anew()
        return []

    # Sending.

    @property
    def is_immediate(self) -> bool:
        """Whether the subscriber is sent every mod as soon as it is made."""
        return self.cursor is not None and self.cursor.is_plain

    def wait(self, now: float) -> float | None:
        """Return the seconds until the next message may be sent; None: wait for an event."""
        if self.cursor is None or self._unanswered or not self.cursor.behind:
            return None
        if self._interval is None and not self.cursor.must_grow:
            return 0.0
        return max(0.0, self._not_before - now)

    def take(self, now: float) -> Chunks | None:
        """Return what to send now, and record it as sent. See `Cursor.take`."""
        cursor = self.cursor
        assert cursor is not None
        grows = cursor.must_grow
        chunks = cursor.take()
        if chunks and self._interval is not None:
            self._unanswered = True
            self._not_before = now + self._interval
        elif chunks and grows:
            self._not_before = now + frame_size(chunks) / WHOLE_ARRAY_RATE
        return chunks

    def staleness(self) -> Line | None:
        """Return the message that the notifier is out of date or up to date, if that has changed.

        None: nothing to send. ``live`` is sent only after the mods that made it up to date.
        """
        cursor = self.cursor
        if cursor is None or not self._wants_staleness or cursor.log.stale == self._stale:
            return None
        stale = cursor.log.stale
        if not stale and (cursor.number is None or cursor.number < cursor.log.current):
            return None
        self._stale = stale
        return control("stale" if stale else "live")


@functools.cache
def _encoding(
    version: int, *, numbered: bool = True, raw: bool = False, grows: bool = False
) -> Encoding:
    """Return an encoding; equal encodings are the same object."""
    return Encoding(version, numbered, raw, grows)
