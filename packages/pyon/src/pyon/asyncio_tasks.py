"""Tasks, futures and callbacks of asyncio, as servers and clients need them.

The one idea to keep in mind: the event loop has only weak references to tasks. A task that nothing
awaits is kept in a set of its owner, and the owner ends the whole set when it stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

__all__ = ["Later", "abandon", "end", "keep", "settle", "settle_error"]

_T = TypeVar("_T")


def keep(tasks: set[asyncio.Task[_T]], coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Run a coroutine in a task that stays in `tasks` until it is done. Call on the event loop.

    Parameters
    ----------
    tasks : set of asyncio.Task
        The set of the owner; see `end`.
    coroutine : coroutine
        It must handle its own errors: nothing awaits the task.

    Returns
    -------
    asyncio.Task
        The task.
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def abandon(task: asyncio.Task[Any]) -> None:
    """Exclude a task that did not end when it was cancelled from the wait of `asyncio.run`.

    At its end, `asyncio.run` cancels all tasks again and waits for them without a time-out. This
    also suppresses asyncio's later message that the task was destroyed, which its owner has
    reported already.

    Parameters
    ----------
    task : asyncio.Task
        It continues to run while its event loop runs.
    """
    asyncio.tasks._unregister_task(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


async def end(tasks: Iterable[asyncio.Task[Any]], grace: float) -> set[asyncio.Task[Any]]:
    """Cancel tasks and wait until they are done, for at most `grace` seconds.

    Parameters
    ----------
    tasks : iterable of asyncio.Task
        The calling task is skipped, because it would wait for its own end.
    grace : float
        Seconds for which the tasks may clean up.

    Returns
    -------
    set of asyncio.Task
        The tasks that are still running.
    """
    others = set(tasks) - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if not others:
        return set()
    _, late = await asyncio.wait(others, timeout=grace)
    return late


class Later:
    """Calls a function in the next iteration of the event loop, once for any number of requests."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked = False

    def ask(self, action: Callable[[], object]) -> None:
        """Schedule `action`, which must be the same function in every call."""
        if not self._asked:
            self._asked = True
            asyncio.get_running_loop().call_soon(self._call, action)

    def _call(self, action: Callable[[], object]) -> None:
        self._asked = False
        action()


def settle(future: asyncio.Future[_T], result: _T) -> None:
    """Set the result of a future, unless it is done or was cancelled."""
    if not future.done():
        future.set_result(result)


def settle_error(future: asyncio.Future[Any], error: BaseException) -> None:
    """Set the exception of a future, unless it is done or was cancelled."""
    if not future.done():
        future.set_exception(error)
