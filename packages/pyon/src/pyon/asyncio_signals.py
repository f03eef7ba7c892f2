"""Signals that wake the event loop: a handler runs at once, not when the loop's wait is over.

The one idea to keep in mind: Python runs a signal's handler between two bytecode instructions of
the main thread. A signal that arrives just before the loop begins to wait, or on another thread,
only sets a flag, and the wait continues. A byte written to a socket that the loop watches ends the
wait.
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
    """Run a coroutine as `asyncio.run` does; Ctrl-C ends it at once, at any moment.

    Parameters
    ----------
    main : coroutine
        The program.

    Returns
    -------
    object
        The result of `main`.
    """

    async def main_with_waker() -> _T:
        with Waker():
            return await main

    try:
        return asyncio.run(main_with_waker())
    finally:
        main.close()  # in case it was never started


class Waker:
    """Wakes the running event loop for every signal, whenever it arrives and on whichever thread.

    A context manager, to be used in the event loop's thread. It has no effect outside of the main
    thread, where no signal is handled, and with loops that do this themselves: those of Windows and
    of uvloop. Signal handlers are not changed.
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
        previous = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._ends = reading, writing
        if previous != -1:
            signal.set_wakeup_fd(previous)
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
        """Release the sockets in the child of a fork, without touching the parent's loop."""
        if self._ends is not None:
            signal.set_wakeup_fd(-1)
            self._close()

    def _close(self) -> None:
        ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()
