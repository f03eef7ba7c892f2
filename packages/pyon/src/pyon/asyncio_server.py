"""A TCP server on asyncio that starts, says where it listens, and stops within a bound.

The one idea to keep in mind: `stop` owns the end of every connection. `asyncio.Server.wait_closed`
returns at once on Python 3.11 and waits for the connections on 3.12 and later, so this class keeps
its own account of them and waits itself, no longer than `STOP_GRACE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from pyon.asyncio_connection import Connection
from pyon.asyncio_tasks import keep, settle
from pyon.framing import SCRATCH_SIZE
from pyon.tcp import format_address, set_keepalive

if TYPE_CHECKING:
    import ssl
    from typing import Self

__all__ = ["AsyncioServer"]

_logger = logging.getLogger(__name__)

STOP_GRACE = 1.0
"""Seconds that `AsyncioServer.stop` gives connections to send what is queued, and handlers to clean
up, before it cuts them off."""

TLS_HANDSHAKE_TIMEOUT = 10.0
"""Seconds for a TLS handshake: slow links need two; a port scanner holds a socket no longer."""

PORT_ATTEMPTS = 10
"""Tries to find one port that is free on every address, when the port is left to the system."""


class AsyncioServer:
    r"""Generic TCP server based on asyncio.

    Derive from it and define `_handle_connection_cr`, a coroutine method that is given the
    `asyncio.StreamReader` and `asyncio.StreamWriter` of each connection and runs until the
    connection is done with; or, for speed, `_make_connection`.

    All methods are to be called on the event loop.

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
        self._listener: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._streams: set[_Stream] = set()
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
            Bind address or addresses; names are resolved, None means all interfaces.
        port : int
            TCP port. 0 has the system choose one, the same for all addresses: see `port`.
        ssl : ssl.SSLContext, optional
            Serve TLS with this context.

        Raises
        ------
        OSError
            An address cannot be bound, because it is in use, for example.
        RuntimeError
            The server has been started already.
        """
        if self._listener is not None:
            raise RuntimeError(f"the server has been started already, on {self.addresses}")
        for attempt in range(1, PORT_ATTEMPTS + 1):
            listener = await self._bind(host, port, ssl)
            ports = {address[1] for address in _addresses(listener)}
            if len(ports) == 1:
                break
            # The system chose a port for each address: take the first one's for all of them.
            listener.close()
            try:
                listener = await self._bind(host, min(ports), ssl)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or attempt == PORT_ATTEMPTS:
                    raise
        try:
            self._bound(_addresses(listener))
            await listener.start_serving()
        except BaseException:
            listener.close()
            raise
        self._listener = listener

    async def _bind(
        self, host: str | Sequence[str] | None, port: int, ssl: ssl.SSLContext | None
    ) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            self._open_connection if ssl is None else lambda: _TlsGate(self, ssl),
            host,
            port,
            start_serving=False,
        )

    def _bound(self, addresses: list[tuple[str, int]]) -> None:
        """Look at the addresses that the server is bound to: for derived classes to override.

        Called by `start` when all sockets are bound, before the first one listens: no client has
        got in yet. If this raises, all of them are closed, and `start` raises the same.

        Parameters
        ----------
        addresses : list of tuple of str and int
            Host and port of each socket, as the operating system tells them; not what `start` was
            asked for. The unspecified addresses ``0.0.0.0`` and ``::`` stand for all interfaces.
        """

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the server listens, as pairs of host and port; empty unless it is running."""
        return [] if self._listener is None else _addresses(self._listener)

    @property
    def port(self) -> int:
        """The TCP port that the server listens on.

        Raises
        ------
        RuntimeError
            The server is not running.
        """
        if self._listener is None:
            raise RuntimeError("the server is not running, so it has no port")
        return self.addresses[0][1]

    async def stop(self) -> None:
        """Stop the server: close its port, its connections, and cancel what handles them.

        Returns within a few seconds whatever the peers do. May be called again, and before `start`.
        """
        listener, self._listener = self._listener, None
        if listener is not None:
            await _stop_accepting(listener)
        for handler in self._handlers:
            handler.cancel()
        for connection in self._connections.copy():
            connection.close()
        waiting = [
            *self._handlers,
            *(asyncio.ensure_future(c.wait_closed()) for c in self._connections),
            *(stream.lost for stream in self._streams),
        ]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=STOP_GRACE)
            for connection in self._connections.copy():
                connection.abort()
            for stream in self._streams.copy():
                stream.abort()
            if late:
                await asyncio.wait(late, timeout=STOP_GRACE)
        if listener is not None:
            await listener.wait_closed()

    async def __aenter__(self) -> Self:
        """Return the server; the end of the block stops it."""
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
        """Return the protocol object of a new connection: for derived classes that want speed.

        `Connection` objects can share ``self._scratch``; the server closes them when it stops.
        """
        return _Stream(self._start_handler, self._streams)

    def _open_connection(self) -> asyncio.BaseProtocol:
        connection = self._make_connection()
        if isinstance(connection, Connection):
            connection.group = self._connections
            self._connections.add(connection)
        return connection

    def _start_handler(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._listener is None:  # stopped, while this connection was coming in
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
            pass  # the peer is gone: nobody to tell
        except Exception:
            _logger.exception("the handler of a connection failed")
        finally:
            writer.close()


class _Stream(asyncio.StreamReaderProtocol):
    """A connection whose handler is written with streams, so that `stop` can end it, too.

    The handler leaves to the transport what the peer has not read yet, which may take for ever.
    """

    def __init__(self, start_handler: Any, group: set[_Stream]) -> None:
        super().__init__(asyncio.StreamReader(), start_handler)
        self.lost = asyncio.get_running_loop().create_future()
        self._group = group

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.abort = cast("asyncio.Transport", transport).abort
        self._group.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._group.discard(self)
        settle(self.lost, None)


class _TlsGate(asyncio.Protocol):
    """Stands before a connection until its TLS handshake is done.

    asyncio's own way of serving TLS is silent about handshakes that fail, which is when somebody
    looks for a reason: a certificate has expired, or a client does not speak TLS at all.
    """

    def __init__(self, server: AsyncioServer, context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast("asyncio.Transport", transport)
        if self._server._listener is None:  # stopped, while this connection was coming in
            plain.abort()
            return
        plain.pause_reading()
        self._server._keep(self._shake_hands(plain))

    def data_received(self, data: bytes) -> None:
        self._early.append(data)  # came in one piece with the end of the handshake

    async def _shake_hands(self, plain: asyncio.Transport) -> None:
        peer = format_address(plain.get_extra_info("peername"))
        try:
            tls = await asyncio.get_running_loop().start_tls(
                plain,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT,
            )
        except OSError as error:
            _logger.warning("%s: TLS handshake failed: %s; connection closed", peer, error)
            return
        if tls is not None and not tls.is_closing():
            self._hand_over(tls)

    def _hand_over(self, tls: asyncio.Transport) -> None:
        connection = self._server._open_connection()
        tls.set_protocol(connection)
        connection.connection_made(tls)
        for data in self._early:
            _deliver(connection, memoryview(data))


def _deliver(connection: asyncio.BaseProtocol, data: memoryview) -> None:
    """Hand bytes to a protocol object of either kind."""
    if not isinstance(connection, asyncio.BufferedProtocol):
        cast("asyncio.Protocol", connection).data_received(bytes(data))
        return
    while data:
        target = cast("memoryview", connection.get_buffer(len(data)))
        size = min(len(target), len(data))
        target[:size] = data[:size]
        connection.buffer_updated(size)
        data = data[size:]


async def _stop_accepting(listener: asyncio.Server) -> None:
    """Close a listener without losing sight of a connection that is just coming in.

    asyncio takes a connection in two steps, and drops its socket on the floor if the listener is
    closed between them. So: no new first steps, the second steps that are due, and then the end.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows takes connections in another way
        for sock in listener.sockets:
            loop.remove_reader(sock)
        await asyncio.sleep(0)
    listener.close()


def _addresses(listener: asyncio.Server) -> list[tuple[str, int]]:
    return [sock.getsockname()[:2] for sock in listener.sockets]
