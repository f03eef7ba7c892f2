"""The place of a target: the event loop or a worker thread, and the tasks that belong to it.

The one idea to keep in mind: the code of a target runs in its place only. The text of an exception
that was raised on the event loop is made by `Aside`, because its code could block the loop.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from pyon.asyncio_tasks import abandon, keep

from pc_rpc._caller import executing
from pc_rpc._failures import Failure, bare, is_quiet
from pc_rpc._outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pyon.asyncio_connection import Connection

    from pc_rpc._aside import Aside
    from pc_rpc._lane import Lane
    from pc_rpc._worker import Worker

NO_TEXT = "<its text took too long to make>"

STOP_GRACE = 1.0
"""Seconds that coroutine methods have to clean up when a stopping server cancels them."""


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
