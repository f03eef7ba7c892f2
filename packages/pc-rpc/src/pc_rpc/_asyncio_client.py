"""The client for asyncio.

The one idea to keep in mind: a call sends its request at once and waits for nothing but its own
reply, so the calls of many tasks are in flight together. A task that is cancelled, or whose time is
up, leaves its reply owed; where that was agreed, the server is told to cancel the call as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Generic, cast

from pyon.asyncio_connection import HIGH_WATER, Connection
from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT, FramingError, Message, copy_if_shared
from pyon.tcp import format_address

from pc_rpc._errors import GenericRemoteException, ProtocolError
from pc_rpc._protocol import (
    BANNER,
    HANDSHAKE_LIMIT,
    AutoTarget,
    Call,
    Chunks,
    ClientSide,
    lost,
)
from pc_rpc._remote import RemoteMethods, find_method

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from typing_extensions import TypeVar

    Driver = TypeVar("Driver", default=Any)
else:
    from typing import TypeVar

    Driver = TypeVar("Driver")


class _Link(Connection):
    """The client's end of one connection."""

    def __init__(self, peer: str, side: ClientSide) -> None:
        super().__init__(limit=HANDSHAKE_LIMIT)
        self.peer = peer
        self.side = side
        self.side.peer = peer
        self.reason: BaseException | None = None  # why the connection is gone
        self._handshake: asyncio.Future[Message] | None = None

    # What comes in.

    def message_received(self, message: Message) -> None:
        if self._handshake is not None:
            if not self._handshake.done():
                self._handshake.set_result(message)
            return
        try:
            call = self.side.match(message)
        except ProtocolError as error:
            self.end(error)
            return
        if call is not None:
            _wake(call.waiter)

    def connection_broken(self, error: FramingError) -> None:
        self.end(error)

    def connection_closed(self, exc: Exception | None) -> None:
        where = " in the middle of a reply" if self.receiver.pending else ""
        self.end(exc or EOFError(f"closed by the server{where}"))

    def end(self, reason: BaseException) -> None:
        """Close the connection: nothing that is owed will come."""
        if self.reason is None:
            self.reason = reason
        for call in self.side.end():
            _wake(call.waiter)
        if self._handshake is not None and not self._handshake.done():
            self._handshake.cancel()
        if not self.closed:
            self.abort()

    # What goes out.

    async def shake_hands(self, line: bytes, read: Callable[[bytes], None]) -> None:
        """Send a line of the handshake and take in the answer."""
        if self.reason is not None:
            raise lost(self.peer, self.reason, sent=False)
        self._handshake = self._loop.create_future()
        self.send(line)
        try:
            message = await self._handshake
        except asyncio.CancelledError:
            if self.reason is None:
                self.end(ConnectionAbortedError("given up in the handshake"))
                raise
            raise lost(self.peer, self.reason, sent=False) from self.reason
        finally:
            self._handshake = None
        try:
            if message.oversize:
                raise ProtocolError(f"{self.peer} sent a line of {message.oversize} bytes")
            read(bytes(message.line))
        except Exception as error:
            self.end(error)
            raise

    async def complete(self, call: Call, chunks: Chunks, timeout: float | None) -> Any:
        """Make a request and return what it gives."""
        if timeout is None:
            await self._exchange(call, chunks)
        else:
            try:
                async with asyncio.timeout(timeout):
                    await self._exchange(call, chunks)
            except TimeoutError:
                text = f"no reply to the {call.what} from {self.peer} within {timeout} s"
                raise TimeoutError(text) from None
        if call.reply is None:
            raise lost(self.peer, self.reason, sent=True, what=call.what) from self.reason
        try:
            return self.side.result(call)
        except StopIteration as error:  # no coroutine can raise it
            raise GenericRemoteException(f"StopIteration: {error}".removesuffix(": ")) from error

    async def _exchange(self, call: Call, chunks: Chunks) -> None:
        if self.backlog > HIGH_WATER:
            with contextlib.suppress(ConnectionError):  # told of below
                await self.drained()
        if self.reason is not None:
            raise lost(self.peer, self.reason, sent=False, what=call.what) from self.reason
        call.waiter = self._loop.create_future()
        self.side.owe(call)
        self.send_chunks(chunks)
        try:
            await call.waiter
        except asyncio.CancelledError:
            self.send_chunks(self.side.abandon(call))
            raise


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Closing:
    """What `AsyncioClient.close_rpc` returns: may be awaited, need not be."""

    def __init__(self, link: _Link | None) -> None:
        self._link = link

    def __await__(self) -> Generator[Any, None, None]:
        if self._link is not None:
            yield from self._link.wait_closed().__await__()


class AsyncioClient(Generic[Driver]):
    """Proxies the methods of a target; like `Client`, for asyncio.

    Remote methods are coroutine functions: ``await client.foo(1, x=2)``. Any number of tasks may
    use one client; their calls are in flight together, and a server with ``allow_parallel`` runs
    them together. To be used on one event loop.

    Examples
    --------
    ::

        async with AsyncioClient() as laser:
            await laser.connect_rpc("::1", 3249, "laser")
            await laser.set_power(0.5)
    """

    def __init__(self) -> None:
        self._link: _Link | None = None
        self._connecting: _Link | None = None
        self._timeout: float | None = None
        self._description_cache: Mapping[str, Any] = {}

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
    ) -> None:
        """Connect to the server. The parameters and errors are those of `Client`."""
        for other in (self._connecting, self._link):
            if other is not None and other.reason is None:
                raise RuntimeError(f"the client is connected already, to {other.peer}")
        self._timeout = timeout
        peer = format_address((host, port))
        link = self._connecting = _Link(peer, ClientSide(limit=limit, line_limit=line_limit))
        try:
            async with asyncio.timeout(timeout):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: link, host, port, ssl=ssl)
                self._link, self._description_cache = link, {}
                await link.shake_hands(BANNER, link.side.read_greeting)
                if target_name is not None:
                    await self.select_rpc_target(target_name)
        except BaseException as error:
            link.end(error)
            if self._link is link:
                await link.wait_closed()
            if isinstance(error, TimeoutError) and not hasattr(error, "parent_traceback"):
                raise TimeoutError(f"{peer} did not answer within {timeout} s") from error
            raise
        finally:
            self._connecting = None

    # The established names.

    async def select_rpc_target(self, target_name: str | AutoTarget | type[AutoTarget]) -> None:
        """Select a target. See `Client.select_rpc_target`."""
        link = self._connected()
        line = link.side.select(target_name)
        async with asyncio.timeout(self._timeout):
            await link.shake_hands(line, link.side.read_methods)
        link.receiver.limit = link.side.limit
        link.receiver.line_limit = link.side.line_limit
        link.receiver.raw_buffers = link.side.features.raw_buffers

    def get_selected_target(self) -> str | None:
        """Return the name of the selected target, None if none has been selected yet."""
        return None if self._link is None else self._link.side.selected_target

    def get_rpc_id(self) -> tuple[list[str], str | None]:
        """Return the names of the server's targets and its description."""
        side = self._connected().side
        return list(side.targets), side.description

    def get_local_host(self) -> str:
        """Return the address of the local end of the connection."""
        link = self._connected()
        if link.reason is not None:
            raise lost(link.peer, link.reason, sent=False) from link.reason
        return str(link.transport.get_extra_info("sockname")[0])

    async def get_rpc_method_list(self) -> dict[str, Any]:
        """Return what the server tells about the target's methods: see PROTOCOL.md, Method list.

        From then on, `help` and signatures of the methods show it as well.
        """
        answer = cast("dict[str, Any]", await self._request("get_rpc_method_list"))
        self._description_cache = answer
        return answer

    def close_rpc(self) -> Awaitable[None]:
        """Close the connection. Calls that wait end in `ConnectionLost`.

        The result may be awaited: then the connection is gone to the last.
        """
        for link in (self._connecting, self._link):
            if link is not None:
                link.end(ConnectionAbortedError("closed by close_rpc()"))
        return _Closing(self._link)

    # More than the established.

    async def ping_rpc(self) -> None:
        """Make sure that the server answers. With our servers also while a method runs there."""
        with contextlib.suppress(ValueError):  # an older server knows no ping, but it has answered
            await self._request("ping")

    def with_rpc_timeout(self, timeout: float | None) -> Driver:
        """Return the methods of the target, with another time-out: see `Client`."""
        return cast("Driver", RemoteMethods(self, timeout))

    @property
    def __rpc__(self) -> Driver:
        """The methods of the target and nothing else: also those named like one of the client's."""
        return cast("Driver", RemoteMethods(self, self._timeout))

    def __getattr__(self, name: str) -> Any:
        if "_link" not in self.__dict__:  # not initialised: a copy in the making
            raise AttributeError(name)
        return find_method(self, name, self._timeout)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._method_names()})

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
        return f"<pc_rpc.AsyncioClient of {self._target_label()}>"

    def __reduce__(self) -> Any:
        raise TypeError("a connection cannot be copied or pickled; make a new client instead")

    def _connected(self) -> _Link:
        if self._link is None:
            raise RuntimeError("not connected: await connect_rpc() first")
        return self._link

    async def _request(self, action: str) -> Any:
        link = self._connected()
        return await link.complete(*link.side.encode_action(action), self._timeout)

    # For RemoteMethod.

    def _method_names(self) -> Collection[str]:
        return () if self._link is None else self._link.side.methods

    def _target_label(self) -> str:
        if self._link is None:
            return "no server"
        target = self._link.side.selected_target
        return self._link.peer if target is None else f"{target!r} at {self._link.peer}"

    async def _invoke(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Any:
        link = self._connected()
        call, chunks = link.side.encode_call(name, args, kwargs)
        return await link.complete(call, copy_if_shared(chunks), timeout)

    def _described(self) -> Mapping[str, Any]:
        return self._description_cache
