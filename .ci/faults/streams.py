"""Streams through faults: in order, none twice, none lost before the end, every generator closed.

Rounds of a few seconds. In each, tasks and threads share clients whose connections go through
proxies; they read streams to their end or leave them in every way there is, while the server is
killed, stopped and started again. In the end the server is asked what it still holds.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from pc_rpc import AsyncioClient, Client, ConnectionLost

from faults.calls import CASES, GRACE, Certificates, end_server, settle, what_it_holds
from faults.processes import HOST, LONG, Child, held, reserved_port
from faults.proxy import ROUGH, ROUGH_TLS, Network, Proxy
from faults.report import Report

ROUND = 10.0
"""Seconds of a round, if there are that many."""

TASKS, THREADS = 6, 3
STREAMS_PER_SERVER = (150, 600)
MEMORY_GROWTH = 100 * 2**20
OWN = [case for case in CASES if case[1] == "ours"]
"""Modes of the server, with TLS and without it: established clients know no streams."""

METHODS = {"count": 4000, "scan": 800, "frames": 200, "pauses": 300}
"""Items that a stream has at most."""


class Reading:
    """One stream that somebody reads, and what it must give.

    Parameters
    ----------
    key : int
        Tells it from all others.
    rng : Random
        Chooses what is read, and how it is left.
    """

    def __init__(self, key: int, rng: Random) -> None:
        self.key = key
        self.method = rng.choice(list(METHODS))
        self.length = rng.randrange(METHODS[self.method])
        self.error = rng.random() < 0.2
        self.leave_at = rng.randrange(self.length + 1) if rng.random() < 0.5 else None
        self.how = rng.choice(["forget", "close", "cancel"])
        self.timeout = rng.choice([None, 20.0, 20.0, rng.uniform(0.005, 0.2)])
        self.got = 0
        self.deadline = 0.0
        self.extend()

    def extend(self) -> None:
        """Note that the next item is asked for."""
        self.deadline = time.monotonic() + (LONG if self.timeout is None else self.timeout) + GRACE

    @property
    def arguments(self) -> tuple[int, int, bool]:
        """What the method is called with."""
        return self.key, self.length, self.error

    def take(self, item: Any) -> str | None:
        """Take an item; return what is wrong with it."""
        if self.method == "frames":
            right = len(item) == 5_000 and bool((item == self.key + self.got).all())
        else:
            right = item == (self.key, self.got)
        self.got += 1
        self.extend()
        return None if right else f"item {self.got - 1} of {self!r} is {item!r:.200}"

    @property
    def to_be_left(self) -> bool:
        """Whether it is not read any further."""
        return self.got == self.leave_at

    def judge(self, error: BaseException | None) -> str | None:
        """Return what is wrong with the end: None as `error` is that nothing was raised."""
        if error is None or hasattr(error, "parent_traceback"):
            told = isinstance(error, LookupError) and error.args == (f"end of {self.key}",)
            right = told if self.error else error is None
            if right and self.got == self.length:
                return None
            return f"{self!r} ended with {error!r} behind {self.got} items"
        if isinstance(error, (ConnectionLost, TimeoutError, asyncio.CancelledError)):
            return None
        return f"{self!r} raised {error!r}"

    def __repr__(self) -> str:
        left = f", left at {self.leave_at} by {self.how}" if self.leave_at is not None else ""
        return f"{self.method}{self.arguments}{left}"


class Round:
    """One server, and its clients."""

    def __init__(self, report: Report, certificates: Certificates) -> None:
        self.report = report
        self.mode, _, tls = OWN[report.seed % len(OWN)]
        self.files = certificates.of_server if tls else []
        self.context = certificates.context if tls else None
        self.rng = Random(f"streams/{report.seed}")
        self.going = True
        self.made = 0
        self.open: dict[int, Reading] = {}

    def describe(self) -> str:
        """Return which case this is, for people."""
        return f"{self.mode}{', TLS' if self.context else ''}"

    def wrong(self, text: str | None) -> None:
        """Note what is wrong, if anything is."""
        if text is not None:
            self.report.find("wrong", f"{text} ({self.describe()})")

    def begin(self, rng: Random) -> Reading:
        """Return a stream to read, which is watched until it has ended."""
        self.made += 1
        key = self.made * 10_000
        reading = self.open[key] = Reading(key, rng)
        return reading

    def end(self, reading: Reading, error: BaseException | None, *, left: bool) -> None:
        """Note how a stream has ended."""
        del self.open[reading.key]
        self.report.count("items", reading.got)
        if left:
            self.report.count(f"streams left by {reading.how}")
        else:
            self.wrong(reading.judge(error))
            what = "to their end" if error is None else f"to {type(error).__name__}"
            self.report.count(f"streams read {what}")

    # Tasks.

    async def task_crew(self, proxy: Proxy, name: str) -> None:
        """Have tasks share a client, one client after the other."""
        rng = Random(f"{self.report.seed}/{name}")
        while self.going:
            client = AsyncioClient()
            try:
                await client.connect_rpc(HOST, proxy.port, "driver", timeout=20, ssl=self.context)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            rngs = [Random(rng.random()) for _ in range(TASKS)]
            await asyncio.gather(*(self._task(client, one) for one in rngs))
            await client.close_rpc()

    async def _task(self, client: AsyncioClient[Any], rng: Random) -> None:
        for _ in range(rng.randrange(1, 60)):
            if not self.going:
                return
            reading, error, left = self.begin(rng), None, False
            try:
                left = await self._read(client, reading)
            except (Exception, asyncio.CancelledError) as e:
                error = e
            self.end(reading, error, left=left)
            if isinstance(error, ConnectionLost):
                return

    async def _read(self, client: AsyncioClient[Any], reading: Reading) -> bool:
        if reading.how == "cancel" and reading.leave_at is not None:
            task = asyncio.ensure_future(self._read_on(client, reading))
            await asyncio.sleep(reading.leave_at / 5000)
            task.cancel()
            return await task
        return await self._read_on(client, reading)

    async def _read_on(self, client: AsyncioClient[Any], reading: Reading) -> bool:
        """Read a stream; return whether it was left."""
        method = getattr(client.with_rpc_timeout(reading.timeout), reading.method)
        stream = method(*reading.arguments)
        async for item in stream:
            self.wrong(reading.take(item))
            if reading.got % 500 == 0 and await client.echo(reading.got) != reading.got:
                self.wrong("another one's reply")
            if reading.to_be_left:
                if reading.how == "close":
                    await stream.aclose()
                return True
        return False

    # Threads.

    def thread_crew(self, proxy: Proxy, name: str) -> None:
        """Have threads share a client, one client after the other."""
        rng = Random(f"{self.report.seed}/{name}")
        with ThreadPoolExecutor(THREADS, thread_name_prefix=name) as pool:
            while self.going:
                try:
                    client = Client(HOST, proxy.port, "driver", timeout=20, ssl=self.context)
                except OSError:
                    time.sleep(0.02)
                    continue
                with client:
                    rngs = [Random(rng.random()) for _ in range(THREADS)]
                    list(pool.map(partial(self._thread, client), rngs))

    def _thread(self, client: Client[Any], rng: Random) -> None:
        for _ in range(rng.randrange(1, 60)):
            if not self.going:
                return
            reading, error, left = self.begin(rng), None, False
            try:
                left = self._read_all(client, reading)
            except Exception as e:
                error = e
            self.end(reading, error, left=left)
            if isinstance(error, ConnectionLost):
                return

    def _read_all(self, client: Client[Any], reading: Reading) -> bool:
        """Read a stream; return whether it was left."""
        method = getattr(client.with_rpc_timeout(reading.timeout), reading.method)
        stream = method(*reading.arguments)
        for item in stream:
            self.wrong(reading.take(item))
            if reading.got % 500 == 0 and client.echo(reading.got) != reading.got:
                self.wrong("another one's reply")
            if reading.to_be_left:
                if reading.how == "close":
                    stream.close()
                return True
        return False


def _start(this: Round, port: int) -> Child:
    return Child("faults.streamer", port, this.mode, *this.files).wait_until_serving()


async def _check_server(this: Round, port: int, before: dict[str, int]) -> None:
    """Find what the server still holds although all clients have gone."""
    deadline = time.monotonic() + 20
    while True:
        after = await what_it_holds(port, this.context)
        growth = after.pop("memory") - before["memory"]
        grown = {key: (before[key], n) for key, n in after.items() if n > before[key]}
        for key in ("threads", "begun"):
            grown.pop(key, None)
        if not grown or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    this.report.count("generators of the last servers, all closed", after["begun"])
    if grown:
        this.report.find("leaks", f"at the server ({this.describe()}): {grown}")
    if growth > MEMORY_GROWTH:
        this.report.find("memory", f"the server has grown by {growth / 2**20:.0f} MiB")


async def _supervise(this: Round, server: Child, port: int, seconds: float) -> Child:
    """Kill and restart the server now and then; look for items that do not come."""
    end, next_end = time.monotonic() + seconds, this.rng.randint(*STREAMS_PER_SERVER)
    while time.monotonic() < end:
        await asyncio.sleep(0.05)
        now = time.monotonic()
        if hung := [one for one in list(this.open.values()) if one.deadline < now]:
            this.report.find("hung", f"{hung[0]!r} at {hung[0].got} ({this.describe()})")
            break
        if this.made > next_end:
            next_end = this.made + this.rng.randint(*STREAMS_PER_SERVER)
            kill = this.rng.random() < 0.5
            await asyncio.to_thread(end_server, this.report, server, this.describe(), kill=kill)
            server = await asyncio.to_thread(_start, this, port)
    return server


async def _run_round(this: Round, network: Network, port: int, seconds: float) -> None:
    """Run one round; whoever has not ended with it hangs."""
    weather = ROUGH_TLS if this.context else ROUGH
    server = await asyncio.to_thread(_start, this, port)
    before = await what_it_holds(port, this.context)
    seeds = iter(range(this.report.seed * 1000, this.report.seed * 1000 + 100))

    def proxy() -> Proxy:
        return network.proxy(port, next(seeds), weather)

    crews = [asyncio.ensure_future(this.task_crew(proxy(), f"tasks {n}")) for n in range(4)]
    for n in range(2):
        run = asyncio.to_thread(this.thread_crew, proxy(), f"threads {n}")
        crews.append(asyncio.ensure_future(run))
    server = await _supervise(this, server, port, seconds)
    this.going = False
    network.calm()
    _, late = await asyncio.wait(crews, timeout=LONG + GRACE)
    if late:
        hung = ", ".join(f"{one!r} at {one.got}" for one in list(this.open.values())[:3])
        this.report.find("hung", f"{len(late)} crews did not end: {hung} ({this.describe()})")
    for crew in crews:
        if crew.done() and (error := crew.exception()) is not None:
            this.report.find("wrong", f"a client raised {error!r} ({this.describe()})")
    await _check_server(this, port, before)
    await asyncio.to_thread(end_server, this.report, server, this.describe(), kill=False)


def _settle_threads(before: dict[str, int]) -> None:
    """Wait for the threads that see streams out: they end with their connections."""
    deadline = time.monotonic() + 20
    while threading.active_count() > before["threads"] and time.monotonic() < deadline:
        time.sleep(0.01)


def run(budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts; each has a seed of its own, one more."""
    sys.setswitchinterval(0.001)  # threads of clients and of the network take turns
    end = time.monotonic() + budget
    length = min(ROUND, budget / 2)
    with tempfile.TemporaryDirectory() as name, reserved_port() as port:
        certificates = Certificates(Path(name))
        for report.seed in range(seed, seed + 10**9):
            before = held()
            this = Round(report, certificates)
            with Network() as network:
                asyncio.run(_run_round(this, network, port, length))
                for kind, number in network.injected.items():
                    report.count(f"faults: {kind}", number)
            _settle_threads(before)
            settle(before, report)
            report.count("rounds")
            if report.failed or time.monotonic() + length / 2 > end:
                break
