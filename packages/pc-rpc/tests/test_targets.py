"""The life of a target: where it is made, called and closed, and errors that clients get."""

from __future__ import annotations

import asyncio
import functools
import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pc_rpc import AsyncioClient, BestEffortClient, Client, ConnectionLost, Server, immediate

pytestmark = pytest.mark.usefixtures("either_road")


class Driver:
    def echo(self, x):
        return x


class Database:
    """Can only be used by the thread that made it."""

    def __init__(self):
        self._connection = sqlite3.connect(":memory:")

    def select(self):
        return self._connection.execute("select 5").fetchone()[0]

    def close(self):
        self._connection.close()
        closed.set()


closed = threading.Event()


@pytest.mark.parametrize("worker_threads", [False, True])
def test_a_target_is_made_called_and_closed_on_one_thread(serve, connect, caplog, worker_threads):
    closed.clear()
    thread = serve({"main": Database}, worker_threads=worker_threads)
    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(connect, thread.port).result() for _ in range(2)]
    for client in clients:
        assert client.select() == 5
        client.close_rpc()
    assert closed.wait(30)
    thread.stop()
    assert caplog.records == []


def test_while_a_target_is_made_in_its_thread_nobody_else_waits(serve, connect):
    making, made = threading.Event(), threading.Event()

    class Slow(Driver):
        def __init__(self):
            making.set()
            assert made.wait(30)

    thread = serve({"slow": Slow, "main": Driver()}, worker_threads=True)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(connect, thread.port, "slow")
        assert making.wait(30)
        other = connect(thread.port, "main")
        assert other.echo(5) == 5
        assert not waiting.done()
        made.set()
        assert waiting.result(30).echo(6) == 6


def test_a_target_whose_client_left_while_it_was_made_is_closed_on_its_thread(serve):
    making, may_end, threads = threading.Event(), threading.Event(), []

    class Slow:
        def __init__(self):
            threads.append(threading.current_thread())
            making.set()
            assert may_end.wait(30)

        def close(self):
            threads.append(threading.current_thread())
            closed.set()

    closed = threading.Event()
    thread = serve({"main": Slow}, worker_threads=True)
    with socket.create_connection(("127.0.0.1", thread.port), 30) as sock:
        sock.sendall(b"ARTIQ pc_rpc\nmain\n")
        assert making.wait(30)
    thread.do(lambda: None)
    may_end.set()
    assert closed.wait(30)
    assert threads[0] is threads[1]
    assert threads[0].name == "target main"


@pytest.mark.parametrize("where", ["made", "called"])
async def test_a_target_that_is_busy_for_longer_than_the_stop_waits_is_closed_all_the_same(where):
    busy, may_end = threading.Event(), threading.Event()
    closed = asyncio.Event()
    loop, threads = asyncio.get_running_loop(), []

    class Slow:
        def __init__(self):
            if where == "made":
                self.wait()

        def wait(self):
            threads.append(threading.current_thread())
            busy.set()
            assert may_end.wait(30)

        def close(self):
            threads.append(threading.current_thread())
            loop.call_soon_threadsafe(closed.set)

    async with AsyncioClient() as client:
        server = Server({"main": Slow}, worker_threads=True)
        await server.start("127.0.0.1", 0)

        async def use():
            await client.connect_rpc("127.0.0.1", server.port)
            await client.wait()

        using = asyncio.ensure_future(use())
        assert await asyncio.to_thread(busy.wait, 30)
        await server.stop()
        may_end.set()
        with pytest.raises(ConnectionLost):
            await using
        await asyncio.wait_for(closed.wait(), 30)
    assert threads[0] is threads[1]


@pytest.mark.parametrize("worker_threads", [False, True])
def test_the_client_gets_the_error_of_a_target_that_cannot_be_made(
    serve, either_client, caplog, worker_threads
):
    def broken():
        raise FileNotFoundError(2, "No such device", "/dev/ttyUSB0")

    thread = serve({"broken": broken, "main": Driver()}, worker_threads=worker_threads)
    with pytest.raises(FileNotFoundError, match="/dev/ttyUSB0") as caught:
        either_client(thread.port, "broken")
    assert "in broken" in "".join(caught.value.parent_traceback)
    said, frames = caught.value.__notes__
    assert "cannot make 'broken'" in said
    assert "in broken" in frames  # last, where the command looks for them
    assert either_client(thread.port, "main").echo(5) == 5
    (record,) = caplog.records
    assert "target 'broken' cannot be made" in record.getMessage()
    assert record.exc_info[0] is FileNotFoundError


@pytest.mark.parametrize("words", [b"", b" pyon_v2"])
def test_to_an_older_client_the_connection_is_closed(serve, words):
    def broken():
        raise RuntimeError("no instrument")

    with socket.create_connection(("127.0.0.1", serve({"main": broken}).port), 30) as sock:
        sock.sendall(b"ARTIQ pc_rpc\nmain" + words + b"\n")
        _greeting, *rest = sock.makefile("rb").read().splitlines()
    assert rest == []


def test_an_error_that_is_too_long_for_the_handshake_is_shortened(serve, connect):
    def broken():
        raise RuntimeError("x" * 2_000_000)

    with pytest.raises(Exception, match=r"RuntimeError: x{1000}"):
        connect(serve({"main": broken}).port)


# Clients as targets: gateways.


class Channel(str):
    """A subclass of str."""

    __slots__ = ()

    def __str__(self):
        raise AssertionError("shown")

    __repr__ = __str__


class Laser:
    """A laser."""

    def set_power(self, power, *, ramp=5):
        """Set the power."""
        return power

    set_power.__annotations__ = {"power": Channel("mW"), "ramp": Channel}

    def close_rpc(self):
        return "the laser's own"

    def get_rpc_method_list(self):
        return "likewise"

    def _private(self): ...


LASER_METHODS = {"set_power", "close_rpc", "get_rpc_method_list"}


@pytest.fixture(params=["Client", "methods", "with_rpc_timeout", "BestEffortClient", "factory"])
def gateway(request, serve, connect):
    """A server of the remote methods of another one."""
    port = serve({"laser": Laser()}).port
    if request.param == "BestEffortClient":
        target = BestEffortClient("127.0.0.1", port, "laser", firstcon_timeout=30)
        request.addfinalizer(target.close_rpc)  # noqa: PT021
    elif request.param == "factory":
        target = lambda: Client("127.0.0.1", port, "laser", timeout=30)  # noqa: E731
    else:
        client = connect(port, "laser")
        target = {
            "Client": client,
            "methods": client.__rpc__,
            "with_rpc_timeout": client.with_rpc_timeout(30),
        }[request.param]
    return serve({"gateway": target}, worker_threads=True)


def test_a_client_as_a_target_offers_its_remote_methods_only(gateway, connect):
    client = connect(gateway.port)
    assert set(dir(client.__rpc__)) == LASER_METHODS
    assert client.set_power(0.5) == 0.5
    assert client.__rpc__.close_rpc() == "the laser's own"
    assert client.set_power(0.6) == 0.6


def test_the_method_list_of_a_gateway_is_that_of_the_target_behind_it(gateway, connect):
    listed = connect(gateway.port).get_rpc_method_list()
    assert listed["docstring"] == "A laser."
    assert set(listed["methods"]) == LASER_METHODS
    spec, doc = listed["methods"]["set_power"]
    assert doc == "Set the power."
    assert spec["annotations"] == {"power": "mW", "ramp": "Channel"}
    assert spec["kwonlydefaults"] == {"ramp": 5}


async def test_an_asyncio_client_can_be_a_target(serve, asyncio_client):
    port = serve({"laser": Laser()}).port
    async with asyncio_client(port) as laser, Server({"gateway": laser}) as server:
        await server.start("127.0.0.1", 0)
        async with asyncio_client(server.port) as client:
            assert set(dir(client.__rpc__)) == LASER_METHODS
            assert await client.set_power(0.5) == 0.5
            assert set((await client.get_rpc_method_list())["methods"]) == LASER_METHODS
        assert await laser.set_power(0.6) == 0.6


def test_what_the_remote_target_does_not_have_cannot_be_exposed(serve, connect):
    client = connect(serve({"laser": Laser()}).port)
    assert dir(connect(serve({"g": client}, expose={"g": ["set_power"]}).port).__rpc__) == [
        "set_power"
    ]
    for option in ("expose", "hide"):
        with pytest.raises(ValueError, match="no method 'sett_power'"):
            Server({"gateway": client}, **{option: {"gateway": ["sett_power"]}})


def test_a_client_that_a_factory_made_is_closed_with_its_connection(serve, connect):
    clients = []
    port = serve({"laser": Laser()}).port

    def factory():
        clients.append(connect(port))
        return clients[-1]

    gateway = serve({"gateway": factory})
    connect(gateway.port).close_rpc()
    gateway.stop()
    with pytest.raises(ConnectionLost):
        clients[0].set_power(1)


async def test_a_gateway_whose_server_is_off_offers_what_is_exposed(free_port):
    inner = BestEffortClient("127.0.0.1", free_port, "laser", firstcon_timeout=0.01)
    try:
        async with Server({"g": inner}, expose={"g": ["set_power"]}) as server:
            await server.start("127.0.0.1", 0)
            async with AsyncioClient() as client:
                await client.connect_rpc("127.0.0.1", server.port)
                assert dir(client.__rpc__) == ["set_power"]
                assert await client.set_power(1) is None
    finally:
        inner.close_rpc()


# Immediate methods that must wait.


class Blocking:
    def move(self): ...

    @immediate
    def abort(self): ...


class Coroutine:
    async def move(self): ...

    @immediate
    def abort(self): ...


@pytest.mark.parametrize("given", [Blocking(), Blocking], ids=["object", "class"])
def test_an_immediate_method_that_has_to_wait_for_a_blocking_one_is_warned_of(given, caplog):
    Server({"stage": given})
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("target 'stage': abort cannot be called while move runs")
    assert "worker_threads" in record.getMessage()


@pytest.mark.parametrize(
    ("given", "options"),
    [(Blocking(), {"worker_threads": True}), (Coroutine(), {}), (Driver(), {})],
)
def test_an_immediate_method_that_can_be_called_at_once_is_not_warned_of(given, options, caplog):
    Server({"stage": given}, **options)
    assert caplog.records == []


async def test_the_target_of_a_function_is_warned_of_once(caplog, asyncio_client):
    async with Server({"stage": lambda: Blocking()}) as server:
        await server.start("127.0.0.1", 0)
        for _ in range(2):
            async with asyncio_client(server.port) as client:
                await client.abort()
    assert caplog.text.count("abort cannot be called while move runs") == 1


async def test_a_best_effort_client_tries_again_where_a_target_cannot_be_made_yet():
    attempts = []

    def factory():
        attempts.append(1)
        if len(attempts) < 3:
            raise KeyError("no instrument yet")
        return Driver()

    async with Server({"main": factory}) as server:
        await server.start("127.0.0.1", 0)
        make = functools.partial(
            BestEffortClient, "127.0.0.1", server.port, "main", firstcon_timeout=30, retry=0.01
        )
        client = await asyncio.to_thread(make)
        while await asyncio.to_thread(client.echo, 5) is None:
            pass
        await asyncio.to_thread(client.close_rpc)
    assert len(attempts) == 3


@pytest.mark.parametrize("worker_threads", [False, True])
def test_an_attribute_close_that_is_no_method_is_not_read(serve, connect, caplog, worker_threads):
    touched = []

    class Register:
        def __get__(self, instance, owner):
            touched.append("close")
            raise OSError("no instrument")

    class WithRegister(Driver):
        close = Register()

    class WithValue(Driver):
        close = 5

    thread = serve({"main": WithRegister, "other": WithValue}, worker_threads=worker_threads)
    for name in ("main", "other"):
        client = connect(thread.port, name)
        assert client.echo(5) == 5
        client.close_rpc()
    thread.stop()
    assert (touched, caplog.records) == ([], [])


def test_the_built_in_terminate_goes_before_that_of_the_driver(serve, connect):
    class Terminating(Driver):
        def terminate(self):
            raise AssertionError("the driver's was called")

    thread = serve({"main": Terminating()}, builtin_terminate=True)
    client = connect(thread.port)
    assert client.get_rpc_method_list()["methods"]["terminate"][1] == "Terminate the server."
    assert client.terminate() is None
    thread.join()
