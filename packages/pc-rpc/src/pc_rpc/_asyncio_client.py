"""The client for asyncio.

The one idea to keep in mind: a call sends its request at once and waits for its own reply only, so
that the calls of many tasks are in flight together. A task that is cancelled or times out leaves
its reply pending; if request ids were negotiated, it also asks the server to cancel the call.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT
from pyon.tcp import format_address

from pc_rpc._asyncio_connection import AsyncioConnection, open_connection
from pc_rpc._asyncio_leasing import AsyncioLease
from pc_rpc._asyncio_reconnecting import AsyncioReconnecting
from pc_rpc._asyncio_target import AsyncioTarget
from pc_rpc._attempts import NEEDS_RECONNECT
from pc_rpc._client_side import ClientSide
from pc_rpc._errors import ConnectionLost
from pc_rpc._leasing import breaking, require
from pc_rpc._migration import takes_context
from pc_rpc._protocol import AutoTarget
from pc_rpc._proxy import Driver, Proxy, class_only

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from pc_rpc._states import State


class AsyncioClient(Proxy[Driver]):
    """The client for asyncio: as `Client`, with coroutine functions as remote methods.

    Call them as ``await client.foo(1, x=2)``. Any number of tasks may use one client; their calls
    are in flight together, and a server with ``allow_parallel`` runs them together. To be used on
    one event loop.

    Examples
    --------
    ::

        async with AsyncioClient() as laser:
            await laser.connect_rpc("::1", 3249, "laser")
            await laser.set_power(0.5)
    """

    def __init__(self) -> None:
        self._target: AsyncioTarget = AsyncioTarget()
        self._target.forget_methods = weakref.WeakMethod(self._forget_methods)
        self._connecting: AsyncioConnection | None = None

    @class_only
    @classmethod
    async def find(
        cls,
        name: str,
        target_name: str | AutoTarget | type[AutoTarget] | None = AutoTarget,
        *,
        search: float | None = None,
        **options: Any,
    ) -> Self:
        """Return a client that is connected to the server of that name. See `Client.find`.

        Examples
        --------
        ::

            async with await AsyncioClient.find("laser of table 3") as laser:
                await laser.set_power(0.5)
        """
        from pc_rpc.discovery import SEARCH, asyncio_find_server

        found = await asyncio_find_server(name, SEARCH if search is None else search)
        client = cls()
        await client.connect_rpc(found.host, found.port, target_name, **options)
        return client

    @takes_context("client_context")
    async def connect_rpc(
        self,
        host: str,
        port: int,
        target_name: str | AutoTarget | type[AutoTarget] | None = AutoTarget,
        *,
        timeout: float | None = None,
        ssl: ssl.SSLContext | None = None,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REPLY_LINE_LIMIT,
        wait_for_leases: bool = False,
        reconnect: bool = False,
        state_cb: Callable[[State], object] | None = None,
    ) -> None:
        """Connect to the server. The parameters and errors are those of `Client`.

        With `reconnect` a lost connection is noticed at once, and `state_cb` is called on the event
        loop.
        """
        if state_cb is not None and not reconnect:
            raise TypeError(NEEDS_RECONNECT)
        for other in (self._connecting, self._target.connection):
            if other is not None and other.side.reason is None:
                raise RuntimeError(f"the client is connected already, to {other.side.peer}")
        peer = format_address((host, port))

        def side(again: str = "await connect_rpc() to connect again") -> ClientSide:
            return ClientSide(
                peer,
                limit=limit,
                line_limit=line_limit,
                tls=ssl is not None,
                again=again,
                wait_for_leases=wait_for_leases,
            )

        where, again = (host, port, target_name), None
        if self._target.again is not None:  # its connection is lost
            self._target.again.close()
            self._target.again = None
        if reconnect:
            again = AsyncioReconnecting(self._target, where, side, ssl, state_cb)
            connection = again.make()
        else:
            connection = AsyncioConnection(side())
        self._connecting, self._target.timeout = connection, timeout
        try:
            await open_connection(
                connection, where, ssl, timeout, partial(self._opened, connection)
            )
        finally:
            self._connecting = None
        if again is not None:
            again.adopt(connection)
            self._target.again = again

    def _opened(self, connection: AsyncioConnection) -> None:
        self._target.connection, self._target.description = connection, {}
        self._target.made += 1
        self._forget_methods()

    # The established names.

    async def select_rpc_target(self, target_name: str | AutoTarget | type[AutoTarget]) -> None:
        """Select a target. See `Client.select_rpc_target`."""

        async def use(connection: AsyncioConnection, timeout: float | None) -> None:
            await connection.take_step(*connection.side.select(target_name), timeout)
            if self._target.again is not None:
                self._target.again.note_target(connection.side)

        await self._target.through("selection", use, self._target.timeout)

    def get_selected_target(self) -> str | None:
        """Return the name of the selected target, None if none has been selected yet."""
        connection = self._target.connection
        return None if connection is None else connection.side.selected_target

    def get_rpc_id(self) -> tuple[list[str], str | None]:
        """Return the names of the server's targets and its description."""
        side = self._target.connected().side
        return list(side.targets), side.description

    def get_local_host(self) -> str:
        """Return the address of the local end of the connection."""
        connection = self._target.connected()
        if connection.side.reason is not None:
            raise connection.side.error_for()
        return str(connection.transport.get_extra_info("sockname")[0])

    async def get_rpc_method_list(self) -> dict[str, Any]:
        """Return the signatures and docstrings of the methods: see PROTOCOL.md, Method list.

        From then on, `help` and `inspect.signature` show them, too.
        """
        answer = cast("dict[str, Any]", await self._target.request("get_rpc_method_list"))
        self._target.description = answer
        return answer

    def get_rpc_connection_count(self) -> int:
        """Return the number of connections made so far. See `Client`."""
        return self._target.made

    def close_rpc(self) -> Awaitable[None]:
        """Close the connection. Pending calls raise `ConnectionLost`.

        The result may be awaited, until the transport is closed.
        """
        if self._connecting is not None:
            self._connecting.end(ConnectionLost("closed by close_rpc()"))
        return self._target.close()

    # New names.

    async def ping_rpc(self) -> None:
        """Check that the server answers. Our servers answer while a method runs there, too."""
        try:
            await self._target.request("ping")
        except ValueError as error:
            if not hasattr(error, "parent_traceback"):
                raise  # otherwise an older server, which does not know pings, has answered

    def lease(
        self, purpose: str, *, ttl: float = 10.0, wait: float | None = 0.0, renew: bool = True
    ) -> AsyncioLease:
        """Reserve the target within a block: ``async with laser.lease("scan 4711"):``.

        As `Client.lease`; a task renews the lease, and all tasks that use this client share it.
        """
        target = self._target
        ready = partial(target.ready, "lease", target.timeout)
        return AsyncioLease(ready, target.timeout, purpose, ttl, wait, renew=renew)

    async def get_rpc_lease(self) -> dict[str, Any] | None:
        """Return the current lease on the target, None if there is none. See `Client`."""
        require(self._target.connected().side)
        return cast("dict[str, Any] | None", await self._target.request("get_lease"))

    async def break_lease(self, reason: str = "") -> dict[str, Any] | None:
        """End the current lease on the target. See `Client.break_lease`."""
        require(self._target.connected().side)
        lease = await self._target.request("break_lease", breaking(reason))
        return cast("dict[str, Any] | None", lease)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close_rpc()

    def __repr__(self) -> str:
        if self.__dict__.get("_target") is None:
            return object.__repr__(self)
        if self._target.connection is None:
            return "<pc_rpc.AsyncioClient of no server>"
        return f"<pc_rpc.AsyncioClient of {self._target.label}>"
