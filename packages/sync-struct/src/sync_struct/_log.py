"""Logs: the recent mods of one structure and its snapshots, for all subscribers of a publisher.

Pure state; it neither sends nor waits. A structure has one log of recent mods, bounded in bytes,
and each subscriber has a position in it (see `_cursor`). So a stalled subscriber costs only its
position, and a subscriber that reconnects resumes where it was.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sync_struct._actions import walk
from sync_struct._change import Change
from sync_struct._encoding import Chunks, Encoding, Entry, Snapshot, Text
from sync_struct._errors import UnknownNotifier

if TYPE_CHECKING:
    from sync_struct._structure import Structure

__all__ = ["DEFAULT_BACKLOG", "Log"]

DEFAULT_BACKLOG = 32 * 2**20
"""Bytes of mods that are kept for subscribers that lag: three images of 1024 x 1024 doubles, or a
minute of a thousand small mods a second."""


class Log:
    """The log of one published structure.

    `put` may be called by any thread; all other methods only by the publisher's thread.

    Parameters
    ----------
    structure : Structure
        The published structure.
    backlog : int
        Bytes of mods to keep.
    notify : callable
        Called, by any thread, when another attempt to make a snapshot may succeed.

    Attributes
    ----------
    number : int
        Number of the last mod in the log.
    oldest : int
        Number of the mod before the first one in the log.
    last_growth : int
        Number of the last mod that grew an array.
    spans : dict
        Encoded messages for subscribers at one position, until the next mod; see `_cursor`.
    stale : bool
        Whether the notifier is out of date, because its origin cannot be reached.
    current : int
        Number of the mod after which it was up to date again.
    resyncs : int
        How often a subscriber had to be sent the structure again.
    """

    def __init__(
        self,
        structure: Structure,
        backlog: int = DEFAULT_BACKLOG,
        notify: Callable[[], object] = lambda: None,
    ) -> None:
        self.structure = structure
        self.backlog = backlog
        self.notify = notify
        self.resyncs = 0
        self.stale = False
        self.current = 0
        self.last_growth = 0
        self._recorded = 0  # bytes of mods since the beginning
        self._arrived: deque[Sequence[Change]] = deque()  # steps
        self._put_size = self._collected_size = 0  # bytes of all mods put into and taken from it
        self.spans: dict[tuple[Encoding, int], tuple[int, Chunks]] = {}
        self._snapshots: dict[tuple[Encoding, tuple[Any, ...]], Snapshot] = {}
        self.begin()

    def begin(self) -> None:
        """Begin with the present structure; `put` must be its sink already."""
        self.number = self.oldest = self.structure.released
        self._log: deque[Entry] = deque()
        self._log_size = 0

    # Adding mods.

    def put(self, changes: Sequence[Change]) -> None:
        """Add a step, in any thread. Beyond the backlog, the oldest steps are dropped.

        It is called under the structure's lock, maybe by a signal handler that interrupts
        `collect`. So it takes no lock: `put` and `collect` have a counter each, and the queue is
        atomic.
        """
        self._put_size += sum([change.size for change in changes])
        self._arrived.append(changes)
        while self._put_size - self._collected_size > self.backlog and len(self._arrived) > 1:
            with contextlib.suppress(IndexError):  # `collect` has taken it meanwhile
                self._put_size -= sum([change.size for change in self._arrived.popleft()])

    def collect(self) -> None:
        """Move the steps added by `put` to the log."""
        arrived = self._arrived
        while arrived:
            try:
                changes = arrived.popleft()
            except IndexError:  # `put` has dropped it meanwhile
                break
            for change in changes:
                self._collected_size += change.size
                if change.number > self.number:
                    self._append(change)
        self.spans.clear()

    def _append(self, change: Change) -> None:
        if change.number != self.number + 1:
            self._forget(change.number - 1)
        self.number = change.number
        if change.in_array and change.grows:
            self.last_growth = self.number
        elif change.action == "init":  # a `Restart`
            self._forget(self.number)
            return
        size = change.size
        self._log.append(Entry(change))
        self._log_size += size
        self._recorded += size
        while self._log_size > self.backlog and len(self._log) > 1:
            self._log_size -= self._log.popleft().size
            self.oldest += 1

    def _forget(self, number: int) -> None:
        """Drop all mods: the next one follows mod `number`."""
        self._log.clear()
        self._log_size = 0
        self.oldest = number

    def set_stale(self, stale: bool) -> None:
        """Record whether the notifier is out of date at its present mod."""
        self.collect()
        self.stale, self.current = stale, self.number

    # Reading mods.

    def holds(self, number: int) -> bool:
        """Return whether all mods after mod `number` are in the log."""
        return self.oldest <= number <= self.number

    def size_behind(self, number: int) -> int:
        """Return the bytes of the mods after mod `number`."""
        return sum(entry.size for entry in self.entries(number))

    def since(self, number: int) -> Iterator[Entry]:
        """Iterate over the mods after mod `number`."""
        log = self._log  # indexed: most positions are near its end
        return (log[i] for i in range(max(0, number - self.oldest), len(log)))

    @property
    def last(self) -> Change:
        """The last mod; there must be one in the log."""
        return self._log[-1].change

    def entries(self, number: int) -> list[Entry]:
        """Return the mods after mod `number`."""
        return list(self.since(number))

    def text(self, entry: Entry, encoding: Encoding, depth: int = 0) -> Text:
        """Return a mod in an encoding, and count it if it is cached: see `Entry.text`."""
        size = entry.size
        text = entry.text(encoding, depth)
        self._log_size += entry.size - size
        return text

    # The structure.

    def snapshot(
        self, encoding: Encoding, path: tuple[Any, ...] = (), at_least: int = 0
    ) -> Snapshot | None:
        """Return the encoded structure, cached for requests at about the same time.

        It may be older than the last mod, if the log has the mods since. None: the structure is
        being changed, by another thread or in a batch. This does not wait; `notify` is called
        afterwards.

        Parameters
        ----------
        at_least : int, optional
            Number of the oldest mod that is acceptable.

        Raises
        ------
        UnknownNotifier
            The structure has no such part.
        pyon.EncodeError
            The structure cannot be encoded.
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

    def _make_snapshot(self, encoding: Encoding, path: tuple[Any, ...]) -> Snapshot | None:
        if not self.structure.try_to_hold(self.notify):
            return None
        try:
            with self.structure.step():
                self.collect()
                self.structure.check()
                return Snapshot(self.part(path), encoding, self.number, self._recorded)
        finally:
            self.structure.lock.release()
            self.structure.run_deferred()

    def part(self, path: tuple[Any, ...]) -> Any:
        """Return a part of the structure itself; `UnknownNotifier` if there is none."""
        try:
            return walk(self.structure.value, path)
        except (LookupError, TypeError, ValueError, OverflowError):  # the last two from arrays
            raise UnknownNotifier(f"the structure has no part {list(path)!r}") from None

    def _is_useful(self, snapshot: Snapshot) -> bool:
        """Return whether sending it with the mods since is cheaper than encoding again."""
        return self.holds(snapshot.number) and (self._recorded - snapshot.recorded <= snapshot.size)

    @property
    def has_snapshots(self) -> bool:
        """Whether an encoded structure is cached."""
        return bool(self._snapshots)

    def forget_snapshots(self) -> None:
        """Drop cached snapshots; those being sent stay in memory until then."""
        self._snapshots.clear()
