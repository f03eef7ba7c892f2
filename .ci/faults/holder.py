"""Clients of the page of leases: threads and tasks that take leases, until they are killed.

``python -m faults.holder PORT FIRST SEED``

FIRST is the number of the first block; further ones follow. Findings are logged to standard error,
as unexpected errors are.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
import threading
import time
from collections.abc import Iterator
from random import Random
from typing import Any

from pc_rpc import AsyncioClient, Client, ConnectionLost, LeaseLost, TargetLeased

from faults.processes import HOST, LONG

_logger = logging.getLogger(__name__)

TTL = 0.6
"""Seconds that a lease lasts: a sixteenth of the default, so that minutes test hours."""

LONGER = TTL + 2
"""Seconds after which a lease that is not renewed has ended, on a running server."""

USUAL = (ConnectionLost, TimeoutError, TargetLeased, LeaseLost, OSError)
"""Errors of calls while servers are killed, leases broken, and others hold the target."""

THREADS, TASKS = 3, 3
numbers: Iterator[int]


def _claim(rng: Random) -> dict[str, Any]:
    return {"ttl": TTL, "wait": rng.choice([0, 0.3, 2]), "renew": rng.random() < 0.7}


def _judge(block: int, result: Any) -> None:
    if result != block:
        _logger.error("Unhandled: block %d got the result %r", block, result)


def _report_expired(block: int) -> None:
    _logger.error("Unhandled: block %d had its lease although it was not renewed", block)


def in_thread(port: int, rng: Random) -> None:
    """Take leases, one after the other, with one blocking client after the other."""
    while True:
        with (
            contextlib.suppress(*USUAL),
            Client(HOST, port, "instrument", LONG, wait_for_leases=True) as client,
        ):
            for _ in range(rng.randrange(1, 20)):
                with contextlib.suppress(TargetLeased, LeaseLost):
                    _hold(client, rng)
                _judge(block := -next(numbers), client.work(block))
        time.sleep(rng.uniform(0, 0.05))


def _hold(client: Client[Any], rng: Random) -> None:
    block, claim = next(numbers), _claim(rng)
    with client.lease(f"block {block}", **claim):
        for _ in range(rng.randrange(1, 8)):
            _judge(block, client.work(block))
            time.sleep(rng.choice([0, 0, TTL / 10]))
        if rng.random() < 0.2:
            with client.lease("within", **claim):
                _judge(block, client.move(block, rng.uniform(0, TTL * 2)))
        if not claim["renew"] and rng.random() < 0.6:
            time.sleep(LONGER)
            client.work(block)
            _report_expired(block)


async def in_task(port: int, rng: Random) -> None:
    """Take leases, one after the other, with one asyncio client after the other."""
    while True:
        with contextlib.suppress(*USUAL):
            async with AsyncioClient() as client:
                await client.connect_rpc(HOST, port, "instrument", timeout=LONG)
                for _ in range(rng.randrange(1, 20)):
                    with contextlib.suppress(TargetLeased, LeaseLost):
                        await _hold_in_task(client, rng)
                    with contextlib.suppress(TargetLeased):
                        block, seconds = -next(numbers), rng.uniform(0, TTL / 5)
                        _judge(block, await client.move(block, seconds))
        await asyncio.sleep(rng.uniform(0, 0.05))


async def _hold_in_task(client: AsyncioClient[Any], rng: Random) -> None:
    block, claim = next(numbers), _claim(rng)
    async with client.lease(f"block {block}", **claim):
        calls = [client.move(block, rng.uniform(0, TTL / 5)) for _ in range(rng.randrange(1, 5))]
        for result in await asyncio.gather(*calls):
            _judge(block, result)
        await asyncio.sleep(rng.choice([0, 0, TTL / 10, TTL]))
        await client.abort()
        if rng.random() < 0.1:
            await client.close_rpc()


async def main() -> None:
    """Run until killed."""
    global numbers
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    port, first, seed = map(int, sys.argv[1:])
    numbers = itertools.count(first)
    for number in range(THREADS):
        rng = Random(f"{seed}/thread {number}")
        threading.Thread(target=in_thread, args=(port, rng), daemon=True).start()
    await asyncio.gather(*(in_task(port, Random(f"{seed}/task {n}")) for n in range(TASKS)))


if __name__ == "__main__":
    asyncio.run(main())
