"""Signals and the event loop: a signal is handled when it comes, not when the loop's wait is over.

The one idea to keep in mind: Python runs a signal's handler between two steps of the main thread. A
signal that comes just before the loop begins to wait, or on another thread, leaves only a note, and
the wait goes on. A byte in a socket that the loop watches ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Waker", "run"]

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Do what `asyncio.run` does; Ctrl-C ends it at once, at whatever moment it comes.

    Parameters
    ----------
    main : coroutine
        What the program does.

    Returns
    -------
    object
        What `main` returned.
    """

    async def woken() -> _T:
        with Waker():
            return await main

    try:
        return asyncio.run(woken())
    finally:
        main.close()  # if the end came before its beginning


class Waker:
    """Wakes the running event loop when a signal comes, however it comes.

    For a `with` block on the event loop. Without effect outside of the main thread, where no signal
    is handled, and where the loop does this by itself: that of Windows, or uvloop's. Handlers are
    left as they are.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._watch(*socket.socketpair())
        return self

    def _watch(self, reading: socket.socket, writing: socket.socket) -> None:
        reading.setblocking(False)
        writing.setblocking(False)
        others = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._ends = reading, writing
        if others != -1:
            signal.set_wakeup_fd(others)
            self._close()
        else:
            self._loop.add_reader(reading, self._drain, reading)

    @staticmethod
    def _drain(reading: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            reading.recv(4096)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ends is not None:
            signal.set_wakeup_fd(-1)
            self._loop.remove_reader(self._ends[0])
            self._close()

    def forget(self) -> None:
        """Leave the loop alone, in the child of a fork: it is the parent's."""
        if self._ends is not None:
            signal.set_wakeup_fd(-1)
            self._close()

    def _close(self) -> None:
        ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()
