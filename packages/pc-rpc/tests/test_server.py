"""The server: methods, targets, misbehaving peers, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import math
import operator
import os
import re
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyon.framing
import pytest
from pc_rpc import (
    AsyncioClient,
    ConnectionLost,
    GenericRemoteException,
    Server,
    _handshake,
    _schedule,
    _session,
)
from pyon import asyncio_connection

pytestmark = pytest.mark.usefixtures("either_road")


class Driver:
    """A driver."""

    def __init__(self):
        self.instance_function = lambda x: ("instance", x)
        self.callable_object = functools.partial(operator.add, 1)
        self.not_callable = 5

    @property
    def touchy(self):
        raise AssertionError("a property was read")

    @functools.cached_property
    def touchy_too(self):
        raise AssertionError("a property was read")

    def echo(self, x):
        return x

    def size(self, array):
        return array.size

    def zeros(self, size):
        return np.zeros(size, np.uint8)

    async def coroutine(self, x):
        await asyncio.sleep(0)
        return ("coroutine", x)

    partial = functools.partialmethod(echo, "partial")

    @staticmethod
    def static(x):
        return ("static", x)

    @classmethod
    def of_class(cls, x):
        return (cls.__name__, x)

    c_function = staticmethod(math.hypot)

    def keywords(self, *args, name=None, **kwargs):
        return (args, name, kwargs)

    def close_rpc(self):
        return "the remote one"

    def get_rpc_id(self):
        return "the remote one"

    def helper(self):
        return "not for everybody"

    def _private(self):
        return "never"

    def raise_(self, name):
        errors = {
            "SystemExit": SystemExit(3),
            "KeyboardInterrupt": KeyboardInterrupt(),
            "GeneratorExit": GeneratorExit(),
            "CancelledError": asyncio.CancelledError(),
            "StopIteration": StopIteration(5),
            "group": ExceptionGroup("two", [ValueError("a"), OSError(5, "b")]),
            "unicode": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            "none": ValueError(),
            "several": ValueError(1, "two"),
        }
        raise errors[name]

    async def raise_later(self, name):
        await asyncio.sleep(0)
        self.raise_(name)


def test_every_kind_of_callable_is_a_method(serve, either_client):
    client = either_client(serve({"main": Driver()}).port)
    assert client.coroutine(1) == ("coroutine", 1)
    assert client.partial() == "partial"
    assert client.static(2) == ("static", 2)
    assert client.of_class(3) == ("Driver", 3)
    assert client.c_function(3.0, 4.0) == 5.0
    assert client.instance_function(4) == ("instance", 4)
    assert client.callable_object(5) == 6
    assert client.keywords(1, name=2, timeout=4) == ((1,), 2, {"timeout": 4})
    with pytest.raises(AttributeError, match="no remote method 'not_callable'"):
        client.not_callable()


@pytest.mark.parametrize("worker_threads", [False, True])
def test_keyword_arguments_have_any_name(serve, connect, worker_threads):
    client = connect(serve({"main": Driver()}, worker_threads=worker_threads).port)
    names = dict.fromkeys(["call", "function", "method", "args", "kwargs", "error", "number"], 1)
    assert client.keywords(**names) == ((), None, names)


def test_a_remote_method_named_like_one_of_the_client_can_be_reached(serve, either_client):
    client = either_client(serve({"main": Driver()}).port)
    assert client.get_rpc_id() == (["main"], None)
    if hasattr(client, "_runner"):
        return  # the same code
    assert client.__rpc__.get_rpc_id() == "the remote one"
    assert client.__rpc__.close_rpc() == "the remote one"


@pytest.mark.parametrize(
    "name", ["_private", "__len__", "__init__", "touchy", "nope", "helper", "terminate"]
)
def test_a_name_that_was_not_announced_cannot_be_called(serve, connect, name):
    thread = serve({"main": Driver()}, hide={"main": ["helper"]})
    client = connect(thread.port)
    if name != "__init__":
        with pytest.raises(AttributeError, match=f"no remote method '{name}' in 'main' at 127"):
            getattr(client, name)
    with pytest.raises(AttributeError, match=f"'Driver' object has no attribute '{name}'"):
        client._target.invoke(name, (), {}, 30)


def test_only_exposed_methods_can_be_called(serve, connect):
    client = connect(serve({"main": Driver()}, expose={"main": ["echo"]}).port)
    assert list(client.get_rpc_method_list()["methods"]) == ["echo"]
    for name in ("helper", "_private"):
        with pytest.raises(AttributeError):
            client._target.invoke(name, (), {}, 30)


@pytest.mark.parametrize("method", ["raise_", "raise_later"])
@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("KeyboardInterrupt", GenericRemoteException, "KeyboardInterrupt"),
        ("GeneratorExit", GenericRemoteException, "GeneratorExit"),
        ("CancelledError", GenericRemoteException, "asyncio.exceptions.CancelledError"),
        ("group", ExceptionGroup, "two (2 sub-exceptions)"),
        ("unicode", UnicodeDecodeError, "'utf-8' codec can't decode byte 0xff in position 0"),
        ("none", ValueError, ""),
        ("several", ValueError, "(1, 'two')"),
    ],
)
def test_whatever_a_method_raises_the_server_lives(serve, either_client, method, name, error, text):
    thread = serve({"main": Driver()})
    client = either_client(thread.port)
    with pytest.raises(error) as caught:
        getattr(client, method)(name)
    assert str(caught.value).startswith(text)
    assert client.echo(5) == 5
    assert either_client(thread.port).echo(6) == 6


def test_stop_iteration_arrives(serve, connect):
    client = connect(serve({"main": Driver()}).port)
    with pytest.raises(StopIteration) as caught:
        client.raise_("StopIteration")
    assert caught.value.value == 5


@pytest.mark.parametrize("method", ["raise_", "raise_later"])
@pytest.mark.parametrize("worker_threads", [False, True])
def test_system_exit_in_a_method_ends_the_server_and_the_caller_hears_of_it(
    serve, connect, method, worker_threads
):
    thread = serve({"main": Driver()}, worker_threads=worker_threads)
    client = connect(thread.port)
    with pytest.raises(GenericRemoteException, match="SystemExit: 3"):
        getattr(client, method)("SystemExit")
    thread.join()


def test_terminate_is_answered_before_the_server_ends(serve, connect):
    thread = serve({"main": Driver()}, builtin_terminate=True)
    client = connect(thread.port)
    assert client.terminate() is None
    thread.join()
    assert "terminate" not in dir(connect(serve({"main": Driver()}).port))


# Targets.


class Session:
    """A target that is made for each connection."""

    made = 0

    def __init__(self):
        type(self).made += 1
        self.number = type(self).made
        self.closed = threading.Event()
        self.threads = []

    def get_number(self):
        return self.number

    def close(self):
        self.threads.append(threading.current_thread().name)
        self.closed.set()


@pytest.mark.parametrize("worker_threads", [False, True])
def test_a_factory_makes_one_object_for_each_connection_which_is_closed_in_the_end(
    serve, connect, worker_threads
):
    made = []

    def factory():
        made.append(Session())
        return made[-1]

    thread = serve({"main": factory}, worker_threads=worker_threads)
    first, second = connect(thread.port), connect(thread.port)
    assert first.get_number() != second.get_number()
    first.close_rpc()
    assert made[0].closed.wait(30)
    assert not made[1].closed.is_set()
    assert made[0].threads == ["target main" if worker_threads else "server"]
    thread.stop()
    assert made[1].closed.wait(30)


def test_the_close_of_a_target_may_be_a_coroutine_and_comes_after_what_runs(serve, connect):
    order, done, gate, running = [], threading.Event(), asyncio.Event(), threading.Event()

    class Slow:
        async def work(self):
            running.set()
            await gate.wait()
            order.append("work")

        async def close(self):
            await asyncio.sleep(0)
            order.append("close")
            done.set()

    thread = serve({"main": Slow})
    client = connect(thread.port)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(client.work)
        assert running.wait(30)
        client.close_rpc()
        assert isinstance(call.exception(30), ConnectionLost)
    connect(thread.port)  # the server has seen the end of the first connection by now, or soon will
    thread.do(gate.set)
    assert done.wait(30)
    assert order == ["work", "close"]


def test_a_target_whose_client_was_cut_off_is_closed_after_what_runs(serve):
    order, done, gate, running = [], threading.Event(), asyncio.Event(), threading.Event()

    class Slow:
        async def work(self):
            running.set()
            await gate.wait()
            order.append("work")

        def close(self):
            order.append("close")
            done.set()

    thread = serve({"main": Slow})
    with socket.create_connection(("127.0.0.1", thread.port), 30) as sock:
        sock.sendall(b"ARTIQ pc_rpc\nmain pyon_v2 request_ids\n")
        sock.sendall(b'{"id":1,"action":"call","name":"work","args":[],"kwargs":{}}\n')
        assert running.wait(30)
        (session,) = thread.do(lambda: list(thread.server._shared.sessions))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    while not thread.do(lambda: session.closed):
        pass  # the server is about to see the reset
    thread.do(gate.set)
    assert done.wait(30)
    assert order == ["work", "close"]


def test_a_shared_target_is_not_closed(serve, connect):
    session = Session()
    thread = serve({"main": session})
    connect(thread.port).close_rpc()
    assert connect(thread.port).get_number() == session.number
    assert not session.closed.is_set()


def test_a_factory_that_fails_costs_its_connection_only(serve, connect, caplog):
    def factory():
        raise RuntimeError("no instrument")

    thread = serve({"broken": factory, "main": Driver()})
    with pytest.raises(RuntimeError, match="no instrument"):
        connect(thread.port, "broken")
    assert connect(thread.port, "main").echo(5) == 5
    assert "target 'broken' cannot be made" in caplog.text
    assert "no instrument" in caplog.text


def test_a_close_that_fails_is_logged(serve, connect, caplog):
    closed = threading.Event()

    class Stuck:
        def get(self):
            return 5

        def close(self):
            closed.set()
            raise RuntimeError("stuck")

    thread = serve({"main": Stuck})
    connect(thread.port).close_rpc()
    assert closed.wait(30)
    thread.stop()
    assert "closing its target failed" in caplog.text


@pytest.mark.parametrize("name", ["", "two words", "line\nend", " ", 5])
def test_a_target_name_that_cannot_be_selected_is_refused(name):
    with pytest.raises(ValueError, match="expected a target name without white space"):
        Server({name: object()})


def test_hiding_methods_of_an_unknown_target_is_an_error():
    with pytest.raises(ValueError, match=r"unknown target.*'mian'"):
        Server({"main": object()}, hide={"mian": ["x"]})


# Peers that do not speak the protocol.


@pytest.fixture
def silent_log(caplog):
    """The warnings so far; none may have a traceback."""
    caplog.set_level(logging.INFO)

    def warnings():
        assert all(record.exc_info is None for record in caplog.records)
        messages = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        # Records of asyncio's debug mode about slow callbacks are not the server's.
        return [message for message in messages if not message.startswith("Executing <")]

    return warnings


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(11, 200)),
        bytes(range(256)) * 4,
        b"\x00" * 100,
        b"ARTIQ sync_struct\n",
        b"ARTIQ pc_rpc\r\n",
        b"ARTIQ pc_rpc" * 1000,
        b"ARTIQ pc_rpc\nzzz\n",
        b"ARTIQ pc_rpc\nmain nobody_knows\n",
        b"ARTIQ pc_rpc\nmain request_ids\n",
        b"ARTIQ pc_rpc\n" + b"x" * 5000 + b"\n",
        b"ARTIQ pc_rpc\nmain pyon_v2\n{\n",
        b"ARTIQ pc_rpc\nmain pyon_v2 raw_buffers\n" + b'{"buffers":[99999999999999999999]}\n',
    ],
)
def test_junk_is_dropped_with_one_line_in_the_log(serve, connect, silent_log, junk):
    thread = serve({"main": Driver()})
    with socket.create_connection(("127.0.0.1", thread.port), 30) as sock:
        address = "{}:{}".format(*sock.getsockname())
        try:
            sock.sendall(junk)
            while sock.recv(65536):
                pass
        except ConnectionError:
            pass  # dropped while we were still sending
    assert connect(thread.port).echo(5) == 5
    (warning,) = silent_log()
    assert warning.startswith(address)
    assert len(warning) < 300


@pytest.mark.parametrize("begin", [b"", b"ARTIQ", b"ARTIQ pc_rpc\n"])
def test_half_a_handshake_is_dropped_within_a_time_limit(serve, monkeypatch, silent_log, begin):
    monkeypatch.setattr(_handshake, "BANNER_TIMEOUT", 0.05)
    monkeypatch.setattr(_handshake, "SELECTION_TIMEOUT", 0.05)
    thread = serve({"main": Driver()})
    with socket.create_connection(("127.0.0.1", thread.port), 30) as sock:
        sock.sendall(begin)
        try:
            while sock.recv(65536):
                pass
        except ConnectionError:
            pass
    (warning,) = silent_log()
    assert "within 0.05 s" in warning


class Gated:
    """Methods that return when the gate is open."""

    def __init__(self):
        self.running = threading.Event()
        self.opened = threading.Event()
        self.gate = asyncio.Event()  # the same, for the event loop

    def open(self, loop):
        self.opened.set()
        loop.call_soon_threadsafe(self.gate.set)

    def in_a_thread(self, x):
        self.running.set()
        assert self.opened.wait(30)
        return x

    async def on_the_loop(self, x):
        self.running.set()
        await self.gate.wait()
        return x


PIPED = b'{"id":%d,"action":"call","name":"%b","args":[%d],"kwargs":{}}\n'


@pytest.mark.parametrize("method", [b"in_a_thread", b"on_the_loop"])
@pytest.mark.parametrize("features", [b"", b" pyon_v2", b" pyon_v2 request_ids"])
def test_a_script_that_pipes_requests_in_and_half_closes_gets_its_replies(serve, features, method):
    driver = Gated()
    thread = serve({"main": driver}, allow_parallel=True, worker_threads=True)
    requests = b"".join(PIPED % (number, method, number) for number in range(3))
    with socket.create_connection(("127.0.0.1", thread.port), 30) as sock:
        sock.sendall(b"ARTIQ pc_rpc\nmain" + features + b"\n" + requests)
        sock.shutdown(socket.SHUT_WR)
        assert driver.running.wait(30)
        thread.do(lambda: None)  # the server has seen the end, if it was there
        driver.open(thread.loop)
        _greeting, _methods, *replies = sock.makefile("rb").read().splitlines()
    assert sorted(int(reply.rpartition(b":")[2].strip(b"}")) for reply in replies) == [0, 1, 2]
    assert all(b"ok" in reply for reply in replies)


@pytest.mark.parametrize("turn", [asyncio_connection.TURN, -1.0])  # below 0: one message a turn
def test_a_client_that_half_closed_is_not_kept_for_ever(serve, monkeypatch, turn):
    monkeypatch.setattr(asyncio_connection, "TURN", turn)
    monkeypatch.setattr(_session, "FAREWELL_TIMEOUT", 0.05)
    driver = Gated()
    thread = serve({"main": driver})
    with socket.create_connection(("127.0.0.1", thread.port), 30) as sock:
        sock.sendall(b"ARTIQ pc_rpc\nmain\n" + PIPED % (0, b"on_the_loop", 0))
        sock.shutdown(socket.SHUT_WR)
        _greeting, _methods, *replies = sock.makefile("rb").read().splitlines()
    assert replies == []
    driver.open(thread.loop)


def test_a_client_that_leaves_before_a_large_reply_is_not_logged(serve, connect, silent_log):
    gate, running = asyncio.Event(), threading.Event()

    class Camera:
        async def frames(self):
            running.set()
            await gate.wait()
            return [np.zeros(2**16) for _ in range(64)]

        def echo(self, x):
            return x

    thread = serve({"main": Camera()})
    client = connect(thread.port)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(client.frames)
        assert running.wait(30)
        client.close_rpc()
        assert isinstance(call.exception(30), ConnectionLost)
    thread.do(gate.set)
    assert connect(thread.port).echo(5) == 5
    thread.stop()
    assert silent_log() == []


def test_a_client_that_leaves_while_a_method_runs_disturbs_nobody(serve, connect, silent_log):
    gate, running, finished = asyncio.Event(), threading.Event(), threading.Event()

    class Slow:
        def echo(self, x):
            return x

        async def work(self):
            running.set()
            await gate.wait()
            finished.set()

    thread = serve({"main": Slow()})
    client, other = connect(thread.port), connect(thread.port)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(client.work)
        assert running.wait(30)
        client.close_rpc()
        assert isinstance(call.exception(30), ConnectionLost)
    thread.do(gate.set)
    assert finished.wait(30)
    assert other.echo(5) == 5
    assert silent_log() == []


# Back-pressure.


@pytest.mark.parametrize("own", [False, True])
def test_the_server_stops_producing_for_a_client_that_does_not_read(serve, own):
    class Producer:
        produced = 0

        def produce(self):
            self.produced += 1
            return b"x" * 1_000_000

        def count(self):
            return self.produced

    producer = Producer()
    thread = serve({"main": producer})
    words = b" pyon_v2 raw_buffers request_ids" if own else b" pyon_v2"
    request = b'{"id":%d,"action":"call","name":"produce","args":[],"kwargs":{}}\n'
    with socket.create_connection(("127.0.0.1", thread.port), 30) as sock:
        sock.sendall(b"ARTIQ pc_rpc\nmain" + words + b"\n")
        sock.sendall(b"".join(request % number for number in range(200)))
        other = Other(thread.port)
        before = -1
        while producer.produced != before:  # until it has come to rest
            before = producer.produced
            for _ in range(50):
                other.count()
        assert 0 < producer.produced < 60
        with sock.makefile("rb") as replies:
            replies.readline()
            replies.readline()
            received = 0
            while received < 200_000_000 * (1 if own else 1.33):
                received += len(replies.read(1_000_000))
        assert producer.produced == 200
    other.close()


def test_calls_that_wait_are_not_made_for_a_client_that_does_not_read(serve):
    class Producer:
        produced = 0
        may_end = asyncio.Event()

        async def hold(self):
            await self.may_end.wait()

        def produce(self):
            self.produced += 1
            return b"x" * 1_000_000

    producer = Producer()
    thread = serve({"main": producer})
    request = '{"id":%d,"action":"call","name":"%s","args":[],"kwargs":{}}\n'
    with socket.create_connection(("127.0.0.1", thread.port), 30) as sock:
        sock.sendall(b"ARTIQ pc_rpc\nmain pyon_v2 raw_buffers request_ids\n")
        names = ["hold", *["produce"] * 100]
        sock.sendall("".join(request % call for call in enumerate(names)).encode())
        waiting = 0
        while waiting < 100:
            for session in thread.do(lambda: list(thread.server._shared.sessions)):
                waiting = len(session._schedule.waiting)
        thread.do(producer.may_end.set)
        same, before = 0, -1
        while same < 50 or not before:  # until it has come to rest
            now = thread.do(lambda: producer.produced)
            same, before = same + 1 if now == before else 0, now
        assert 0 < producer.produced < 60


class Other:
    """A second client, written by hand."""

    def __init__(self, port):
        from pc_rpc import Client

        self._client = Client("127.0.0.1", port, timeout=30)

    def count(self):
        return self._client.count()

    def close(self):
        self._client.close_rpc()


# Worker threads.


class Slow:
    """A driver that blocks its thread."""

    def __init__(self):
        self.gate = threading.Event()
        self.running = threading.Event()
        self.threads = set()

    def block(self):
        self.threads.add(threading.current_thread().name)
        self.running.set()
        assert self.gate.wait(30)
        return "done"

    def echo(self, x):
        self.threads.add(threading.current_thread().name)
        return x

    async def coroutine(self):
        return threading.current_thread().name


def test_a_method_that_blocks_its_worker_thread_freezes_nobody_else(serve, connect):
    slow = Slow()
    thread = serve({"slow": slow, "fast": Driver()}, worker_threads=True)
    first, second, fast = (connect(thread.port, name) for name in ("slow", "slow", "fast"))
    with ThreadPoolExecutor() as pool:
        blocked = pool.submit(first.block)
        assert slow.running.wait(30)
        for action in (first.ping_rpc, second.ping_rpc, second.get_rpc_method_list):
            action()
        assert fast.echo(5) == 5
        assert connect(thread.port, "slow").get_rpc_id()[0] == ["fast", "slow"]
        queued = pool.submit(second.echo, 6)
        second.ping_rpc()
        assert not queued.done()  # one call of a target at a time
        assert not blocked.done()
        slow.gate.set()
        assert (blocked.result(30), queued.result(30)) == ("done", 6)
    assert slow.threads == {"target slow"}


def test_coroutine_methods_stay_on_the_event_loop(serve, connect):
    client = connect(serve({"main": Slow()}, worker_threads=True).port)
    assert client.coroutine() == "server"


def test_worker_threads_end_with_the_server(serve, connect):
    thread = serve({"main": Slow()}, worker_threads=True)
    workers = [t for t in threading.enumerate() if t.name == "target main"]
    assert connect(thread.port).echo(5) == 5
    thread.stop()
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()


# The end.


class Stubborn:
    """Coroutine methods that end slowly when they are cancelled."""

    def __init__(self):
        self.running = threading.Event()
        self.cleaned = threading.Event()

    async def work(self):
        self.running.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.cleaned.set()


def test_stop_with_calls_running_is_bounded_and_leaves_nothing(serve, connect, silent_log):
    driver, blocked = Stubborn(), Slow()
    thread = serve({"main": driver, "slow": blocked}, worker_threads=True)
    clients = [connect(thread.port, name) for name in ("main", "slow")]
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(clients[0].work), pool.submit(clients[1].block)]
        assert driver.running.wait(30)
        assert blocked.running.wait(30)
        thread.stop()
        assert any(t.name == "target slow" for t in threading.enumerate())  # it still blocks
        assert driver.cleaned.is_set()
        for call in calls:
            assert isinstance(call.exception(30), (ConnectionLost, GenericRemoteException))
    blocked.gate.set()
    gc.collect()
    assert silent_log() == []


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_target_in_a_worker_thread_is_closed_before_the_server_has_stopped(serve, connect, kind):
    running, gate, order = threading.Event(), threading.Event(), []

    class Plain:
        def work(self):
            running.set()
            assert gate.wait(30)
            order.append("work")

        def close(self):
            order.append("close")

    class Coroutine(Plain):
        async def close(self):
            await asyncio.sleep(0)
            order.append("close")

    thread = serve({"main": Plain if kind == "plain" else Coroutine}, worker_threads=True)
    client = connect(thread.port)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(client.work)
        assert running.wait(30)
        thread.loop.call_soon_threadsafe(thread.server.terminate)
        assert isinstance(call.exception(30), ConnectionLost)  # the server is stopping
        gate.set()
        thread.join()
    assert order == ["work", "close"]


def test_calls_that_wait_for_a_worker_thread_are_not_begun_when_the_server_stops(serve, connect):
    running, gate, begun = threading.Event(), threading.Event(), []

    class Driver:
        def work(self, number):
            begun.append(number)
            running.set()
            assert gate.wait(30)

        async def ping(self):
            return len(begun)

    thread = serve({"main": Driver()}, worker_threads=True, allow_parallel=True)
    client = connect(thread.port)
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(client.work, number) for number in range(6)]
        assert running.wait(30)
        assert client.ping() == 1
        thread.loop.call_soon_threadsafe(thread.server.terminate)
        for call in calls:
            assert isinstance(call.exception(30), ConnectionLost)
        gate.set()
        thread.join()
    assert len(begun) == 1


async def test_a_server_whose_stop_is_cancelled_has_stopped():
    class Unwilling:
        async def work(self):
            running.set()
            while not gate.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await gate.wait()

    running, gate = asyncio.Event(), asyncio.Event()
    async with AsyncioClient() as client:
        server = Server({"main": Unwilling()})
        await server.start("127.0.0.1", 0)
        await client.connect_rpc("127.0.0.1", server.port)
        call = asyncio.ensure_future(client.work())
        await running.wait()
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert server.addresses == []
        with pytest.raises(ConnectionLost):
            await call
        gate.set()


async def test_a_server_that_is_started_again_waits_to_be_terminated_again():
    server = Server({"main": Driver()})
    for _ in range(2):
        await server.start("127.0.0.1", 0)
        waiting = asyncio.ensure_future(server.wait_terminate())
        await asyncio.sleep(0)
        assert not waiting.done()
        server.terminate()
        await waiting
        await server.stop()


async def test_stop_may_be_called_twice_and_before_start():
    server = Server({"main": Driver()})
    await server.stop()
    await server.start("127.0.0.1", 0)
    await server.stop()
    await server.stop()
    assert server.addresses == []


async def test_serve_forever_ends_when_it_is_cancelled_or_terminated():
    server = Server({"main": Driver()})
    await server.start("127.0.0.1", 0)
    task = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.addresses == []
    server = Server({"main": Driver()})
    await server.start("127.0.0.1", 0)
    server.terminate()
    await server.serve_forever()
    assert server.addresses == []


def test_a_port_in_use_is_a_clear_error(serve):
    thread = serve({"main": Driver()})
    with pytest.raises(OSError, match=r"[Aa]ddress already in use|Only one usage"):
        serve({"main": Driver()}, port=thread.port)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", ["127.0.0.1", "::1"], None])
def test_addresses_of_any_kind(serve, connect, host):
    if host not in ("127.0.0.1", "localhost", None) and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    thread = serve({"main": Driver()}, host=host)
    assert thread.do(lambda: {port for _, port in thread.server.addresses}) == {thread.port}
    for name in [host or "localhost"] if not isinstance(host, list) else host:
        client = connect(thread.port, host=name)
        assert client.echo(5) == 5
        assert client.get_local_host() in {"127.0.0.1", "::1"}


# Cancelling and pings on one connection.


async def test_a_ping_is_answered_while_a_method_runs_on_the_same_connection(serve, asyncio_client):
    driver = Stubborn()
    thread = serve({"main": driver})
    async with asyncio_client(thread.port) as client:
        work = asyncio.ensure_future(client.work())
        queued = asyncio.ensure_future(client.work())
        await client.ping_rpc()
        await client.ping_rpc()
        assert not work.done()
        queued.cancel()  # before it has begun
        work.cancel()
        await asyncio.gather(work, queued, return_exceptions=True)
        await client.ping_rpc()
        assert await asyncio.to_thread(driver.cleaned.wait, 30)
        await client.get_rpc_method_list()


class Gate:
    """Holds one call until it is released, and records the others that ran."""

    def __init__(self):
        self.begun, self.gate, self.ran = threading.Event(), threading.Event(), []

    async def hold(self):
        self.begun.set()
        await asyncio.to_thread(self.gate.wait, 30)

    def block(self):
        self.begun.set()
        self.gate.wait(30)

    def note(self, x):
        self.ran.append(x)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("hold", {}),
        ("block", {"worker_threads": True}),
        ("block", {"worker_threads": True, "allow_parallel": True}),
    ],
)
async def test_what_is_cancelled_while_it_waits_for_the_call_of_another_client_is_not_run(
    serve, asyncio_client, method, options
):
    driver = Gate()
    port = serve({"main": driver}, **options).port
    async with asyncio_client(port) as first, asyncio_client(port) as second:
        holding = asyncio.ensure_future(getattr(first, method)())
        assert await asyncio.to_thread(driver.begun.wait, 30)
        waiting = asyncio.ensure_future(second.note(1))
        await asyncio.sleep(0)
        await second.ping_rpc()  # now the server has it
        waiting.cancel()
        await asyncio.sleep(0)
        await second.ping_rpc()  # and has read the cancellation
        driver.gate.set()
        await asyncio.gather(holding, waiting, return_exceptions=True)
        await second.note(2)
        assert driver.ran == [2]


async def test_more_requests_than_are_read_in_advance_are_all_answered(serve, asyncio_client):
    async with asyncio_client(serve({"main": Driver()}).port) as client:
        numbers = range(_schedule.MAX_WAITING + 300)
        assert await asyncio.gather(*map(client.coroutine, numbers)) == [
            ("coroutine", number) for number in numbers
        ]


def test_more_arrays_than_a_message_may_have_are_an_error_of_the_caller(
    serve, either_client, monkeypatch
):
    class Camera:
        def frames(self, count):
            return [np.zeros(2000) for _ in range(count)]

        async def frames_later(self, count):
            return self.frames(count)

    monkeypatch.setitem(pyon.framing.frame.__globals__, "MAX_BUFFERS", 3)
    client = either_client(serve({"main": Camera()}).port)
    for method in (client.frames, client.frames_later):
        with pytest.raises(RuntimeError, match="at most 3 raw buffers, got 4"):
            method(4)
        assert len(method(3)) == 3


def test_arrays_come_back_writable_and_equal(serve, either_client):
    client = either_client(serve({"main": Driver()}).port)
    array = np.arange(500_000, dtype=np.float64).reshape(1000, 500)
    result = client.echo({"data": array, "rest": [array[:2]]})
    assert np.array_equal(result["data"], array)
    assert np.array_equal(result["rest"][0], array[:2])
    result["data"][0, 0] = 5


@pytest.mark.parametrize("size", [5_000_000, 150_000_000])
def test_large_values_pass_both_ways(serve, connect, size):
    client = connect(serve({"main": Driver()}).port)
    data = bytes(size)
    assert client.echo(data) == data


LARGE = int(os.environ.get("PC_RPC_LARGE", "3000000"))
"""Bytes: 1000000000 takes 4 GB of memory and some seconds."""


def test_up_to_the_limit_arguments_and_results_pass_and_one_byte_more_names_both_numbers(
    serve, connect
):
    port = serve({"main": Driver()}, limit=LARGE).port
    client, patient = connect(port, limit=LARGE), connect(port)
    numbers = rf"has (\d+) bytes, beyond the limit of {LARGE} bytes"

    def most(call):
        """Return the size of the largest array that passes, from the numbers in the error."""
        with pytest.raises(ValueError, match=numbers) as caught:
            call(LARGE - 1)  # as many digits as the largest that passes
        return 2 * LARGE - 1 - int(re.search(numbers, str(caught.value))[1])

    for call in (
        lambda size: client.size(np.zeros(size, np.uint8)),  # refused where it is sent
        lambda size: patient.size(np.zeros(size, np.uint8)),  # refused by the server
        lambda size: client.zeros(size).size,
    ):
        size = most(call)
        assert LARGE - 300 < size < LARGE
        assert call(size) == size
        with pytest.raises(ValueError, match=numbers):
            call(size + 1)
        assert client.echo(5) == patient.echo(5) == 5


def test_beyond_the_limit_both_numbers_are_named_and_the_connection_lives(serve, connect):
    thread = serve({"main": Driver()}, limit=1_000_000)
    client = connect(thread.port)
    for value in ("x" * 1_000_001, b"x" * 1_000_001):
        with pytest.raises(ValueError, match=r"request has 1000\d\d\d bytes.* of 1000000 bytes"):
            client.echo(value)
    assert client.echo(5) == 5
    small = connect(serve({"main": Driver()}).port, limit=1_000_000)
    with pytest.raises(ValueError, match=r"call of echo\(\) has 1000\d\d\d bytes.* of 1000000"):
        small.echo(b"x" * 1_000_001)
    assert small.echo(5) == 5
