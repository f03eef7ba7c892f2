"""Several things at once, the first of which to end ends the others.

The one idea to keep in mind: to cancel is to ask. A task may swallow it, as the client library does
and `asyncio.wait_for` of Python 3.11 may; so it is asked again until the task has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

__all__ = ["first_end", "until_ended"]

AGAIN = 0.5
"""Seconds until a task that goes on is cancelled once more."""


async def first_end(*work: Awaitable[object]) -> None:
    """Wait until one of several things ends, end the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await until_ended(tasks)
    for task in done:
        task.result()


async def until_ended(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until all have ended, also if this is cancelled meanwhile."""
    left = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while left:
        for task in left:
            task.cancel()
        try:
            done, left = await asyncio.wait(left, timeout=AGAIN)
        except asyncio.CancelledError as error:
            cancelled = error
            done = {task for task in left if task.done()}
            left -= done
        for task in done:
            if not task.cancelled():
                task.exception()  # so that nobody wonders about it
    if cancelled is not None:
        raise cancelled
