"""Calls of the client library with working time-outs, cancellation and closing.

The one idea to keep in mind: the library swallows cancellations, waits for ever for a connection
that accepts no data, continues after its own tasks have failed, and forgets tasks that it replaces
when it reconnects. Only this module knows that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pyon.asyncio_tasks import keep

from sync_struct.nats._together import cancel_and_wait

__all__ = [
    "CALL_TIMEOUT",
    "abort",
    "await_call",
    "close",
    "has_dead_task",
    "has_given_up",
    "is_client_error",
    "recording_tasks",
]

CALL_TIMEOUT = 5.0
"""Seconds to wait for a reply of the engine, which normally takes milliseconds."""

CLOSE_TIMEOUT = 1.0
"""Seconds that a client may take to send pending data before its connection is aborted."""

CLOSED_TRANSPORT_ERRORS = (AttributeError, TypeError, RuntimeError, AssertionError)
"""Exceptions that the client library raises when it writes to a transport that was closed, or that
does not exist yet."""

TASK_METHODS = ("_read_loop", "_flusher", "_ping_interval", "_attempt_reconnect")
"""Coroutine functions of the library's client that it runs in tasks of their own."""

_T = TypeVar("_T")
_closing: set[asyncio.Task[None]] = set()


def is_client_error(error: BaseException) -> bool:
    """Return whether an error comes from the client library or the network."""
    kinds = (TimeoutError, OSError, *CLOSED_TRANSPORT_ERRORS)
    return isinstance(error, kinds) or type(error).__module__.startswith("nats.")


async def await_call(call: Awaitable[_T]) -> _T:
    """Await a call of the library and return its result.

    If the library swallows a cancellation or a time-out and returns, it is raised here.

    Raises
    ------
    TimeoutError
        The call has not returned within `CALL_TIMEOUT`.
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
    """Return whether the task of the client library that reconnects has failed.

    An error that the library does not expect, such as an incomplete greeting, ends it for good.
    """
    task = getattr(client, "_reconnection_task", None)
    if task is None or not task.done() or task.cancelled():
        return False
    return task.exception() is not None and not client.is_connected


def has_dead_task(client: Any) -> bool:
    """Return whether the task that reads or writes the connection of a client has ended.

    An error that the library does not expect, such as a late pong, ends the task for good; the
    library's own `flush` does not detect it.
    """
    tasks = (getattr(client, f"_{name}_task", None) for name in ("reading", "flusher"))
    return any(task is not None and task.done() for task in tasks)


def recording_tasks(client_class: type) -> type:
    """Return a class of clients whose attribute ``tasks`` is the set of their running tasks.

    The library keeps one task of each kind. While it reconnects it may start another one, and then
    the earlier one would never end.
    """

    def recorded(method: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
        async def run(self: Any) -> None:
            task = asyncio.current_task()
            self.tasks.add(task)
            try:
                await method(self)
            finally:
                self.tasks.discard(task)

        return run

    def init(self: Any) -> None:
        client_class.__init__(self)  # type: ignore[misc]
        self.tasks = set()

    methods = {name: recorded(getattr(client_class, name)) for name in TASK_METHODS}
    return type("Client", (client_class,), {"__init__": init, **methods})


async def close(client: Any) -> None:
    """Close a client in any state, within seconds; closing continues if this is cancelled."""
    closing = keep(_closing, _close(client))
    closing.add_done_callback(lambda _: abort(client))  # also if the loop ends first
    await asyncio.shield(closing)


def abort(client: Any) -> None:
    """Abort the connection of a client, if it has one."""
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    if writer is not None:
        writer.transport.abort()


async def _close(client: Any) -> None:
    """Close a client and end its tasks, including those that `close` leaves behind or starts.

    Only an event loop that ends cancels this, and then waits until it is done.
    """
    has_given_up(client)  # retrieves the exception: asyncio would log it otherwise
    closing = asyncio.ensure_future(client.close())
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT)
    if not closing.done():  # the peer accepts no data, and the library waits for it
        abort(client)
    while left := {task for task in (closing, *_tasks_of(client)) if not task.done()}:
        with contextlib.suppress(asyncio.CancelledError):
            await cancel_and_wait(left)
    failure = None if closing.cancelled() else closing.exception()
    if failure is not None and not is_client_error(failure):
        raise failure


def _tasks_of(client: Any) -> set[asyncio.Task[Any]]:
    subscriptions = getattr(client, "_subs", {}).values()
    tasks = {getattr(one, "_wait_for_msgs_task", None) for one in subscriptions}
    return {*client.tasks, *tasks} - {None}
