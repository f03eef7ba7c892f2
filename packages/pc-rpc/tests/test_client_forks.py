"""Forks of a process that has clients open: the child's are lost, the parent's go on."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sys
import threading
from functools import partial

import pytest
from pc_rpc import AsyncioClient, BestEffortClient, Client, ConnectionLost

LASTING = partial(Client, reconnect=True)

pytestmark = [
    pytest.mark.usefixtures("either_road"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


class Laser:
    def __init__(self):
        self.holding = threading.Event()
        self.free = asyncio.Event()

    def echo(self, x):
        return x

    async def hold(self):
        self.holding.set()
        await self.free.wait()
        return "held"

    async def let_go(self):
        self.free.set()


def in_child(function):
    """Do something in a forked child and return what it returned, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, str(function()).encode())
            status = 0
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading) as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, said
    return said


@pytest.fixture(params=["plain", "TLS"])
def options(request, contexts):
    """Options of server and client."""
    if request.param == "plain":
        return {}, {}
    return {"ssl": contexts("server", "client", server=True)}, {"ssl": contexts()}


@pytest.mark.parametrize("make", [Client, LASTING, BestEffortClient])
def test_in_the_child_a_client_is_lost_and_closing_it_leaves_the_parent_alone(serve, options, make):
    port = serve({"laser": Laser()}, **options[0]).port
    client = make("127.0.0.1", port, "laser", timeout=30, **options[1])
    assert client.echo(1) == 1

    def use():
        with pytest.raises(ConnectionLost) as caught:
            client.echo("child")
        assert not caught.value.sent
        client.close_rpc()
        client.__exit__(None, None, None)
        return caught.value

    said = in_child(use)
    assert f"made in another process, {os.getpid()}" in said
    assert [client.echo(n) for n in range(3)] == [0, 1, 2]
    client.close_rpc()


def test_in_the_child_a_best_effort_client_does_not_say_that_it_is_connected(serve):
    client = BestEffortClient("127.0.0.1", serve({"laser": Laser()}).port, "laser")
    assert in_child(lambda: (client.connected, repr(client))).startswith("(False, ")
    assert "not connected" in in_child(lambda: repr(client))

    def grandchild():
        with pytest.raises(ConnectionLost) as caught:
            client.echo(1)
        return caught.value

    assert f"made in another process, {os.getpid()}" in in_child(lambda: in_child(grandchild))
    assert client.connected
    client.close_rpc()


@pytest.mark.parametrize("make", [Client, LASTING, BestEffortClient])
def test_in_the_child_a_client_may_be_forgotten_and_a_new_one_made(serve, options, make):
    port = serve({"laser": Laser()}, **options[0]).port
    clients = [make("127.0.0.1", port, "laser", timeout=30, **options[1])]

    def use():
        clients.clear()
        gc.collect()
        with make("127.0.0.1", port, "laser", timeout=30, **options[1]) as client:
            return client.echo("child")

    assert in_child(use) == "child"
    assert clients[0].echo(1) == 1
    clients.pop().close_rpc()


def test_a_fork_while_other_threads_lead_and_wait(serve, connect):
    laser = Laser()
    client = connect(serve({"laser": laser}, allow_parallel=True).port)
    results = []
    threads = [threading.Thread(target=lambda: results.append(client.hold())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert laser.holding.wait(30)

    def use():
        with pytest.raises(ConnectionLost, match="made in another process"):
            client.echo(1)
        client.close_rpc()
        return "lost"

    assert in_child(use) == "lost"
    assert client.echo(5) == 5
    client.let_go()
    for thread in threads:
        thread.join(30)
    assert results == ["held"] * 3


def test_an_asyncio_client_is_lost_in_the_child(serve):
    port = serve({"laser": Laser()}).port

    async def parent():
        async with AsyncioClient() as client:
            await client.connect_rpc("127.0.0.1", port, timeout=30)

            def use():
                asyncio._set_running_loop(None)

                async def child():
                    with pytest.raises(ConnectionLost, match="made in another process") as caught:
                        await client.echo(1)
                    assert not caught.value.sent
                    client.close_rpc()
                    return "lost"

                return asyncio.new_event_loop().run_until_complete(child())

            assert in_child(use) == "lost"
            return [await client.echo(n) for n in range(3)]

    assert asyncio.run(parent()) == [0, 1, 2]


_shared = None


def use_shared(number):
    try:
        return _shared.echo(number)
    except ConnectionLost as error:
        return error.sent


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_workers_of_a_pool_cannot_steal_answers(serve, connect):
    global _shared
    _shared = connect(serve({"laser": Laser()}).port)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers = pool.map_async(use_shared, range(20))
        assert [_shared.echo(n) for n in range(100)] == list(range(100))
        assert answers.get(60) == [False] * 20
    assert _shared.echo(1) == 1
    _shared = None
