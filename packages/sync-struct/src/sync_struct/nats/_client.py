"""The client library, held to what its callers rely on: time-outs, cancellations, an end.

The one idea to keep in mind: it swallows cancellations, waits without an end for a connection that
takes nothing, and goes on without the tasks that it consists of. All of that is known here alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from pyon.asyncio_tasks import keep

from sync_struct.nats._together import until_ended

__all__ = [
    "CALL_TIMEOUT",
    "close",
    "cut_off",
    "finish",
    "has_given_up",
    "is_deaf",
    "is_of_client",
]

CALL_TIMEOUT = 5.0
"""Seconds until an answer of the engine counts as never coming; it answers within milliseconds."""

CLOSE_TIMEOUT = 1.0
"""Seconds that a client has to send what is pending before its connection is cut off."""

OF_CLOSED_TRANSPORTS = (AttributeError, TypeError, RuntimeError, AssertionError)
"""What the client library raises where it writes to a transport that has just been closed, or that
it never had."""

_T = TypeVar("_T")
_closing: set[asyncio.Task[None]] = set()


def is_of_client(error: BaseException) -> bool:
    """Tell whether an error is of the client library, or of the network below it."""
    kinds = (TimeoutError, OSError, *OF_CLOSED_TRANSPORTS)
    return isinstance(error, kinds) or type(error).__module__.startswith("nats.")


async def finish(call: Awaitable[_T]) -> _T:
    """Return what a call of the library returns.

    It may swallow a cancellation, and return. Then what was meant is done here, behind it.

    Raises
    ------
    TimeoutError
        It has not returned within `CALL_TIMEOUT`.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    async with asyncio.timeout(CALL_TIMEOUT) as limit:
        result = await call
    if task.cancelling() > before:
        raise asyncio.CancelledError
    if limit.expired():
        raise TimeoutError(f"no end within {CALL_TIMEOUT:g} s")
    return result


def has_given_up(client: Any) -> bool:
    """Tell whether the task of the client library that connects again has failed.

    An error that it does not foresee, as where a greeting is cut, ends it for good.
    """
    task = getattr(client, "_reconnection_task", None)
    if task is None or not task.done() or task.cancelled():
        return False
    return task.exception() is not None and not client.is_connected


def is_deaf(client: Any) -> bool:
    """Tell whether a client has a connection, but nobody who reads from it or writes to it.

    An error that the library does not foresee, as a pong that comes late, ends that task for good;
    its own `flush` takes no notice.
    """
    tasks = (getattr(client, f"_{name}_task", None) for name in ("reading", "flusher"))
    return any(task is not None and task.done() for task in tasks)


async def close(client: Any) -> None:
    """Close a client within seconds, in whatever state it is; it goes on if this is cancelled."""
    closing = keep(_closing, _close(client))
    closing.add_done_callback(lambda _: cut_off(client))  # also where the loop ends before it has
    await asyncio.shield(closing)


def cut_off(client: Any) -> None:
    """End the connection of a client at once; nothing happens if it has none."""
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    if writer is not None:
        writer.transport.abort()


async def _close(client: Any) -> None:
    has_given_up(client)  # so that nobody wonders about the error
    closing = asyncio.ensure_future(client.close())
    await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT)
    if not closing.done():  # the other end takes nothing, and the library waits until it does
        cut_off(client)
        await until_ended({closing})
    failure = None if closing.cancelled() else closing.exception()
    await until_ended(_tasks_of(client))  # it leaves some behind where closing has failed
    if failure is not None and not is_of_client(failure):
        raise failure


def _tasks_of(client: Any) -> set[asyncio.Task[Any]]:
    names = ("reading", "flusher", "ping_interval", "reconnection")
    tasks = [getattr(client, f"_{name}_task", None) for name in names]
    subscriptions = getattr(client, "_subs", {}).values()
    tasks += [getattr(one, "_wait_for_msgs_task", None) for one in subscriptions]
    return {task for task in tasks if task is not None and not task.done()}
