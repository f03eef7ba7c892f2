"""AsyncioFFProxy: the target's coroutine methods run in one background task.

There is a task only while there are calls to make, so an idle proxy leaves nothing behind when its
event loop closes.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from fire_and_forget._calls import Call, Proxy, logger

if TYPE_CHECKING:
    from fire_and_forget._calls import OnError, WhenBusy


class AsyncioFFProxy(Proxy):
    """Run the coroutine methods of an object in the background of the event loop.

    The asyncio twin of `FFProxy`: calls on the proxy are plain calls that return at once, with
    None; the target's coroutine runs in a task. No two run at the same time. Methods that are no
    coroutine functions work too, but block the loop while they run.

    Parameters
    ----------
    target : object
        What to call, for instance an asyncio RPC client.
    when_busy : {"drop", "latest", "queue"}
        What becomes of a call made while another one runs, as in `FFProxy`.
    queue_size : int, optional
        How many calls may wait; at least 1. For "queue" only.
    on_error : callable, optional
        Called on the loop with each exception of the target, instead of the warning.

    Notes
    -----
    For one event loop only, and called from there. When the loop is shut down (as at the end of
    `asyncio.run`) the running call is cancelled and the waiting ones are dropped, with a warning;
    await `ff_join` before if they matter.
    """

    __slots__ = ("_task",)

    def __init__(
        self,
        target: Any,
        *,
        when_busy: WhenBusy = "drop",
        queue_size: int | None = None,
        on_error: OnError | None = None,
    ) -> None:
        super().__init__(target, when_busy, queue_size, on_error)
        self._task: asyncio.Task[None] | None = None

    async def ff_join(self, timeout: float | None = None) -> None:
        """Wait until no call runs and none waits.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; 0 only looks, None waits as long as it takes.

        Raises
        ------
        TimeoutError
            A call was still running or waiting after `timeout`. It goes on.
        """
        if self._task is None or self._task.done():
            return
        if self._task is asyncio.current_task():
            raise RuntimeError("ff_join in a background call would wait for itself")
        _, unfinished = await asyncio.wait({self._task}, timeout=timeout)
        if unfinished:
            raise TimeoutError(f"a background call is still running after {timeout} s")

    def ff_counts(self) -> dict[str, int]:
        """Return how many calls were "made", "dropped", "failed", and how many are "waiting".

        A call that runs counts as made, one that failed counts as made and as failed.
        """
        return self._backlog.counts()

    def _submit(self, call: Call) -> None:
        loop = asyncio.get_running_loop()
        idle = self._backlog.running is None
        lost = self._backlog.offer(call)
        if lost:
            logger.log(*lost)
        if idle:
            self._task = loop.create_task(self._make_calls(), name="fire-and-forget")
            self._task.add_done_callback(self._task_ended)

    async def _make_calls(self) -> None:
        while (call := self._backlog.running) is not None:
            await self._make(call)
            self._backlog.advance()

    async def _make(self, call: Call) -> None:
        try:
            result = call()
            if inspect.isawaitable(result):
                await result
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise  # it is this task that was cancelled, not something that the target awaited
            self._backlog.failed += 1
            call.report_failure(error)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        # A callback rather than a finally clause: a task may be cancelled before its first step.
        if task is self._task:
            for lost in self._backlog.give_up("the event loop was shut down"):
                logger.log(*lost)
