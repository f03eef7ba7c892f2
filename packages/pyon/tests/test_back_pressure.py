"""A server stops reading from a client that does not read its replies."""

import asyncio
import contextlib
import socket

import pytest
from pyon.asyncio_connection import HIGH_WATER, PIECE_SIZE, Connection
from pyon.asyncio_server import AsyncioServer

REPLY = b"r" * 1000
REQUESTS = 30_000


class Answering(Connection):
    """Answers each line at once, and never checks its backlog."""

    def __init__(self, **options):
        super().__init__(**options)
        self.most = self.answered = 0
        self.congested = asyncio.Event()

    def message_received(self, message):
        self.answered += 1
        self.send(REPLY)
        self.most = max(self.most, self.backlog)
        if self.backlog > HIGH_WATER:
            self.congested.set()


class Server(AsyncioServer):
    def __init__(self):
        super().__init__()
        self.accepted = asyncio.Queue()

    def _make_connection(self):
        connection = Answering(scratch=self._scratch)
        self.accepted.put_nowait(connection)
        return connection


@pytest.fixture
async def congested():
    """A connection whose client has sent everything and read nothing, and the client's socket."""
    async with Server() as server:
        await server.start("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", server.port))
            connection = await server.accepted.get()
            sending = asyncio.ensure_future(loop.sock_sendall(sock, b"ping\n" * REQUESTS))
            await connection.congested.wait()
            yield connection, sock
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending


async def read(sock, size):
    loop = asyncio.get_running_loop()
    while size:
        size -= len(await loop.sock_recv(sock, min(size, 2**20)))


async def test_requests_of_a_client_that_reads_nothing_wait_in_the_network(congested):
    connection, sock = congested
    for _ in range(100):  # iterations of the loop in which more would be read
        await asyncio.sleep(0)
    assert connection.most <= HIGH_WATER + PIECE_SIZE + len(REPLY) + 1
    assert connection.answered < REQUESTS
    await read(sock, REQUESTS * (len(REPLY) + 1))
    assert connection.answered == REQUESTS
    assert connection.most <= HIGH_WATER + PIECE_SIZE + len(REPLY) + 1


async def test_the_owners_pause_is_not_undone_when_the_client_has_read(congested):
    connection, sock = congested
    connection.pause_reading()
    answered = connection.answered
    await read(sock, answered * (len(REPLY) + 1))
    await connection.drained()
    assert connection.answered == answered
    connection.resume_reading()
    await read(sock, (REQUESTS - answered) * (len(REPLY) + 1))
    assert connection.answered == REQUESTS


async def test_the_owner_cannot_read_on_while_the_client_does_not_read(congested):
    connection, _ = congested
    connection.pause_reading()
    connection.resume_reading()
    answered = connection.answered
    for _ in range(100):
        await asyncio.sleep(0)
    assert connection.answered == answered
    assert not connection.writable


async def test_a_client_reads_on_while_its_server_does_not():
    """Otherwise both could wait for each other for ever."""

    class Deaf(AsyncioServer):
        def _make_connection(self):
            connection = Connection(scratch=self._scratch)
            connection.connection_opened = lambda: (connection.pause_reading(), opened.set())
            connections.append(connection)
            return connection

    class Client(Connection):
        def message_received(self, message):
            received.set()

    connections, opened, received = [], asyncio.Event(), asyncio.Event()
    async with Deaf() as server:
        await server.start("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Client, "127.0.0.1", server.port)
        await opened.wait()
        connections[0].transport.pause_reading()
        for _ in range(64):
            client.send(b"x" * PIECE_SIZE)
        assert client.backlog > HIGH_WATER
        connections[0].send(b"answer")
        await received.wait()
        client.abort()


async def test_one_large_reply_that_was_written_at_once_counts_as_well():
    async with Server() as server:
        await server.start("127.0.0.1", 0)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            connection = await server.accepted.get()
            while not connection.writable:  # noqa: ASYNC110
                await asyncio.sleep(0)
            connection.send_now(b"x" * 64 * HIGH_WATER)
            sock.sendall(b"ping\n")
            for _ in range(100):
                await asyncio.sleep(0)
            assert connection.answered == 0
