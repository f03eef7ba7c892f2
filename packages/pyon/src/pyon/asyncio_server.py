"""A TCP server on asyncio that starts, reports its addresses, and stops within a bounded time.

The one idea to keep in mind: `stop` ends every connection. `asyncio.Server.wait_closed` returns at
once on Python 3.11 and waits for the connections on 3.12 and later. So this class keeps its own set
of connections, and waits for them itself, for at most `STOP_GRACE`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from pyon import forks
from pyon._accepting import Acceptor, addresses_of, bind
from pyon.asyncio_connection import Connection
from pyon.asyncio_tasks import end, keep, settle
from pyon.framing import SCRATCH_SIZE
from pyon.tcp import format_address, set_keepalive, shutdown

if TYPE_CHECKING:
    import ssl
    from typing import Self

    _Opener = Callable[[asyncio.BaseProtocol, socket.socket], Coroutine[Any, Any, None]]

__all__ = ["AsyncioServer"]

_logger = logging.getLogger(__name__)

STOP_GRACE = 1.0
"""Seconds for which `AsyncioServer.stop` lets connections send what is queued, and handlers clean
up, before it aborts the connections."""


class AsyncioServer:
    r"""Generic TCP server based on asyncio.

    Derive from it and define `_handle_connection_cr`, a coroutine method that is called with the
    `asyncio.StreamReader` and `asyncio.StreamWriter` of each connection and runs until the end of
    the connection; or, for speed, `_make_connection`.

    All methods must be called in the event loop's thread.

    Examples
    --------
    >>> class Upper(AsyncioServer):
    ...     async def _handle_connection_cr(self, reader, writer):
    ...         writer.write((await reader.readline()).upper())
    ...         await writer.drain()
    >>> async def main():
    ...     async with Upper() as server:
    ...         await server.start("127.0.0.1", 0)
    ...         reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    ...         writer.write(b"hello\n")
    ...         print(await reader.readline())
    ...         writer.close()
    >>> asyncio.run(main())
    b'HELLO\n'
    """

    def __init__(self) -> None:
        self._acceptor: Acceptor | None = None
        self._handlers: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._streams: set[_StreamProtocol] = set()
        self._scratch = bytearray(SCRATCH_SIZE)

    async def start(
        self,
        host: str | Sequence[str] | None,
        port: int,
        *,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """Start the server. Call `stop` to free resources after this has completed.

        Parameters
        ----------
        host : str, sequence of str or None
            Bind address or addresses. Names are resolved. None means all interfaces.
        port : int
            TCP port. With 0 the system chooses one port for all addresses: see `port`.
        ssl : ssl.SSLContext, optional
            Serve TLS with this context.

        Raises
        ------
        OSError
            An address cannot be bound, for example because it is in use.
        RuntimeError
            The server has been started already.
        """
        self._check_not_started()
        sockets = await bind(host, port)
        try:
            self._check_not_started()
            self._bound(addresses_of(sockets))
            acceptor = Acceptor(sockets, functools.partial(self._serve, _opener(ssl)))
            acceptor.start()
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        self._acceptor = acceptor

    def _check_not_started(self) -> None:
        if self._acceptor is not None:
            raise RuntimeError(f"the server has been started already, on {self.addresses}")

    def _bound(self, addresses: list[tuple[str, int]]) -> None:
        """Check the addresses that the server is bound to: for derived classes to override.

        Called by `start` when all sockets are bound and none listens yet, so no client can have
        connected. If this raises, all sockets are closed, and `start` raises the same exception.

        Parameters
        ----------
        addresses : list of tuple of str and int
            Host and port of each socket, as the operating system reports them; they may differ
            from the arguments of `start`. The unspecified addresses ``0.0.0.0`` and ``::`` mean all
            interfaces.
        """

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket; empty unless the server is running.

        In the child of a fork the server is not running: it belongs to the parent.
        """
        return [] if self._acceptor is None else self._acceptor.addresses

    @property
    def port(self) -> int:
        """The TCP port on which the server listens.

        Raises
        ------
        RuntimeError
            The server is not running.
        """
        addresses = self.addresses
        if not addresses:
            raise RuntimeError("the server is not running, so it has no port")
        return addresses[0][1]

    async def stop(self) -> None:
        """Stop the server: close its port and its connections, and cancel their handlers.

        Returns within a few seconds, even if peers do not respond. May be called again, and before
        `start`. A handler that calls this is not cancelled.
        """
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            await acceptor.close()
        for connection in self._connections.copy():
            connection.close()
        ends: set[asyncio.Task[Any]] = set()
        for connection in self._connections:
            keep(ends, connection.wait_closed())
        handlers = self._handlers - {cast("asyncio.Task[None]", asyncio.current_task())}
        for handler in handlers:
            handler.cancel()
        pending = [*handlers, *ends, *(stream.lost for stream in self._streams)]
        if not pending:
            return
        _, late = await asyncio.wait(pending, timeout=STOP_GRACE)
        for connection in self._connections.copy():
            connection.abort()
        for stream in self._streams.copy():
            stream.abort()
        if late:
            await asyncio.wait(late, timeout=STOP_GRACE)
        await end(ends, STOP_GRACE)

    async def __aenter__(self) -> Self:
        """Return the server; it is stopped at the end of the block."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        await self.stop()

    async def _handle_connection_cr(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Handle one connection: for derived classes to define."""
        raise NotImplementedError("derive from AsyncioServer and define _handle_connection_cr")

    def _make_connection(self) -> asyncio.BaseProtocol:
        """Return the protocol object of a new connection: for derived classes that need speed.

        `Connection` objects can share ``self._scratch``; the server closes them when it stops.
        """
        return _StreamProtocol(self._start_handler, self._streams)

    async def _serve(self, connect: _Opener, sock: socket.socket) -> None:
        """Create the connection of an accepted socket, and open it."""
        try:
            connection = self._make_connection()
        except Exception:
            _logger.exception("the connection object could not be created")
            sock.close()
            return
        if isinstance(connection, Connection):
            connection.group = self._connections
            self._connections.add(connection)
        try:
            await connect(connection, sock)
        finally:
            if isinstance(connection, Connection):
                connection.cancel()

    def _start_handler(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._acceptor is None:  # stopped while this connection was being opened
            writer.transport.abort()
            return
        set_keepalive(writer.get_extra_info("socket"))
        self._keep(self._run_handler(reader, writer))

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine until it ends or the server stops."""
        keep(self._handlers, coroutine)

    async def _run_handler(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._handle_connection_cr(reader, writer)
        except OSError:
            pass  # the connection is lost: nothing to report
        except Exception:
            _logger.exception("the handler of a connection failed")
        finally:
            writer.close()


class _StreamProtocol(asyncio.StreamReaderProtocol):
    """A connection with a handler that uses asyncio's streams, which `stop` can end.

    After the end of the handler the transport still sends its buffer, and a peer that does not read
    can delay that for ever.
    """

    def __init__(self, start_handler: Any, group: set[_StreamProtocol]) -> None:
        super().__init__(asyncio.StreamReader(), start_handler)
        self.lost = asyncio.get_running_loop().create_future()
        self._group = group

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._own_transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")
        self._group.add(self)
        forks.register(self)
        super().connection_made(transport)

    def abort(self) -> None:
        shutdown(self._socket)
        self._own_transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        shutdown(self._socket)
        super().connection_lost(exc)
        self._group.discard(self)
        settle(self.lost, None)

    def forked(self) -> None:
        """See `forks.ForkAware`."""
        forks.drop_descriptor(self._socket.fileno())


def _opener(context: ssl.SSLContext | None) -> _Opener:
    """Return the coroutine function that opens a connection on a socket, plain or with TLS."""
    if context is None:
        return _connect
    # Imported now: when file descriptors are used up, no module can be loaded.
    from pyon._handshake import TIMEOUT, Handshake

    async def connect(connection: asyncio.BaseProtocol, sock: socket.socket) -> None:
        """Do the TLS handshake and open the connection; log the reason of a failure."""
        peer = _peername(sock)
        handshake = Handshake(context, sock)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=handshake,
                ssl_handshake_timeout=TIMEOUT,
            )
        except OSError as error:
            reason = handshake.failure(error)
            if reason is None:
                _logger.debug("%s: disconnected before the TLS handshake", peer)
            else:
                _logger.warning("%s: TLS handshake failed: %s; connection closed", peer, reason)

    return connect


async def _connect(connection: asyncio.BaseProtocol, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_accepted_socket(lambda: connection, sock)
    except OSError as error:
        _logger.debug("a connection was lost while it was being opened: %s", error)
        sock.close()


def _peername(sock: socket.socket) -> str:
    try:
        return format_address(sock.getpeername())
    except OSError:
        return format_address(None)
