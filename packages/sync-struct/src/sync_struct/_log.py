"""Logs: what a publisher keeps of one structure, for all of its subscribers.

Pure state; it neither sends nor waits. There is one log of recent mods, bounded in bytes, and what
each subscriber has been given is a place in it (see `_cursor`). So a stalled subscriber costs
nothing but its place, and one that comes back after a lost connection goes on where it was.
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
    """One structure, as a publisher serves it.

    `tell` is called by any thread; everything else belongs to the publisher's.

    Parameters
    ----------
    structure : Structure
        What is published.
    backlog : int
        Bytes of mods to keep.
    notify : callable
        Called, by any thread, when it is worth trying again to make a snapshot.

    Attributes
    ----------
    number : int
        The last mod that is known here.
    oldest : int
        The mod before the first one in the log.
    last_growth : int
        The last mod by which an array has grown.
    spans : dict
        What has been written for subscribers at one place, until more arrives; see `_cursor`.
    stale : bool
        Whether the notifier is known to be out of date: it follows another one, which is away.
    current : int
        The mod after which it was up to date again.
    resyncs : int
        How often a subscriber had to be given the structure anew.
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
        self._arrived: deque[Sequence[Change]] = deque()  # each is a step
        self._told_size = self._collected_size = 0  # of all that came into `_arrived`, and left it
        self.spans: dict[tuple[Encoding, int], tuple[int, Chunks]] = {}
        self._snapshots: dict[tuple[Encoding, tuple[Any, ...]], Snapshot] = {}
        self.begin()

    def begin(self) -> None:
        """Begin with the structure as it is; `tell` must be its sink already."""
        self.number = self.oldest = self.structure.released
        self._log: deque[Entry] = deque()
        self._log_size = 0

    # Mods, in.

    def tell(self, changes: Sequence[Change]) -> None:
        """Take note of a step, in any thread. Too many to keep: the first ones are forgotten.

        It is called under the structure's lock, maybe by a signal handler that interrupts
        `collect`. So there is no lock here: each of the two has a counter and the queue is atomic.
        """
        self._told_size += sum([change.size for change in changes])
        self._arrived.append(changes)
        while self._told_size - self._collected_size > self.backlog and len(self._arrived) > 1:
            with contextlib.suppress(IndexError):  # it was collected in this moment
                self._told_size -= sum([change.size for change in self._arrived.popleft()])

    def collect(self) -> None:
        """Move what `tell` took note of to the log: whole steps."""
        arrived = self._arrived
        while arrived:
            try:
                changes = arrived.popleft()
            except IndexError:  # `tell` has forgotten it in this moment
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
        """Forget all mods: the next one comes after mod `number`."""
        self._log.clear()
        self._log_size = 0
        self.oldest = number

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

    def since(self, number: int) -> Iterator[Entry]:
        """Return the mods after mod `number`, one after the other."""
        log = self._log  # indexed: most of those who ask are near its end
        return (log[i] for i in range(max(0, number - self.oldest), len(log)))

    @property
    def last(self) -> Change:
        """The last mod; there must be one in the log."""
        return self._log[-1].change

    def entries(self, number: int) -> list[Entry]:
        """Return the mods after mod `number`."""
        return list(self.since(number))

    def text(self, entry: Entry, encoding: Encoding, depth: int = 0) -> Text:
        """Return a mod in an encoding: see `Entry.text`. What is written anew is kept, too."""
        size = entry.size
        text = entry.text(encoding, depth)
        self._log_size += entry.size - size
        return text

    # The structure.

    def snapshot(
        self, encoding: Encoding, path: tuple[Any, ...] = (), at_least: int = 0
    ) -> Snapshot | None:
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
            self.structure.settle()

    def part(self, path: tuple[Any, ...]) -> Any:
        """Return a part of the structure itself; `UnknownNotifier` if there is none."""
        try:
            return walk(self.structure.value, path)
        except (LookupError, TypeError, ValueError, OverflowError):  # the latter: of arrays
            raise UnknownNotifier(f"the structure has no part {list(path)!r}") from None

    def _is_useful(self, snapshot: Snapshot) -> bool:
        """Tell whether it is cheaper to send the mods since, behind it, than to encode anew."""
        return self.holds(snapshot.number) and (self._recorded - snapshot.recorded <= snapshot.size)

    @property
    def has_snapshots(self) -> bool:
        """Whether an encoded structure is kept."""
        return bool(self._snapshots)

    def forget_snapshots(self) -> None:
        """Give the memory of snapshots back; those on their way to somebody stay until they are."""
        self._snapshots.clear()
