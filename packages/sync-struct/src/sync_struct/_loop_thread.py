"""A thread with an event loop, for programs that have no loop.

The one idea to keep in mind: the thread refers to the coroutine that it runs, which must not refer
to the object that users hold. So that object is collected when it is not referenced any more, and
ends its thread.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pyon import forks

from sync_struct._errors import SubscriptionLost

__all__ = ["LoopThread"]

_logger = logging.getLogger("sync_struct")

_T = TypeVar("_T")

STOP_GRACE = 5.0
"""Seconds that `LoopThread.stop` waits for the thread: a callback may wait for a lock that the
caller holds, which would be a deadlock."""


class LoopThread:
    """One daemon thread that runs one coroutine; see `start`.

    Parameters
    ----------
    name : str
        Name of the thread, for debuggers and error messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = next(_numbers)
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self.stopping = False
        forks.register(self)
        _running.add(self)

    @property
    def here(self) -> bool:
        """Whether it was created in this process."""
        return self._pid == os.getpid()

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is this one."""
        return self._thread is threading.current_thread()

    @property
    def alive(self) -> bool:
        """Whether the thread runs in this process."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine in the thread, until it ends or `stop` cancels it."""
        begun: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._run, args=(main, begun), name=self.name, daemon=True
        )
        self._thread.start()
        begun.result()

    def _run(
        self,
        main: Callable[[], Coroutine[Any, Any, None]],
        begun: concurrent.futures.Future[None],
    ) -> None:
        async def run() -> None:
            self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
            begun.set_result(None)
            if not self.stopping:
                await main()

        with contextlib.suppress(asyncio.CancelledError), asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(run())
            while not task.done():
                # A callback cannot end the program from this thread, and must not end the loop.
                with contextlib.suppress(SystemExit, KeyboardInterrupt):
                    loop.run_until_complete(task)

    def call(self, function: Callable[[], _T]) -> _T:
        """Call a function on the loop and return its result; from any thread.

        Raises
        ------
        RuntimeError
            The thread has been stopped.
        """
        assert self._loop is not None
        self.check()
        if self.is_current:
            return function()
        if self.stopping:
            raise RuntimeError(f"the {self.name} is closed")
        result: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def run() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return result.result()

    def check(self) -> None:
        """Raise `SubscriptionLost` in a process other than the one that created this object."""
        if not self.here:
            raise SubscriptionLost(
                f"{self.name} was made in another process, {self._pid}; make a new one here"
            )

    def stop(self, *, wait: bool = True) -> None:
        """End the coroutine and the thread. May be called in the thread itself.

        Parameters
        ----------
        wait : bool, optional
            Whether to wait until the thread has ended, up to `STOP_GRACE`; then a warning is
            logged. In the thread itself, there is no waiting.
        """
        self.stopping = True
        thread, loop, main = self._thread, self._loop, self._main
        if thread is None or loop is None or main is None or not self.here:
            return
        with contextlib.suppress(RuntimeError):  # the loop has been closed already
            loop.call_soon_threadsafe(main.cancel)
        if wait and thread is not threading.current_thread():
            thread.join(STOP_GRACE)
            if thread.is_alive():
                _logger.warning("%s: a callback has not returned for %s s", self.name, STOP_GRACE)

    def forked(self) -> None:
        """See `pyon.forks`: thread and loop belong to the parent; the loop is not closed here."""
        _abandoned.append(self._loop)
        self._thread = None


_running: weakref.WeakSet[LoopThread] = weakref.WeakSet()
_numbers = itertools.count()
_abandoned: list[asyncio.AbstractEventLoop | None] = []
"""Loops of the parent process. Closing one here would remove its descriptors from the parent's
selector, which both processes share."""


@atexit.register
def _stop_all() -> None:
    for thread in sorted(_running, key=lambda thread: thread.number, reverse=True):
        thread.stop()  # the newest first: a mirror before the publisher that it may follow
