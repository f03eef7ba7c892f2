"""The asynchronous iterator over the items of a stream, for asyncio clients.

The one idea to keep in mind: it is `RemoteStream` for ``async for``. The connection is always read,
so that leaving the stream only has to notify the server.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from pc_rpc._client_streams import closed, next_items, too_late
from pc_rpc._stream_iterator import AsyncioClosingIterator, StreamState

if TYPE_CHECKING:
    from pc_rpc._asyncio_connection import AsyncioConnection
    from pc_rpc._protocol import Chunks
    from pc_rpc._stream_call import StreamCall


class AsyncioRemoteStream(StreamState["AsyncioConnection"], AsyncioClosingIterator):
    """The items of a remote method, one after the other. Use it in an ``async for`` loop.

    Close it (``await stream.aclose()``), or use it in an ``async with`` statement, if the loop may
    be left while something else still refers to it. For one task at a time.

    Parameters
    ----------
    connection, call, chunks, timeout
        As for `StreamState`.
    owner : object
        What keeps the connection open.
    """

    __slots__ = ("_owner",)

    def __init__(
        self,
        connection: AsyncioConnection,
        call: StreamCall,
        chunks: Chunks,
        timeout: float | None,
        owner: object,
    ) -> None:
        super().__init__(connection, call, chunks, timeout)
        self._owner = owner

    async def __anext__(self) -> Any:
        if self._items:
            return self._items.pop()
        connection = self._connection
        if connection is None:
            raise StopAsyncIteration
        if self._used:
            raise ValueError("the stream is being read already")
        self._used = True
        try:
            while not self._items:
                await self._receive(connection)
            return self._items.pop()
        except BaseException:
            self._leave()
            raise
        finally:
            self._used = False

    async def _receive(self, connection: AsyncioConnection) -> None:
        call = self._call
        more = call.credit()
        if connection.side.reason is None:
            connection.send_chunks(more)
        await self._arrival(connection)
        if call.reply is None:
            raise connection.side.error_for(call)
        items = next_items(connection.side, call)
        if items is None:
            self._connection = None
            connection.result(call)
            raise StopAsyncIteration
        items.reverse()
        self._items = items

    async def _arrival(self, connection: AsyncioConnection) -> None:
        """Wait until there is a message or the connection is lost, within the time-out."""
        if self._call.reply is not None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await connection.exchange_part(self._call, self._chunks)
        except TimeoutError:
            raise too_late(connection.side, self._call, self._timeout) from None
        self._chunks = ()

    async def aclose(self) -> None:
        """Close the generator at the driver, and wait for that. Does nothing at the end.

        Raises
        ------
        TimeoutError
            It was not closed in time; the server has been asked to.
        Exception
            What the generator raised when it was closed.
        """
        connection, self._connection = self._connection, None
        self._items = []
        if connection is None or not connection.leave(self._call):
            return
        while connection.side.reason is None and not self._call.at_end:
            self._call.forget()
            await self._arrival(connection)
        if self._call.at_end:
            closed(connection.side, self._call)

    def __del__(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._call.sent:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                connection.loop.call_soon_threadsafe(connection.leave, self._call)
