"""The asyncio client's end of one connection: moves bytes and wakes tasks.

The one idea to keep in mind: a request is sent at once and waits for its own reply only.
`ClientSide` has the pending calls and their errors; this module has a future for each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from pyon.asyncio_connection import HIGH_WATER, Connection
from pyon.asyncio_tasks import settle
from pyon.framing import FramingError, Message, copy_if_shared
from pyon.wire import LINE_SIZE

from pc_rpc._call import Call
from pc_rpc._client_side import ClientSide
from pc_rpc._deadlines import deadline_of, remaining
from pc_rpc._errors import ConnectionLost, GenericRemoteException, ProtocolError
from pc_rpc._lean_asyncio import lose, receive, take_replies
from pc_rpc._lookup import AddressInfo, begin, is_numeric, look_up_now
from pc_rpc._protocol import HANDSHAKE_LIMIT, Chunks
from pc_rpc._unreachable import explained, explained_tls, wanted

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from pc_rpc._protocol import AutoTarget
    from pc_rpc._stream_call import StreamCall

LEAN = True
"""Whether calls may take the fast path. Tests of the general path switch it off."""


class AsyncioConnection(Connection):
    """One connection to a server; for one event loop.

    Parameters
    ----------
    side : ClientSide
        The negotiated features and the pending calls.

    Attributes
    ----------
    waiting : dict of str to asyncio.Future
        The pending calls of the fast path: see `_lean_asyncio`.
    """

    def __init__(self, side: ClientSide) -> None:
        super().__init__(limit=HANDSHAKE_LIMIT)
        self.side = side
        self.loop = self._loop
        self.waiting: dict[str, asyncio.Future[Any]] = {}
        self._process = os.getpid()

    # Receiving.

    def message_received(self, message: Message) -> None:
        if self.waiting and receive(self, message):
            return
        try:
            call = self.side.receive(message)
        except ProtocolError as error:
            self.end(error)
            return
        if call is not None and call.waiter is not None:
            settle(call.waiter, None)

    def connection_broken(self, error: FramingError) -> None:
        self.end(error)

    def connection_closed(self, exc: Exception | None) -> None:
        self.end(exc or self.side.closed_by_peer(self.receiver.pending))

    def end(self, reason: BaseException) -> None:
        """Close the connection; pending calls raise `ConnectionLost`."""
        self.lines_received = None  # it refers to this object
        for call in self.side.lost(reason):
            if call.waiter is not None:
                settle(call.waiter, None)
        lose(self)
        if not self.closed:
            self.abort()

    def end_soon(self, reason: BaseException) -> None:
        """Close the connection, from any thread, unless its event loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.end, reason)

    def forked(self) -> None:
        """See `pyon.forks`."""
        super().forked()
        self.side.lost(ConnectionLost(f"made in another process, {self._process}"))

    # Sending.

    async def take_step(self, call: Call, chunks: Chunks, timeout: float | None) -> None:
        """Take a step of the handshake. Any error here ends the connection."""
        try:
            await self.complete(call, chunks, timeout)
        except BaseException as error:
            given_up = isinstance(error, asyncio.CancelledError)
            self.end(ConnectionAbortedError("given up in the handshake") if given_up else error)
            raise
        self.side.configure(self.receiver)
        if LEAN and self.side.features.request_ids and self.side.takes(LINE_SIZE):
            self.lines_received = partial(take_replies, self)

    async def call(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Any:
        """Call a method of the selected target and return its result, on the general path."""
        call, chunks = self.side.encode_call(name, args, kwargs)
        return await self.complete(call, copy_if_shared(chunks), timeout)

    async def complete(self, call: Call, chunks: Chunks, timeout: float | None) -> Any:
        """Make a request and return the result."""
        if timeout is None:
            await self._exchange(call, chunks)
        else:
            try:
                async with asyncio.timeout(timeout):
                    await self._exchange(call, chunks)
            except TimeoutError:
                raise self.side.too_late(call, timeout) from None
        return self.result(call)

    def result(self, call: Call) -> Any:
        """Return the result of a call, or raise its error."""
        if call.reply is None:
            raise self.side.error_for(call)
        try:
            return self.side.result(call)
        except StopIteration as error:  # no coroutine can raise it
            raise GenericRemoteException(f"StopIteration: {error}".removesuffix(": ")) from error

    async def exchange_part(self, call: StreamCall, chunks: Chunks) -> None:
        """Send the request of a stream, unless it was sent; wait for a message, or for the end."""
        if self.side.reason is not None:
            return
        call.waiter = self._loop.create_future()
        if not call.sent:
            self.side.expect(call)
            self.send_chunks(chunks)
        try:
            await call.waiter
        finally:
            call.waiter = None

    def leave(self, call: StreamCall) -> bool:
        """Have the server end a stream; return whether it has begun and not ended."""
        chunks = self.side.abandon(call) if call.sent else ()
        self.send_chunks(chunks)
        return len(chunks) > 0

    async def _exchange(self, call: Call, chunks: Chunks) -> None:
        if self.backlog > HIGH_WATER:
            with contextlib.suppress(ConnectionError):  # raised below
                await self.drained()
        if self.side.reason is not None:
            raise self.side.error_for(call)
        call.waiter = self._loop.create_future()
        self.side.expect(call)
        self.send_chunks(chunks)
        try:
            await call.waiter
        except asyncio.CancelledError:
            self.send_chunks(self.side.abandon(call))
            raise


async def connect(
    connection: AsyncioConnection,
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    what: str,
    deadline: float | None,
) -> None:
    """Open a connection. The addresses share the time until the deadline; the caller cancels then.

    Raises
    ------
    OSError
        The server cannot be reached. The text names `what`.
    """
    loop = asyncio.get_running_loop()
    try:
        sock = await _connect_any(await _look_up(host, port), deadline)
    except OSError as error:
        raise explained(error, what) from error
    name = host if context is not None else None
    try:
        await loop.create_connection(
            lambda: connection, sock=sock, ssl=context, server_hostname=name
        )
    except OSError as error:
        raise explained_tls(error, what) from error.__cause__


async def open_connection(
    connection: AsyncioConnection,
    where: tuple[str, int, str | AutoTarget | type[AutoTarget] | None],
    context: ssl.SSLContext | None,
    timeout: float | None,
    opened: Callable[[], object] = bool,
) -> None:
    """Connect and shake hands, within a time-out. Any error ends the connection.

    Parameters
    ----------
    connection : AsyncioConnection
        A new one.
    where : tuple
        Host, port and the target to select; None: select it later.
    context : ssl.SSLContext or None
        Speak TLS.
    timeout : float or None
        Seconds that all of it may take.
    opened : callable, optional
        Called before the handshake.
    """
    host, port, target_name = where
    peer, began = connection.side.peer, False
    try:
        async with asyncio.timeout(timeout):
            what = wanted(peer, target_name)
            await connect(connection, host, port, context, what, deadline_of(timeout))
            began = True
            opened()
            await connection.take_step(*connection.side.greet(), None)
            if target_name is not None:
                await connection.take_step(*connection.side.select(target_name), None)
    except BaseException as error:
        connection.end(error)
        if began:
            await connection.wait_closed()
        if isinstance(error, TimeoutError) and not _has_text(error):
            raise TimeoutError(f"{peer} did not answer within {timeout} s") from error
        raise


def _has_text(error: BaseException) -> bool:
    """Return whether a `TimeoutError` has a message, unlike that of asyncio."""
    return error.args != () or hasattr(error, "parent_traceback")


async def _look_up(host: str, port: int) -> list[AddressInfo]:
    """Return the addresses of a host.

    Not in asyncio's thread pool: the event loop waits for that when it is closed.
    """
    if is_numeric(host):
        return look_up_now(host, port)
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, done, None)

    look_up = begin(host, port)
    look_up.when_done(wake)
    await done
    return look_up.wait(0)


async def _connect_any(found: list[AddressInfo], deadline: float | None) -> socket.socket:
    """Connect to the first of the addresses that answers; each gets its share of the time."""
    loop = asyncio.get_running_loop()
    failure = OSError("no address")
    for tried, (family, kind, protocol, _, address) in enumerate(found):
        left = remaining(deadline)
        share = None if left is None else left / (len(found) - tried)
        with contextlib.ExitStack() as stack:
            try:
                sock = stack.enter_context(socket.socket(family, kind, protocol))
                sock.setblocking(False)
                async with asyncio.timeout(share):
                    await loop.sock_connect(sock, address)
            except OSError as error:
                failure = error
            else:
                stack.pop_all()
                return sock
    raise failure
