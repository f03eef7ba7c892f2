"""Structures through faults: all replicas become equal, and miss no mod on the way.

Rounds of a few seconds. In each, a publisher changes a structure continuously; subscribers of every
kind follow it through proxies, some of them through a relay. Publisher, relay and subscribers are
killed, stopped and restarted, on the same port. Then the publisher rests, and all replicas must
become equal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyon

from faults.followers import OPTIONS, Established, Follower, Mirrored
from faults.processes import HOST, Child, held, memory, reserved_port
from faults.proxy import Network, Weather
from faults.report import Report
from faults.rounds import MEMORY_GROWTH, find_leaks

ROUND = 25.0
"""Seconds of a round, if the budget allows."""

SETTLING = 60.0
"""Seconds within which all replicas must be equal once the publisher rests."""

BACKLOGS = (100_000, 1_000_000, 32 * 2**20)
"""Bytes: a subscriber that lags by more gets the whole structure again."""

WEATHER = Weather(
    {
        "split": 6,
        "merge": 6,
        "delay": 6,
        "throttle": 3,
        "stall": 1,
        "half_close": 0.3,
        "reset": 0.5,
        "cut": 0.5,
    },
    gap=(1.0, 5.5),
)

Replica = Follower | Established | Mirrored


class Round:
    """One publisher, one relay, and their replicas."""

    def __init__(self, report: Report, network: Network, port: int, relay_port: int) -> None:
        self.report, self.network = report, network
        self.port, self.relay_port = port, relay_port
        self.rng = Random(f"structures/{report.seed}")
        self.backlog = self.rng.choice(BACKLOGS)
        self.life = 0
        self.mods = 0
        self.live: dict[Replica, tuple[asyncio.Task[None], int]] = {}

    # Processes.

    def start_publisher(self) -> Child:
        """Start a publisher with a new structure."""
        self.life += 1
        seed = self.report.seed * 1000 + self.life
        publisher = Child("faults.publisher", self.port, self.life, seed, self.backlog)
        publisher.wait_until_serving().ask("go")
        return publisher

    def start_relay(self, through: int) -> Child:
        """Start a relay of the publisher at a port."""
        where = ("--bind", HOST, "--port", self.relay_port)
        command = Path(sys.executable).parent / "sync-struct"
        return Child(command, "relay", HOST, through, "d", *where).wait_until_serving()

    def end(self, process: Child, name: str) -> None:
        """Kill or stop a process, and check its log."""
        kill = self.rng.random() < 0.5
        if name == "publisher":
            process.ask("rest")
            self.mods += int(process.ask("mods"))
        if kill:
            process.kill()
        else:
            process.terminate()
        self.report.count(f"{name}s {'killed' if kill else 'stopped'}")
        if (complaint := process.complaints()) is not None:
            self.report.find("crashes", f"in the log of a {name}: {complaint}")
        process.close()

    # Followers.

    def follow(self, make: Callable[[], Replica], target: int, number: int) -> None:
        """Start a replica of a publisher, with a proxy of its own."""
        proxy = self.network.proxy(target, self.report.seed * 1000 + number, WEATHER)
        replica = make()
        task = asyncio.ensure_future(replica.run(proxy.port))
        self.live[replica] = task, proxy.port

    def makers(self) -> Iterator[tuple[Callable[[], Replica], int]]:
        """Yield the factories of all replicas, and the ports to connect to."""
        for name in OPTIONS:
            yield partial(Follower, name, self.report), self.port
        yield partial(Established, self.report), self.port
        yield partial(Mirrored, self.report), self.port
        yield partial(Follower, "everything", self.report, relayed=True), self.relay_port
        yield partial(Established, self.report), self.relay_port

    async def interrupt(self, replica: Replica) -> None:
        """Cancel a replica, and restart it."""
        task, port = self.live[replica]
        await _end(task)
        self.report.count("subscribers restarted")
        self.live[replica] = asyncio.ensure_future(replica.run(port)), port

    def check_alive(self) -> None:
        """Report replicas whose task has ended."""
        for replica, (task, _) in self.live.items():
            if task.done():
                self.report.find("crashes", f"{replica.name} has ended: {task!r:.500}")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _disturb(this: Round, publisher: Child, relay: Child, seconds: float, via: int) -> Any:
    """Kill, stop and restart at random. Return the last publisher and relay."""
    end, rng = time.monotonic() + seconds, this.rng
    while time.monotonic() < end and not this.report.failed:
        await asyncio.sleep(rng.uniform(0.02, min(1.0, seconds / 8)))
        this.check_alive()
        what = rng.random()
        if what < 0.08:
            await asyncio.to_thread(this.end, publisher, "publisher")
            publisher = await asyncio.to_thread(this.start_publisher)
        elif what < 0.2:
            await asyncio.to_thread(publisher.ask, "restart")
            this.report.count("publishers restarted with their notifier")
        elif what < 0.25:
            await asyncio.to_thread(this.end, relay, "relay")
            relay = await asyncio.to_thread(this.start_relay, via)
        elif what < 0.6:
            await this.interrupt(rng.choice(list(this.live)))
    return publisher, relay


async def _until_equal(this: Round, structure: Any) -> None:
    """Wait until all replicas equal the structure of the publisher."""
    deadline = time.monotonic() + SETTLING
    for replica in this.live:
        while (difference := replica.difference(structure)) is not None:
            if time.monotonic() > deadline:
                this.report.find("lost", f"in the end, {replica.name} {difference}")
                break
            await asyncio.sleep(0.02)
        this.report.count("replicas compared in the end")


async def _run_round(this: Round, seconds: float) -> None:
    publisher = await asyncio.to_thread(this.start_publisher)
    before = json.loads(await asyncio.to_thread(publisher.ask, "held"))
    via = this.network.proxy(this.port, this.report.seed, WEATHER).port
    relay = await asyncio.to_thread(this.start_relay, via)
    for number, (make, target) in enumerate(this.makers()):
        this.follow(make, target, number)
    publisher, relay = await _disturb(this, publisher, relay, seconds, via)
    this.network.calm()
    structure = pyon.decode(await asyncio.to_thread(publisher.ask, "rest"))
    await _until_equal(this, structure)
    for task, _ in this.live.values():
        await _end(task)
    await asyncio.to_thread(this.end, relay, "relay")
    await _check_publisher(this, publisher, before)
    await asyncio.to_thread(this.end, publisher, "publisher")


async def _check_publisher(this: Round, publisher: Child, before: dict[str, int]) -> None:
    """Report resources that the publisher has not released after its subscribers have gone."""
    deadline = time.monotonic() + 20
    while True:
        after = json.loads(await asyncio.to_thread(publisher.ask, "held"))
        grown = {key: (before[key], after[key]) for key in before if after[key] > before[key]}
        grown.pop("memory", None)
        if not grown or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    this.report.peak("memory of a publisher, MiB", after["memory"] / 2**20)
    if grown:
        this.report.find("leaks", f"at the publisher: {grown}")
    if after["memory"] - before["memory"] > MEMORY_GROWTH + this.backlog:
        this.report.find("memory", f"publisher: {before['memory']} before, {after['memory']} now")


def run(budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts; the seed increases by one each round."""
    sys.setswitchinterval(0.001)
    end = time.monotonic() + budget
    length = min(ROUND, budget / 2)
    with reserved_port() as port, reserved_port() as relay_port:
        for report.seed in range(seed, seed + 10**9):
            before = held()
            with Network() as network:
                this = Round(report, network, port, relay_port)
                asyncio.run(_run_round(this, length))
                for kind, number in network.injected.items():
                    report.count(f"faults: {kind}", number)
                for error in network.errors:
                    report.find("wrong", f"the proxy itself: {error!r}")
            find_leaks(before, report)
            report.count("mods made", this.mods)
            report.count("rounds")
            report.peak("memory of the subscribers, MiB", memory() / 2**20)
            if report.failed or time.monotonic() + length / 2 > end:
                break
