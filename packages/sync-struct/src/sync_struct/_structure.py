"""Structure: what all parts of one structure share; it orders its mods and tells of them.

The one idea to keep in mind: there is one lock per structure. Whoever holds it sees a structure and
a number that belong together, and no mod is between them.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pyon

from sync_struct._change import Change
from sync_struct._errors import ChangedBehindBack
from sync_struct._mods import Mod, place, process_mod
from sync_struct._values import find_difference

__all__ = ["Structure", "replica_of"]

_logger = logging.getLogger(__name__)


class Structure:
    """The mods of one structure.

    Attributes
    ----------
    lock : threading.RLock
        Held while the structure changes, while it is encoded whole, and throughout a batch.
    number : int
        Mods so far.
    stream : str
        Tells these numbers from those of any other structure, on any machine.
    sinks : list of callables
        Each is passed the changes that belong together, under the lock, by the thread that made
        them.
    listeners : list of pairs
        A callable, which is passed every mod as a subscriber would get it, and the number of the
        mod after which it begins.
    wants_v1 : int
        How many publishers need the mods in PYON v1, too.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.number = 0
        self.stream_id = secrets.token_hex(8)
        self.sinks: list[Callable[[list[Change]], None]] = []
        self.listeners: list[tuple[Callable[[Mod], object], int]] = []
        self.wants_v1 = 0
        self._depth = 0  # of nested batches
        self._waiting: list[Change] = []
        self._untold: deque[list[Change]] = deque()  # to listeners
        self._telling = False
        self._lineages: dict[int, tuple[weakref.ref[Any], object]] = {}  # of arrays, by their id

    def add(self, change: Change) -> None:
        """Number a change that has just been made, and tell of it unless a batch is open."""
        self.number += 1
        change.number = self.number
        self._waiting.append(change)
        if not self._depth:
            self._release()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Hold the lock, and tell of all changes that are made meanwhile at the end."""
        with self.lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth and self._waiting:
                    self._release()

    def _release(self) -> None:
        changes, self._waiting = self._waiting, []
        changes[-1].ends = True
        for sink in self.sinks:
            sink(changes)
        if self.listeners:
            self._untold.append(changes)
            if not self._telling:  # else a listener made them: they are told after those before
                self._tell_listeners()

    def _tell_listeners(self) -> None:
        self._telling = True
        try:
            while self._untold:
                changes = self._untold.popleft()
                for listener, begin in self.listeners.copy():
                    for change in changes:
                        if change.number > begin:
                            _tell(listener, change)
        finally:
            self._telling = False

    # Arrays are replaced by copies; views that were kept are to find the copy, and nothing else.

    def note_copy(self, old: Any, new: Any) -> None:
        """Note that the array `new` stands for `old` from now on."""
        lineage = self._lineage(old) or object()
        for array in (old, new):
            forget = functools.partial(self._forget_array, id(array))
            self._lineages[id(array)] = (weakref.ref(array, forget), lineage)

    def _forget_array(self, number: int, _: object) -> None:
        self._lineages.pop(number, None)

    def is_same_array(self, a: Any, b: Any) -> bool:
        """Tell whether two arrays are one, or the one is a copy that stands for the other."""
        return a is b or (self._lineage(a) is not None and self._lineage(a) is self._lineage(b))

    def _lineage(self, array: Any) -> object:
        entry = self._lineages.get(id(array))
        return None if entry is None else entry[1]


def _tell(listener: Callable[[Mod], object], change: Change) -> None:
    mod = change.mod()
    try:
        listener(mod)
    except Exception:
        _logger.exception("a listener failed on %r", mod)


class Witness:
    """A replica that is kept only to notice changes that nobody was told of (debug mode)."""

    def __init__(self, structure: Any) -> None:
        self._replica = replica_of(structure)

    def apply(self, change: Change) -> None:
        """Follow a mod."""
        process_mod(self._replica, change.mod())

    def compare(self, structure: Any) -> None:
        """Raise `ChangedBehindBack` (once for each such change) if the structure is another."""
        path = find_difference(self._replica, structure)
        if path is not None:
            self._replica = replica_of(structure)
            raise ChangedBehindBack(
                f"the structure was changed at {place(path)}, but not through its notifier: "
                "subscribers do not know of it"
            )


def replica_of(structure: Any) -> Any:
    """Return a copy of a structure that shares nothing with it, as a subscriber would get it."""
    return pyon.decode(pyon.encode(structure, version=2))
