"""asyncio_server: starts, reports its addresses, and stops within a bounded time."""

import asyncio
import errno
import gc
import logging
import socket

import pytest
from pyon.asyncio_connection import Connection
from pyon.asyncio_server import AsyncioServer
from pyon.tcp import format_address


class Echo(AsyncioServer):
    """Echoes lines, as a simple class derived from `AsyncioServer`."""

    def __init__(self):
        super().__init__()
        self.cancelled = 0

    async def _handle_connection_cr(self, reader, writer):
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Accepting(AsyncioServer):
    """Accepts connections, greets them and hands them to the test."""

    def __init__(self):
        super().__init__()
        self.opened = asyncio.Queue()

    def _make_connection(self):
        return Greeter(self.opened)


class Greeter(Connection):
    def __init__(self, opened):
        super().__init__()
        self._arrivals = opened

    def connection_opened(self):
        self.send("hello")
        self._arrivals.put_nowait(self)


async def echo(host, port, line=b"hello\n"):
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(line)
        return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_handlers_written_with_streams_work():
    async with Echo() as server:
        await server.start("127.0.0.1", 0)
        assert await echo("127.0.0.1", server.port) == b"hello\n"


async def test_accepted_connections_have_keep_alive():
    seen = asyncio.Queue()

    class Look(AsyncioServer):
        async def _handle_connection_cr(self, reader, writer):
            sock = writer.get_extra_info("socket")
            seen.put_nowait(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    async with Look() as server:
        await server.start("127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await seen.get()
        writer.close()


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", pytest.param("::1", marks=needs_ipv6)],
)
async def test_addresses_of_one_host(host):
    async with Echo() as server:
        await server.start(host, 0)
        assert {port for _, port in server.addresses} == {server.port}
        for address, port in server.addresses:
            assert await echo(address, port) == b"hello\n"
    assert server.addresses == []


@needs_ipv6
async def test_port_0_is_the_same_port_on_every_address_of_a_list():
    async with Echo() as server:
        await server.start(["127.0.0.1", "::1"], 0)
        assert sorted(server.addresses) == [("127.0.0.1", server.port), ("::1", server.port)]
        for host, port in server.addresses:
            assert await echo(host, port) == b"hello\n"


@pytest.mark.parametrize("host", ["127.0.0.1", ["127.0.0.1", "127.0.0.1"], "localhost", "", None])
async def test_bound_addresses_can_be_checked_before_a_client_connects(host):
    class Careful(Echo):
        def _bound(self, addresses):
            self.seen = addresses
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(addresses[0])

    async with Careful() as server:
        await server.start(host, 0)
        assert server.seen == server.addresses
        assert await echo(*server.addresses[0]) == b"hello\n"


async def test_bound_addresses_can_be_refused():
    class Refusing(Echo):
        def _bound(self, addresses):
            self.seen = addresses
            raise PermissionError("not on this interface")

    server = Refusing()
    with pytest.raises(PermissionError, match="interface"):
        await server.start("127.0.0.1", 0)
    assert server.addresses == []
    async with Echo() as another:
        await another.start(*server.seen[0])
    with pytest.raises(PermissionError):  # it counts as not started
        await server.start("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("host", "message", "number"),
    [
        ("192.0.2.1", "192.0.2.1 port 0: .*is it an address of this", errno.EADDRNOTAVAIL),
        (["127.0.0.1", "no.such.host.invalid"], "no.such.host.invalid port 0: .*name right?", None),
    ],
)
async def test_an_address_that_cannot_be_bound_is_named_with_a_hint(host, message, number):
    async with Echo() as server:
        with pytest.raises(OSError, match=f"cannot listen on .*{message}") as caught:
            await server.start(host, 0)
    assert number in (None, caught.value.errno)
    assert isinstance(caught.value, socket.gaierror) == (number is None)


async def test_port_in_use_is_an_error_that_names_it():
    async with Echo() as first, Echo() as second:
        await first.start("127.0.0.1", 0)
        with pytest.raises(OSError, match=str(first.port)):
            await second.start("127.0.0.1", first.port)
        with pytest.raises(RuntimeError, match="not running"):
            second.port


@pytest.mark.parametrize("host", [[], ()])
async def test_no_address_at_all_is_an_error_that_says_so(host):
    with pytest.raises(ValueError, match="expected at least one address to bind"):
        await Echo().start(host, 0)


async def test_start_twice_is_an_error():
    async with Echo() as server:
        await server.start("127.0.0.1", 0)
        with pytest.raises(RuntimeError, match="already"):
            await server.start("127.0.0.1", 0)


async def test_stop_ends_connections_and_handlers_and_may_be_called_again():
    server = Echo()
    await server.stop()
    await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    await server.stop()
    assert await reader.read() == b""
    assert server.cancelled == 1
    await server.stop()
    writer.close()
    await server.start("127.0.0.1", 0)
    assert await echo("127.0.0.1", server.port) == b"hello\n"
    await server.stop()


async def test_stop_sends_what_connections_have_queued():
    server = Accepting()
    await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**24)
    (await server.opened.get()).send(b"x" * 10**6)
    stopping = asyncio.ensure_future(server.stop())
    assert await reader.readline() == b"hello\n"
    assert len(await reader.readline()) == 10**6 + 1
    await stopping
    writer.close()


async def test_stop_does_not_wait_for_a_peer_that_never_reads():
    server = Accepting()
    await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    connection = await server.opened.get()
    assert await reader.readline() == b"hello\n"
    writer.transport.pause_reading()
    connection.send(b"x" * 10**8)
    await server.stop()
    assert connection.closed
    writer.transport.abort()


@pytest.mark.parametrize("drain", [False, True])
async def test_stop_does_not_wait_for_a_peer_that_never_reads_from_a_stream(drain):
    class Flood(AsyncioServer):
        async def _handle_connection_cr(self, reader, writer):
            writer.write(b"x" * 10**8)
            begun.set()
            if drain:
                await writer.drain()

    begun = asyncio.Event()
    server = Flood()
    await server.start("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", server.port)):
        await begun.wait()
        await server.stop()
        assert server.addresses == []


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("kind", ["streams", "connections"])
async def test_connection_that_comes_in_while_the_server_stops_is_closed(kind, turns):
    server = Accepting() if kind == "connections" else Echo()
    await server.start("127.0.0.1", 0)
    with socket.socket() as sock:
        sock.connect(
            ("127.0.0.1", server.port)
        )  # the kernel has accepted it, the server has not yet
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        assert not server._connections
        assert not server._handlers
    gc.collect()  # a transport or socket that was left open would warn now


async def test_handler_that_fails_is_logged_once_and_the_server_lives(caplog):
    class Failing(Echo):
        async def _handle_connection_cr(self, reader, writer):
            if await reader.readline() == b"fail\n":
                raise ValueError("driver on fire")
            writer.write(b"fine\n")

    async with Failing() as server:
        await server.start("127.0.0.1", 0)
        with caplog.at_level(logging.ERROR):
            assert await echo("127.0.0.1", server.port, b"fail\n") == b""
        assert "driver on fire" in caplog.text
        assert await echo("127.0.0.1", server.port) == b"fine\n"


async def test_class_without_a_handler_says_what_to_define(caplog):
    async with AsyncioServer() as server:
        await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.read() == b""
        writer.close()
    assert "_handle_connection_cr" in caplog.text


def test_format_address_of_a_peer_that_is_gone():
    assert format_address(None) == "unknown peer"
