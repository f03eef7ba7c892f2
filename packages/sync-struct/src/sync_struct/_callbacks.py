"""Callbacks: calling the user's functions, so that what they raise stops nothing.

Every error is logged once and passed to the user's `on_error`, and that is all that happens. That
includes CancelledError, unless it was the subscriber's own task that was cancelled. SystemExit and
KeyboardInterrupt end the program, from the loop, once the others have been called.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeGuard

__all__ = ["Callbacks", "is_awaitable"]

_logger = logging.getLogger(__name__)


class Callbacks:
    """Calls functions on behalf of one subscriber.

    Parameters
    ----------
    name : str
        Of the notifier, for the log.
    on_error : callable or None
        Called with every exception.
    """

    def __init__(self, name: str, on_error: Callable[[Any], Any] | None) -> None:
        self._name = name
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()

    def call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call a function; return what it returns, None if it raised."""
        try:
            return callback(*args)
        except BaseException as error:
            self._failed("%s: a callback failed on %r", args, error)

    async def finish(self, result: Awaitable[Any]) -> None:
        """Await what a coroutine function returned."""
        try:
            await result
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            self._failed("%s: a callback failed, %r", (result,), error)

    def fire(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call a function that nothing waits for, even if it is a coroutine function."""
        result = self.call(callback, *args)
        if is_awaitable(result):
            self.spawn(self.finish(result))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have a coroutine run in a task of its own."""
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
        """Tell whether an error is meant to end the program, and have the loop raise it, then.

        On a thread of its own a loop would end alone, and without a word.
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
    """Tell whether a callback returned something to be awaited; most return None."""
    return result is not None and inspect.isawaitable(result)
