"""The two bridges, for programs: from publisher to engine, and from engine to publisher."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pyon.asyncio_tasks import end, keep, settle, settle_error
from pyon.backoff import Backoff

from sync_struct import Publisher
from sync_struct.gateway import Request, name_in, relaying
from sync_struct.nats._connecting import connect
from sync_struct.nats._inlet import Inlet, takes_bytes
from sync_struct.nats._jetstream import JetStream, JetStreamError
from sync_struct.nats._outlet import Outlet, Source, StreamOptions
from sync_struct.nats._together import first_end

if TYPE_CHECKING:
    import ssl

__all__ = ["bridging_in", "bridging_out", "serve_subscriber"]

_logger = logging.getLogger("sync_struct")

INTERVAL = 2.0
"""Seconds between beacons: a replica is stale within three of them if the publisher has failed."""

FIRST_WAIT, LONGEST_WAIT = 0.25, 5.0
"""Seconds between attempts to connect: the first and the longest wait."""

STOP_GRACE = 2.0
"""Seconds to wait for outlets to end."""

OnError = Callable[[str, Exception], Any]
OnState = Callable[[str, str], Any]


@contextlib.asynccontextmanager
async def bridging_out(
    host: str,
    port: int | None,
    names: Sequence[str],
    nats: str,
    *,
    ssl: ssl.SSLContext | None = None,
    nats_ssl: ssl.SSLContext | None = None,
    storage: Literal["file", "memory"] = "file",
    replicas: int = 1,
    interval: float = INTERVAL,
    on_error: OnError = lambda name, error: None,
    on_state: OnState = lambda name, state: None,
) -> AsyncIterator[None]:
    """Return a context in which notifiers of a publisher are written into streams of JetStream.

    Parameters
    ----------
    host, port, ssl
        Host, port and TLS context of the publisher, which must support our own protocol.
    names : sequence of str
        Names of its notifiers.
    nats, nats_ssl
        Address of the engine, as in ``nats://host:4222`` (see `Address`), and TLS context for it.
    storage, replicas : {"file", "memory"} and int, optional
        Storage of newly created streams, and in a cluster the number of servers that store them.
    interval : float, optional
        Seconds between beacons.
    on_error, on_state : callable, optional
        Called with the name and an error, or the name and a state; including `AnotherBridge` and
        ``"standby"``.

    Raises
    ------
    JetStreamError
        The engine cannot be reached at first. A connection that is lost later is made again.
    """
    options = StreamOptions(storage, replicas, interval)
    bridge = _OutgoingBridge(
        Source(host, port, ssl), names, (nats, nats_ssl), options, on_error, on_state
    )
    async with bridge.running():
        yield


class _OutgoingBridge:
    """Writes all notifiers of one bridge, over one connection at a time."""

    def __init__(
        self,
        source: Source,
        names: Sequence[str],
        engine: tuple[str, ssl.SSLContext | None],
        options: StreamOptions,
        on_error: OnError,
        on_state: OnState,
    ) -> None:
        self._source, self._names, self._engine, self._options = source, names, engine, options
        self._on_error, self._on_state = on_error, on_state
        self._report = _named(on_error, "")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Return a context in which notifiers are written; connect to the engine first."""
        tasks: set[asyncio.Task[None]] = set()
        keep(tasks, self._write(await self._connect()))
        try:
            yield
        finally:
            await end(tasks, STOP_GRACE)

    async def _connect(self) -> JetStream:
        return await connect(*self._engine, self._report)

    async def _write(self, js: JetStream) -> None:
        """Write until this is cancelled; make a new connection if the client gives up."""
        while True:
            try:
                await first_end(js.lost(), *(self._outlet(name, js).run() for name in self._names))
            except Exception as error:
                _logger.exception("a bridge has failed; it starts again")
                self._report(error)
            finally:
                await js.close()
            js = await self._connect_again()

    def _outlet(self, name: str, js: JetStream) -> Outlet:
        on_error, on_state = _named(self._on_error, name), _named(self._on_state, name)
        return Outlet(self._source, name, js, self._options, on_error=on_error, on_state=on_state)

    async def _connect_again(self) -> JetStream:
        backoff = Backoff(FIRST_WAIT, LONGEST_WAIT)
        while True:
            try:
                return await self._connect()
            except JetStreamError as error:
                self._report(error)
                await asyncio.sleep(backoff.next())


@contextlib.asynccontextmanager
async def bridging_in(
    publisher: Publisher,
    nats: str,
    names: Sequence[str],
    *,
    nats_ssl: ssl.SSLContext | None = None,
    on_error: OnError | None = None,
    on_state: OnState | None = None,
) -> AsyncIterator[None]:
    """Return a context in which a publisher publishes notifiers from the engine.

    It is a relay whose origin is the engine: each notifier is published when its structure has
    arrived, and remains published while its origin cannot be reached; it is then stale.

    Parameters
    ----------
    publisher : Publisher
        Publishes the notifiers.
    nats, nats_ssl
        As for `bridging_out`.
    names : sequence of str
        Names of the notifiers.
    on_error, on_state : callable, optional
        Called with the name and an error, or the name and a state: see `Subscriber`.
    """
    async with relaying(
        publisher, nats, None, names, ssl=nats_ssl, on_error=on_error, on_state=on_state
    ):
        yield


_serving: set[asyncio.Task[None]] = set()


async def serve_subscriber(
    address: str, ssl: ssl.SSLContext | None, sock: socket.socket, request: Request
) -> None:
    """Serve a subscriber on a socket from the engine: see `sync_struct._addresses`."""
    name = name_in(address) or request.name
    if takes_bytes(request):
        js = await connect(address, ssl)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Inlet(js, name, request), sock
            )
        except BaseException:
            await js.close()
            raise
    else:
        attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keep(_serving, _serve_reflection(address, ssl, sock, request.name, attached))
        await attached


async def _serve_reflection(
    address: str,
    tls: ssl.SSLContext | None,
    sock: socket.socket,
    name: str,
    attached: asyncio.Future[None],
) -> None:
    """Serve a subscriber that wants a part or a rate, from a replica of our own."""
    reported: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    failures: list[Exception] = []

    def note(event: object) -> None:
        if isinstance(event, Exception):
            failures.append(event)
        if event != "connecting" and not reported.done():
            reported.set_result(None)

    async with (
        Publisher({}) as publisher,
        relaying(
            publisher,
            address,
            None,
            [name],
            ssl=tls,
            on_error=lambda _, error: note(error),
            on_state=lambda _, state: note(state),
        ),
    ):
        await reported
        # An unknown notifier is reported to the subscriber by the publisher.
        if failures and not isinstance(failures[0], LookupError):
            settle_error(attached, failures[0])
        if not attached.done():  # else the caller does not wait any more
            connection = await publisher.attach(sock)
            settle(attached, None)
            await connection.wait_closed()


def _named(callback: Callable[[str, Any], Any], name: str) -> Callable[[Any], Any]:
    return lambda what: callback(name, what)
