"""Every call gets its own reply: time-outs, cancellations, threads, tasks."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pc_rpc import ConnectionLost

pytestmark = pytest.mark.usefixtures("either_road")

CALLS = int(os.environ.get("PC_RPC_CALLS", "100"))
"""Calls of each thread. A thousand take too long for a suite that runs often."""


class Driver:
    """Methods that return, that wait until released, and that count."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.started = threading.Event()
        self.cancelled = threading.Event()
        self.calls = 0

    def echo(self, x):
        return x

    def let_go(self):
        self.gate.set()

    async def hold(self, x):
        self.started.set()
        await self.gate.wait()
        return x

    async def hold_for_ever(self):
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def later(self, x, turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return x

    async def meet(self, number):
        """Return when that many calls run at once."""
        self.calls += 1
        if self.calls == number:
            self.gate.set()
        await self.gate.wait()
        return number


def old_server(greet, replies):
    """A script: answer the first requests late, all together, then each at once."""

    def script(sock, lines):
        greet(sock, lines)
        requests = []
        for late in replies:
            requests.append(lines.readline())
            if not late:
                for request in requests:
                    number = request.rpartition(b"[[")[2].partition(b"]]")[0]
                    sock.sendall(b'{"status":"ok","ret":%s}\n' % number)
                requests.clear()

    return script


def test_a_call_that_timed_out_leaves_the_next_its_own_reply(scripted_peer, either_client, greet):
    peer = scripted_peer(old_server(greet, [True, False, False]))
    client = either_client(peer.port)
    with pytest.raises(TimeoutError, match=r"call of echo\(\) from 127.0.0.1:.* within 0.05 s"):
        client.with_rpc_timeout(0.05).echo(1)
    assert client.echo(2) == 2
    assert client.echo(3) == 3


async def test_a_cancelled_call_leaves_the_next_its_own_reply(scripted_peer, asyncio_client, greet):
    peer = scripted_peer(old_server(greet, [True, True, False, False]))
    async with asyncio_client(peer.port) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.echo(1), 0.05)
        task = asyncio.ensure_future(client.echo(2))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await client.echo(3) == 3
        assert await client.echo(4) == 4


def test_calls_after_a_time_out_at_our_server_get_their_own_replies(serve, either_client):
    driver = Driver()
    client = either_client(serve({"main": driver}, allow_parallel=True).port)
    with pytest.raises(TimeoutError):
        client.with_rpc_timeout(0.05).hold_for_ever()
    assert driver.cancelled.wait(30)
    assert [client.echo(i) for i in range(3)] == [0, 1, 2]


def test_a_time_out_in_the_middle_of_sending_leaves_the_stream_whole(scripted_peer, connect, greet):
    released = threading.Event()
    sizes = []

    def script(sock, lines):
        greet(sock, lines)
        assert released.wait(30)  # reads nothing until the client has given up
        for _ in range(2):
            sizes.append(len(lines.readline()))
            sock.sendall(b'{"status":"ok","ret":%d}\n' % sizes[-1])

    client = connect(scripted_peer(script).port)
    with pytest.raises(TimeoutError):
        client.with_rpc_timeout(0.1).echo("x" * 30_000_000)
    released.set()
    assert client.echo("yy") < 200
    assert sizes[0] > 30_000_000


def test_a_peer_that_reads_nothing_before_its_replies_are_read(scripted_peer, connect, greet):
    large = b"x" * 10_000_000
    given_up = threading.Event()

    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        assert given_up.wait(30)
        sock.sendall(b'{"status":"ok","ret":"%s"}\n' % large)  # owed, and nobody waits for it
        lines.readline()
        sock.sendall(b'{"status":"ok","ret":2}\n')

    client = connect(scripted_peer(script).port)
    with pytest.raises(TimeoutError):
        client.with_rpc_timeout(0.05).other()
    given_up.set()
    assert client.echo("x" * 10_000_000) == 2


@pytest.mark.parametrize("old", [False, True])
def test_32_threads_on_one_client_each_get_their_own_replies(serve, connect, old):
    client = connect(serve({"main": Driver()}, allow_parallel=True).port, None)
    if old:
        client._target.side._offered = ["pyon_v2"]  # as with an established server
    client.select_rpc_target("main")

    def work(thread):
        chance = random.Random(thread)
        completed = 0
        for number in range(CALLS):
            question = (thread, number)
            turns = chance.randrange(5)
            if chance.random() < 0.1:
                try:
                    answer = client.with_rpc_timeout(0.0005).later(question, 20 * turns)
                except TimeoutError:
                    continue
            else:
                answer = client.later(question, turns)
            assert answer == question
            completed += 1
        return completed

    with ThreadPoolExecutor(32) as pool:
        completed = list(pool.map(work, range(32)))
    assert min(completed) >= 0.7 * CALLS


@pytest.mark.parametrize("old", [False, True])
async def test_1000_tasks_on_one_client_each_get_their_own_replies(serve, asyncio_client, old):
    thread = serve({"main": Driver()}, allow_parallel=True)
    chance = random.Random(1)
    async with asyncio_client(thread.port, None) as client:
        if old:
            client._target.connection.side._offered = ["pyon_v2"]
        await client.select_rpc_target("main")

        async def work(number, turns, give_up):
            in_time = client.with_rpc_timeout(0.001) if give_up == "time-out" else client
            call = asyncio.ensure_future(in_time.later(number, turns))
            if give_up == "cancel":
                for _ in range(chance.randrange(20)):
                    await asyncio.sleep(0)
                call.cancel()
            try:
                return number, await call
            except (asyncio.CancelledError, TimeoutError):
                return None

        def whether_to_give_up():
            return chance.choice(("cancel", "time-out")) if chance.random() < 0.1 else ""

        results = await asyncio.gather(
            *(work(i, chance.randrange(20), whether_to_give_up()) for i in range(1000))
        )
    completed = [pair for pair in results if pair is not None]
    assert len(completed) >= 800
    assert all(question == answer for question, answer in completed)


async def test_awaits_on_one_client_overlap_at_a_parallel_server(serve, asyncio_client):
    thread = serve({"main": Driver()}, allow_parallel=True)
    async with asyncio_client(thread.port) as client:
        assert await asyncio.gather(*(client.meet(50) for _ in range(50))) == [50] * 50


def test_calls_of_several_clients_are_executed_one_at_a_time(serve, connect):
    driver = Driver()
    thread = serve({"main": driver})
    first, second = connect(thread.port), connect(thread.port)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(first.hold, 1)
        assert driver.started.wait(30)
        waiting = pool.submit(second.echo, 2)
        second.ping_rpc()  # it is the method's turn that is waited for, not the connection's
        assert not waiting.done()
        thread.do(driver.gate.set)
        assert (held.result(30), waiting.result(30)) == (1, 2)


def test_closing_the_client_ends_the_calls_that_wait(serve, connect):
    driver = Driver()
    client = connect(serve({"main": driver}).port)
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(client.hold, i) for i in range(3)]
        assert driver.started.wait(30)
        client.close_rpc()
        for call in calls:
            with pytest.raises(ConnectionLost, match=r"closed by close_rpc\(\)"):
                call.result(30)
    client.close_rpc()
    with pytest.raises(ConnectionLost, match="was not sent") as caught:
        client.echo(1)
    assert not caught.value.sent
