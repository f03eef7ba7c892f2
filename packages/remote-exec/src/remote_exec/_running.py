"""Running code that may have to be stopped.

Sent code runs in a thread of its own, so that the event loop stays free to watch it. A thread
cannot be killed; what can be done is to raise an exception in it, which happens as soon as it
executes Python code again. Code that does not react to that is abandoned: its caller is told,
others go on, and it is interrupted again and again until it ends. The thread is not used again.
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

# How long interrupted code may take to clean up before it counts as abandoned. Within the second
# that servers give their methods when they stop.
INTERRUPT_GRACE = 0.5
# Between further attempts on abandoned code: it costs next to nothing, but each one cuts into
# what the code may be doing to clean up.
INTERRUPT_INTERVAL = 1.0


class Interrupted(BaseException):
    """Raised in sent code when it is to end: time is up, or its caller has given up.

    Not an `Exception`, so that ``except Exception`` in a loop does not swallow it.
    """


class Outcome(NamedTuple):
    """What came of running a function: its value, or an error."""

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
        """Run a function; the future is done when it has returned or raised."""
        ended = self._loop.create_future()
        self._jobs.put((function, ended))
        return ended

    def interrupt(self) -> bool:
        """Raise `Interrupted` in what runs, and have the thread end after it.

        Return whether there is still something to interrupt.
        """
        # It is only pending until the thread next runs Python code. Harmless if that is over.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self.ident or 0), ctypes.py_object(Interrupted)
        )
        self.finish()
        return self.is_alive()

    def finish(self) -> None:
        """Have the thread end after what it runs now."""
        self._jobs.put(None)

    def run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._run_job(*job)
        except Interrupted:
            pass  # it came too late for the code that it was meant for

    def _run_job(self, function: Callable[[], Any], ended: asyncio.Future[Outcome]) -> None:
        process = os.getpid()
        outcome = Outcome(error=Interrupted())  # should that come between two lines of this method
        try:
            outcome = Outcome(function())
        except BaseException as error:  # of any kind: its caller is told
            outcome = Outcome(error=error)
        finally:
            if os.getpid() != process:  # forked by the code: nobody waits for an outcome here
                _end_process(outcome.error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(settle, ended, outcome)


def _end_process(error: BaseException | None) -> NoReturn:
    """End a process that sent code forked, where its code ends: the rest is the parent's."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, gone or closed
            stream.flush()
    os._exit(error is not None)


class Runner:
    """Runs functions and awaits coroutines, and sees to it that they end in time.

    Parameters
    ----------
    name : str
        Of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # One thread does for calls that come one by one, and code that keeps thread-bound objects
        # in its namespace (a database connection, say) meets them in the same thread again.
        self._idle: list[CodeThread] = []

    async def run(
        self, function: Callable[[], Any], deadline: float | None, context: contextvars.Context
    ) -> Outcome:
        """Call a function in a thread; if it returns an awaitable, await that on the event loop.

        Parameters
        ----------
        function : callable
            What to call.
        deadline : float or None
            Seconds that it may take in all. After that it is interrupted, and the outcome is a
            `TimeoutError`. None: no limit.
        context : contextvars.Context
            To run it in.
        """
        loop = asyncio.get_running_loop()
        end = None if deadline is None else loop.time() + deadline
        thread = self._idle.pop() if self._idle else CodeThread(self._name)
        ended = thread.submit(lambda: context.run(function))
        try:
            outcome = await self._in_time(ended, thread.interrupt, end)
        except asyncio.CancelledError:
            thread.finish()
            raise
        if outcome is None:
            return _overrun(ended, deadline)
        self._idle.append(thread)
        if not inspect.isawaitable(outcome.value):
            return outcome
        task = loop.create_task(_outcome(outcome.value), context=context)
        outcome = await self._in_time(task, task.cancel, end)
        return _overrun(task, deadline) if outcome is None else outcome

    def close(self) -> None:
        """End the threads that are idle."""
        for thread in self._idle:
            thread.finish()
        self._idle.clear()

    async def _in_time(
        self,
        ended: asyncio.Future[Outcome],
        interrupt: Callable[[], bool],
        end: float | None,
    ) -> Outcome | None:
        """Wait for an outcome; None if it was interrupted because there was none in time."""
        timeout = None if end is None else end - asyncio.get_running_loop().time()
        try:
            await asyncio.wait({ended}, timeout=timeout)
        except asyncio.CancelledError:
            if not ended.done():
                await self._interrupt(ended, interrupt)
            raise
        if ended.done():
            return ended.result()
        await self._interrupt(ended, interrupt)
        return None

    async def _interrupt(
        self, ended: asyncio.Future[Outcome], interrupt: Callable[[], bool]
    ) -> None:
        interrupt()
        await asyncio.wait({ended}, timeout=INTERRUPT_GRACE)
        if not ended.done():
            logger.warning("%s: code does not react to being interrupted; abandoned", self._name)
            if isinstance(ended, asyncio.Task):
                abandon(ended)
            _insist(ended, interrupt)


def _insist(ended: asyncio.Future[Outcome], interrupt: Callable[[], bool]) -> None:
    """Interrupt abandoned code again and again until it ends."""

    def again() -> None:
        if not ended.done() and interrupt():
            _insist(ended, interrupt)

    ended.get_loop().call_later(INTERRUPT_INTERVAL, again)


def _overrun(ended: asyncio.Future[Outcome], deadline: float | None) -> Outcome:
    error = TimeoutError(f"the code was still running after its deadline of {deadline} s")
    if not ended.done():
        error.add_note("It does not react to being interrupted: it is left running, abandoned.")
    elif not ended.cancelled():
        error.__cause__ = ended.result().error  # shows where it was interrupted
    return Outcome(error=error)


async def _outcome(awaitable: Any) -> Outcome:
    try:
        return Outcome(await awaitable)
    except BaseException as error:  # of any kind: its caller is told
        return Outcome(error=error)
