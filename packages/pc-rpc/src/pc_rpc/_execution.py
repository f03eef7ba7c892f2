"""Where and when methods run: on the event loop, awaited there, or in a worker thread.

The one idea to keep in mind: `Runner.run` says whether the call is done. A method that just returns
is called right where its request was read, without a task; only what is awaited, runs in a worker
thread, or waits for the calls of other connections comes back later, through `then`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from pc_rpc._outcome import Outcome
from pc_rpc._schedule import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pyon.asyncio_connection import Connection

    from pc_rpc._targets import Instance

STOP_GRACE = 1.0
"""Seconds that coroutine methods which are cancelled at the end have to clean up."""

_connection: ContextVar[Connection] = ContextVar("connection")


def current_peer() -> str | None:
    """Return the address of the client whose call is being executed, as "host:port".

    For methods of targets, and for target factories; elsewhere None.
    """
    connection = _connection.get(None)
    return None if connection is None else connection.peername


def current_extra_info(name: str) -> Any:
    """Return what the transport knows about the connection whose call is being executed.

    For methods of targets, and for target factories.

    Parameters
    ----------
    name : str
        As for `asyncio.BaseTransport.get_extra_info`: "peername" and "sockname" are addresses as
        the socket has them, "peercert" is the client's verified TLS certificate, empty or None
        if it has shown none.

    Raises
    ------
    LookupError
        No call of a connection is being executed.
    """
    return _connection.get().transport.get_extra_info(name)


class Lane:
    """Turns: one call at a time, in the order in which they came, of all the connections."""

    __slots__ = ("_busy", "_waiting")

    def __init__(self) -> None:
        self._busy = False
        self._waiting: deque[tuple[Runner, Call]] = deque()

    def take(self, runner: Runner, call: Call) -> bool:
        """Take the turn if it is free; else wait for it, and be started by `release`."""
        if self._busy or self._waiting:
            self._waiting.append((runner, call))
            return False
        self._busy = True
        return True

    def release(self) -> None:
        """End a turn; start the calls whose turn has come."""
        self._busy = False
        while self._waiting and not self._busy:
            self._busy = True
            runner, call = self._waiting.popleft()
            if runner.start_in_turn(call):
                self._busy = False


class Tasks:
    """Coroutines that run until they end, or until the server stops."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self) -> None:
        """Wait until they have ended, no longer than the grace period."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_GRACE)

    async def cancel(self) -> None:
        """Cancel them, and give them some time to clean up."""
        for task in self._tasks:
            task.cancel()
        await self.wait()


class Place(NamedTuple):
    """Where the methods of one target run.

    Attributes
    ----------
    tasks : Tasks
        Awaits what coroutine methods return.
    lane : Lane or None
        One call at a time, with those of every connection; None where calls run in parallel.
    worker : Worker or None
        The thread in which plain methods run, if not on the event loop.
    """

    tasks: Tasks
    lane: Lane | None
    worker: Worker | None


class Runner:
    """Runs the calls of one connection. For the event loop's thread.

    Parameters
    ----------
    instance : Instance
        What the methods belong to.
    connection : Connection
        Where the calls come from.
    then : callable
        Given each call that was not done at once, when it is done.
    """

    __slots__ = ("_instance", "_owner", "_place", "_then")

    def __init__(
        self, instance: Instance, connection: Connection, then: Callable[[Call], object]
    ) -> None:
        self._instance = instance
        self._place = instance.place
        self._owner = connection
        self._then = then

    def run(self, call: Call) -> bool:
        """Run a call when its turn comes; return whether it is done."""
        lane = self._place.lane
        if lane is None or call.immediate:
            return self._start(call)
        if not lane.take(self, call):
            return False
        done = self._start(call)
        if done:
            lane.release()
        return done

    def start_in_turn(self, call: Call) -> bool:
        """Start a call that waited for its turn; return whether the turn is over."""
        if not self._start(call):
            return False
        self._then(call)
        return True

    def _start(self, call: Call) -> bool:
        if not call.wanted:
            call.error = asyncio.CancelledError()
            return True
        _connection.set(self._owner)
        worker = self._place.worker
        if worker is not None and not (
            call.immediate or call.name in self._instance.coroutine_methods
        ):
            work = functools.partial(self._work, call)
            worker.submit(work, functools.partial(self._came_back, call))
            return False
        call.invoke(self._instance.target)
        if call.awaitable:
            self._await(call)
            return False
        return True

    def _work(self, call: Call) -> None:
        """Call the method, when the worker thread comes to it, unless nobody wants it any more."""
        _connection.set(self._owner)
        if call.wanted:
            call.invoke(self._instance.target)
        else:
            call.error = asyncio.CancelledError()

    def _came_back(self, call: Call) -> None:
        """Go on with what came from the worker thread."""
        if call.awaitable:
            self._await(call)
        else:
            self._done(call)

    def _await(self, call: Call) -> None:
        call.task = self._place.tasks.start(call.settle())
        call.task.add_done_callback(functools.partial(self._awaited, call))

    def _awaited(self, call: Call, task: asyncio.Task[None]) -> None:
        call.task = None
        if task.cancelled():  # before it had begun
            call.dismiss()
            call.error = asyncio.CancelledError()
        self._done(call)

    def _done(self, call: Call) -> None:
        """End a call that was not done at once."""
        try:
            self._then(call)
        finally:
            if self._place.lane is not None and not call.immediate:
                self._place.lane.release()


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


def run_at(
    worker: Worker | None,
    function: Callable[[], Any],
    then: Callable[[Outcome], object],
    connection: Connection,
) -> None:
    """Call a function on a worker thread, or here and now; then `then` on the event loop."""
    outcome = Outcome()

    def work() -> None:
        _connection.set(connection)
        outcome.run(function)

    if worker is None:
        work()
        then(outcome)
    else:
        worker.submit(work, functools.partial(then, outcome))
