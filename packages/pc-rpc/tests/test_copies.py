"""Arguments and results are copies, arrays too: whoever has them may write into them."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pyon import framing

GREETING = b'{"targets":["main"],"description":null,"features":["pyon_v2","raw_buffers"]}\n'
SIZE = 2**22
"""Elements of an array that no socket takes at once: 32 MiB."""


class Camera:
    def __init__(self):
        self.frame = np.zeros(SIZE)

    def get_frame(self):
        return self.frame

    def acquire(self):
        self.frame += 1


def test_a_driver_may_write_into_the_array_that_it_returned(serve, connect):
    port = serve({"main": Camera()}).port
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as lines:
        sock.sendall(b"ARTIQ pc_rpc\n")
        lines.readline()
        sock.sendall(b"main pyon_v2 raw_buffers\n")
        lines.readline()
        sock.sendall(b'{"action":"call","name":"get_frame","args":[],"kwargs":{}}\n')
        assert lines.readline().startswith(b'{"buffers":[%d],' % (8 * SIZE))
        connect(port).acquire()
        frame = np.frombuffer(lines.read(8 * SIZE))
    assert (frame.min(), frame.max()) == (0, 0)


class Detector(Camera):
    def fresh(self):
        return np.ones(SIZE)

    async def fresh_later(self):
        await asyncio.sleep(0)
        return np.ones(SIZE)

    def echo(self, x):
        return x

    async def echo_later(self, x):
        await asyncio.sleep(0)
        return x

    def keep(self, x):
        self.frame = x
        return x


@pytest.mark.parametrize("worker_threads", [False, True], ids=["loop", "worker"])
def test_an_array_that_the_driver_lets_go_of_is_sent_as_it_is(
    serve, connect, monkeypatch, worker_threads
):
    copied = []
    monkeypatch.setattr(framing, "_copy", lambda buffer: copied.append(buffer) or buffer)
    client = connect(serve({"main": Detector()}, worker_threads=worker_threads).port)
    wave = np.ones(SIZE)
    for name, args in [
        ("fresh", []),
        ("fresh_later", []),
        ("echo", [wave]),
        ("echo_later", [wave]),
    ]:
        assert np.array_equal(getattr(client, name)(*args), wave)
        assert not copied, name
    for name, args in [("get_frame", []), ("keep", [wave])]:
        getattr(client, name)(*args)
        assert len(copied) == 1, name
        copied.clear()


@pytest.fixture
def slow_reader(scripted_peer):
    """A server that reads the array of a request only when told, and the port of it."""
    given_up = threading.Event()
    arrays = []

    def script(sock, lines):
        lines.readline()
        sock.sendall(GREETING)
        lines.readline()
        sock.sendall(b'{"__jsonclass__":["set",[["load"]]]}\n')
        lines.readline()
        assert given_up.wait(30)
        arrays.append(np.frombuffer(lines.read(8 * SIZE)))

    peer = scripted_peer(script)

    def read():
        given_up.set()
        peer.finish()
        return arrays[0]

    yield peer.port, read
    given_up.set()


def test_who_gave_up_a_call_may_write_into_its_argument(slow_reader, connect):
    port, read = slow_reader
    client, wave = connect(port), np.zeros(SIZE)
    with pytest.raises(TimeoutError):
        client.with_rpc_timeout(0.05).load(wave)
    wave[:] = 1
    with ThreadPoolExecutor() as pool:
        array = pool.submit(read)
        with pytest.raises(ConnectionError):
            client.load(0)  # the rest of the other goes first; then the peer leaves
        assert array.result().max() == 0


async def test_while_a_call_is_awaited_others_may_write_into_its_argument(
    slow_reader, asyncio_client
):
    port, read = slow_reader
    async with asyncio_client(port) as client:
        wave = np.zeros(SIZE)
        call = asyncio.ensure_future(client.load(wave))
        await asyncio.sleep(0)
        wave[:] = 1
        array = asyncio.to_thread(read)
        assert (await array).max() == 0
        with pytest.raises(ConnectionError):
            await call
