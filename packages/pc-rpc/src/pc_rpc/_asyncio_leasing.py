"""Leases of the asyncio client: as those of `_leasing`, renewed by a task."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from pc_rpc._errors import ConnectionLost, LeaseLost, RpcError
from pc_rpc._leasing import ClaimOfBlock, require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from pc_rpc._asyncio_connection import AsyncioConnection


class AsyncioLease(ClaimOfBlock):
    """What `AsyncioClient.lease` returns, to be used in an ``async with`` statement.

    Parameters
    ----------
    connection : callable
        Coroutine function that returns the connection.
    timeout : float or None
        Seconds that requests may take.
    purpose, ttl, wait, renew
        As for `Client.lease`.
    """

    def __init__(
        self,
        connection: Callable[[], Awaitable[AsyncioConnection]],
        timeout: float | None,
        purpose: str,
        ttl: float,
        wait: float | None,
        *,
        renew: bool,
    ) -> None:
        super().__init__(purpose, ttl, wait, renew=renew)
        self._connect = connection
        self._request_timeout = timeout
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Take the lease. See `Client.lease` for the errors."""
        self._enter()
        self._connection = connection = await self._connect()
        require(connection.side)
        call, chunks = connection.side.encode_action("lease", self._fields)
        self._begin(connection.side, call.number)
        try:
            await connection.complete(call, chunks, self._timeout(self._request_timeout))
        except BaseException:
            self._end()
            raise
        if self._renews:
            self._task = asyncio.create_task(self._keep_renewing())
        return self

    async def renew(self) -> None:
        """Renew the lease. Needed with ``renew=False`` only.

        Raises
        ------
        LeaseLost
            The lease is over.
        """
        try:
            await self._request("renew_lease", self._request_timeout)
        except (LeaseLost, ConnectionLost) as error:
            self._note(error)
            raise

    async def _request(
        self, action: str, timeout: float | None, fields: dict[str, Any] | None = None
    ) -> Any:
        side = self._connection.side
        return await self._connection.complete(*side.encode_action(action, fields), timeout)

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            try:
                await self._request("renew_lease", None)
            except Exception as error:
                if not self._note(error):
                    return

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the lease back. Raises nothing: calls have raised `LeaseLost` if it was lost."""
        if self._task is not None:
            self._task.cancel()
        self._end()
        with contextlib.suppress(RpcError, OSError):  # then it expires soon
            fields = {"lease": self._number}
            text = await self._request("release_lease", self._request_timeout, fields)
            self._lost = self._lost or text
