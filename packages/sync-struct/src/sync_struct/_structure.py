"""Structure: a value and the state shared by all its parts; it numbers and publishes the mods.

The one idea to keep in mind: a structure has one lock, which is held during a change, a snapshot or
a batch. No user code runs while a change is made: publishers record it, and listeners are called
after the lock has been released.

A signal handler or finaliser can run between any two instructions, in the thread that holds the
lock. A change that it makes meanwhile is postponed until the other one is complete (see `busy`).
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyon import forks

if TYPE_CHECKING:
    from sync_struct._actions import Mod
    from sync_struct._change import Change
    from sync_struct._witness import Witness

__all__ = ["Structure"]

_logger = logging.getLogger("sync_struct")

_Listener = Callable[["Mod"], object]
_Sink = Callable[[list["Change"]], None]


class Structure:
    """A structure and its mods.

    Parameters
    ----------
    value : object
        The structure itself.
    copies : bool, optional
        Whether assigned values are copied.
    witness : Witness, optional
        Detects changes made without a mod; see `check`.

    Attributes
    ----------
    value : object
        The structure as it is now. Replaced if it is an array that grows.
    witness : Witness or None
        Applies every mod to its own replica.
    lock : threading.RLock
        Held while the structure changes, while it is encoded as a whole, and throughout a batch.
    busy : bool
        Whether the thread that holds the lock is in the middle of a change or a snapshot.
    number, released : int
        Numbers of the last mod made and of the last one published. They differ while a batch is
        open.
    stream_id : str
        Distinguishes these numbers from those of any other structure, on any machine.
    publish : callable or None
        The established hook: called with every mod; its exceptions are raised by the mutator.
    sinks : tuple of callables
        Called with the changes of each step, under the lock, by the thread that made them. They
        must only record them.
    listeners : tuple of pairs
        A callable, which is called with every mod as a subscriber receives it, and the number of
        the mod after which it was added.
    wants_v1 : int
        Number of publishers that need the mods in PYON v1, too.
    unnotified : deque
        Steps for which `run_deferred` has yet to call `publish` and the listeners.
    postponed : deque of callables
        Changes that interrupted another one; made by `run_deferred`.
    on_release : list of callables
        Called by `run_deferred` after the lock has been released: see `try_to_hold`.
    """

    def __init__(self, value: Any, *, copies: bool = False, witness: Witness | None = None) -> None:
        self.value = value
        self.copies = copies
        self.witness = witness
        self.lock = threading.RLock()
        self.busy = False
        self.number = self.released = 0
        self.stream_id = secrets.token_hex(8)
        self.publish: _Listener | None = None
        self.sinks: tuple[_Sink, ...] = ()
        self.listeners: tuple[tuple[_Listener, int], ...] = ()
        self.wants_v1 = 0
        self.unnotified: deque[tuple[list[Change], int]] = deque()
        self.postponed: deque[Callable[[], object]] = deque()
        self.on_release: list[Callable[[], object]] = []
        self._registering = threading.RLock()  # held only while one callable is registered
        self._depth = 0  # of nested batches
        self._unreleased: list[Change] = []  # of an open batch
        self._notifying = threading.Lock()
        self._notifying_thread = 0  # the thread that holds `_notifying`
        forks.register(self)

    # Registration. From any thread, without waiting for a batch.

    def add_sink(self, sink: _Sink, with_v1: bool) -> None:
        """Call a sink with every step from now on: all changes after `released`, if read now."""
        with self._registering:
            self.wants_v1 += with_v1
            self.sinks = (*self.sinks, sink)

    def remove_sink(self, sink: _Sink, with_v1: bool) -> None:
        """Undo `add_sink`; a sink that is not registered is ignored."""
        with self._registering:
            if sink in self.sinks:
                self.wants_v1 -= with_v1
                self.sinks = tuple(known for known in self.sinks if known != sink)

    def add_listener(self, listener: _Listener) -> None:
        """Call a listener with every mod from now on."""
        with self._registering:
            self.listeners = (*self.listeners, (listener, self.number))

    def remove_listener(self, listener: _Listener) -> None:
        """Undo `add_listener`; `ValueError` if it is no listener."""
        with self._registering:
            listeners = list(self.listeners)
            del listeners[[known for known, _ in listeners].index(listener)]
            self.listeners = tuple(listeners)

    # Changes.

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Hold the lock, and publish all changes that are made meanwhile at the end."""
        try:
            with self.lock:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                    if not self._depth and self._unreleased and not self.busy:
                        with self.step():
                            self._release()
        finally:
            self.run_deferred()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Postpone changes by signal handlers and finalisers. The caller must hold the lock."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def check(self) -> None:
        """In debug mode: raise if the structure was changed without a mod."""
        if self.witness is not None:
            self.witness.compare(self.value)

    def add(self, change: Change) -> None:
        """Number a change that has just been made, and publish it unless a batch is open."""
        self.number += 1
        change.number = self.number
        self._unreleased.append(change)
        if not self._depth:
            self._release()

    def _release(self) -> None:
        changes, self._unreleased = self._unreleased, []
        if not changes:  # a signal handler has released them
            return
        changes[-1].ends = True
        self.released = changes[-1].number
        for sink in self.sinks:
            sink(changes)
        if self.listeners or self.publish is not None:
            self.unnotified.append((changes, threading.get_ident()))

    # Notification, without the lock.

    def run_deferred(self) -> None:
        """Make postponed changes, and call listeners with all mods not passed to them yet.

        To be called whenever the lock has been released. Listeners are called with the steps in
        order, by one thread at a time. If another thread, or an outer call in this thread, is doing
        so, that call handles these steps, too; this one does not wait.
        """
        while self.postponed and not self.busy:
            self._make(self.postponed.popleft())
        if self.lock._is_owned():  # type: ignore[attr-defined]
            return  # a batch is open: its end calls this again
        while self.on_release:
            self.on_release.pop()()
        failure = None
        while self.unnotified and self._notifying.acquire(blocking=False):
            self._notifying_thread = threading.get_ident()
            try:
                failure = self._notify_next() or failure
            finally:
                self._notifying_thread = 0
                self._notifying.release()
        if failure is not None:
            raise failure

    def _make(self, change: Callable[[], object]) -> None:
        try:
            change()
        except Exception:
            _logger.exception("a change that had been postponed failed")

    def _notify_next(self) -> BaseException | None:
        """Call `publish` and the listeners with one step; return the exception to raise."""
        changes, maker = self.unnotified.popleft()
        failure = None
        for change in changes:
            if self.publish is not None:
                failure = failure or _publish(self.publish, change, maker)
            for listener, begin in self.listeners:
                if change.number > begin:
                    failure = _notify(listener, change) or failure
        return failure

    def try_to_hold(self, notify: Callable[[], object]) -> bool:
        """Acquire the lock if no change, batch or snapshot is under way.

        Returns
        -------
        bool
            Whether the lock was acquired. If not, `notify` is called, by any thread, when another
            attempt may succeed.
        """
        if self._try_to_hold():
            return True
        self.on_release.append(notify)
        if not self._try_to_hold():  # else it was released before `notify` was registered
            return False
        with contextlib.suppress(ValueError):
            self.on_release.remove(notify)
        return True

    def _try_to_hold(self) -> bool:
        if not self.lock.acquire(blocking=False):
            return False
        if self.busy or self._depth:
            self.lock.release()
            return False
        return True

    # The child of a fork.

    def forked(self) -> None:
        """Continue in a child, without the parent's publishers and threads."""
        self.sinks, self.wants_v1 = (), 0
        self.on_release = []
        self._registering = threading.RLock()
        if self._notifying_thread != threading.get_ident():
            self._notifying = threading.Lock()
        if not self.lock._is_owned():  # type: ignore[attr-defined]
            self.lock = threading.RLock()
            self.busy, self._depth, self._unreleased = False, 0, []


def _publish(publish: _Listener, change: Change, maker: int) -> BaseException | None:
    """Call the established hook; return its exception if this thread made the change."""
    try:
        publish(change.mod())
    except BaseException as error:
        if maker == threading.get_ident():
            return error
        _logger.exception("publish failed on a mod of another thread")
    return None


def _notify(listener: _Listener, change: Change) -> BaseException | None:
    """Call a listener; return its exception if that has to end the program."""
    mod: Mod | None = None
    try:
        mod = change.mod()  # may call code of a registered type
        listener(mod)
    except (KeyboardInterrupt, SystemExit) as error:
        return error
    except BaseException:  # also CancelledError: it concerns the listener, not the mutator
        _logger.exception("a listener failed on %r", mod)
    return None
