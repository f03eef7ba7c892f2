"""Structures over NATS: a publisher, bridges, and a NATS server, all of which are killed.

Rounds of some seconds. In each, a publisher changes a structure continuously; two bridges compete
to write it into a `nats-server`; another bridge publishes it from there; replicas follow by address
or at that bridge. All processes are killed, frozen for a while, and restarted; streams are purged,
buffers overflow, and the network injects faults, in some rounds a partition. Meanwhile the
structures of the replicas are compared with the publisher's journal. Then the publisher rests, and
all replicas must become equal. A replica that is live without being equal for long is a finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import warnings
from typing import Any

import pyon

from faults import overflow
from faults.bridge import INTERVAL, quiet_client
from faults.bridged import LYING, Round
from faults.processes import held, memory, reserved_port
from faults.proxy import Network
from faults.report import Report
from faults.rounds import find_leaks

ROUND = 5.0
"""Seconds of a round, without the wait at its end."""

SETTLING = 60.0
"""Seconds within which all replicas must be equal once the publisher rests."""

PARTITION, SHORT_PARTITION = 30.0, 2.0
"""Seconds of a partition, with a budget of at least `LONG`, and with a smaller one."""

LONG = 300.0
"""Seconds of budget."""

PARTED = 0.12
"""Fraction of the rounds that have a partition."""

LOOK = INTERVAL
"""Seconds between comparisons of the replicas."""


async def _disturb(this: Round, seconds: float) -> None:
    end, rng = time.monotonic() + seconds, this.rng
    names = list(this.children)
    while time.monotonic() < end and not this.report.failed:
        await asyncio.sleep(rng.uniform(0.05, seconds / 5))
        what = rng.random()
        if what < 0.3:
            await asyncio.to_thread(this.restart, rng.choice(names))
        elif what < 0.45:
            await asyncio.to_thread(this.restart_engine)
        elif what < 0.6:
            await asyncio.to_thread(this.freeze, rng.choice(["nats-server", *names]))
        elif what < 0.68:
            await asyncio.to_thread(this.begin_both)
        elif what < 0.78:
            await this.purge()
        elif what < 0.9:
            overflow.overflow(rng, 4 * INTERVAL, this.report)
        else:
            await this.interrupt()


async def _keep_comparing(this: Round) -> None:
    """Compare the replicas with the publisher's journal until this is cancelled."""
    while True:
        this.journal.look({replica: replica.place for replica in this.live})
        await asyncio.sleep(LOOK)


async def _until_equal(this: Round, structure: Any) -> None:
    """Wait until all replicas are equal; report those that stay live without being equal."""
    begin = time.monotonic()
    for replica, (task, _) in this.live.items():
        lying_since: float | None = None
        while (difference := replica.difference(structure)) is not None:
            now = time.monotonic()
            lies = replica.subscriber.state == "live"
            lying_since = (lying_since or now) if lies else None
            if lying_since is not None and now - lying_since > LYING:
                this.report.find("wrong", f"{replica.name} is live, but {difference}")
                break
            if now - begin > SETTLING or task.done():
                this.report.find("lost", f"in the end, {replica.name} {difference}; {task!r:.200}")
                break
            await asyncio.sleep(0.02)
        this.report.count("replicas compared in the end")
    this.report.peak("seconds until all were equal", time.monotonic() - begin)


async def _run_round(this: Round, seconds: float, partition: float) -> None:
    await asyncio.to_thread(this.start)
    this.follow()
    comparing = asyncio.ensure_future(_keep_comparing(this))
    try:
        parts = this.rng.random() < PARTED
        parting = asyncio.to_thread(this.part, partition) if parts else asyncio.sleep(0)
        await asyncio.gather(parting, _disturb(this, seconds))
        this.network.calm()
        structure = pyon.decode(await asyncio.to_thread(this.children["publisher"].ask, "rest"))
        await _until_equal(this, structure)
    finally:
        for task in [comparing, *(task for task, _ in this.live.values())]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def run(budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts; the seed increases by one each round."""
    # nats-py closes writers without waiting for that, when it reconnects.
    warnings.filterwarnings("ignore", "unclosed <StreamWriter", ResourceWarning)
    quiet_client()
    overflow.watch()
    end = time.monotonic() + budget
    length = min(ROUND, budget / 3)
    partition = PARTITION if budget >= LONG else SHORT_PARTITION
    with reserved_port() as port, reserved_port() as engine_port, reserved_port() as served_port:
        for report.seed in range(seed, seed + 10**9):
            before = held()
            with Network() as network:
                this = Round(report, network, [port, engine_port, served_port])
                try:
                    asyncio.run(_run_round(this, length, partition))
                finally:
                    this.close()
                for kind, number in network.injected.items():
                    report.count(f"faults: {kind}", number)
            find_leaks(before, report)
            report.count("rounds")
            report.peak("memory of the replicas, MiB", memory() / 2**20)
            if report.failed or time.monotonic() + length > end:
                break
