"""Runs users' code that makes texts, in threads beside the event loop, with a time limit.

The one idea to keep in mind: the text of an exception or of a default value is made by users' code,
which may never return. It must not block the event loop, and must not need the target's thread,
which may be busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from pc_rpc._outcome import Outcome

TIME_LIMIT = 2.0
"""Seconds until a text is given up. No text takes longer on purpose, and callers wait longer."""

MAX_THREADS = 4
"""Maximum number of texts that are made at the same time. A text that never ends keeps its thread,
and a share of the processor, until the process ends. Further texts wait, and are given up when
their time is over."""


class Aside:
    """Calls functions in threads of their own, for one event loop."""

    def __init__(self) -> None:
        self._threads = 0
        self._pending: set[_Job] = set()
        self._waiting: deque[_Job] = deque()

    def run(self, function: Callable[[], Any], then: Callable[[Outcome], object]) -> None:
        """Call a function in a thread, then `then` with its outcome, on the event loop.

        After `TIME_LIMIT` the outcome is a `TimeoutError`. `then` is never called at once.
        """
        loop = asyncio.get_running_loop()
        job = _Job(function, then, loop)
        self._pending.add(job)
        job.done.add_done_callback(lambda _: self._pending.discard(job))
        self._waiting.append(job)
        self._start(loop)

    async def wait(self, timeout: float) -> None:
        """Wait until nothing is pending, at most `timeout` seconds."""
        if self._pending:
            await asyncio.wait([job.done for job in self._pending], timeout=timeout)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and self._threads < MAX_THREADS:
            job = self._waiting.popleft()
            if job.done.done():
                continue  # given up
            thread = threading.Thread(
                target=self._main, args=(job, loop), name="description", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # no thread left: the time limit ends the job
                thread.start()
                self._threads += 1

    def _main(self, job: _Job, loop: asyncio.AbstractEventLoop) -> None:
        outcome = Outcome()
        outcome.run(job.take_function())
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._ended, job, outcome, loop)

    def _ended(self, job: _Job, outcome: Outcome, loop: asyncio.AbstractEventLoop) -> None:
        self._threads -= 1
        self._start(loop)
        job.end(outcome)


class _Job:
    """A function to call, with a future and a time limit."""

    def __init__(
        self,
        function: Callable[[], Any],
        then: Callable[[Outcome], object],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._function: Callable[[], Any] | None = function
        self.done: asyncio.Future[None] = loop.create_future()
        self._then: Callable[[Outcome], object] | None = then  # refers to the object shown
        self._timer = loop.call_later(TIME_LIMIT, self._give_up)

    def take_function(self) -> Callable[[], Any]:
        """Return the function and drop our reference: it refers to the object shown."""
        function, self._function = self._function, None
        assert function is not None
        return function

    def _give_up(self) -> None:
        late = Outcome()
        late.error = TimeoutError(f"this took longer than {TIME_LIMIT} s")
        self.end(late)

    def end(self, outcome: Outcome) -> None:
        if not self.done.done():
            self.done.set_result(None)
            self._timer.cancel()
            then, self._then = self._then, None
            assert then is not None
            then(outcome)
