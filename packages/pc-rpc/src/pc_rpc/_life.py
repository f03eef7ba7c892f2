"""The life of a driver that is made here: awaited, entered, left and closed, each where it belongs.

The one idea to keep in mind: what is plain happens where the driver's methods run, in one step
(`begin`, `end`). A driver that must be awaited, or is an asynchronous context manager, lives on the
event loop, and one task has all of it (`begin_on_loop`, `end_on_loop`): what was entered in a task
is left in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pc_rpc._attributes import has
from pc_rpc._exposure import close_of
from pc_rpc._methods import Proxy, RemoteMethods, close_client

if TYPE_CHECKING:
    from pc_rpc._worker import Worker

_logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Life:
    """What a factory has made, from the beginning to the end.

    A context manager is entered in the beginning, and what that gives is the driver (the manager
    itself, if it gives None); in the end it is left. An asynchronous one is preferred, where an
    object is both. A driver is closed in the end if it has a method ``close``, unless there is a
    manager that it came from. A client is only closed: it connected when it was made.

    Parameters
    ----------
    made : object
        What the factory returned.
    worker : Worker or None
        The thread of the driver; None: the event loop's.

    Attributes
    ----------
    driver : object
        What is served, as soon as it has begun.
    on_loop : bool
        It begins and ends on the event loop.
    left : asyncio.Event
        Set by whoever wants it to end.
    """

    def __init__(self, made: Any, worker: Worker | None) -> None:
        self.driver = made
        self.on_loop = hasattr(type(made), "__await__") or _is_asynchronous(made)
        self.left = asyncio.Event()
        self._manager: Any = None
        self._worker = worker

    # Where the methods run.

    def begin(self) -> object:
        """Enter a plain driver; return what is served."""
        made = self.driver
        if has(type(made), "__enter__") and has(type(made), "__exit__") and not _is_client(made):
            self._entered(made, made.__enter__())
        return self.driver

    def end(self) -> Any:
        """Leave and close a plain driver; return what must be awaited, if so."""
        if self._manager is None:
            return close(self.driver)
        self._manager.__exit__(None, None, None)
        return self._close_left()

    def _entered(self, manager: Any, driver: Any) -> None:
        self._manager = manager
        self.driver = manager if driver is None else driver

    def _close_left(self) -> Any:
        """Close a driver that was left as a context manager: that may have closed it already."""
        if self.driver is not self._manager:
            return None
        try:
            closing = close(self.driver)
        except Exception as error:
            return self._log_second(error)
        return self._close_awaited(closing) if hasattr(type(closing), "__await__") else None

    async def _close_awaited(self, closing: Any) -> None:
        try:
            await closing
        except Exception as error:
            self._log_second(error)

    def _log_second(self, error: Exception) -> None:
        kind = type(error).__name__
        _logger.info("close() of a driver that was left by __exit__ raised %s", kind)

    # On the event loop.

    async def begin_on_loop(self) -> object:
        """Await and enter a driver of any kind; return what is served."""
        if hasattr(type(self.driver), "__await__"):
            self.driver = await self.driver
        if not _is_asynchronous(self.driver):
            return await self._where_methods_run(self.begin)
        self._entered(self.driver, await self.driver.__aenter__())
        return self.driver

    async def end_on_loop(self) -> None:
        """Leave and close a driver of any kind."""
        if self._manager is not None and _is_asynchronous(self._manager):
            await self._manager.__aexit__(None, None, None)
            ending = await self._where_methods_run(self._close_left)
        else:
            ending = await self._where_methods_run(self.end)
        if hasattr(type(ending), "__await__"):
            await ending

    async def _where_methods_run(self, function: Callable[[], Result]) -> Result:
        return function() if self._worker is None else await self._worker.call(function)


def close(driver: Any) -> Any:
    """Close a driver, if it can be closed; a client is closed itself, not the driver behind it.

    Returns what must be awaited, if so.
    """
    if type(driver) is RemoteMethods:
        return close_client(driver)
    if _is_client(driver):
        return driver.close_rpc()
    method = close_of(driver)
    return None if method is None else method()


def _is_client(made: object) -> bool:
    return issubclass(type(made), Proxy) or has(type(made), "close_rpc")


def _is_asynchronous(made: object) -> bool:
    kind = type(made)
    return has(kind, "__aenter__") and has(kind, "__aexit__") and not _is_client(made)


def is_cancelled(error: BaseException) -> bool:
    """Say whether an exception ends the task that runs because somebody has cancelled it."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
