"""Logs: what a publisher knows of one notifier, and what each subscriber of it still needs.

Pure state; it neither sends nor waits. There is one log of recent mods for all subscribers, bounded
in bytes, and a subscriber is not much more than a number: the last mod that it has been given.
Whoever falls so far behind that the log has forgotten what comes next is given the structure anew.
So a stalled subscriber costs nothing but its place in the log, and one that comes back after a lost
connection goes on where it was.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyon
from pyon.framing import frame, frame_size

from sync_struct._actions import walk
from sync_struct._change import Change, Restart, encode, fixed
from sync_struct._errors import UnknownNotifier
from sync_struct._notifier import Notifier
from sync_struct._selection import EVERYTHING, Touch, Wish, newest, touch

__all__ = ["DEFAULT_BACKLOG", "Cursor", "Encoding", "Log"]

DEFAULT_BACKLOG = 32 * 2**20
"""Bytes of mods that are kept for subscribers that lag: three images of 1024 x 1024 doubles, or a
minute of a thousand small mods a second."""

SPAN_SIZE = 2**20
"""Bytes of mods that a subscriber is given at a time: what a socket takes in one or two writes."""

SMALL_STEP = 256 * 2**10
"""Bytes that are handed to a socket at once; more is for the queue, which cuts it into pieces."""

JOIN_SIZE = 16 * 2**10
"""Bytes up to which buffers are joined, once for all subscribers: it costs less than one more write
for each of them."""

Chunks = list[bytes | memoryview]
_Text = tuple[bytes, Sequence[memoryview]]


class Encoding(NamedTuple):
    """How messages are written for a subscriber."""

    version: int = 2
    """Generation of PYON."""

    numbered: bool = True
    """Whether messages carry numbers; the established protocol knows none."""

    raw: bool = False
    """Whether large arrays travel outside the text."""

    grows: bool = False
    """Whether rows can be appended to arrays; else arrays that have grown are sent whole."""


class _Entry:
    """A mod in the log, and what it has been brought into for those who cannot take it as it is."""

    __slots__ = ("_texts", "change", "size")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.size = change.size
        self._texts: dict[tuple[Encoding, int], _Text] | None = None  # few mods need any

    def touch(self, part: Sequence[Any]) -> Touch:
        """Tell what the mod does to a part of the structure."""
        change = self.change
        return touch(change.action, change.path, change.key, part, change.in_array)

    def text(self, encoding: Encoding, depth: int) -> _Text:
        """Return text and buffers in an encoding, the path without the first `depth` keys."""
        if self._texts is None:
            self._texts = {}
        key = encoding, depth
        if key not in self._texts:
            self._texts[key] = line, buffers = self._encode(encoding, depth)
            self.size += len(line) + frame_size(buffers)
        return self._texts[key]

    def _encode(self, encoding: Encoding, depth: int) -> _Text:
        change = self.change
        if encoding.version == 1 and change.line_v1 is not None:
            return change.line_v1, ()
        line = change.below(depth)
        if encoding.raw or not change.buffers:
            return line, change.buffers
        mod = pyon.decode(line, buffers=change.buffers)
        return pyon.encode(mod, version=2).encode(), ()


class _Snapshot:
    """The structure, or a part of it, as it was after mod `number`."""

    __slots__ = ("buffers", "line", "number", "recorded", "size")

    def __init__(self, structure: Any, encoding: Encoding, number: int, recorded: int) -> None:
        message = {"action": "init", "struct": structure}
        self.buffers: list[memoryview] = []
        if encoding.version == 1:
            self.line = pyon.encode(message, version=1).encode()
        elif encoding.raw:
            self.line, buffers = encode(message)
            self.buffers = list(map(fixed, buffers))  # arrays change in place while this is sent
        else:
            self.line = pyon.encode(message, version=2).encode()
        self.number = number
        self.recorded = recorded
        self.size = len(self.line) + frame_size(self.buffers)

    def chunks(self, encoding: Encoding) -> Chunks:
        if not encoding.numbered:
            return [self.line, b"\n"]
        end = b',"number":%d}' % self.number
        if self.buffers:
            return frame(self.line[:-1] + end, self.buffers)
        return [memoryview(self.line)[:-1], end + b"\n"]


class Log:
    """One notifier, as a publisher serves it.

    `tell` is called by any thread; everything else belongs to the publisher's.

    Parameters
    ----------
    notifier : Notifier
        What is published.
    last_growth : int
        The last mod by which an array has grown.
    notify : callable
        Called, by any thread, when it is worth trying again to make a snapshot.
    backlog : int
        Bytes of mods to keep.

    Attributes
    ----------
    number : int
        The last mod that is known here.
    oldest : int
        The mod before the first one in the log.
    stale : bool
        Whether the notifier is known to be out of date: it follows another one, which is away.
    current : int
        The mod after which it was up to date again.
    resyncs : int
        How often a subscriber had to be given the structure anew.
    """

    def __init__(
        self,
        notifier: Notifier,
        backlog: int = DEFAULT_BACKLOG,
        notify: Callable[[], object] = lambda: None,
    ) -> None:
        if notifier._path:
            raise ValueError("expected the notifier of a whole structure, got one of a part")
        self.notifier = notifier
        self.structure = notifier._structure
        self.backlog = backlog
        self.notify = notify
        self.resyncs = 0
        self.stale = False
        self.current = 0
        self.last_growth = 0
        self._recorded = 0  # bytes of mods since the beginning
        self._arrived: deque[Change] = deque()
        self._told_size = self._collected_size = 0  # of all that came into `_arrived`, and left it
        self._spans: dict[tuple[Encoding, int], tuple[int, Chunks]] = {}
        self._snapshots: dict[tuple[Encoding, tuple[Any, ...]], _Snapshot] = {}
        self.begin()

    def begin(self) -> None:
        """Begin with the structure as it is; `tell` must be its sink already."""
        self.number = self.oldest = self.structure.released
        self._log: deque[_Entry] = deque()
        self._log_size = 0

    # Mods, in.

    def tell(self, changes: Sequence[Change]) -> None:
        """Take note of changes, in any thread. Too many to keep: the first ones are forgotten.

        It is called under the structure's lock, maybe by a signal handler that interrupts
        `collect`. So there is no lock here: each of the two has a counter and the queue is atomic.
        """
        for change in changes:
            self._arrived.append(change)
            self._told_size += change.size
        while self._told_size - self._collected_size > self.backlog and len(self._arrived) > 1:
            with contextlib.suppress(IndexError):  # it was collected in this moment
                self._told_size -= self._arrived.popleft().size

    def collect(self) -> None:
        """Move what `tell` took note of to the log."""
        arrived = self._arrived
        while arrived:
            try:
                change = arrived.popleft()
            except IndexError:  # `tell` has forgotten it in this moment
                break
            self._collected_size += change.size
            if change.number > self.number:
                self._append(_Entry(change))
        self._spans.clear()

    def _append(self, entry: _Entry) -> None:
        if entry.change.number != self.number + 1:
            self._log.clear()
            self._log_size = 0
            self.oldest = entry.change.number - 1
        self.number = entry.change.number
        if isinstance(entry.change, Restart):
            self._log.clear()
            self._log_size = 0
            self.oldest = self.number
            return
        if entry.change.grows:
            self.last_growth = self.number
        self._log.append(entry)
        self._log_size += entry.size
        self._recorded += entry.size
        while self._log_size > self.backlog and len(self._log) > 1:
            self._log_size -= self._log.popleft().size
            self.oldest += 1

    def set_stale(self, stale: bool) -> None:
        """Take note of whether the notifier, as it is now, is out of date."""
        self.collect()
        self.stale, self.current = stale, self.number

    # Mods, out.

    def holds(self, number: int) -> bool:
        """Tell whether all mods after mod `number` are in the log."""
        return self.oldest <= number <= self.number

    def size_behind(self, number: int) -> int:
        """Return how many bytes of mods there are after mod `number`."""
        return sum(entry.size for entry in self.entries(number))

    def entries(self, number: int) -> list[_Entry]:
        """Return the mods after mod `number`."""
        first = max(0, number - self.oldest)
        return [self._log[i] for i in range(first, len(self._log))]

    def _text(self, entry: _Entry, encoding: Encoding, depth: int) -> _Text:
        """Return the text and buffers of a mod: as they are, or rewritten once."""
        change = entry.change
        if not depth and encoding.version == 2 and (encoding.raw or not change.buffers):
            return change.line, change.buffers
        size = entry.size
        text = entry.text(encoding, depth)
        self._log_size += entry.size - size
        return text

    def write(
        self, entries: Sequence[_Entry], encoding: Encoding, depth: int = 0, *, ends: bool = True
    ) -> Chunks:
        """Return mods as buffers to write; who knows numbers takes them as one step.

        Parameters
        ----------
        depth : int, optional
            How many keys at the beginning of the paths the subscriber does not know of.
        ends : bool, optional
            Whether the step ends with the last of them.
        """
        if not encoding.numbered:
            lines = [self._text(entry, encoding, depth)[0] for entry in entries]
            return [b"\n".join([*lines, b""])]
        last = entries[-1].change
        end = b',"number":%d' % last.number if ends else b""
        if len(entries) == 1 and not last.buffers and not depth and encoding.version == 2:
            return [b"%b%b}\n" % (last.line[:-1], end)]  # what follows, for the usual small mod
        chunks: Chunks = []
        run: list[bytes] = []  # mods that go into one line, since none has buffers
        for entry in entries:
            line, buffers = self._text(entry, encoding, depth)
            if not buffers:
                run.append(line)
                continue
            if run:
                chunks += frame(_line(run, b""))
                run = []
            chunks += frame(_line([line], end if entry is entries[-1] else b""), buffers)
        if run:
            chunks += frame(_line(run, end))
        return _joined(chunks)

    def span(self, number: int, encoding: Encoding) -> tuple[int, Chunks | None]:
        """Return the mods after mod `number`, or the first of many, and the last one's number.

        The log has to hold them: see `holds`. None: the structure is needed; see `snapshot`.
        All subscribers that are at the same place share the result.
        """
        key = encoding, number
        span = self._spans.get(key)
        if span is None:
            last, chunks = self._make_span(number, encoding)
            if chunks is None:
                return number, None
            span = self._spans[key] = last, chunks
        return span

    def _make_span(self, number: int, encoding: Encoding) -> tuple[int, Chunks | None]:
        entries, size = [], 0
        for i in range(number - self.oldest, len(self._log)):
            entries.append(self._log[i])
            size += self._log[i].change.size
            if size > SPAN_SIZE:
                break
        if not entries:
            return number, []
        lags = number < self.last_growth and not encoding.grows
        if lags and any(entry.change.grows for entry in entries):
            return self._make_whole_arrays(number, encoding)
        last = entries[-1].change
        return last.number, self.write(entries, encoding, ends=last.ends)

    def small_step(self, number: int | None, encoding: Encoding) -> tuple[int, Chunks | None, int]:
        """Return what brings plain cursors at mod `number` up to date by one small write.

        That is the last mod's number, the chunks and their size in bytes, the same for all who are
        at this place. None instead of the chunks: there is more to it, see `Cursor.take`.
        """
        if number is None or number < self.oldest:
            return 0, None, 0
        if number < self.last_growth and not encoding.grows:  # see `Cursor.must_grow`
            return 0, None, 0
        last, chunks = self.span(number, encoding)
        size = 0 if chunks is None else frame_size(chunks)
        if last != self.number or size > SMALL_STEP:
            return 0, None, 0
        return last, chunks, size

    def _make_whole_arrays(self, number: int, encoding: Encoding) -> tuple[int, Chunks | None]:
        """Return all mods after mod `number` for those who cannot append to arrays."""
        if not self.structure.try_to_hold(self.notify):
            return number, None
        try:
            with self.structure.step():
                self.collect()
                lines = None
                if self.holds(number) and not encoding.numbered:
                    lines = self._whole_arrays(self.entries(number), encoding)
        finally:
            self.structure.lock.release()
            self.structure.settle()
        if lines is not None:
            return self.number, [b"\n".join([*lines, b""])]
        snapshot = self.snapshot(encoding, at_least=self.number)
        return (number, None) if snapshot is None else (snapshot.number, snapshot.chunks(encoding))

    def _whole_arrays(self, entries: Sequence[_Entry], encoding: Encoding) -> list[bytes] | None:
        """Return mods in which arrays that have grown are assigned as they are now.

        None: not possible, since something took the place of one of them, or it is the root.
        """
        places: list[Sequence[Any]] = []
        for entry in entries:
            if entry.change.grows:
                place = _assignable(self.notifier.read, entry.change.path)
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
                lines.append(self._text(entry, encoding, 0)[0])
        for place in places:
            value = walk(self.notifier.read, place)
            mod = {"action": "setitem", "path": place[:-1], "key": place[-1], "value": value}
            lines.append(pyon.encode(mod, version=encoding.version).encode())
        return lines

    # The structure.

    def snapshot(
        self, encoding: Encoding, path: tuple[Any, ...] = (), at_least: int = 0
    ) -> _Snapshot | None:
        """Return the structure, encoded at most once for all who ask for it at about the same time.

        It may be older than the last mod, if the log holds the rest. None: the structure is being
        changed, by another thread or in a batch, and nobody waits for that here; `notify` is called
        afterwards.

        Parameters
        ----------
        at_least : int, optional
            The mod that it must not be older than.

        Raises
        ------
        UnknownNotifier
            There is no such part of the structure.
        pyon.EncodeError
            The structure holds what has no PYON.
        """
        key = encoding._replace(numbered=True), path
        known = self._snapshots.get(key)
        if known is not None and known.number >= at_least and self._is_useful(known):
            return known
        made = self._make_snapshot(encoding, path)
        if made is None:
            return None
        self._snapshots[key] = made
        if encoding.raw and not made.buffers:
            self._snapshots[encoding._replace(numbered=True, raw=False), path] = made
        return made

    def _make_snapshot(self, encoding: Encoding, path: tuple[Any, ...]) -> _Snapshot | None:
        if not self.structure.try_to_hold(self.notify):
            return None
        try:
            with self.structure.step():
                self.collect()
                self.notifier._check()
                return _Snapshot(self.part(path), encoding, self.number, self._recorded)
        finally:
            self.structure.lock.release()
            self.structure.settle()

    def part(self, path: tuple[Any, ...]) -> Any:
        """Return a part of the structure itself; `UnknownNotifier` if there is none."""
        try:
            return walk(self.notifier.read, path)
        except (LookupError, TypeError, ValueError, OverflowError):  # the latter: of arrays
            raise UnknownNotifier(f"the structure has no part {list(path)!r}") from None

    def _is_useful(self, snapshot: _Snapshot) -> bool:
        """Tell whether it is cheaper to send the mods since, behind it, than to encode anew."""
        return self.holds(snapshot.number) and (self._recorded - snapshot.recorded <= snapshot.size)

    @property
    def has_snapshots(self) -> bool:
        """Whether an encoded structure is kept."""
        return bool(self._snapshots)

    def forget_snapshots(self) -> None:
        """Give the memory of snapshots back; those on their way to somebody stay until they are."""
        self._snapshots.clear()


class Cursor:
    """What one subscriber has been given, and needs next.

    Parameters
    ----------
    log : Log
        What it subscribed to.
    encoding : Encoding
        How it can be written to.
    wish : Wish
        What it wants.
    number : int, optional
        The last mod that it has. None: it has nothing yet.
    tells_absence : bool, optional
        Whether the subscriber understands that its part is absent.
    """

    __slots__ = (
        "absent",
        "encoding",
        "is_plain",
        "log",
        "number",
        "tells_absence",
        "wish",
    )

    def __init__(
        self,
        log: Log,
        encoding: Encoding,
        wish: Wish = EVERYTHING,
        number: int | None = None,
        *,
        tells_absence: bool = False,
    ) -> None:
        self.log = log
        self.encoding = encoding
        self.wish = wish
        self.absent = False
        self.tells_absence = tells_absence
        self.is_plain = not (wish.path or wish.newest)
        self.number = number
        if number is None and wish.mods_only:
            self.number = log.number

    @property
    def must_grow(self) -> bool:
        """Whether arrays have grown that this subscriber has to be sent whole."""
        return not self.encoding.grows and (self.number or 0) < self.log.last_growth

    @property
    def behind(self) -> bool:
        """Whether there is something to be given to this subscriber."""
        return self.number is None or self.number < self.log.number

    @property
    def overrun(self) -> bool:
        """Whether the log has forgotten what comes next: the structure has to be given anew."""
        return self.number is not None and self.number < self.log.oldest

    def start_anew(self) -> None:
        """Have the subscriber given the structure next: it cannot go on from what it has."""
        self.log.resyncs += 1
        self.number = None

    def take(self) -> Chunks | None:
        """Return what to send next to the subscriber, and count it as given.

        None: it needs the structure, which is being changed; see `Log.snapshot`.

        Raises
        ------
        UnknownNotifier, pyon.EncodeError
            There is nothing to give; see `Log.snapshot`.
        """
        if self.overrun:
            self.start_anew()
        if self.number is None:
            return self._take_snapshot()
        if self.number >= self.log.number:
            return []
        if self.is_plain:
            self.number, chunks = self.log.span(self.number, self.encoding)
            return chunks
        return self._take_selected(self.log.entries(self.number))

    def _take_snapshot(self, at_least: int = 0) -> Chunks | None:
        if self.wish.mods_only:
            self.number = self.log.number
            return frame(b'{"action":"gap","number":%d}' % self.number)
        try:
            snapshot = self.log.snapshot(self.encoding, self.wish.path, at_least)
        except UnknownNotifier:
            if not self.tells_absence:
                raise
            return self._take_absence()
        if snapshot is None:
            self.number = None
            return None
        self.number, self.absent = snapshot.number, False
        return snapshot.chunks(self.encoding)

    def _take_absence(self) -> Chunks:
        """Return what tells that the part is not there, once."""
        self.number = self.log.number
        if self.absent:
            return []
        self.absent = True
        return frame(b'{"action":"absent","number":%d}' % self.number)

    def _take_selected(self, entries: list[_Entry]) -> Chunks | None:
        """Return the mods that the subscriber wants; they belong together, as one step for it."""
        if self.absent:  # nothing can be inside, and anything may make it
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
        return self.log.write(entries, self.encoding, len(path)) if entries else []


def _line(mods: list[bytes], end: bytes) -> bytes:
    """Return one line for mods that are text already."""
    if len(mods) == 1:
        return b"%b%b}" % (mods[0][:-1], end)
    return b'{"action":"mods","mods":[%b]%b}' % (b",".join(mods), end)


def _assignable(structure: Any, path: Sequence[Any]) -> Sequence[Any] | None:
    """Return the path of what has to be assigned to replace what is at `path`; None: the root."""
    try:
        while path and isinstance(walk(structure, path[:-1]), tuple):
            path = path[:-1]
    except (LookupError, TypeError):
        return None
    return path or None


def _joined(chunks: Chunks) -> Chunks:
    """Join small chunks, so that whoever sends them need not, once per subscriber."""
    if len(chunks) > 1 and frame_size(chunks) <= JOIN_SIZE:
        return [b"".join(chunks)]
    return chunks
