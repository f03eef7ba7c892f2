"""Servers whose handlers fork: children have no socket of the server, and peers see every end."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys

import pytest
import trustme
from pyon.asyncio_connection import Connection
from pyon.asyncio_server import AsyncioServer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

LONG = 30.0  # seconds: time-out for what happens at once

SERVER = """
import asyncio, ctypes, multiprocessing, os, signal, ssl, sys
from pyon.asyncio_connection import Connection
from pyon.asyncio_server import AsyncioServer

def begin(writing):
    os.write(writing, b".")  # the hooks of the fork have run
    signal.pause()

def fork(way):
    reading, writing = os.pipe()
    pid = start(way, writing)
    os.close(writing)
    assert os.read(reading, 1) == b"."
    os.close(reading)
    return pid

def start(way, writing):
    if way == "multiprocessing":
        child = multiprocessing.get_context("fork").Process(target=begin, args=(writing,))
        child.start()
        return child.pid
    # A fork in C code calls none of Python's hooks.
    pid = ctypes.PyDLL(None).fork() if way == "c" else os.fork()
    if pid == 0:
        begin(writing)
        os._exit(0)
    return pid

async def handle(way):
    if way == "stop":
        asyncio.get_running_loop().call_soon(stopping.set)
        return 0
    if way == "thread":
        return await asyncio.to_thread(fork, "os")
    return fork(way)

class Streams(AsyncioServer):
    async def _handle_connection_cr(self, reader, writer):
        while line := await reader.readline():
            writer.write(b"%d\\n" % await handle(line.decode().strip()))

class Answering(Connection):
    def message_received(self, message):
        task = asyncio.ensure_future(handle(message.line.decode()))
        task.add_done_callback(lambda task: self.send("%d" % task.result()))

class Connections(AsyncioServer):
    def _make_connection(self):
        return Answering(scratch=self._scratch)

async def main():
    global stopping
    stopping = asyncio.Event()
    context = None
    if len(sys.argv) > 2:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[2])
    server = {"streams": Streams, "connections": Connections}[sys.argv[1]]()
    await server.start("127.0.0.1", 0, ssl=context)
    print(server.port, flush=True)
    await stopping.wait()
    await server.stop()
    print("stopped", flush=True)
    sys.stdin.read()  # and lives on
asyncio.run(main())
"""


class Controller:
    """A server in its own process, and a client of it."""

    def __init__(self, kind, certificate, trust):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER, kind, *certificate],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.port = int(self.process.stdout.readline())
        self.children = []
        self.client = self.connect(trust)

    def connect(self, trust):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=LONG)
        if trust is not None:
            context = ssl.create_default_context()
            trust.configure_trust(context)
            sock = context.wrap_socket(sock, server_hostname="localhost")
        return sock

    def ask(self, way):
        self.client.sendall(way.encode() + b"\n")
        pid = int(self.client.makefile("rb").readline())
        if pid:
            self.children.append(pid)

    def end_of_client(self):
        """Wait for the end of the connection."""
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
            assert self.client.recv(100) == b""

    def close(self):
        self.process.kill()
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)  # it fails if the child has ended before
        self.client.close()
        self.process.communicate()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(params=["plain", "tls"])
def security(request, authority, tmp_path):
    if request.param == "plain":
        return (), None
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    return (str(tmp_path / "pem"),), authority


@pytest.fixture(params=["connections", "streams"])
def controller(request, security):
    controller = Controller(request.param, *security)
    yield controller
    controller.close()


def bind_again(port):
    """Bind as a restarted server does."""
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("way", ["os", "multiprocessing", "thread"])
def test_a_server_that_is_killed_is_gone_although_a_child_lives(controller, way):
    controller.ask(way)
    controller.ask(way)
    controller.process.kill()
    controller.end_of_client()
    controller.process.wait()  # its sockets are closed one after the other
    bind_again(controller.port)


@pytest.mark.parametrize("way", ["os", "multiprocessing", "thread", "c"])
def test_a_server_that_is_stopped_is_gone_although_a_child_lives(controller, way):
    controller.ask(way)
    controller.ask("stop")
    assert controller.process.stdout.readline() == b"stopped\n"
    controller.end_of_client()
    bind_again(controller.port)


def in_child(check):
    """Fork, and return whether `check` returned True in the child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if check() is True else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Keeping(AsyncioServer):
    def __init__(self):
        super().__init__()
        self.lines = asyncio.Queue()

    def _make_connection(self):
        connection = Connection(scratch=self._scratch)
        connection.message_received = lambda message: self.lines.put_nowait(message.line)
        return connection


async def test_what_a_child_does_with_a_connection_does_not_reach_the_peer():
    async with Keeping() as server:
        await server.start("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        _, ours = await loop.create_connection(Connection, "127.0.0.1", server.port)

        def meddle():
            ours.send(b"from the child")
            ours.send_now(b"from the child\n")
            ours.close()
            ours.abort()
            return ours.closed and not ours.writable and ours.backlog == 0

        assert in_child(meddle)
        assert not ours.closed
        ours.send(b"from the parent")
        assert await server.lines.get() == b"from the parent"
        ours.close()
        await ours.wait_closed()


async def test_waiting_in_a_child_says_whose_connection_it_is():
    async with Keeping() as server:
        await server.start("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        _, ours = await loop.create_connection(Connection, "127.0.0.1", server.port)

        def wait():
            try:
                ours.drained().send(None)
            except ConnectionResetError as error:
                return f"another process, {os.getppid()}" in str(error)

        assert in_child(wait)
        ours.abort()
        await ours.wait_closed()


async def test_a_server_does_not_run_in_a_child():
    async with Keeping() as server:
        await server.start("127.0.0.1", 0)
        assert in_child(lambda: server.addresses == [])
        assert server.addresses


async def test_a_child_has_no_socket_of_a_handshake_that_is_under_way(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with Keeping() as server:
        await server.start("127.0.0.1", 0, ssl=context)
        listening = [sock.fileno() for sock in server._acceptor._sockets]
        with socket.create_connection(("127.0.0.1", server.port)):
            while not server._acceptor._accepted:  # noqa: ASYNC110
                await asyncio.sleep(0)
            accepted = [sock.fileno() for sock in server._acceptor._accepted]

            def are_null():
                return all(stat.S_ISCHR(os.fstat(number).st_mode) for number in numbers)

            numbers = listening + accepted
            assert in_child(are_null)
            assert not are_null()
