"""Where and when methods run: on the event loop, awaited there, or in a worker thread.

The one idea to keep in mind: `Runner.run` returns whether the call is done. A plain method is
called in the callback that read its request, without a task. Calls that are awaited, run in a
worker thread, or wait for calls of other connections are done later; then `then` is called.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

from pyon.asyncio_connection import TURN
from pyon.asyncio_tasks import Later, abandon, keep

from pc_rpc._failures import Failure, bare, describe, is_quiet
from pc_rpc._outcome import Outcome
from pc_rpc._schedule import Call
from pc_rpc._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pyon.asyncio_connection import Connection

    from pc_rpc._aside import Aside
    from pc_rpc._protocol import ServerSide
    from pc_rpc._session import Session
    from pc_rpc._stream import Stream
    from pc_rpc._targets import Instance

NOT_BEGUN = describe(asyncio.CancelledError())._replace(cancelled=True)
"""The outcome of a call that was cancelled before its method was called."""

NO_TEXT = "<its text took too long to make>"

STOP_GRACE = 1.0
"""Seconds that coroutine methods have to clean up when a stopping server cancels them."""

executing: ContextVar[Connection] = ContextVar("executing")
"""The connection whose call is being executed."""


def current_peer() -> str | None:
    """Return the address of the client whose call is being executed, as "host:port".

    For methods of targets, and for target factories. None if no call is being executed.
    """
    connection = executing.get(None)
    return None if connection is None else connection.peername


def current_extra_info(name: str) -> Any:
    """Return information of the transport of the client whose call is being executed.

    For methods of targets, and for target factories.

    Parameters
    ----------
    name : str
        As for `asyncio.BaseTransport.get_extra_info`: "peername" and "sockname" are addresses in
        the form of the socket, "peercert" is the client's verified TLS certificate, empty or None
        without one.

    Raises
    ------
    LookupError
        No call of a connection is being executed.
    """
    return executing.get().transport.get_extra_info(name)


class InTurn(Protocol):
    """An object that takes turns in a lane: a runner, or a stream."""

    def start_in_turn(self, call: Call) -> bool:
        """Start a call that waited for its turn; return whether the turn is over."""


class Lane:
    """Turns: one call at a time, in the order of arrival, of all connections.

    Attributes
    ----------
    busy : bool
        Whether the turn is taken.
    waiting : deque of (InTurn, Call)
        Calls that wait for a turn; streams are represented by their calls.
    """

    __slots__ = ("_later", "busy", "waiting")

    def __init__(self) -> None:
        self._later = Later()
        self.busy = False
        self.waiting: deque[tuple[InTurn, Call]] = deque()

    def take(self, runner: InTurn, call: Call) -> bool:
        """Take the turn if it is free, and return True; else queue the call for `release`."""
        if self.busy or self.waiting:
            self.waiting.append((runner, call))
            return False
        self.busy = True
        return True

    def release(self) -> None:
        """End a turn; start the waiting calls, for as long as a turn of the loop may take."""
        self.busy = False
        until = monotonic() + TURN if self.waiting else 0.0
        while self.waiting and not self.busy:
            self.busy = True
            runner, call = self.waiting.popleft()
            if runner.start_in_turn(call):
                self.busy = False
            if self.waiting and not self.busy and monotonic() > until:
                self._later.ask(self._go_on)  # after other callbacks of the loop
                break

    def _go_on(self) -> None:
        if not self.busy:
            self.release()


class Tasks:
    """Coroutines that run until they end, or until the server stops."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine."""
        return keep(self._tasks, coroutine)

    async def wait(self) -> None:
        """Wait until they have ended, no longer than the grace period."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_GRACE)

    async def cancel(self) -> None:
        """Cancel them, and give them some time to clean up."""
        for task in self._tasks:
            task.cancel()
        await self.wait()

    def abandon(self) -> None:
        """Abandon tasks that do not end, so that the process can end."""
        for task in self._tasks - {asyncio.current_task()}:
            abandon(task)


class Place(NamedTuple):
    """Where the methods of one target run.

    Attributes
    ----------
    tasks : Tasks
        Tasks of coroutine methods.
    closings : Tasks
        Tasks that close targets: cancelled last.
    aside : Aside
        Describes exceptions that were raised on the event loop.
    lane : Lane or None
        Turns, shared by all connections; None if calls run in parallel.
    worker : Worker or None
        The thread of plain methods; None if they run on the event loop.
    """

    tasks: Tasks
    closings: Tasks
    aside: Aside
    lane: Lane | None
    worker: Worker | None


class Runner:
    """Runs the calls of one connection. For the event loop's thread.

    Parameters
    ----------
    instance : Instance
        The object whose methods are called.
    connection : Connection
        The connection of the client.
    then : callable
        Called with each call that was not done at once, when it is done.
    side : ServerSide
        Encodes results, also in worker threads; its features say how exceptions are described.
    """

    __slots__ = ("_details", "_instance", "_owner", "_place", "_side", "_then")

    def __init__(
        self,
        instance: Instance,
        connection: Connection,
        then: Callable[[Call], object],
        *,
        side: ServerSide,
    ) -> None:
        self._side = side
        self._details = side.features.exception_details
        self._instance = instance
        self._place = instance.place
        self._owner = connection
        self._then = then

    def run(self, call: Call) -> bool:
        """Run a call when its turn comes; return whether it is done."""
        if call.lists:
            return self._list(call)
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

    def _list(self, call: Call) -> bool:
        """Have the methods of the target described, without taking a turn."""

        def described(outcome: Outcome) -> None:
            outcome.explain(self._describe)
            call.result, call.failure = outcome.take(), outcome.failure
            self._then(call)

        features = self._side.features
        form = features.version, features.exception_details, features.streams
        call.result = self._instance.described.get(form)
        if call.result is None:
            self._instance.describe(form, described)
        return call.result is not None

    def _start(self, call: Call) -> bool:
        if not call.wanted:
            call.failure = NOT_BEGUN
            return True
        executing.set(self._owner)
        worker = self._place.worker
        if worker is not None and not (
            call.immediate or call.name in self._instance.methods.coroutine
        ):
            work = functools.partial(self._work, call)
            worker.submit(work, functools.partial(self._worker_returned, call))
            return False
        call.invoke(self._instance.target)
        return self._returned(call)

    def stream(self, call: Call, owner: Session) -> Stream:
        """Return a stream of the iterator that a call returned; `TypeError` if it is none."""
        from pc_rpc._stream_turns import open_stream  # few servers have streams

        return open_stream(call, owner, self._place, self._side, self._describe)

    def resume(self, call: Call) -> bool:
        """Continue a call whose method was called in its turn; return whether it is done."""
        done = self._returned(call)
        if done and self._place.lane is not None:
            self._place.lane.release()
        return done

    def _returned(self, call: Call) -> bool:
        """Handle the outcome of a method on the event loop; return whether the call is done."""
        if call.error is not None:
            return self._explain(call)
        if hasattr(type(call.result), "__await__"):  # as `Outcome.awaitable`, for speed
            self._await(call)
            return False
        return True

    def _work(self, call: Call) -> None:
        """Call the method, in the worker thread, unless the call was cancelled meanwhile."""
        if not call.wanted:
            call.failure = NOT_BEGUN
            return
        executing.set(self._owner)
        call.invoke(self._instance.target)
        if call.error is not None:
            call.explain(self._describe)
        elif call.credit is None and not call.awaitable:
            # In this thread, because forms registered by users run their code.
            call.chunks = self._side.reply(call.number, call)

    def _worker_returned(self, call: Call) -> None:
        """Continue a call whose method has returned in the worker thread."""
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
            call.failure = NOT_BEGUN
        if call.error is None or self._explain(call):
            self._done(call)

    def _explain(self, call: Call) -> bool:
        """Have an exception raised on the event loop described; return whether that is done."""
        return explain(call, self._describe, self._place, self._done, details=self._details)

    def _describe(self, error: BaseException) -> Failure:
        cancelled = issubclass(type(error), asyncio.CancelledError)
        return describe(error, details=self._details)._replace(cancelled=cancelled)

    def _done(self, call: Call) -> None:
        """End a call that was not done at once."""
        try:
            self._then(call)
        finally:
            if self._place.lane is not None and not call.immediate:
                self._place.lane.release()


AnyOutcome = TypeVar("AnyOutcome", bound=Outcome)


def explain(
    outcome: AnyOutcome,
    describe: Callable[[BaseException], Failure],
    place: Place,
    then: Callable[[AnyOutcome], object],
    *,
    details: bool,
) -> bool:
    """Have an exception that was raised on the event loop described, without blocking the loop.

    Return whether that is done; otherwise `then` is called when it is. Only descriptions that run
    users' code are made in another thread.
    """
    error = outcome.error
    assert error is not None
    if is_quiet(error, details=details):
        outcome.explain(describe)
        return True
    _describe_aside(outcome, describe, place, then)
    return False


def _describe_aside(
    outcome: AnyOutcome,
    describe: Callable[[BaseException], Failure],
    place: Place,
    then: Callable[[AnyOutcome], object],
) -> None:
    error = cast("BaseException", outcome.error)

    def described(description: Outcome) -> None:
        outcome.failure = description.take() or bare(error, NO_TEXT)
        outcome.error = None
        then(outcome)

    place.aside.run(functools.partial(describe, error), described)


def run_at(
    place: Place,
    function: Callable[[], Any],
    describe: Callable[[BaseException], Failure],
    then: Callable[[Outcome], object],
    connection: Connection,
) -> None:
    """Call a function where the methods of a target run; then `then` on the event loop.

    An exception of the function is passed to `describe`, in a thread other than the event loop's,
    so that `describe` may log it.
    """
    outcome = Outcome()

    def work() -> None:
        executing.set(connection)
        outcome.run(function)

    def work_and_describe() -> None:
        work()
        outcome.explain(describe)

    if place.worker is not None:
        place.worker.submit(work_and_describe, functools.partial(then, outcome))
        return
    work()
    if outcome.error is None:
        then(outcome)
    else:
        _describe_aside(outcome, describe, place, then)
