"""A stream of an asyncio client whose connection was lost: connects again first.

The one idea to keep in mind: the method of a stream is called when the first item is requested.
Only then is there a task that can wait for a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pc_rpc._stream_iterator import AsyncioClosingIterator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pc_rpc._asyncio_stream import AsyncioRemoteStream


class AsyncioLateStream(AsyncioClosingIterator):
    """The items of a remote method, one after the other. See `AsyncioRemoteStream`.

    Parameters
    ----------
    begin : callable
        Coroutine function that connects and returns the stream.
    """

    def __init__(self, begin: Callable[[], Awaitable[AsyncioRemoteStream]]) -> None:
        self._begin = begin
        self._stream: AsyncioRemoteStream | None = None
        self._closed = False

    async def __anext__(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        if self._stream is None:
            self._stream = await self._begin()
        return await anext(self._stream)

    async def aclose(self) -> None:
        """Close the generator at the driver. See `AsyncioRemoteStream.aclose`."""
        self._closed = True
        if self._stream is not None:
            await self._stream.aclose()
