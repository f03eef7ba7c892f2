"""Tasks, futures and callbacks of asyncio, as servers and clients need them: each thing once.

The one idea to keep in mind: the event loop refers to tasks weakly. A task that nobody awaits is
kept in a set of its owner, and the owner ends the whole set when it stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

__all__ = ["Later", "abandon", "end", "keep", "settle", "settle_error"]

_T = TypeVar("_T")


def keep(tasks: set[asyncio.Task[_T]], coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Run a coroutine in a task that stays in `tasks` until it is done.

    Parameters
    ----------
    tasks : set of asyncio.Task
        The owner's; see `end`.
    coroutine : coroutine
        It handles its own errors: nobody awaits the task.

    Returns
    -------
    asyncio.Task
        The task. To be called on the event loop.
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def abandon(task: asyncio.Task[Any]) -> None:
    """Have `asyncio.run` not wait for a task that goes on although it was cancelled.

    It cancels all tasks once more in the end and waits for them, however long that takes. Nor does
    asyncio log later that the task was destroyed: its owner has said so already.

    Parameters
    ----------
    task : asyncio.Task
        It runs on while its event loop does.
    """
    asyncio.tasks._unregister_task(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


async def end(tasks: Iterable[asyncio.Task[Any]], grace: float) -> set[asyncio.Task[Any]]:
    """Cancel tasks and wait until they are done, but no longer than `grace` seconds.

    Parameters
    ----------
    tasks : iterable of asyncio.Task
        A task that calls this itself is left alone: it would wait for its own end.
    grace : float
        Seconds that the tasks have to clean up.

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
    """Has something done in the next turn of the event loop, once, however often it is asked."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked = False

    def ask(self, action: Callable[[], object]) -> None:
        """Have `action` called; it is always the same one."""
        if not self._asked:
            self._asked = True
            asyncio.get_running_loop().call_soon(self._call, action)

    def _call(self, action: Callable[[], object]) -> None:
        self._asked = False
        action()


def settle(future: asyncio.Future[_T], result: _T) -> None:
    """Set the result of a future, unless it has one or was cancelled."""
    if not future.done():
        future.set_result(result)


def settle_error(future: asyncio.Future[Any], error: BaseException) -> None:
    """Set the exception of a future, unless it is done or was cancelled."""
    if not future.done():
        future.set_exception(error)
