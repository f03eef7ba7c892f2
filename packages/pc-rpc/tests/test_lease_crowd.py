"""Fifty clients that take leases, die and stall at random: never two holders."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random

import pytest
from pc_rpc import AsyncioClient, LeaseLost, Server, TargetLeased

CLIENTS, BLOCKS = 50, 3
TTL = 0.1
"""Seconds: a hundredth of the usual, so that an hour passes within a minute."""


class Instrument:
    """Records which client calls: after a call of another one, a lease must be over."""

    def __init__(self):
        self.block = 0
        self.over = set()
        self.wrong = []

    def work(self, block):
        if block != self.block:
            if block > 0 and block in self.over:
                self.wrong.append(f"{block} behind {self.block}")
            self.over.add(self.block)
            self.block = block
        return block

    async def move(self, block):
        self.work(block)
        for _ in range(3):
            await asyncio.sleep(0)
        if self.block > 0 and self.block != block:
            self.wrong.append(f"{self.block} in the middle of {block}")
        return block


class Crowd:
    """The clients, and their counts of events."""

    def __init__(self, port, instrument):
        self.port = port
        self.instrument = instrument
        self.numbers = itertools.count(1)
        self.served = asyncio.Condition()
        self.done = {"worked": 0, "stalled": 0, "died": 0, "kept out": 0, "given up": 0}

    async def client(self, seed):
        chance = random.Random(seed)
        kinds = [self.work, self.work, self.stall, self.die, self.give_up]
        plan = [chance.choice(kinds) for _ in range(BLOCKS)]
        while plan:
            async with AsyncioClient() as client:
                await client.connect_rpc(
                    "127.0.0.1", self.port, wait_for_leases=chance.random() < 0.5
                )
                while plan:
                    await self.single(client)
                    what = plan.pop()
                    await what(client, next(self.numbers))
                    if what == self.die:
                        break

    async def single(self, client):
        try:
            await client.move(-next(self.numbers))
        except TargetLeased:
            self.done["kept out"] += 1

    async def serve(self, client, block):
        assert await client.work(block) == block
        async with self.served:
            self.served.notify_all()

    async def work(self, client, block):
        with contextlib.suppress(LeaseLost):  # the machine was too busy to renew it
            async with client.lease(f"work {block}", ttl=10, wait=None):
                await asyncio.gather(*(client.move(block) for _ in range(3)))
                await self.serve(client, block)
                self.done["worked"] += 1

    async def stall(self, client, block):
        """Give no sign of life until another client was served."""
        async with client.lease(f"stall {block}", ttl=TTL, wait=None, renew=False):
            with contextlib.suppress(LeaseLost):
                await self.serve(client, block)
            async with self.served:
                await self.served.wait_for(lambda: self.instrument.block != block)
            with pytest.raises(LeaseLost):
                await client.work(block)
            self.done["stalled"] += 1

    async def die(self, client, block):
        async with client.lease(f"die {block}", ttl=10, wait=None):
            await self.serve(client, block)
            client.close_rpc()
            self.done["died"] += 1

    async def give_up(self, client, block):
        task = asyncio.ensure_future(client.lease(f"give up {block}", wait=None).__aenter__())
        await client.ping_rpc()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await task).__aexit__(None, None, None)
        self.done["given up"] += 1

    async def referee(self):
        """Take leases as long as a stalled client may wait for another one to be served."""
        async with AsyncioClient() as client:
            await client.connect_rpc("127.0.0.1", self.port)
            while True:
                await self.work(client, next(self.numbers))


@pytest.mark.parametrize(
    "options", [{}, {"allow_parallel": True}, {"worker_threads": True}], ids=str
)
async def test_fifty_clients_that_die_and_stall_at_random(options):
    instrument = Instrument()
    async with Server({"instrument": instrument}, **options) as server:
        await server.start("127.0.0.1", 0)
        crowd = Crowd(server.port, instrument)
        referee = asyncio.ensure_future(crowd.referee())
        async with asyncio.timeout(120):
            await asyncio.gather(*map(crowd.client, range(CLIENTS)))
        referee.cancel()
        with pytest.raises(asyncio.CancelledError):
            await referee
        assert instrument.wrong == []
        assert min(crowd.done.values()) > 5, crowd.done
        async with AsyncioClient() as client:  # the lease is over
            await client.connect_rpc("127.0.0.1", server.port)
            async with client.lease("the last one", wait=60):
                assert await client.work(0) == 0
