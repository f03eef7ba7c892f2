"""Awaitables that run together until the first one ends.

The one idea to keep in mind: cancellation is a request. A task may swallow it, as those of the
client library do and `asyncio.wait_for` of Python 3.11 may; so it is repeated until the task ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

__all__ = ["cancel_and_wait", "first_end"]

CANCEL_INTERVAL = 0.5
"""Seconds until a task that has not ended is cancelled again."""


async def first_end(*work: Awaitable[object]) -> None:
    """Wait until the first awaitable ends, cancel the others, and raise its exception, if any."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(tasks)
    for task in done:
        task.result()


async def cancel_and_wait(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until all have ended, even if this is cancelled meanwhile."""
    left = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while left:
        for task in left:
            task.cancel()
        try:
            done, left = await asyncio.wait(left, timeout=CANCEL_INTERVAL)
        except asyncio.CancelledError as error:
            cancelled = error
            done = {task for task in left if task.done()}
            left -= done
        for task in done:
            if not task.cancelled():
                task.exception()  # retrieved: asyncio would log it otherwise
    if cancelled is not None:
        raise cancelled
