"""AsyncioFFProxy: the target's coroutine methods run in one background task.

A task exists only while there are calls to make, so an idle proxy leaves no task behind when its
event loop closes.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from typing import TYPE_CHECKING, Any

from fire_and_forget._call import logger
from fire_and_forget._forks import register, require_own_process
from fire_and_forget._proxy import Proxy

if TYPE_CHECKING:
    from fire_and_forget._backlog import Change, WhenBusy
    from fire_and_forget._call import Call, OnError


class AsyncioFFProxy(Proxy):
    """Run the coroutine methods of an object in the background of the event loop.

    The asyncio twin of `FFProxy`: calls on the proxy are plain calls that return at once, with
    None; the target's coroutine runs in a task. No two run at the same time. Plain methods work,
    too, but block the loop while they run.

    Parameters
    ----------
    target : object
        The object whose methods are called, for instance an asyncio RPC client.
    when_busy : {"drop", "latest", "queue"}
        The treatment of a call that is made while another one runs, as in `FFProxy`.
    queue_size : int, optional
        The number of calls that may wait, at least 1. For "queue" only.
    on_error : callable, optional
        Called on the loop with each exception of the target, instead of the warning.

    Notes
    -----
    To be used on one event loop only. When the loop is shut down (as at the end of
    `asyncio.run`) the running call is cancelled and the waiting ones are dropped, with a warning;
    await `ff_join` before if they matter.
    """

    __slots__ = ("_busy", "_parent", "_process", "_task")

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
        self._busy = False  # the task has calls to make
        self._process = os.getpid()
        self._parent: int | None = None  # the process that has the task, if this is its child
        register(self)

    async def ff_join(self, timeout: float | None = None) -> None:
        """Wait until no call runs and none waits.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; 0 does not wait, None waits without a limit.

        Raises
        ------
        TimeoutError
            A call was still running or waiting after `timeout`. It goes on.
        RuntimeError
            It was called in a background call of this proxy and would wait for itself; or calls of
            the proxy were running in the parent process at the fork.
        """
        require_own_process(self._parent)
        if self._task is None or self._task.done():
            return
        if self._task is asyncio.current_task():
            raise RuntimeError("ff_join in a background call would wait for itself")
        _, unfinished = await asyncio.wait({self._task}, timeout=timeout)
        if unfinished:
            raise TimeoutError(f"a background call is still running after {timeout} s")

    def ff_counts(self) -> dict[str, int]:
        """Return the numbers of calls that were "made", "dropped" and "failed", or are "waiting".

        A running call counts as made; a failed call counts as made and as failed.
        """
        return self._backlog.counts()

    def forked(self) -> None:
        """See `register`: the task and its calls are on an event loop of the parent."""
        if self._busy:
            self._parent = self._process
        self._changes.forked()
        self._process = os.getpid()

    def _submit(self, call: Call) -> None:
        require_own_process(self._parent)
        loop = asyncio.get_running_loop()
        self._change(lambda: self._backlog.offer(call))
        if self._backlog.running is not None and not self._busy:
            self._busy = True
            self._task = loop.create_task(self._make_calls(), name="fire-and-forget")
            self._task.add_done_callback(self._task_ended)

    def _change(self, change: Change) -> None:
        entries = self._changes.carry_out(change)
        self._backlog.dropped_calls.clear()
        for entry in entries:
            logger.log(*entry)

    async def _make_calls(self) -> None:
        while (call := self._backlog.running) is not None:
            await self._make(call)
            call.release()
            self._change(self._backlog.advance)
        self._busy = False

    async def _make(self, call: Call) -> None:
        try:
            result = call()
            if inspect.isawaitable(result):
                await result
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise  # this task was cancelled, not a task that the target awaited
            self._change(self._backlog.count_failure)
            self._report(call, error)

    def _report(self, call: Call, error: BaseException) -> None:
        try:
            call.report_failure(error)
        except Exception as failed:  # of a log handler; the proxy goes on
            context = {"message": f"reporting a failure of {call.label}", "exception": failed}
            asyncio.get_running_loop().call_exception_handler(context)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        # A callback rather than a finally clause: a task may be cancelled before its first step.
        if task is self._task and self._busy:
            entries = self._backlog.drop_all("the event loop was shut down")
            self._busy = False
            self._backlog.dropped_calls.clear()
            for entry in entries:
                logger.log(*entry)
