"""In which order and on which thread methods run: lanes and worker threads.

The one idea to keep in mind: a lane runs one job at a time, in the order they came. A server has
one for all its targets, or one for each, or none where methods may run in parallel.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def immediate(method: Method) -> Method:
    """Have a method of a target called at once, while others run or wait. A decorator.

    For what cannot wait for its turn: to abort what another call does, to ask how far it is. It
    runs on the event loop, also if `Server` has worker threads, so it must return quickly, or be a
    coroutine method; and it must be harmless to the call that it runs beside.

    To a client without request ids, that is one of an older stack, it is answered when the earlier
    calls of its own connection have been, but does not wait for those of others.

    Examples
    --------
    >>> class Stage:
    ...     @immediate
    ...     def abort(self):
    ...         "Have `move`, which may be running, stop."
    """
    method.__dict__["__rpc_immediate__"] = True
    return method


def is_immediate(method: object) -> bool:
    """Say whether a method is to be called at once."""
    try:
        return getattr(method, "__rpc_immediate__", None) is True
    except Exception:  # of an object that can be called and looks attributes up in its own way
        return False


class Outcome:
    """What a function returned or raised: any exception is a result like others.

    Attributes
    ----------
    result : object
        None after an exception.
    error : BaseException or None
        None, if it returned.
    """

    __slots__ = ("error", "result")

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None

    def take_result(self) -> Any:
        """Give the result away: who gets it has it alone, if nobody else has kept it."""
        result, self.result = self.result, None
        return result

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Call a function."""
        try:
            self.result = function(*args, **kwargs)
        except BaseException as error:
            self.error = error

    async def wait(self, awaitable: Any) -> None:
        """Await what a function returned."""
        try:
            self.result = await awaitable
        except BaseException as error:
            self.error = error


class Job(Protocol):
    """What a lane runs."""

    def start(self) -> bool:
        """Start it; return whether it is done. If not, `Lane.release` is called when it is."""


class Lane:
    """Runs jobs one at a time. For one event loop, without awaiting anything itself."""

    __slots__ = ("_busy", "_jobs")

    def __init__(self) -> None:
        self._busy = False
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Run the job: at once, if the lane is free."""
        self._jobs.append(job)
        self._run()

    def release(self) -> None:
        """Note that the job that was running is done."""
        self._busy = False
        self._run()

    def _run(self) -> None:
        while self._jobs and not self._busy:
            self._busy, done = True, True
            try:
                done = self._jobs.popleft().start()
            finally:
                self._busy = not done


class ParallelLane(Lane):
    """A lane that runs every job at once."""

    __slots__ = ()

    def submit(self, job: Job) -> None:
        """Run the job."""
        job.start()

    def release(self) -> None:
        """Nothing waits."""


class Worker:
    """A thread that calls functions, one after the other, for an event loop.

    A daemon thread: a driver that hangs does not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[], Any]] | None]
        self._inbox = queue.SimpleQueue()
        threading.Thread(target=self._main, name=name, daemon=True).start()

    def submit(self, function: Callable[[], Any], then: Callable[[], Any]) -> None:
        """Call `function`, which raises nothing, on the thread, and `then` on the loop."""
        self._inbox.put((function, then))

    def stop(self) -> None:
        """End the thread, when what it runs now has returned."""
        self._inbox.put(None)

    async def idle(self) -> None:
        """Wait until the thread has run what it was given, and what that led to."""
        for _ in range(2):  # a method; and the `close` of its target, which waited for it
            done = asyncio.Event()
            self.submit(bool, done.set)
            await done.wait()

    def _main(self) -> None:
        while (item := self._inbox.get()) is not None:
            function, then = item
            function()
            del item, function  # which have arguments: `then` may go on with them
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(then)
            del then
