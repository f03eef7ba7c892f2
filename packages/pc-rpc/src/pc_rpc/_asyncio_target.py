"""The connection of an `AsyncioClient`: the current one, and how to replace it.

The one idea to keep in mind: remote methods refer to this object, not to the client. It exists
before there is a connection, and outlives each of them. Its last user closes the connection.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from pc_rpc._asyncio_late_stream import AsyncioLateStream
from pc_rpc._asyncio_stream import AsyncioRemoteStream
from pc_rpc._client_streams import encode_stream
from pc_rpc._errors import ConnectionLost
from pc_rpc._lean_asyncio import call as lean_call
from pc_rpc._proxy import warn_unclosed

if TYPE_CHECKING:
    import weakref
    from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence

    from pc_rpc._asyncio_connection import AsyncioConnection
    from pc_rpc._asyncio_reconnecting import AsyncioReconnecting


class Closing:
    """What `AsyncioClient.close_rpc` returns: may be awaited, need not be."""

    def __init__(self, connection: AsyncioConnection | None) -> None:
        self._connection = connection

    def __await__(self) -> Generator[Any, None, None]:
        if self._connection is not None:
            yield from self._connection.wait_closed().__await__()


class AsyncioTarget:
    """The `Target` of an `AsyncioClient`: its current connection, and how to replace it."""

    def __init__(self) -> None:
        self.connection: AsyncioConnection | None = None
        self.timeout: float | None = None
        self.description: Mapping[str, Any] = {}
        self.made = 0  # connections so far
        self.again: AsyncioReconnecting | None = None  # with `reconnect`
        self.forget_methods: weakref.WeakMethod[Callable[[], None]] | None = None

    @property
    def names(self) -> Collection[str]:
        """Names of the methods of the selected target."""
        return () if self.connection is None else self.connection.side.methods

    @property
    def streams(self) -> frozenset[str]:
        """Names of the methods that return streams."""
        return frozenset() if self.connection is None else self.connection.side.streams

    @property
    def gone(self) -> Mapping[str, str]:
        """Methods that the server has no longer, each with the text of the error."""
        return {} if self.connection is None else self.connection.side.requests.gone

    @property
    def label(self) -> str:
        """Target and server, for messages."""
        if self.connection is None:
            return "an AsyncioClient that is not connected (await connect_rpc() first)"
        return self.connection.side.label

    def connected(self) -> AsyncioConnection:
        if self.connection is None:
            raise RuntimeError("not connected: await connect_rpc() first")
        return self.connection

    def invoke(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Awaitable[Any]:
        """Call a method of the selected target and return its result."""
        connection = self.connection
        if connection is None or connection.lines_received is None or kwargs:
            return self._invoke(name, args, kwargs, timeout)
        return lean_call(connection, name, args, timeout)

    def _invoke(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Awaitable[Any]:
        """Do what `invoke` does, on the general path; connect again if needed."""
        connection = self.connected()
        if self.again is None or connection.side.reason is None:
            return connection.call(name, args, kwargs, timeout)
        return self.again.through(
            f"call of {name}()", lambda other, left: other.call(name, args, kwargs, left), timeout
        )

    def stream(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> AsyncioRemoteStream | AsyncioLateStream:
        """Return the asynchronous iterator over the items of a stream."""

        def on(connection: AsyncioConnection) -> AsyncioRemoteStream:
            call, chunks = encode_stream(connection.side, name, args, kwargs)
            return AsyncioRemoteStream(connection, call, chunks, timeout, self)

        async def begin() -> AsyncioRemoteStream:
            return on(await self.ready(f"stream of {name}()", timeout))

        connection = self.connected()
        if self.again is None or connection.side.reason is None:
            return on(connection)
        return AsyncioLateStream(begin)

    async def request(self, action: str, fields: Mapping[str, Any] | None = None) -> Any:
        """Make a request other than a call of a method, and return the result."""

        def use(connection: AsyncioConnection, timeout: float | None) -> Awaitable[Any]:
            return connection.complete(*connection.side.encode_action(action, fields), timeout)

        return await self.through(f"request {action}", use, self.timeout)

    async def through(
        self,
        what: str,
        use: Callable[[AsyncioConnection, float | None], Awaitable[Any]],
        timeout: float | None,
    ) -> Any:
        """Return the result of `use` with the connection, which is made again if needed."""
        connection = self.connected()
        if self.again is None or connection.side.reason is None:
            return await use(connection, timeout)
        return await self.again.through(what, use, timeout)

    async def ready(self, what: str, timeout: float | None) -> AsyncioConnection:
        """Return a connection that is not known to be lost, made again if needed."""

        async def use(connection: AsyncioConnection, timeout: float | None) -> AsyncioConnection:
            return connection

        return cast("AsyncioConnection", await self.through(what, use, timeout))

    def renewed(self, connection: AsyncioConnection, *, changed: bool) -> None:
        """Use a new connection; `changed` tells whether its methods differ from before."""
        if connection is not self.connection:  # otherwise connect_rpc has opened it
            self.made += 1
        self.connection, self.description = connection, {}
        if changed and self.forget_methods is not None and (forget := self.forget_methods()):
            forget()

    def described(self) -> Mapping[str, Any]:
        """Return the method list, an empty one if it was not fetched yet."""
        return self.description

    def look_again(self) -> bool:
        """Return False: an attribute look-up cannot wait for a new connection here."""
        return False

    def close(self) -> Closing:
        """Close the connection; see `AsyncioClient.close_rpc`."""
        if self.again is not None:
            self.again.close()
        if self.connection is not None:
            self.connection.end(ConnectionLost("closed by close_rpc()"))
        return Closing(self.connection)

    def __del__(self) -> None:
        connection = self.connection
        if connection is None or connection.side.reason is not None or sys.is_finalizing():
            return
        warn_unclosed(self)
        connection.end_soon(ConnectionAbortedError("the client was garbage-collected"))
