"""Both asyncio ends on uvloop: the guarantees are the same."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from pc_rpc import AsyncioClient, Client, ConnectionLost, Server
from pyon.asyncio_connection import HIGH_WATER

uvloop = pytest.importorskip("uvloop", reason="uvloop is not made for Windows")

pytestmark = pytest.mark.usefixtures("either_road")

LONG = 30.0


class Driver:
    def __init__(self):
        self.cancelled = threading.Event()

    def echo(self, x):
        return x

    def fail(self):
        raise ValueError("out of range")

    def count(self, n):
        yield from range(n)

    async def forever(self):
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.fixture
def runner():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


async def use(client, driver):
    """Use a client in every way; return if all results are right."""
    assert await asyncio.gather(*map(client.echo, range(200))) == list(range(200))
    for value in ("a\nb€", [1, {"a": (2, 3)}], "x" * 4 * HIGH_WATER):
        assert await client.echo(value) == value
    array = np.arange(2**20, dtype=np.float64)
    assert np.array_equal(await client.echo(array), array)
    with pytest.raises(ValueError, match="out of range"):
        await client.fail()
    task = asyncio.ensure_future(client.forever())
    await client.ping_rpc()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(driver.cancelled.wait, LONG)
    assert [item async for item in client.count(3000)] == list(range(3000))
    async with client.count(10**9) as items:
        assert await anext(items) == 0
    with pytest.raises(TimeoutError):
        await client.with_rpc_timeout(0.01).forever()
    assert await client.echo(5) == 5


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_both_ends_on_uvloop(runner, contexts, tls):
    async def run():
        driver = Driver()
        async with (
            Server({"main": driver}, allow_parallel=True) as server,
            AsyncioClient() as client,
        ):
            context = contexts("server", "client", server=True) if tls else None
            await server.start("127.0.0.1", 0, ssl=context)
            assert type(asyncio.get_running_loop()) is uvloop.Loop
            context = contexts() if tls else None
            await client.connect_rpc("127.0.0.1", server.port, ssl=context, timeout=LONG)
            await use(client, driver)
            call = asyncio.ensure_future(client.forever())
            await client.ping_rpc()
            await server.stop()
            with pytest.raises(ConnectionLost, match="the server stopped"):
                await call

    runner.run(run())


def test_a_blocking_client_and_a_server_on_uvloop(runner):
    def call(port):
        with Client("127.0.0.1", port, timeout=LONG) as client:
            assert [client.echo(n) for n in range(100)] == list(range(100))
            array = np.arange(2**18)
            assert np.array_equal(client.echo(array), array)

    async def run():
        async with Server({"main": Driver()}) as server:
            await server.start("127.0.0.1", 0)
            await asyncio.to_thread(call, server.port)

    runner.run(run())
