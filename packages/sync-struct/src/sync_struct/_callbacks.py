"""Callbacks: calling the user's functions, so that what they raise stops nothing.

Every error is logged once and passed to the user's `on_error`, and that is all that happens.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
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

    def __init__(self, name: str, on_error: Callable[[Exception], Any] | None) -> None:
        self._name = name
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()

    def call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call a function; return what it returns, None if it raised."""
        try:
            return callback(*args)
        except Exception as error:
            self._log("%s: a callback failed on %r", args, error)
            self.report(error)

    async def finish(self, result: Awaitable[Any]) -> None:
        """Await what a coroutine function returned."""
        try:
            await result
        except Exception as error:
            self._log("%s: a callback failed, %r", (result,), error)
            self.report(error)

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

    def report(self, error: Exception) -> None:
        """Pass an error to `on_error`."""
        if self._on_error is not None:
            try:
                self._on_error(error)
            except Exception as another:
                self._log("%s: on_error failed on %r", (error,), another)

    def _log(self, text: str, args: tuple[Any, ...], error: Exception) -> None:
        _logger.error(text, self._name, args[0] if len(args) == 1 else args, exc_info=error)


def is_awaitable(result: Any) -> TypeGuard[Awaitable[Any]]:
    """Tell whether a callback returned something to be awaited; most return None."""
    return result is not None and inspect.isawaitable(result)
