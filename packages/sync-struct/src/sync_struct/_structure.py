"""Structure: a value, and what all parts of it share; it orders its mods and tells of them.

The one idea to keep in mind: there is one lock per structure, and whoever makes a change or a
snapshot holds it for that long, or for a batch. Nobody's code but ours runs while a change is being
made: publishers take note of it, and listeners are called when the lock has been released.

A signal handler or finaliser can run between any two of our steps, in the thread that holds the
lock. What it wants to change meanwhile is postponed until the step is complete (see `busy`).
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

_logger = logging.getLogger(__name__)

_Listener = Callable[["Mod"], object]
_Sink = Callable[[list["Change"]], None]


class Structure:
    """A structure, and the mods of it.

    Parameters
    ----------
    value : object
        The structure itself.
    copies : bool, optional
        Whether what is assigned is copied.
    witness : Witness, optional
        Notices what was changed without a mod; see `check`.

    Attributes
    ----------
    value : object
        The structure as it is now. Replaced where it is an array that grows.
    witness : Witness or None
        Follows every mod.
    lock : threading.RLock
        Held while the structure changes, while it is encoded whole, and throughout a batch.
    busy : bool
        Whether the thread that holds the lock is in the middle of a change or a snapshot.
    number, released : int
        The last mod made, and the last one told: they differ while a batch is open.
    stream_id : str
        Tells these numbers from those of any other structure, on any machine.
    publish : callable or None
        The established hook: is passed every mod, and what it raises reaches who made the change.
    sinks : tuple of callables
        Each is passed the changes that belong together, under the lock, by the thread that made
        them. They must only take note.
    listeners : tuple of pairs
        A callable, which is passed every mod as a subscriber would get it, and the number of the
        mod after which it begins.
    wants_v1 : int
        How many publishers need the mods in PYON v1, too.
    untold : deque
        Groups of changes that `publish` and the listeners have yet to be told of, by `settle`.
    postponed : deque of callables
        Changes that came while another one was being made, for `settle` to make.
    awaiting : list of callables
        To be called, by `settle`, once the lock has been released: see `try_to_hold`.
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
        self.untold: deque[tuple[list[Change], int]] = deque()
        self.postponed: deque[Callable[[], object]] = deque()
        self.awaiting: list[Callable[[], object]] = []
        self._registering = threading.RLock()  # held for the registration of one callable only
        self._depth = 0  # of nested batches
        self._waiting: list[Change] = []
        self._telling = threading.Lock()
        self._teller = 0  # the thread that holds `_telling`
        forks.register(self)

    # Registration. From any thread, without waiting for a batch.

    def add_sink(self, sink: _Sink, with_v1: bool) -> None:
        """Have changes passed to a sink. It may miss none after `released`, read afterwards."""
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
        """Have mods passed to a listener, from now on."""
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
        """Hold the lock, and tell of all changes that are made meanwhile at the end."""
        try:
            with self.lock:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                    if not self._depth and self._waiting and not self.busy:
                        with self.step():
                            self._release()
        finally:
            self.settle()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Have changes by signal handlers and finalisers postponed; for the lock's holder."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def check(self) -> None:
        """In debug mode: raise if the structure is not what the mods so far have made of it."""
        if self.witness is not None:
            self.witness.compare(self.value)

    def add(self, change: Change) -> None:
        """Number a change that has just been made, and tell of it unless a batch is open."""
        self.number += 1
        change.number = self.number
        self._waiting.append(change)
        if not self._depth:
            self._release()

    def _release(self) -> None:
        changes, self._waiting = self._waiting, []
        if not changes:  # a signal handler came first
            return
        changes[-1].ends = True
        self.released = changes[-1].number
        for sink in self.sinks:
            sink(changes)
        if self.listeners or self.publish is not None:
            self.untold.append((changes, threading.get_ident()))

    # Telling, without the lock.

    def settle(self) -> None:
        """Make what was postponed, and tell of everything that has not been told.

        To be called whenever the lock has been released. Groups are told in order, by one thread at
        a time: if another one is at it, or this thread further up, that call tells of these, too.
        Nobody waits.
        """
        while self.postponed and not self.busy:
            self._make(self.postponed.popleft())
        if self.lock._is_owned():  # type: ignore[attr-defined]
            return  # a batch is open: its end does it
        while self.awaiting:
            self.awaiting.pop()()
        failure = None
        while self.untold and self._telling.acquire(blocking=False):
            self._teller = threading.get_ident()
            try:
                failure = self._tell_next() or failure
            finally:
                self._teller = 0
                self._telling.release()
        if failure is not None:
            raise failure

    def _make(self, change: Callable[[], object]) -> None:
        try:
            change()
        except Exception:
            _logger.exception("a change failed that came while another one was being made")

    def _tell_next(self) -> BaseException | None:
        """Tell of one group; return what is to be raised for it."""
        changes, maker = self.untold.popleft()
        failure = None
        for change in changes:
            if self.publish is not None:
                failure = failure or _publish(self.publish, change, maker)
            for listener, begin in self.listeners:
                if change.number > begin:
                    failure = _tell(listener, change) or failure
        return failure

    def try_to_hold(self, notify: Callable[[], object]) -> bool:
        """Acquire the lock if no change, batch or snapshot is under way.

        Returns
        -------
        bool
            Whether the lock was acquired. If not, `notify` is called when it is worth trying again,
            by any thread.
        """
        if self._try_to_hold():
            return True
        self.awaiting.append(notify)
        if not self._try_to_hold():  # else it was released meanwhile, maybe without a look
            return False
        with contextlib.suppress(ValueError):
            self.awaiting.remove(notify)
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
        """Go on in a child: without the parent's publishers and threads."""
        self.sinks, self.wants_v1 = (), 0
        self.awaiting = []
        self._registering = threading.RLock()
        if self._teller != threading.get_ident():
            self._telling = threading.Lock()
        if not self.lock._is_owned():  # type: ignore[attr-defined]
            self.lock = threading.RLock()
            self.busy, self._depth, self._waiting = False, 0, []


def _publish(publish: _Listener, change: Change, maker: int) -> BaseException | None:
    """Pass a mod to the established hook; return what it raised to who made the change."""
    try:
        publish(change.mod())
    except BaseException as error:
        if maker == threading.get_ident():
            return error
        _logger.exception("publish failed on a mod of another thread")
    return None


def _tell(listener: _Listener, change: Change) -> BaseException | None:
    """Pass a mod to a listener; return what it raised if that is to end the program."""
    mod: Mod | None = None
    try:
        mod = change.mod()  # which may call code of a registered type
        listener(mod)
    except (KeyboardInterrupt, SystemExit) as error:
        return error
    except BaseException:  # also CancelledError: it is the listener's, not of who made the change
        _logger.exception("a listener failed on %r", mod)
    return None
