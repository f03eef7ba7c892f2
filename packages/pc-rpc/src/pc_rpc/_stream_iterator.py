"""What the iterators over streams share: their state, leaving the stream, the ``with`` statement.

The one idea to keep in mind: an iterator refers to its connection until its end. What ends it takes
that reference away first, so the server is asked only once to close the generator.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pc_rpc._protocol import Chunks
    from pc_rpc._stream_call import StreamCall


class _Leavable(Protocol):
    def leave(self, call: StreamCall, /) -> object: ...


Connection = TypeVar("Connection", bound=_Leavable)


class StreamState(Generic[Connection]):
    """The state of the iterator over one stream.

    Parameters
    ----------
    connection : BlockingConnection or AsyncioConnection
        Where the call goes.
    call : StreamCall
        The call.
    chunks : sequence of bytes
        The encoded request.
    timeout : float or None
        Seconds that each item, and the end, may take. None: no limit.
    """

    __slots__ = ("__weakref__", "_call", "_chunks", "_connection", "_items", "_timeout", "_used")

    def __init__(
        self, connection: Connection, call: StreamCall, chunks: Chunks, timeout: float | None
    ) -> None:
        self._items: list[Any] = []  # of the current message, the next one last
        self._connection: Connection | None = connection  # None: at the end
        self._call = call
        self._chunks = chunks
        self._timeout = timeout
        self._used = False  # a thread or task is waiting for an item

    def _leave(self) -> None:
        """Have the server close the generator, without waiting for that."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.leave(self._call)

    def __repr__(self) -> str:
        state = "" if self._connection is not None else ", at its end"
        return f"<{self._call.what}{state}>"


class ClosingIterator(Iterator[Any]):
    """An iterator that a ``with`` statement closes."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Close the generator at the driver."""

    def __enter__(self) -> Self:
        """Return the iterator."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


class AsyncioClosingIterator(AsyncIterator[Any]):
    """An asynchronous iterator that an ``async with`` statement closes."""

    __slots__ = ()

    @abstractmethod
    async def aclose(self) -> None:
        """Close the generator at the driver."""

    async def __aenter__(self) -> Self:
        """Return the iterator."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()
