"""Methods that do not wait for their turn, and the client of a call."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pc_rpc import current_extra_info, current_peer, immediate

pytestmark = pytest.mark.usefixtures("either_road")


class Stage:
    """`move` ends when it is aborted; `grind` when the test releases it."""

    def __init__(self):
        self.moving = threading.Event()
        self.may_end = threading.Event()
        self.aborted = asyncio.Event()

    async def move(self):
        self.moving.set()
        await self.aborted.wait()
        return "aborted"

    def grind(self):
        self.moving.set()
        self.may_end.wait(30)
        return "done"

    @immediate
    def abort(self):
        self.aborted.set()

    @immediate
    async def where(self):
        await asyncio.sleep(0)
        return current_peer()

    def whose(self):
        return current_peer()

    @immediate
    async def wait_until_aborted(self):
        await self.aborted.wait()


@pytest.mark.parametrize("connections", [1, 2])
def test_a_call_that_runs_can_be_aborted(serve, connect, connections):
    stage = Stage()
    server = serve({"stage": stage})
    clients = [connect(server.port) for _ in range(connections)]
    with ThreadPoolExecutor() as pool:
        moving = pool.submit(clients[0].move)
        assert stage.moving.wait(30)
        clients[-1].abort()
        assert moving.result(30) == "aborted"


def test_an_immediate_call_that_waits_keeps_no_other_from_its_turn(serve, connect):
    client = connect(serve({"stage": Stage}).port)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.wait_until_aborted)
        for _ in range(10):
            assert client.whose() is not None
        assert not waiting.done()
        client.abort()
        waiting.result(30)


def test_with_worker_threads_an_immediate_method_runs_on_the_loop(serve, connect):
    stage = Stage()
    server = serve({"stage": stage}, worker_threads=True)
    client = connect(server.port)
    with ThreadPoolExecutor() as pool:
        grinding = pool.submit(client.grind)
        assert stage.moving.wait(30)
        assert client.where() is not None
        assert not grinding.done()
        stage.may_end.set()
        assert grinding.result(30) == "done"


def test_a_method_gets_the_address_of_its_caller(serve, connect):
    peers = []
    made_for = []

    class Target(Stage):
        def __init__(self):
            super().__init__()
            made_for.append(current_peer())

    server = serve({"stage": Target})
    for client in (connect(server.port), connect(server.port)):
        peers.append(client.whose())
        assert client.where() == peers[-1]
    assert peers == made_for
    assert len(set(peers)) == 2
    assert all(peer.startswith("127.0.0.1:") for peer in peers)


def test_a_method_gets_the_transport_information_of_its_caller(serve, connect):
    class Target:
        def ends(self):
            return current_extra_info("sockname"), current_extra_info("peercert")

    server = serve({"stage": Target()})
    assert connect(server.port).ends() == (("127.0.0.1", server.port), None)


def test_outside_of_a_call_there_is_no_peer():
    assert current_peer() is None
    with pytest.raises(LookupError):
        current_extra_info("peername")
