"""The life of a driver that the server makes: awaited, entered, left and closed.

The one idea to keep in mind: a plain driver begins and ends where its methods run (`begin`, `end`).
A driver that must be awaited, or is an asynchronous context manager, begins and ends on the event
loop, in one task (`begin_on_loop`, `end_on_loop`), because a context manager must be left in the
task that entered it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pc_rpc._attributes import has
from pc_rpc._exposure import close_of
from pc_rpc._methods import RemoteMethods, close_client
from pc_rpc._proxy import Proxy

if TYPE_CHECKING:
    from pc_rpc._worker import Worker

_logger = logging.getLogger("pc_rpc")

Result = TypeVar("Result")


class Life:
    """The result of a factory, from the beginning to the end.

    In the beginning a context manager is entered; the result of ``__enter__`` is the driver, or the
    manager itself if that is None. In the end the manager is left. If an object is a plain and an
    asynchronous manager, it is used as the latter. A driver with a method ``close`` is closed in
    the end, unless it came from another object as the manager. A client is only closed, because it
    connected when it was made.

    Parameters
    ----------
    made : object
        The result of the factory.
    worker : Worker or None
        The thread of the driver; None: the event loop's.

    Attributes
    ----------
    driver : object
        The object to serve, after the beginning.
    on_loop : bool
        Whether it begins and ends on the event loop.
    left : asyncio.Event
        Set to end the driver.
    """

    def __init__(self, made: Any, worker: Worker | None) -> None:
        self.driver = made
        self.on_loop = hasattr(type(made), "__await__") or _is_asynchronous(made)
        self.left = asyncio.Event()
        self._manager: Any = None
        self._worker = worker

    # Where the methods run.

    def begin(self) -> object:
        """Enter a plain driver; return the object to serve."""
        made = self.driver
        if has(type(made), "__enter__") and has(type(made), "__exit__") and not _is_client(made):
            self._entered(made, made.__enter__())
        return self.driver

    def end(self) -> Any:
        """Leave and close a plain driver; return an awaitable if closing must be awaited."""
        if self._manager is None:
            return close(self.driver)
        self._manager.__exit__(None, None, None)
        return self._close_left()

    def _entered(self, manager: Any, driver: Any) -> None:
        self._manager = manager
        self.driver = manager if driver is None else driver

    def _close_left(self) -> Any:
        """Close a driver that was left as a context manager, and may be closed already."""
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
        """Await and enter a driver of any kind; return the object to serve."""
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
    """Close a driver, if it has a method ``close``; return an awaitable if it must be awaited.

    Of a client the connection is closed, not the driver at its server.
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
    """Say whether an exception is the cancellation of the current task."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
