"""Arguments and results are copies, arrays too: both ends may write into theirs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pc_rpc import immediate
from pyon import _ownership

pytestmark = pytest.mark.usefixtures("either_road")

GREETING = b'{"targets":["main"],"description":null,"features":["pyon_v2","raw_buffers"]}\n'
SIZE = 2**22
"""Elements of an array that no socket accepts at once: 32 MiB."""


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
    """Returns arrays in every way in which a call can run, and records them."""

    def __init__(self):
        super().__init__()
        self.notes = []

    def fresh(self):
        return np.ones(SIZE)

    async def fresh_later(self):
        await asyncio.sleep(0)
        return np.ones(SIZE)

    def fresh_task(self):
        return asyncio.ensure_future(self.fresh_later())

    def echo(self, x):
        return x

    async def echo_later(self, x):
        await asyncio.sleep(0)
        return x

    async def echo_named(self, *, x):
        return x

    @immediate
    def fresh_immediate(self):
        return np.ones(SIZE)

    @immediate
    async def echo_immediate(self, x):
        return x

    def keep(self, x):
        self.frame = x
        return x

    def note(self, array):
        self.notes.append(weakref.ref(array))
        return array

    def noted(self):
        return self.note(np.ones(SIZE))

    async def noted_later(self):
        return self.noted()

    @immediate
    def noted_immediate(self):
        return self.noted()

    def refused(self, x):
        self.note(x)
        raise ValueError(x, "with the argument in its frames")

    async def refused_later(self, x):
        self.refused(x)


WAYS = {
    "loop": {},
    "worker": {"worker_threads": True},
    "parallel": {"allow_parallel": True},
    "parallel worker": {"allow_parallel": True, "worker_threads": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_an_array_that_the_driver_does_not_keep_is_sent_without_a_copy(
    serve, connect, monkeypatch, way
):
    copied = []
    monkeypatch.setattr(_ownership, "_copy", lambda buffer: copied.append(buffer) or buffer)
    client = connect(serve({"main": Detector()}, **WAYS[way]).port)
    wave = np.ones(SIZE)
    for name, args, kwargs in [
        ("fresh", [], {}),
        ("fresh_later", [], {}),
        ("fresh_immediate", [], {}),
        ("echo", [wave], {}),
        ("echo_later", [wave], {}),
        ("echo_named", [], {"x": wave}),
        ("echo_immediate", [wave], {}),
    ]:
        assert np.array_equal(getattr(client, name)(*args, **kwargs), wave)
        assert not copied, name
    for name, args in [("get_frame", []), ("keep", [wave])]:
        getattr(client, name)(*args)
        assert len(copied) == 1, name
        copied.clear()


def test_what_a_task_of_the_driver_returns_is_sent_without_a_copy(serve, connect, monkeypatch):
    copied = []
    monkeypatch.setattr(_ownership, "_copy", lambda buffer: copied.append(buffer) or buffer)
    client = connect(serve({"main": Detector()}).port)
    assert np.array_equal(client.fresh_task(), np.ones(SIZE))
    assert not copied


@pytest.fixture
def speak():
    """Make calls of a server with given features, line by line."""
    with contextlib.ExitStack() as stack:

        def start(port, words):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            lines = stack.enter_context(sock.makefile("rb"))
            sock.sendall(b"ARTIQ pc_rpc\nmain" + words + b"\n")
            assert [lines.readline(), lines.readline()]
            return lambda request: (sock.sendall(request), _read_reply(lines))[1]

        yield start


def _read_reply(lines):
    reply = lines.readline()
    if reply.startswith(b'{"buffers":['):
        assert lines.read(int(reply[12 : reply.index(b"]")]))
    return reply


NO_ARGUMENTS = b'{"id":%d,"action":"call","name":"%b","args":[],"kwargs":{}}\n'


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("words", [b"", b" pyon_v2", b" pyon_v2 raw_buffers request_ids"])
def test_once_a_reply_is_sent_nothing_keeps_what_the_method_returned(serve, speak, way, words):
    driver = Detector()
    ask = speak(serve({"main": driver}, **WAYS[way]).port, words)
    for name in (b"noted", b"noted_later", b"noted_immediate"):
        assert b"ok" in ask(NO_ARGUMENTS % (1, name))
        assert ask(b'{"id":2,"action":"ping"}\n')
        assert driver.notes.pop()() is None, name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["refused", "refused_later", "note"])
def test_once_a_reply_is_sent_nothing_keeps_the_arguments(serve, connect, way, name):
    driver = Detector()
    client = connect(serve({"main": driver}, **WAYS[way]).port)
    with contextlib.suppress(ValueError):
        getattr(client, name)(np.ones(SIZE))
    kept = driver.notes.pop()
    while kept() is not None:  # the thread that described the error may still refer to them
        client.ping_rpc()


@pytest.fixture
def slow_reader(scripted_peer):
    """The port of a server that reads the array of a request only when the test says so."""
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
