"""Signals that ask a process to end, and a log record if the end is delayed.

The one idea to keep in mind: a signal handler may interrupt any code, a driver's method or the
logging module included. So it only puts the signal's name into a queue; a separate thread logs.
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
"""Signals that ask a process to end, on any platform: of Ctrl-C, systemd, a closed terminal."""

KEYBOARD_SIGNALS = ("SIGINT", "SIGBREAK")
"""Signals from a keyboard. A second one ends the process immediately."""

REPORT_DELAY = 0.5
"""Seconds from the signal until the method that delays the end is logged."""


class TerminationSignals:
    """Context manager: signals that ask the process to end call a function on the event loop.

    For the event loop's thread. The previous handlers are restored at the end. Without effect
    outside the main thread, where Python allows no signal handlers.

    Attributes
    ----------
    received : str or None
        The name of the first signal; None before.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._callback: Callable[[], object] = bool
        self._loop = asyncio.get_running_loop()
        self._previous: dict[int, Any] = {}
        self._notes: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._waker = Waker()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)
                # An ignored signal stays ignored: nohup(1) relies on it.
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

    def call(self, callback: Callable[[], object]) -> None:
        """Set the function to call on the loop at the first signal; call it now if that came."""
        self._callback = callback
        if self.received is not None:
            callback()

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
        """Restore the handlers in a child of the process, which has no such server."""
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
            if name in KEYBOARD_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        self.received = name
        self._notes.put(name)
        self._loop.call_soon_threadsafe(lambda: self._callback())


_handled: set[int] = set()
"""Numbers of the signals that have a handler of this module."""

_blocked = threading.local()


def _block() -> None:
    """Block the handled signals during a fork.

    If a signal has a handler and reaches a child before its at-fork callbacks have run, Python
    drops the signal, because it may have been meant for the parent. The child would not end.
    """
    if _handled:
        _blocked.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handled)


def _unblock() -> None:
    """Restore the signal mask. In a child, the handlers have been restored before."""
    mask = _blocked.__dict__.pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


if hasattr(os, "register_at_fork"):  # after `forks` has registered its callbacks
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_unblock)


def _report(notes: queue.SimpleQueue[str | None], main: int) -> None:
    """Wait for a signal; if the process does not end soon, log the method that it waits for."""
    name = notes.get()
    if name is None:
        return
    with contextlib.suppress(queue.Empty):
        notes.get(timeout=REPORT_DELAY)
        return
    method = running_method(main)
    if method is not None:  # otherwise the server logs the calls that it waits for
        _logger.warning("%s: waiting for %s to return; Ctrl-C ends at once", name, method)


def running_method(thread: int) -> str | None:
    """Return the user's function that runs on the event loop of a thread; None if none runs.

    This is the outermost function called by the loop that is neither asyncio's nor ours.
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
            return None  # the loop is idle
        elif not below and folder not in _OURS:
            name = frame.f_code.co_qualname
            return f"{name} ({os.path.basename(path)}, line {frame.f_lineno})"
    return None


_ASYNCIO = os.path.dirname(asyncio.__file__)
_OURS = {os.path.dirname(__file__), os.path.dirname(pyon.__file__)}
