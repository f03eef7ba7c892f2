"""Updates: the steps of a mirror, for threads that must not miss one.

The one idea to keep in mind: every waiting reader has a queue of steps, and processes them in its
own thread, so the mirror's thread never waits.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self

from sync_struct._actions import Mod
from sync_struct._copies import copy_mod
from sync_struct._errors import ModsLost
from sync_struct._kinds import ATOMS, is_array
from sync_struct._mods import applied
from sync_struct._read_only import after, read_only

__all__ = ["Condition", "Steps", "Updates", "follow"]

STEPS_LIMIT = 64 * 2**20
"""Approximate bytes of steps in the queue of one reader: ten images of 1024 x 1024 doubles, or
100,000 small steps. A reader that lags by more gets a `ModsLost`."""

STEP_OVERHEAD = 500
"""Bytes of memory of a mod besides its value."""


class Steps:
    """The queue of one reader.

    Parameters
    ----------
    changed : threading.Condition
        The mirror's condition. It is held by callers of all methods except `next`.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._steps: deque[Sequence[Mod]] = deque()
        self._size = 0
        self._lost = False
        self.ended: Exception | None = None

    def put(self, mods: Sequence[Mod]) -> None:
        """Add a step; called by the mirror's thread."""
        self._steps.append(mods)
        self._size += sum(map(_weigh, mods))
        if self._size > STEPS_LIMIT and len(self._steps) > 1:
            self._steps.clear()
            self._size = 0
            self._lost = True

    def next(self, deadline: float | None) -> Sequence[Mod] | None:
        """Wait for the next step; return None if the mirror has ended.

        Parameters
        ----------
        deadline : float or None
            Time by `time.monotonic`.

        Raises
        ------
        TimeoutError
            No step arrived before the deadline.
        ModsLost
            Steps were dropped because the queue was full.
        """
        with self._changed:
            while not (self._steps or self._lost or self.ended):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left)
            if self._lost:
                self._lost = False
                raise ModsLost("this reader is too slow: updates are lost")
            if not self._steps:
                return None
            mods = self._steps.popleft()
            self._size -= sum(map(_weigh, mods))
            return mods


class Updates:
    """An iterator over the structures of a mirror: see `Mirror.updates`.

    It begins with the next step, and ends when the mirror is closed.

    Parameters
    ----------
    join : callable
        Returns a queue of the steps from now on, and a copy of the present structure.
    timeout : float or None
        Seconds to wait for each item. None: for ever.
    """

    def __init__(self, join: Callable[[], tuple[Steps, Any]], timeout: float | None) -> None:
        self._join = join
        self._timeout = timeout
        self._begin()

    def _begin(self) -> None:
        self._steps, structure = self._join()
        self._structure = read_only(structure)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Return the structure as it is after the next step, read-only.

        Raises
        ------
        TimeoutError
            There was no step within the time-out. The iterator can be used again.
        ModsLost
            This reader was too slow, and items are missing. The iterator can be used again: the
            next item is the structure after the next step.
        """
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        try:
            mods = self._steps.next(deadline)
        except TimeoutError:
            raise TimeoutError(f"no update within {self._timeout} s") from None
        except ModsLost:
            self._begin()  # the lost steps are in the present structure
            raise
        if mods is None:
            raise StopIteration
        for mod in mods:
            self._structure = after(self._structure, mod)
        return self._structure


NOT_YET = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError)
"""Exceptions that mean that a condition is not true yet: for a missing key, a None compared with a
number, the maximum or mean of no elements."""


class Condition:
    """The condition of `Mirror.wait`, and the reason why it is not true yet."""

    def __init__(self, condition: Callable[[Any], Any] | None) -> None:
        self.reason = ""
        self._condition = condition
        self._first = True
        if condition is not None:
            with contextlib.suppress(ValueError):  # functions in C may have no signature
                inspect.signature(condition).bind(None)

    def holds(self, structure: Any) -> bool:
        """Return whether it is true of a structure; without a condition, after the first call."""
        if self._condition is None:
            first, self._first = self._first, False
            return not first
        try:
            true = bool(self._condition(structure))
        except NOT_YET as error:
            self.reason = f"; the condition raised {type(error).__name__}: {error}"
            return False
        self.reason = ""
        return true


def follow(structure: Any, mods: Sequence[Mod]) -> Any:
    """Apply the mods of a step to a reader's own structure; return the structure."""
    for mod in mods:
        mine = copy_mod(mod)
        if mod["action"] == "init":
            structure = mine["struct"]
        elif mod["action"] == "absent":
            structure = None
        else:
            structure = applied(structure, mine)
    return structure


def _weigh(mod: Mod) -> int:
    return STEP_OVERHEAD + sum(map(_weigh_value, mod.values()))


def _weigh_value(value: Any) -> int:
    kind = type(value)
    if kind in (str, bytes):
        return len(value)
    if kind in ATOMS:
        return 8
    if is_array(value):
        size: int = value.nbytes
        return size
    if isinstance(value, dict):
        return 100 + sum(map(_weigh_value, value.values()))
    if isinstance(value, (list, tuple, set)):
        return 50 + 8 * len(value) + sum(map(_weigh_value, value))
    return 50
