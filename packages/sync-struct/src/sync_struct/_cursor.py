"""Cursors: what each subscriber is sent next.

Pure code. The state of a subscriber is little more than a number: the last mod that it was sent. A
subscriber that lags so far that the log has dropped the next mod is sent the structure again.
Encoded messages are shared by all subscribers at the same position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyon
from pyon.framing import frame, frame_size

from sync_struct._actions import walk
from sync_struct._encoding import Chunks, Encoding, Entry, write_small_step, write_steps
from sync_struct._errors import UnknownNotifier
from sync_struct._selection import EVERYTHING, Touch, Wish, newest

if TYPE_CHECKING:
    from sync_struct._log import Log

__all__ = ["Cursor", "small_step", "span"]

SPAN_SIZE = 2**20
"""Bytes of mods that a subscriber is sent at a time: what a socket accepts in one or two writes."""

SMALL_STEP = 512 * 2**10
"""Bytes that are written to a socket at once: a camera may be two images of 180 kB ahead. Larger
steps go to the queue, which splits them."""


class Cursor:
    """The position of one subscriber in a log.

    Parameters
    ----------
    log : Log
        The log of its notifier.
    encoding : Encoding
        How messages are written for it.
    wish : Wish
        What it requests.
    number : int, optional
        Number of the last mod that it has. None: it has no structure yet.
    wants_absence : bool, optional
        Whether the subscriber has the feature `absent_parts`.
    """

    __slots__ = (
        "absent",
        "encoding",
        "is_plain",
        "log",
        "number",
        "wants_absence",
        "wish",
    )

    def __init__(
        self,
        log: Log,
        encoding: Encoding,
        wish: Wish = EVERYTHING,
        number: int | None = None,
        *,
        wants_absence: bool = False,
    ) -> None:
        self.log = log
        self.encoding = encoding
        self.wish = wish
        self.absent = False
        self.wants_absence = wants_absence
        self.is_plain = not (wish.path or wish.newest)
        self.number = number
        if number is None and wish.mods_only:
            self.number = log.number

    @property
    def must_grow(self) -> bool:
        """Whether arrays have grown that have to be sent to this subscriber as a whole."""
        return not self.encoding.grows and (self.number or 0) < self.log.last_growth

    @property
    def behind(self) -> bool:
        """Whether there is something to send to this subscriber."""
        return self.number is None or self.number < self.log.number

    @property
    def overrun(self) -> bool:
        """Whether the log has dropped the next mod: the structure has to be sent again."""
        return self.number is not None and self.number < self.log.oldest

    def start_anew(self) -> None:
        """Send the subscriber the structure next: it cannot continue from its position."""
        self.log.resyncs += 1
        self.number = None

    def take(self) -> Chunks | None:
        """Return what to send next, and advance the cursor.

        None: the structure is needed, but it is being changed; see `Log.snapshot`.

        Raises
        ------
        UnknownNotifier, pyon.EncodeError
            The structure cannot be sent; see `Log.snapshot`.
        """
        if self.overrun:
            self.start_anew()
        if self.number is None:
            return self._take_snapshot()
        if self.number >= self.log.number:
            return []
        if self.is_plain:
            self.number, chunks = span(self.log, self.number, self.encoding)
            return chunks
        return self._take_selected(self.log.entries(self.number))

    def _take_snapshot(self, at_least: int = 0) -> Chunks | None:
        if self.wish.mods_only:
            self.number = self.log.number
            return frame(b'{"action":"gap","number":%d}' % self.number)
        try:
            snapshot = self.log.snapshot(self.encoding, self.wish.path, at_least)
        except UnknownNotifier:
            if not self.wants_absence:
                raise
            return self._take_absence()
        if snapshot is None:
            self.number = None
            return None
        self.number, self.absent = snapshot.number, False
        return snapshot.chunks(self.encoding)

    def _take_absence(self) -> Chunks:
        """Return the message that the part is absent, once."""
        self.number = self.log.number
        if self.absent:
            return []
        self.absent = True
        return frame(b'{"action":"absent","number":%d}' % self.number)

    def _take_selected(self, entries: list[Entry]) -> Chunks | None:
        """Return the mods that the subscriber requests, as one step."""
        if self.absent:  # no mod can be inside the part, and any mod may create it
            return self._take_snapshot(self.log.number)
        self.number = self.log.number
        path = self.wish.path
        if path:
            touched = [(entry, entry.touch(path)) for entry in entries]
            if any(how is Touch.REPLACED for _, how in touched):
                return self._take_snapshot(self.log.number)
            entries = [entry for entry, how in touched if how is Touch.INSIDE]
        if not self.encoding.grows and any(entry.change.grows for entry in entries):
            return self._take_snapshot(self.number)
        if self.wish.newest:
            kept = {change.number for change in newest([entry.change for entry in entries])}
            entries = [entry for entry in entries if entry.change.number in kept]
        if not entries:
            return []
        texts = [
            self.log.text(entry, self.encoding, len(path))._replace(raw=None)
            for entry in entries  # raw arrays have the line of subscribers to every step
        ]
        numbers = [None] * (len(texts) - 1) + [entries[-1].change.number]
        return write_steps(texts, numbers, self.encoding)


# For subscribers to every step, shared by all at the same position.


def span(log: Log, number: int, encoding: Encoding) -> tuple[int, Chunks | None]:
    """Return the mods after mod `number`, or the first of many, and the number of the last one.

    The log must have them: see `Log.holds`. None: the structure is needed; see `Log.snapshot`.
    """
    key = encoding, number
    known = log.spans.get(key)
    if known is not None:
        return known
    last, chunks = _make_span(log, number, encoding)
    if chunks is None:
        return number, None
    log.spans[key] = last, chunks
    return last, chunks


def _make_span(log: Log, number: int, encoding: Encoding) -> tuple[int, Chunks | None]:
    entries, size = [], 0
    for entry in log.since(number):
        entries.append(entry)
        size += entry.change.size
        if size > SPAN_SIZE:
            break
    if not entries:
        return number, []
    lags = number < log.last_growth and not encoding.grows
    if lags and any(entry.change.grows for entry in entries):
        return _make_whole_arrays(log, number, encoding)
    last = entries[-1].change
    texts = [log.text(entry, encoding) for entry in entries]
    numbers = [entry.change.number if entry.change.ends else None for entry in entries]
    return last.number, write_steps(texts, numbers, encoding)


def small_step(log: Log, number: int | None, encoding: Encoding) -> tuple[int, Chunks | None, int]:
    """Return the one small write that brings plain cursors at mod `number` up to date.

    That is the number of the last mod, the chunks and their size in bytes, shared by all cursors at
    this position. None instead of the chunks: one small write is not enough, see `Cursor.take`.
    """
    if number is None or number < log.oldest:
        return 0, None, 0
    if number < log.last_growth and not encoding.grows:  # see `Cursor.must_grow`
        return 0, None, 0
    if number == log.number - 1:
        change = log.last
        as_it_is = encoding.numbered and (encoding.raw or not change.buffers)
        if change.ends and as_it_is and change.size < SMALL_STEP:
            chunks = write_small_step(change)
            return log.number, chunks, frame_size(chunks)
    last, some = span(log, number, encoding)
    size = 0 if some is None else frame_size(some)
    if last != log.number or size > SMALL_STEP:
        return 0, None, 0
    return last, some, size


# For subscribers without the feature `growing_arrays`.


def _make_whole_arrays(log: Log, number: int, encoding: Encoding) -> tuple[int, Chunks | None]:
    """Return all mods after mod `number`, with arrays that have grown in their present state."""
    structure = log.structure
    if not structure.try_to_hold(log.notify):
        return number, None
    try:
        with structure.step():
            log.collect()
            lines = None
            if log.holds(number) and not encoding.numbered:
                lines = _whole_arrays(log, log.entries(number), encoding)
    finally:
        structure.lock.release()
        structure.run_deferred()
    if lines is not None:
        return log.number, [b"\n".join([*lines, b""])]
    snapshot = log.snapshot(encoding, at_least=log.number)
    return (number, None) if snapshot is None else (snapshot.number, snapshot.chunks(encoding))


def _whole_arrays(log: Log, entries: Sequence[Entry], encoding: Encoding) -> list[bytes] | None:
    """Return mods that assign arrays that have grown in their present state.

    None: not possible, because one of them has been replaced, or is the root.
    """
    value = log.structure.value
    places: list[Sequence[Any]] = []
    for entry in entries:
        if entry.change.grows:
            place = _assignable(value, entry.change.path)
            if place is None:
                return None
            if place not in places:
                places.append(place)
    lines = []
    for entry in entries:
        touched = [entry.touch(place) for place in places]
        if Touch.REPLACED in touched:
            return None
        if Touch.INSIDE not in touched:
            lines.append(log.text(entry, encoding).line)
    for place in places:
        array = walk(value, place)
        mod = {"action": "setitem", "path": place[:-1], "key": place[-1], "value": array}
        lines.append(pyon.encode(mod, version=encoding.version).encode())
    return lines


def _assignable(structure: Any, path: Sequence[Any]) -> Sequence[Any] | None:
    """Return the path to assign in order to replace the value at `path`; None: the root."""
    try:
        while path and isinstance(walk(structure, path[:-1]), tuple):
            path = path[:-1]
    except (LookupError, TypeError):
        return None
    return path or None
