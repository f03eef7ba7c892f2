"""Callbacks: calling the user's functions without being stopped by their exceptions.

Every exception is logged once and passed to the user's `on_error`. That includes CancelledError,
unless the subscriber's own task was cancelled. SystemExit and KeyboardInterrupt are raised by the
event loop, after the other callbacks have been called, and end the program.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeGuard

__all__ = ["Callbacks", "is_awaitable"]

_logger = logging.getLogger("sync_struct")


class Callbacks:
    """Calls functions on behalf of one subscriber.

    Parameters
    ----------
    name : str
        Name of the notifier, for the log.
    on_error : callable or None
        Called with every exception.
    """

    def __init__(self, name: str, on_error: Callable[[Any], Any] | None) -> None:
        self._name = name
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()

    def call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call a function; return its result, or None if it raised."""
        try:
            return callback(*args)
        except BaseException as error:
            self._failed("%s: a callback failed on %r", args, error)

    async def finish(self, result: Awaitable[Any]) -> None:
        """Await the result of a coroutine function."""
        try:
            await result
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            self._failed("%s: a callback failed, %r", (result,), error)

    def fire(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call a function or coroutine function without waiting for it."""
        result = self.call(callback, *args)
        if is_awaitable(result):
            self.spawn(self.finish(result))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a new task."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def report(self, error: BaseException) -> None:
        """Pass an error to `on_error`."""
        if self._on_error is not None:
            try:
                self._on_error(error)
            except BaseException as another:
                if not self._ends_program(another):
                    self._log("%s: on_error failed on %r", (error,), another)

    def _failed(self, text: str, args: tuple[Any, ...], error: BaseException) -> None:
        if not self._ends_program(error):
            self._log(text, args, error)
            self.report(error)

    def _ends_program(self, error: BaseException) -> bool:
        """Return whether an error has to end the program; if so, let the loop raise it.

        In a thread other than the main one it would only end that thread's loop, silently.
        """
        if not isinstance(error, (KeyboardInterrupt, SystemExit)):
            return False
        if threading.current_thread() is not threading.main_thread():
            return False
        asyncio.get_running_loop().call_soon(_raise, error)
        return True

    def _log(self, text: str, args: tuple[Any, ...], error: BaseException) -> None:
        _logger.error(text, self._name, args[0] if len(args) == 1 else args, exc_info=error)


def _raise(error: BaseException) -> None:
    raise error


def is_awaitable(result: Any) -> TypeGuard[Awaitable[Any]]:
    """Return whether the result of a callback has to be awaited; most return None."""
    return result is not None and inspect.isawaitable(result)
