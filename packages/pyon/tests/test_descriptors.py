"""Servers that run out of descriptors: logged once, no busy loop, and accepting again later."""

import asyncio
import contextlib
import errno
import logging
import re
import socket
import struct
import subprocess
import sys

import pytest
import trustme
from pyon import _accepting
from pyon.asyncio_server import AsyncioServer

resource = pytest.importorskip("resource")

LONG = 30.0  # seconds: time-out for what happens soon

SERVER = """
import asyncio, logging, resource, ssl, sys
from pyon.asyncio_server import AsyncioServer

class Greeting(AsyncioServer):
    async def _handle_connection_cr(self, reader, writer):
        writer.write(b"hello\\n")
        await reader.read()

async def main():
    logging.basicConfig(format="%(name)s %(message)s")
    context = None
    if len(sys.argv) > 1:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[1])
    server = Greeting()
    await server.start("127.0.0.1", 0, ssl=context)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    print(server.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()

asyncio.run(main())
"""


@pytest.fixture(params=["plain", "tls"])
def server(request, tmp_path):
    certificate = []
    if request.param == "tls":
        leaf = trustme.CA().issue_cert("localhost")
        leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
        certificate = [str(tmp_path / "pem")]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, *certificate],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.is_tls = request.param == "tls"
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


def greeting(server, port):
    with socket.create_connection(("127.0.0.1", port), timeout=LONG) as sock:
        if not server.is_tls:
            assert sock.makefile("rb").readline() == b"hello\n"
            return
        import ssl

        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(sock) as tls:
            assert tls.recv(6) == b"hello\n"


def test_a_server_without_descriptors_logs_it_once_and_accepts_again(server):
    port = int(server.stdout.readline())
    with contextlib.ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        first = server.stderr.readline()
        assert re.match(r"pyon\S+ 127\.0\.0\.1:\d+: no connection can be accepted: .*files", first)
    greeting(server, port)
    _, err = server.communicate()
    log = err.splitlines()
    assert all("Traceback" not in line for line in log)
    refused = [line for line in log if "no connection can be accepted" in line]
    again = [line for line in log if "accepted again" in line]
    assert len(refused) <= len(again) + 1 < 10


class Failing:
    """A listening socket whose first calls of `accept` fail."""

    def __init__(self, sock, error, times):
        self._sock, self._error, self.left = sock, error, times

    def accept(self):
        if self.left:
            self.left -= 1
            raise OSError(self._error, "no")
        return self._sock.accept()

    def __getattr__(self, name):
        return getattr(self._sock, name)


class Greeting(AsyncioServer):
    async def _handle_connection_cr(self, reader, writer):
        writer.write(b"hello\n")


async def start_failing(server, monkeypatch, error, times):
    """Start a server whose first attempts to accept fail; return the socket that fails."""
    monkeypatch.setattr(_accepting, "RETRY_INTERVAL", 0.0)
    bind = _accepting.bind
    failing = []

    async def bind_failing(*where):
        failing.extend(Failing(sock, error, times) for sock in await bind(*where))
        return failing

    monkeypatch.setattr("pyon.asyncio_server.bind", bind_failing)
    await server.start("127.0.0.1", 0)
    return failing[0]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_a_lasting_shortage_is_logged_only_now_and_then(monkeypatch, caplog, error):
    async with Greeting() as server:
        failing = await start_failing(server, monkeypatch, error, 150)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.readline() == b"hello\n"
        writer.close()
        assert failing.left == 0
    texts = [record.getMessage() for record in caplog.records if record.name.startswith("pyon")]
    assert len(texts) == 4  # attempts 1, 61, 121, and the end of it
    assert "accepted again" in texts[-1]


async def test_a_server_can_be_stopped_while_it_cannot_accept(monkeypatch):
    server = Greeting()
    failing = await start_failing(server, monkeypatch, errno.EMFILE, 10**9)
    with socket.create_connection(("127.0.0.1", server.port)):
        while failing.left > 10**9 - 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await server.stop()
    left = failing.left
    for _ in range(10):
        await asyncio.sleep(0)
    assert failing.left == left


@pytest.mark.parametrize("readers", [True, False], ids=["readiness", "completion"])
async def test_a_flood_of_connections_that_close_at_once_leaves_no_trace(
    monkeypatch, caplog, readers
):
    if not readers:  # as on Windows, whose loop has no readers
        loop = asyncio.get_running_loop()

        def refuse(*_):
            raise NotImplementedError

        monkeypatch.setattr(loop, "add_reader", refuse)
    async with Greeting() as server:
        await server.start("127.0.0.1", 0)
        with caplog.at_level(logging.INFO):
            for _ in range(200):
                with socket.create_connection(("127.0.0.1", server.port)) as sock:
                    reset = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert await reader.readline() == b"hello\n"
            writer.close()
    assert not caplog.records
