"""Signals that ask a process to end, and what a person hears while ending takes its time.

The one idea to keep in mind: a handler runs in the middle of anything, a driver's method or the
logging module included. So it only leaves a note, and a thread of its own reads and reports it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import selectors
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import pyon
from pyon import forks
from pyon.asyncio_signals import Waker

if TYPE_CHECKING:
    from typing import Self

_logger = logging.getLogger("pc_rpc")

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""What asks a process to end, on any platform: Ctrl-C, systemd, a closed terminal."""

AT_ONCE = ("SIGINT", "SIGBREAK")
"""What a person at a keyboard sends. Once the process is ending, it means: at once."""

PATIENCE = 0.5
"""Seconds of ending after which a person wants to know what takes so long."""


class TerminationSignals:
    """Has signals that ask the process to end call a function on the event loop.

    For a `with` block on the event loop. Afterwards the handlers are as they were. Without effect
    outside of the main thread, where no signal can be handled.

    Attributes
    ----------
    received : str or None
        The name of the first signal; None if none has come.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._act: Callable[[], object] = bool
        self._loop = asyncio.get_running_loop()
        self._previous: dict[int, Any] = {}
        self._notes: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._waker = Waker()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)
                # A signal that is ignored stays so: nohup(1), for example.
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
            self._waker.__enter__()
            _handled.update(self._previous)
            main = threading.get_ident()
            threading.Thread(
                target=_report, args=(self._notes, main), name="signals", daemon=True
            ).start()
            forks.register(self)
        return self

    def call(self, act: Callable[[], object]) -> None:
        """Have `act` called on the loop when the first signal has come; now, if it has already."""
        self._act = act
        if self.received is not None:
            act()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()
        self._waker.__exit__(exc_type, exc, traceback)
        self._notes.put(None)

    def forked(self) -> None:
        """Have a child of the process end as it would have without us: it has no such server."""
        self._restore()
        self._waker.forget()

    def _restore(self) -> None:
        while self._previous:
            number, old = self._previous.popitem()
            _handled.discard(number)
            signal.signal(number, signal.SIG_DFL if old is None else old)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received is not None:
            if name in AT_ONCE:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        self.received = name
        self._notes.put(name)
        self._loop.call_soon_threadsafe(lambda: self._act())


_handled: set[int] = set()
"""Numbers of the signals that have a handler of ours."""

_held_back = threading.local()


def _hold_back() -> None:
    """Have signals wait for the end of a fork.

    Where a signal has a handler, Python drops it if it comes for a child that has not yet run what
    is registered for forks, for it may have been the parent's. Such a child would not end.
    """
    if _handled:
        _held_back.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handled)


def _let_in() -> None:
    """Let the signals come in: in a child, where they do what they would do without us."""
    mask = _held_back.__dict__.pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


if hasattr(os, "register_at_fork"):  # behind what `forks` has registered
    os.register_at_fork(before=_hold_back, after_in_parent=_let_in, after_in_child=_let_in)


def _report(notes: queue.SimpleQueue[str | None], main: int) -> None:
    """Wait for a signal; say what the process waits for, if it does not end soon."""
    name = notes.get()
    if name is None:
        return
    with contextlib.suppress(queue.Empty):
        notes.get(timeout=PATIENCE)
        return
    method = running_method(main)
    if method is not None:  # else the server waits, for what it logs
        _logger.warning("%s: waiting for %s to return; Ctrl-C ends at once", name, method)


def running_method(thread: int) -> str | None:
    """Return what the user's code is doing on the event loop of a thread, None if it does not run.

    This is the outermost function behind the loop that is neither asyncio's nor ours.
    """
    frame = sys._current_frames().get(thread)
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    below = True
    for frame in reversed(stack):
        path = frame.f_code.co_filename
        folder = os.path.dirname(path)
        if folder == _ASYNCIO:
            below = False
        elif path == selectors.__file__:
            return None  # the loop has nothing to do
        elif not below and folder not in _OURS:
            name = frame.f_code.co_qualname
            return f"{name} ({os.path.basename(path)}, line {frame.f_lineno})"
    return None


_ASYNCIO = os.path.dirname(asyncio.__file__)
_OURS = {os.path.dirname(__file__), os.path.dirname(pyon.__file__)}
