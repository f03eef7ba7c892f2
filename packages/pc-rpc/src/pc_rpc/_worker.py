"""The thread of a target: calls functions one after the other, for an event loop.

The one idea to keep in mind: the result of a function stays in an `Outcome`. The thread drops all
its references to functions and arguments when it has notified the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from pyon import forks

from pc_rpc._outcome import Outcome

Result = TypeVar("Result")

_logger = logging.getLogger("pc_rpc")

LINGER = 10.0
"""Seconds that the busy thread of a stopped server waits for a last function, which closes its
target. The event loop submits it within a turn, unless the process ends."""


class Worker:
    """A thread that calls functions, one after the other, for an event loop.

    It is a daemon thread: a driver that hangs does not prevent the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[], Any]] | None]
        self._inbox = queue.SimpleQueue()
        self._linger = 0.0
        self._lost = False  # whether this process is the child of a fork, without a loop
        forks.register(self)
        threading.Thread(target=self._main, name=name, daemon=True).start()

    def submit(self, function: Callable[[], Any], then: Callable[[], Any]) -> None:
        """Call `function` on the thread, then `then` on the loop. `function` must not raise."""
        self._inbox.put((function, then))

    async def call(self, function: Callable[[], Result]) -> Result:
        """Call a function on the thread; return its result, or raise its exception."""
        outcome, done = Outcome(), asyncio.Event()
        self.submit(functools.partial(outcome.run, function), done.set)
        await done.wait()
        if outcome.error is not None:
            raise outcome.error
        return cast("Result", outcome.take())

    def stop(self, *, busy: bool = False) -> None:
        """End the thread, when the current function has returned.

        If it is busy, it waits `LINGER` seconds longer for functions that follow: the closing of a
        target, for example.
        """
        self._linger = LINGER if busy else 0.0
        self._inbox.put(None)

    async def idle(self) -> None:
        """Wait until the thread has run all functions, and those submitted after them."""
        for _ in range(2):  # a method; then the `close` of its target, which waits for it
            done = asyncio.Event()
            self.submit(bool, done.set)
            await done.wait()

    def forked(self) -> None:
        """See `forks.ForkAware`."""
        self._lost = True

    def _main(self) -> None:
        timeout = None
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._inbox.get(timeout=timeout)
                if item is None:
                    timeout = self._linger
                else:
                    self._run(*item)
                del item  # it refers to the arguments

    def _run(self, function: Callable[[], Any], then: Callable[[], Any]) -> None:
        function()
        if self._lost:
            end_child()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(then)


def end_child() -> None:
    """End this process: a child that a method has forked and that returned from the method.

    It has no event loop of its own and must not use the parent's. Nothing of the parent's is
    flushed or cleaned up.
    """
    _logger.error("a forked process returned from a method; it ends here (os._exit is missing)")
    os._exit(1)
