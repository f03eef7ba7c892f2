"""Replication: the state that the thread of a mirror shares with its readers.

The one idea to keep in mind: the replica changes only while the lock is held, and no user code runs
under the lock, neither in the thread nor in readers. Readers copy containers under the lock, and
leaves after releasing it.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyon

from sync_struct._actions import Mod
from sync_struct._copies import copy_of, has_user_leaves, same_leaf
from sync_struct._errors import SubscriptionLost, UnknownNotifier
from sync_struct._kinds import ATOMS
from sync_struct._read_only import ReadOnlyDict, read_only
from sync_struct._updates import Steps

if TYPE_CHECKING:
    import ssl

    from sync_struct._subscriber import Subscriber
    from sync_struct._subscription import State

__all__ = ["First", "Replication"]

_MISSING: Any = object()


class Replication:
    """The replica of a mirror.

    Attributes
    ----------
    changed : threading.Condition
        Notified after every step, and at the end.
    target : object
        The replica. It changes, or is replaced, only while `changed` is held.
    steps : int
        Number of steps so far.
    ended : Exception or None
        The reason why there are no more steps.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.steps = 0
        self.ended: Exception | None = None
        self.subscriber: Subscriber
        self._readers: weakref.WeakSet[Steps] = weakref.WeakSet()
        self._parts: dict[Any, Any] = {}  # cached read-only copies of items

    @property
    def target(self) -> Any:
        return self.subscriber.target

    def take_step(self, mods: Sequence[Mod]) -> None:
        """Pass a step to the readers; called by the thread, with the lock held."""
        self.steps += 1
        for mod in mods:
            self._forget(mod)
        for reader in self._readers:
            reader.put(mods)
        self.changed.notify_all()

    def _forget(self, mod: Mod) -> None:
        """Drop the cached copies that a mod has made out of date."""
        path = mod.get("path")
        if path and isinstance(self.target, dict):
            self._parts.pop(path[0], None)
        elif not path and mod["action"] == "setitem" and isinstance(self.target, dict):
            self._parts.pop(mod["key"], None)
        else:
            self._parts.clear()

    def end(self, error: Exception) -> None:
        """Wake all readers: there will be no more steps."""
        with self.changed:
            self.ended = self.ended or error
            for reader in self._readers:
                reader.ended = self.ended
            self.changed.notify_all()

    async def follow(self, host: str, port: int | None, ssl: ssl.SSLContext | None) -> None:
        """Keep the replica up to date, until this is cancelled."""
        running = asyncio.ensure_future(self.subscriber.run(host, port, ssl=ssl))
        try:
            await asyncio.wait({running})
        finally:
            await self.subscriber.close()
            await asyncio.wait({running})
            self.end(SubscriptionLost("the mirror has been closed"))

    def part(self, key: Any) -> Any:
        """Return an item, read-only."""
        if type(key) not in _PLAIN_KEYS:  # looking it up may run user code
            return self.snapshot()[key]
        with self.changed:
            if type(key) is slice or not isinstance(self.target, dict):
                part = read_only(self.target[key], same_leaf)
            else:
                part = self._cached(key)
        return _finished(part)

    def _cached(self, key: Any) -> Any:
        part = self._parts.get(key, _MISSING)
        if part is _MISSING:
            part = self._parts[key] = read_only(self.target[key], same_leaf)
        return part

    def snapshot(self) -> Any:
        """Return the whole structure, read-only."""
        with self.changed:
            if isinstance(self.target, dict):
                whole: Any = ReadOnlyDict({key: self._cached(key) for key in self.target})
            else:
                whole = read_only(self.target, same_leaf)
        return _finished(whole)

    def copy(self) -> Any:
        """Return a copy of the whole structure as ordinary values."""
        with self.changed:
            whole = copy_of(self.target, same_leaf)
        return copy_of(whole) if has_user_leaves(whole) else whole

    def join(self) -> tuple[Steps, Any]:
        """Return a queue of the steps from now on, and a copy of the present structure."""
        with self.changed:
            steps = Steps(self.changed)
            steps.ended = self.ended
            self._readers.add(steps)
            whole = copy_of(self.target, same_leaf)
        return steps, copy_of(whole) if has_user_leaves(whole) else whole


_PLAIN_KEYS = ATOMS | {tuple, slice}


def _finished(part: Any) -> Any:
    """Return a copy made under the lock after copying its leaves, too."""
    return read_only(part) if has_user_leaves(part) else part


class First:
    """Waits for the first structure, or for an error.

    Parameters
    ----------
    replication : Replication
        Receives the structure.
    state_cb, on_error : callable or None
        The user's callbacks; called after a state or error has been recorded here.
    """

    def __init__(
        self,
        replication: Replication,
        state_cb: Callable[[State], Any] | None,
        on_error: Callable[[Exception], Any] | None,
    ) -> None:
        self._replication = replication
        self._state_cb = state_cb
        self._on_error = on_error
        self._state: State = "closed"
        self._error: Exception | None = None

    def take_state(self, state: State) -> Any:
        changed = self._replication.changed
        with changed:
            self._state = state
            changed.notify_all()
        return None if self._state_cb is None else self._state_cb(state)

    def take_error(self, error: Exception) -> None:
        changed = self._replication.changed
        if not isinstance(error, pyon.DecodeError):  # concerns one value; the structure arrives
            with changed:
                self._error = self._error or error
                changed.notify_all()
        if self._on_error is not None:
            self._on_error(error)

    def wait(self, *, may_be_absent: bool) -> None:
        view = self._replication
        came = ("live", "absent", "stale")
        with view.changed:
            view.changed.wait_for(lambda: self._state in came or self._error or view.ended)
            if self._state not in came:
                raise self._error or view.ended or SubscriptionLost("the mirror has ended")
            if view.subscriber.absent and not may_be_absent:
                raise UnknownNotifier("the structure has no part at this path")
