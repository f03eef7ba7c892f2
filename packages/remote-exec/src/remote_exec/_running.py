"""Execution of sent code, with a deadline and interruption.

Sent code runs in its own thread, so that the event loop can watch it. A thread cannot be killed; an
exception can be raised in it, which takes effect when it next executes Python code. Code that does
not end then is abandoned: its caller gets an error, others can use the driver, and the code is
interrupted repeatedly until it ends. The thread is not used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import inspect
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from pyon.asyncio_tasks import abandon, settle

logger = logging.getLogger("remote_exec")

__tracebackhide__ = True  # as in _server

# Seconds that interrupted code may take to clean up before it is abandoned. Less than the second
# that servers give their methods when they stop.
INTERRUPT_GRACE = 0.5
# Seconds between further interruptions of abandoned code. They cost next to nothing, but each one
# may cut off clean-up code.
INTERRUPT_INTERVAL = 1.0


class Interrupted(BaseException):
    """Raised in sent code when its deadline has passed, or its caller has given up.

    Not an `Exception`, so that ``except Exception`` in a loop does not swallow it.
    """


class Outcome(NamedTuple):
    """The result of a function: its value, or an error."""

    value: Any = None
    error: BaseException | None = None


class CodeThread(threading.Thread):
    """A thread that runs one function after the other for an event loop, until interrupted."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)  # code that never ends must not delay the exit
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Outcome]] | None]
        self._jobs = queue.SimpleQueue()
        self.start()

    def submit(self, function: Callable[[], Any]) -> asyncio.Future[Outcome]:
        """Run a function; return a future of its outcome."""
        future = self._loop.create_future()
        self._jobs.put((function, future))
        return future

    def interrupt(self) -> bool:
        """Raise `Interrupted` in the running code, and end the thread after it.

        Return whether the thread is still alive.
        """
        # Pending until the thread next executes Python code; without effect if it has ended.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self.ident or 0), ctypes.py_object(Interrupted)
        )
        self.finish()
        return self.is_alive()

    def finish(self) -> None:
        """End the thread after the running function."""
        self._jobs.put(None)

    def run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._run_job(*job)
        except Interrupted:
            pass  # raised after the function had ended

    def _run_job(self, function: Callable[[], Any], future: asyncio.Future[Outcome]) -> None:
        process = os.getpid()
        outcome = Outcome(error=Interrupted())  # if it is raised between two lines of this method
        try:
            outcome = Outcome(function())
        except BaseException as error:  # the caller gets any exception
            outcome = Outcome(error=error)
        finally:
            if os.getpid() != process:  # the child of a fork by the code: its outcome has no reader
                _end_process(outcome.error)
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing waits
                self._loop.call_soon_threadsafe(settle, future, outcome)


def _end_process(error: BaseException | None) -> NoReturn:
    """End a process that sent code forked, where that code ends."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, gone or closed
            stream.flush()
    os._exit(error is not None)


class Runner:
    """Runs functions and awaits coroutines, with deadlines.

    Parameters
    ----------
    name : str
        Name of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Calls that come one by one use the same thread, so thread-bound objects in the namespace
        # (a database connection, for example) can be used again.
        self._idle: list[CodeThread] = []

    async def run(
        self, function: Callable[[], Any], deadline: float | None, context: contextvars.Context
    ) -> Outcome:
        """Call a function in a thread; if it returns an awaitable, await that on the event loop.

        Parameters
        ----------
        function : callable
            The function.
        deadline : float or None
            Seconds that it may take in all. After that it is interrupted, and the outcome is a
            `TimeoutError`. None: no limit.
        context : contextvars.Context
            The context to run it in.
        """
        loop = asyncio.get_running_loop()
        end = None if deadline is None else loop.time() + deadline
        thread = self._idle.pop() if self._idle else CodeThread(self._name)
        future = thread.submit(lambda: context.run(function))
        try:
            outcome = await self._in_time(future, thread.interrupt, end)
        except asyncio.CancelledError:
            thread.finish()
            raise
        if outcome is None:
            return _timed_out(future, deadline)
        self._idle.append(thread)
        if not inspect.isawaitable(outcome.value):
            return outcome
        task = loop.create_task(_outcome(outcome.value), context=context)
        outcome = await self._in_time(task, task.cancel, end)
        return _timed_out(task, deadline) if outcome is None else outcome

    def close(self) -> None:
        """End the idle threads."""
        for thread in self._idle:
            thread.finish()
        self._idle.clear()

    async def _in_time(
        self,
        future: asyncio.Future[Outcome],
        interrupt: Callable[[], bool],
        end: float | None,
    ) -> Outcome | None:
        """Wait for an outcome until `end`; then interrupt the code and return None."""
        timeout = None if end is None else end - asyncio.get_running_loop().time()
        try:
            await asyncio.wait({future}, timeout=timeout)
        except asyncio.CancelledError:
            if not future.done():
                await self._interrupt(future, interrupt)
            raise
        if future.done():
            return future.result()
        await self._interrupt(future, interrupt)
        return None

    async def _interrupt(
        self, future: asyncio.Future[Outcome], interrupt: Callable[[], bool]
    ) -> None:
        interrupt()
        await asyncio.wait({future}, timeout=INTERRUPT_GRACE)
        if not future.done():
            logger.warning("%s: interrupted code does not end; abandoned", self._name)
            if isinstance(future, asyncio.Task):
                abandon(future)
            _interrupt_again(future, interrupt)


def _interrupt_again(future: asyncio.Future[Outcome], interrupt: Callable[[], bool]) -> None:
    """Interrupt abandoned code at intervals until it ends."""

    def again() -> None:
        if not future.done() and interrupt():
            _interrupt_again(future, interrupt)

    future.get_loop().call_later(INTERRUPT_INTERVAL, again)


def _timed_out(future: asyncio.Future[Outcome], deadline: float | None) -> Outcome:
    error = TimeoutError(f"the code was still running after its deadline of {deadline} s")
    if not future.done():
        error.add_note("The code was interrupted and did not end: it is abandoned, still running.")
    elif not future.cancelled():
        error.__cause__ = future.result().error  # shows where it was interrupted
    return Outcome(error=error)


async def _outcome(awaitable: Any) -> Outcome:
    try:
        return Outcome(await awaitable)
    except BaseException as error:  # the caller gets any exception
        return Outcome(error=error)
