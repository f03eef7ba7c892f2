"""Methods that give their results item by item: in order, bounded, and always closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import json
import os
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from pc_rpc import AsyncioClient, BestEffortClient, Client, ConnectionLost, RpcError, Server
from pc_rpc._stream_call import MOST_BYTES, MOST_ITEMS

LONG = 30.0

ABANDONED = int(os.environ.get("STREAMS_TO_ABANDON", "30"))
"""Streams for each kind and place. A thousand pass, too, and take a minute."""

PLACES = {
    "loop": {},
    "worker thread": {"worker_threads": True},
    "parallel": {"allow_parallel": True},
}


@pytest.fixture(params=PLACES)
def place(request):
    """Options of a server for the place of methods."""
    return PLACES[request.param]


class Camera:
    """Gives items, and records the ends of its generators."""

    def __init__(self):
        self.made = 0
        self.closed = threading.Semaphore(0)
        self.threads = set()
        self.running = 0
        self.overlaps = 0

    def count(self, n):
        """Count."""
        try:
            for number in range(n):
                self.made += 1
                self.threads.add(threading.current_thread())
                yield number
            return "all"
        finally:
            self.threads.add(threading.current_thread())
            self.closed.release()

    async def scan(self, n):
        try:
            for number in range(n):
                await asyncio.sleep(0)
                self.made += 1
                yield number
        finally:
            self.closed.release()

    def values(self, values: list) -> Iterator[object]:
        return iter(values)

    async def begin(self, n: int) -> AsyncIterator[int]:
        await asyncio.sleep(0)
        return self.scan(n)

    def fail_at(self, n):
        try:
            yield from range(n)
            raise LookupError(f"no frame {n}")
        finally:
            self.closed.release()

    def odd(self):
        try:
            yield 1
            yield object()
        finally:
            self.closed.release()

    def frames(self, n, size=256):
        frame = np.zeros((size, size), np.uint16)
        try:
            for number in range(n):
                frame[:] = number
                self.made += 1
                yield frame
                frame[:] = 9999
        finally:
            self.closed.release()

    def liar(self) -> Iterator[int]:
        return 5

    def set_gain(self, gain):
        self.overlaps += self.running
        return gain

    def exposures(self, n):
        for number in range(n):
            self.running = 1
            threading.Event().wait(0.0005)  # lets another thread run, if there is one
            self.running = 0
            yield number

    def tidy(self):
        try:
            while True:
                yield 0
        finally:
            self.closed.release()
            raise RuntimeError("the shutter is stuck")


def was_closed(camera, times=1):
    return all(camera.closed.acquire(timeout=LONG) for _ in range(times))


METHODS = ["count", "scan", "begin"]


@pytest.mark.parametrize("method", METHODS)
def test_items_come_in_order_and_the_generator_is_closed(serve, either_client, place, method):
    camera = Camera()
    client = either_client(serve({"camera": camera}, **place).port)
    assert list(getattr(client, method)(3000)) == list(range(3000))
    assert was_closed(camera)
    assert list(getattr(client, method)(0)) == []


def test_any_value_is_an_item(serve, either_client, place):
    values = [None, (1, 2.5), "\u2603\n", {"a": [1, (2,)]}, "x" * 10_000, b"y" * 5000, [], 2**70]
    client = either_client(serve({"camera": Camera()}, **place).port)
    assert list(client.values(values)) == values


def test_an_array_is_sent_as_it_was_when_it_was_yielded(serve, either_client, place):
    client = either_client(serve({"camera": Camera()}, **place).port)
    for number, frame in enumerate(client.frames(40)):
        assert frame.dtype == np.uint16
        assert frame.shape == (256, 256)
        assert (frame == number).all()
    assert number == 39


def test_help_shows_the_documentation_of_the_method(serve, connect):
    client = connect(serve({"main": Camera()}).port)
    assert client.count.__doc__ == "Count."
    assert inspect.getdoc(client.count) == "Count."
    assert inspect.getdoc(client.scan) is None


def test_what_the_generator_returns_is_the_value_of_the_end(serve, connect):
    client = connect(serve({"camera": Camera()}).port)
    stream = client.count(3)
    assert [next(stream), next(stream), next(stream)] == [0, 1, 2]
    with pytest.raises(StopIteration) as end:
        next(stream)
    assert end.value.value == "all"


def test_an_exception_comes_behind_the_items_before_it(serve, either_client, place):
    camera = Camera()
    client = either_client(serve({"camera": camera}, **place).port)
    stream, got = client.fail_at(1234), []
    with pytest.raises(LookupError, match="no frame 1234") as raised:
        got.extend(stream)  # which keeps the items before the error
    assert "fail_at" in "".join(raised.value.parent_traceback)
    stream = client.fail_at(1234)
    assert [next(stream) for _ in range(1234)] == list(range(1234))
    with pytest.raises(LookupError):
        next(stream)
    assert next(stream, "the end") == "the end"
    assert was_closed(camera, 2)


def test_an_item_that_cannot_be_sent_ends_the_stream(serve, either_client, place):
    camera = Camera()
    client = either_client(serve({"camera": camera}, **place).port)
    stream = client.odd()
    assert next(stream) == 1
    with pytest.raises(TypeError, match="an item cannot be encoded"):
        next(stream)
    assert was_closed(camera)


@pytest.mark.parametrize("options", [{}, {"worker_threads": True}])
def test_an_item_beyond_the_limit_ends_the_stream(serve, either_client, options):
    client = either_client(serve({"camera": Camera()}, limit=2**16, **options).port)
    with pytest.raises(ValueError, match=r"an item has \d+ bytes, beyond the limit of 65536"):
        list(client.frames(3))
    assert list(client.count(2000)) == list(range(2000))


def test_an_item_beyond_the_limit_of_the_client_ends_the_stream(serve, either_client):
    camera = Camera()
    client = either_client(serve({"camera": camera}).port, limit=2**16)
    with pytest.raises(ValueError, match="beyond the limit of 65536"):
        list(client.frames(3))
    assert was_closed(camera)
    assert list(client.count(2000)) == list(range(2000))


def test_a_method_that_returns_no_iterator_in_spite_of_its_annotation(serve, either_client):
    client = either_client(serve({"camera": Camera()}).port)
    with pytest.raises(TypeError, match=r"liar\(\) must return an iterator"):
        next(client.liar())


def test_wrong_arguments_are_an_error_of_the_first_item(serve, either_client):
    client = either_client(serve({"camera": Camera()}).port)
    with pytest.raises(TypeError, match="positional argument"):
        next(client.count())
    with pytest.raises(TypeError, match="in the arguments of count"):
        client.count(object())


def test_nothing_is_called_before_the_first_item_is_asked_for(serve, either_client):
    camera = Camera()
    client = either_client(serve({"camera": camera}).port)
    client.count(5)
    client.count(5).close()
    assert client.set_gain(2) == 2
    assert camera.made == 0


# Leaving.


@pytest.mark.parametrize("method", METHODS)
def test_close_returns_when_the_generator_has_been_closed(serve, either_client, place, method):
    camera = Camera()
    client = either_client(serve({"camera": camera}, **place).port)
    stream = getattr(client, method)(10**9)
    assert [next(stream), next(stream)] == [0, 1]
    stream.close()
    assert camera.closed.acquire(blocking=False)
    assert next(stream, "the end") == "the end"
    stream.close()


def test_what_the_generator_raises_when_it_is_closed_is_raised_by_close(
    serve, either_client, place
):
    client = either_client(serve({"camera": Camera()}, **place).port)
    stream = client.tidy()
    next(stream)
    with pytest.raises(RuntimeError, match="the shutter is stuck"):
        stream.close()


def test_what_the_generator_raised_ahead_of_its_reader_is_not_raised_by_close(
    serve, either_client, place
):
    camera = Camera()
    client = either_client(serve({"camera": camera}, **place).port)
    stream = client.fail_at(10)
    assert next(stream) == 0
    assert was_closed(camera)  # it ran ahead, and has failed
    stream.close()


async def test_a_connection_that_is_lost_ends_the_wait_for_the_end(asyncio_client):
    """Only `close` waits for it."""

    class Stubborn(Camera):
        async def stuck(self):
            try:
                while True:
                    yield 1
            finally:
                self.closed.release()
                await asyncio.Event().wait()

    camera = Stubborn()
    async with Server({"camera": camera}) as server:
        await server.start("127.0.0.1", 0)
        async with asyncio_client(server.port, timeout=None) as client:
            stream = client.stuck()
            await anext(stream)
            closing = asyncio.ensure_future(stream.aclose())
            assert await asyncio.to_thread(was_closed, camera)
            (session,) = server._shared.sessions
            session.abort()
            await closing


@pytest.mark.parametrize("method", [*METHODS, "frames"])
def test_a_loop_that_is_left_closes_the_generator(serve, connect, place, method):
    camera = Camera()
    client = connect(serve({"camera": camera}, **place).port)
    for item in getattr(client, method)(10**9):
        if np.max(item) == 5:
            break
    assert was_closed(camera)


@pytest.mark.parametrize("method", METHODS)
async def test_an_async_for_that_is_left_closes_the_generator(asyncio_client, place, method):
    camera = Camera()
    async with Server({"camera": camera}, **place) as server:
        await server.start("127.0.0.1", 0)
        async with asyncio_client(server.port) as client:
            async for item in getattr(client, method)(10**9):
                if item == 5:
                    break
            assert await asyncio.to_thread(was_closed, camera)
            async with getattr(client, method)(10**9) as items:
                assert await anext(items) == 0
            assert camera.closed.acquire(blocking=False)


class Patient(Camera):
    """Gives one item, then waits."""

    def __init__(self):
        super().__init__()
        self.may_go_on = threading.Event()

    def slow(self):
        try:
            yield 1
            assert self.may_go_on.wait(LONG)
            yield 2
        finally:
            self.closed.release()

    async def slow_scan(self):
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            self.closed.release()


@pytest.mark.parametrize("method", ["slow", "slow_scan"])
def test_a_time_out_is_that_of_an_item_and_ends_the_generator(serve, either_client, method):
    camera = Patient()
    client = either_client(serve({"camera": camera}, worker_threads=True).port)
    stream = getattr(client.with_rpc_timeout(0.2), method)()
    assert next(stream) == 1
    with pytest.raises(TimeoutError, match=rf"no item of the stream of {method}\(\) from .* 0.2 s"):
        next(stream)
    camera.may_go_on.set()
    assert was_closed(camera)
    assert next(stream, "the end") == "the end"
    assert client.set_gain(3) == 3


async def test_cancelling_the_task_ends_the_generator(asyncio_client):
    camera = Patient()
    async with Server({"camera": camera}) as server:
        await server.start("127.0.0.1", 0)
        async with asyncio_client(server.port) as client:
            first = asyncio.Event()

            async def read():
                async for _ in client.slow_scan():
                    first.set()

            task = asyncio.ensure_future(read())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(was_closed, camera)
            assert await client.set_gain(1) == 1


@pytest.mark.parametrize("method", [*METHODS, "frames"])
def test_the_end_of_a_client_closes_its_generators(serve, place, method):
    camera = Camera()
    thread = serve({"camera": camera}, **place)
    with Client("127.0.0.1", thread.port, timeout=LONG) as client:
        streams = [getattr(client, method)(10**9) for _ in range(3)]
        for stream in streams:
            next(stream)
    assert was_closed(camera, 3)
    with pytest.raises(ConnectionLost):
        list(streams[0])
    streams[1].close()


@pytest.mark.parametrize("method", METHODS)
def test_a_server_that_stops_closes_the_generators_and_says_so(serve, either_client, place, method):
    camera = Camera()
    thread = serve({"camera": camera}, **place)
    client = either_client(thread.port)
    stream = getattr(client, method)(10**9)
    next(stream)
    thread.stop()
    assert was_closed(camera)
    with pytest.raises(ConnectionLost, match="the server stopped") as raised:
        list(stream)
    assert raised.value.sent


async def test_a_server_that_stops_closes_a_generator_whose_turn_does_not_come(asyncio_client):
    class Busy(Camera):
        async def go_on(self):
            self.begun.set()
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

    camera = Busy()
    async with Server({"camera": camera}) as server:
        camera.begun = asyncio.Event()
        await server.start("127.0.0.1", 0)
        async with asyncio_client(server.port) as client:
            stream = client.scan(10**9)
            for _ in range(3):
                await anext(stream)
            while camera.made < MOST_ITEMS:
                await client.ping_rpc()
            call = asyncio.ensure_future(client.go_on())
            await camera.begun.wait()
            await server.stop()
            assert camera.closed.acquire(blocking=False)
            with pytest.raises(ConnectionLost):
                await call


def test_the_target_of_a_factory_is_closed_after_its_streams(serve, place):
    order, done = [], threading.Event()

    class Session:
        def items(self):
            try:
                while True:
                    yield 1
            finally:
                order.append("generator")

        def close(self):
            order.append("target")
            done.set()

    thread = serve({"camera": Session}, **place)
    with Client("127.0.0.1", thread.port, timeout=LONG) as client:
        next(client.items())
        stream = client.items()
        next(stream)
    assert done.wait(LONG)
    assert order[-1] == "target"
    assert order.count("generator") == 2


@pytest.mark.parametrize("method", ["count", "scan"])
def test_streams_abandoned_at_random_moments_are_all_closed(serve, connect, place, method):
    camera, times = Camera(), ABANDONED
    thread = serve({"camera": camera}, **place)
    client = connect(thread.port)
    next(client.count(1))
    assert was_closed(camera)

    def held():
        tasks = thread.do(lambda: len(asyncio.all_tasks(thread.loop)))
        descriptors = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        return tasks, threading.active_count(), descriptors

    before = held()
    for turn in range(times):
        stream = getattr(client, method)(10**9)
        for _ in range(turn * 37 % 1500 + 1):
            next(stream)
        if turn % 3 == 0:
            stream.close()
        elif turn % 3 == 1:
            client.set_gain(turn)
    del stream
    gc.collect()
    assert was_closed(camera, times)
    assert client.set_gain(5) == 5
    (session,) = thread.server._shared.sessions
    while session._streams.calls:  # each reply is still on its way
        client.ping_rpc()
    assert held() == before


# Flow.


def test_a_reader_that_stalls_stops_the_driver(serve, either_client, place):
    camera = Camera()
    client = either_client(serve({"camera": camera}, **place).port)
    stream = client.count(10**9)
    next(stream)
    assert [client.set_gain(turn) for turn in range(200)] == list(range(200))
    assert camera.made <= MOST_ITEMS
    assert [next(stream) for _ in range(5000)] == list(range(1, 5001))
    assert camera.made <= 5001 + MOST_ITEMS
    stream.close()


def test_credit_is_counted_in_bytes_as_well(serve, either_client, place):
    camera = Camera()
    client = either_client(serve({"camera": camera}, **place).port)
    stream = client.frames(10**9, 1024)
    next(stream)
    assert [client.set_gain(turn) for turn in range(50)] == list(range(50))
    assert camera.made <= MOST_BYTES // 2**21 + 1
    for number in range(1, 20):
        assert next(stream)[0, 0] == number
    stream.close()


def test_the_memory_of_both_ends_stands_still_while_the_reader_does(serve, either_client, place):
    def in_use():
        for turn in range(30):
            assert client.set_gain(turn) == turn
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    client = either_client(serve({"camera": Camera()}, **place).port)
    stream = client.frames(10**9, 1024)
    tracemalloc.start()
    try:
        next(stream)
        first = in_use()
        assert first < 3 * MOST_BYTES  # at the server, on the way, and here
        assert in_use() < first + 2**20
    finally:
        tracemalloc.stop()
    stream.close()


def test_a_client_that_grants_much_and_reads_nothing_stops_the_driver(serve, place):
    camera = Camera()
    thread = serve({"camera": camera}, **place)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", thread.port))
        lines = sock.makefile("rb")
        sock.sendall(b"ARTIQ pc_rpc\ncamera pyon_v2 request_ids streams\n")
        assert [lines.readline(), lines.readline()]
        sock.sendall(
            b'{"id":1,"action":"call","name":"count","args":[1000000000],"kwargs":{},'
            b'"credit":[999999999,999999999999]}\n'
        )
        assert lines.readline()
        (session,) = thread.server._shared.sessions
        made = -1
        while made != camera.made:  # until it stands still
            made = camera.made
            for _ in range(20):
                thread.do(lambda: None)
        assert thread.do(lambda: session.backlog) < 2**20
        sock.sendall(b'{"action":"cancel","request":1}\n')
        assert was_closed(camera)  # although the client has read nothing
        lines.close()


def test_calls_in_the_body_of_the_loop_have_their_turn(serve, either_client, place):
    client = either_client(serve({"camera": Camera()}, **place).port)
    for method in METHODS:
        for number in getattr(client, method)(2500):
            if number % 100 == 0:
                assert client.set_gain(number) == number


def test_nothing_else_of_the_target_runs_while_the_generator_does(serve, connect):
    camera = Camera()
    port = serve({"camera": camera}, worker_threads=True).port
    first, second = connect(port), connect(port)
    done = threading.Event()

    def read():
        assert list(first.exposures(100)) == list(range(100))
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    calls = 0
    while not done.is_set():
        second.set_gain(1)
        calls += 1
    thread.join()
    assert calls > 10  # they had their turns
    assert camera.overlaps == 0


def test_a_generator_runs_and_is_closed_on_the_thread_of_its_target(serve, connect):
    camera = Camera()
    client = connect(serve({"camera": camera}, worker_threads=True).port)
    for number in client.count(10**9):
        if number == 2000:
            break
    assert was_closed(camera)
    assert {thread.name for thread in camera.threads} == {"target camera"}


def test_many_streams_and_calls_share_a_connection(serve, connect, place):
    client = connect(serve({"camera": Camera()}, **place).port)
    errors = []

    def read(method, n):
        try:
            assert list(getattr(client, method)(n)) == list(range(n))
            assert client.set_gain(n) == n
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(METHODS[n % 3], 1000 + n)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


async def test_many_tasks_read_streams_of_one_connection(asyncio_client, place):
    async with Server({"camera": Camera()}, **place) as server:
        await server.start("127.0.0.1", 0)
        async with asyncio_client(server.port) as client:

            async def read(n):
                return [item async for item in getattr(client, METHODS[n % 3])(100 + n)]

            lists = await asyncio.gather(*map(read, range(12)))
    assert lists == [list(range(100 + n)) for n in range(12)]


def test_one_stream_is_for_one_thread_at_a_time(serve, connect):
    camera = Patient()
    client = connect(serve({"camera": camera}, worker_threads=True).port)
    stream = client.slow()
    next(stream)
    other = threading.Thread(target=next, args=(stream, None))
    other.start()
    while not stream._used:
        client.ping_rpc()
    with pytest.raises(ValueError, match="the stream is being read already"):
        next(stream)
    camera.may_go_on.set()
    other.join()


# Others.


@pytest.mark.parametrize("words", [b"", b" pyon_v2", b" pyon_v2 request_ids exception_details"])
def test_a_client_that_knows_no_streams_gets_an_error(serve, words):
    camera = Camera()
    with (
        socket.create_connection(("127.0.0.1", serve({"camera": camera}).port)) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(b"ARTIQ pc_rpc\ncamera" + words + b"\n")
        lines.readline()
        assert b"count" in lines.readline()
        sock.sendall(b'{"id":1,"action":"call","name":"count","args":[5],"kwargs":{}}\n')
        reply = lines.readline()
        assert b'"failed"' in reply
        assert b"the result cannot be encoded" in reply
    assert camera.made == 0


def test_invalid_credit_is_refused(serve):
    with (
        socket.create_connection(("127.0.0.1", serve({"camera": Camera()}).port)) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(b"ARTIQ pc_rpc\ncamera pyon_v2 request_ids streams\n")
        lines.readline()
        assert lines.readline().startswith(b'{"methods":["begin","count",')
        for number, credit in enumerate([b"5", b"[1]", b"[-1,5]", b"[true,5]", b"[1,1e3]", b'"a"']):
            sock.sendall(
                b'{"id":%d,"action":"call","name":"count","args":[5],"kwargs":{},"credit":%s}\n'
                % (number, credit)
            )
            assert b"expected the credit as numbers" in lines.readline()
        sock.sendall(b'{"action":"credit","request":99,"credit":[5,5]}\n')
        sock.sendall(b'{"id":7,"action":"ping"}\n')
        assert lines.readline() == b'{"id":7,"status":"ok","ret":null}\n'


def test_the_messages_of_a_stream_byte_for_byte(serve):
    with (
        socket.create_connection(("127.0.0.1", serve({"camera": Camera()}).port)) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(b"ARTIQ pc_rpc\ncamera pyon_v2 request_ids streams\n")
        lines.readline()
        lines.readline()
        sock.sendall(
            b'{"id":7,"action":"call","name":"count","args":[3],"kwargs":{},"credit":[2,1000]}\n'
        )
        got = []
        while got != [0, 1]:
            line = lines.readline()
            assert line.startswith(b'{"id":7,"status":"items","ret":[')
            got += json.loads(line)["ret"]
        sock.sendall(b'{"action":"credit","request":7,"credit":[2,1000]}\n')
        assert lines.readline() == b'{"id":7,"status":"items","ret":[2]}\n'
        assert lines.readline() == b'{"id":7,"status":"ok","ret":"all"}\n'
        sock.sendall(
            b'{"id":8,"action":"call","name":"count","args":[3],"kwargs":{},"credit":[1,1000]}\n'
        )
        assert lines.readline() == b'{"id":8,"status":"items","ret":[0]}\n'
        sock.sendall(b'{"action":"cancel","request":8}\n')
        assert lines.readline() == b'{"id":8,"status":"ok","ret":null}\n'


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_that_is_cancelled_before_it_has_begun_has_its_end(serve, place, method):
    camera = Camera()
    thread = serve({"camera": camera}, **place)
    with socket.create_connection(("127.0.0.1", thread.port), LONG) as sock:
        lines = sock.makefile("rb")
        sock.sendall(b"ARTIQ pc_rpc\ncamera pyon_v2 request_ids streams\n")
        assert [lines.readline(), lines.readline()]
        for number in range(20):
            sock.sendall(
                b'{"id":%d,"action":"call","name":"%s","args":[50],"kwargs":{},"credit":[9,999]}\n'
                b'{"action":"cancel","request":%d}\n' % (number, method.encode(), number)
            )
            while b'"items"' in (line := lines.readline()):
                pass
            assert line.startswith(b'{"id":%d,"status":' % number)
        (session,) = thread.server._shared.sessions
        assert not session._schedule.busy
        lines.close()


def test_two_streams_cannot_have_one_id(serve):
    with (
        socket.create_connection(("127.0.0.1", serve({"camera": Camera()}).port), LONG) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(b"ARTIQ pc_rpc\ncamera pyon_v2 request_ids streams\n")
        assert [lines.readline(), lines.readline()]
        request = b'{"id":1,"action":"call","name":"count","args":[3],"kwargs":{},"credit":[1,9]}\n'
        sock.sendall(request)
        assert lines.readline() == b'{"id":1,"status":"items","ret":[0]}\n'
        sock.sendall(request)
        assert b"a stream with the id 1 is open already" in lines.readline()
        sock.sendall(b'{"action":"cancel","request":1}\n')
        assert lines.readline() == b'{"id":1,"status":"ok","ret":null}\n'


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("method", ["forks", "forks_awaited"])
@pytest.mark.parametrize("options", [{}, {"worker_threads": True}])
def test_the_child_of_a_generator_that_forks_ends(serve, connect, options, method):
    class Forking:
        def forks(self):
            yield os.fork()
            yield "parent"

        async def forks_awaited(self):
            yield os.fork()
            yield "parent"

    client = connect(serve({"camera": Forking()}, **options).port)
    child, last = getattr(client, method)()
    assert last == "parent"
    assert os.waitpid(child, 0) == (child, 1 << 8)


@pytest.mark.parametrize("method", METHODS)
def test_a_client_that_gives_no_more_credit_gets_the_end(serve, place, method):
    camera = Camera()
    with (
        socket.create_connection(
            ("127.0.0.1", serve({"camera": camera}, **place).port), LONG
        ) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(
            b"ARTIQ pc_rpc\ncamera pyon_v2 request_ids streams\n"
            b'{"id":1,"action":"call","name":"%s","args":[50],"kwargs":{},"credit":[9,999]}\n'
            % method.encode()
        )
        sock.shutdown(socket.SHUT_WR)
        *_, last = lines.readlines()
        assert last == b'{"id":1,"status":"ok","ret":null}\n'
    assert was_closed(camera)


def test_a_server_that_sends_more_than_it_may_loses_its_client(scripted_peer):
    def script(sock, lines):
        lines.readline()
        sock.sendall(
            b'{"targets":["main"],"description":null,'
            b'"features":["pyon_v2","request_ids","streams"]}\n'
        )
        lines.readline()
        sock.sendall(b'{"methods":["count","echo"],"streams":["count"]}\n')
        lines.readline()
        sock.sendall(b'{"id":1,"status":"items","ret":[0]}\n' * (MOST_ITEMS + 3))
        lines.readline()

    with Client("127.0.0.1", scripted_peer(script).port, timeout=LONG) as client:
        stream = client.count()
        next(stream)
        with pytest.raises(ConnectionLost, match="more of the stream of count") as raised:
            client.echo()
        assert isinstance(raised.value, RpcError)


def test_a_target_that_is_a_client_streams_what_its_own_server_does(serve, connect):
    camera = Camera()
    behind = serve({"camera": camera}, worker_threads=True)
    gateway = serve({"far": connect(behind.port)}, worker_threads=True)
    client = connect(gateway.port)
    assert list(client.count(2500)) == list(range(2500))
    assert list(client.scan(10)) == list(range(10))
    for item in client.count(10**9):
        if item == 3:
            break
    assert was_closed(camera, 3)


def test_a_best_effort_client_ends_a_stream_when_the_server_is_lost(serve):
    camera = Camera()
    thread = serve({"camera": camera})
    with BestEffortClient("127.0.0.1", thread.port, "camera", retry=LONG) as client:
        assert list(client.count(5)) == list(range(5))
        with pytest.raises(LookupError):
            list(client.fail_at(2))
        with client.count(10**9) as stream:
            assert next(stream) == 0
            thread.stop()
            assert len(list(stream)) <= MOST_ITEMS
        assert not client.connected
        assert list(client.count(5)) == []


async def test_an_asyncio_client_says_that_a_stream_is_no_coroutine():
    async with Server({"camera": Camera()}) as server, AsyncioClient() as client:
        await server.start("127.0.0.1", 0)
        await client.connect_rpc("127.0.0.1", server.port)
        with pytest.raises(TypeError):
            await client.count(3)


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_rests_while_another_one_has_a_lease(serve, connect, place, method):
    camera = Camera()
    port = serve({"camera": camera}, **place).port
    first, second = connect(port), connect(port)
    stream = getattr(first, method)(10**9)
    assert next(stream) == 0
    with second.lease("alone"):
        made = camera.made
        first_items = [next(stream) for _ in range(made - 1)]  # which were made before
        assert [second.set_gain(turn) for turn in range(100)] == list(range(100))
        first.ping_rpc()
        assert camera.made == made
        mine = getattr(second, method)(100)
        assert list(mine) == list(range(100))
    assert first_items == list(range(1, made))
    assert [next(stream) for _ in range(2000)] == list(range(made, made + 2000))
    stream.close()
