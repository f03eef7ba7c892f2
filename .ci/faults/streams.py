"""Streams through faults: items in order, none twice, none lost, and every generator closed.

Rounds of a few seconds. In each, tasks and threads share clients whose connections go through
proxies; they read streams to their end or leave them in every possible way, while the server is
killed, stopped and restarted. At the end the server must have released its resources.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from pc_rpc import AsyncioClient, Client, ConnectionLost

from faults.calls import CASES
from faults.processes import HOST, LONG, Child, held, reserved_port
from faults.proxy import Network, Proxy
from faults.report import Report
from faults.rounds import GRACE, Certificates, ServerRound, find_leaks

ROUND = 10.0
"""Seconds of a round, if the budget allows."""

TASKS, THREADS = 6, 3
OWN = [case for case in CASES if case[1] == "ours"]
"""Modes of the server, with and without TLS: established clients have no streams."""

METHODS = {"count": 4000, "scan": 800, "frames": 200, "pauses": 300}
"""Largest number of items of a stream."""


class Reading:
    """One stream that a client reads, and the items that it must yield.

    Parameters
    ----------
    key : int
        A unique number.
    rng : Random
        Chooses the stream, and how it is left.
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
        """Set the deadline of the next item."""
        self.deadline = time.monotonic() + (LONG if self.timeout is None else self.timeout) + GRACE

    @property
    def arguments(self) -> tuple[int, int, bool]:
        """The arguments of the method."""
        return self.key, self.length, self.error

    def take(self, item: Any) -> str | None:
        """Check an item; return what is wrong with it, or None."""
        if self.method == "frames":
            right = len(item) == 5_000 and bool((item == self.key + self.got).all())
        else:
            right = item == (self.key, self.got)
        self.got += 1
        self.extend()
        return None if right else f"item {self.got - 1} of {self!r} is {item!r:.200}"

    @property
    def to_be_left(self) -> bool:
        """Whether the client leaves the stream here."""
        return self.got == self.leave_at

    def judge(self, error: BaseException | None) -> str | None:
        """Return what is wrong with the end, or None; `error` is None if nothing was raised."""
        if error is None or hasattr(error, "parent_traceback"):
            expected = isinstance(error, LookupError) and error.args == (f"end of {self.key}",)
            right = expected if self.error else error is None
            if right and self.got == self.length:
                return None
            return f"{self!r} ended with {error!r} behind {self.got} items"
        if isinstance(error, (ConnectionLost, TimeoutError, asyncio.CancelledError)):
            return None
        return f"{self!r} raised {error!r}"

    def __repr__(self) -> str:
        left = f", left at {self.leave_at} by {self.how}" if self.leave_at is not None else ""
        return f"{self.method}{self.arguments}{left}"


class Round(ServerRound):
    """One server, and its clients."""

    uses_per_server = 150, 600
    may_grow = frozenset({"threads", "begun"})

    def __init__(self, report: Report, certificates: Certificates) -> None:
        mode, _, tls = OWN[report.seed % len(OWN)]
        rng = Random(f"streams/{report.seed}")
        super().__init__(report, rng, mode, certificates if tls else None)
        self.open: dict[int, Reading] = {}

    def start_server(self, port: int) -> Child:
        """Start a server on a port and wait until it serves."""
        return Child("faults.streamer", port, self.mode, *self.files).wait_until_serving()

    async def check_server(self, port: int, before: dict[str, int]) -> dict[str, int]:
        """Report resources that the server has not released; return its resources."""
        after = await super().check_server(port, before)
        self.report.count("generators of the last servers, all closed", after["begun"])
        return after

    def hung(self) -> list[str]:
        """Return the streams whose next item should have come, for people."""
        now = time.monotonic()
        return [f"{one!r} at {one.got}" for one in list(self.open.values()) if one.deadline < now]

    def pending(self) -> list[str]:
        """Return the open streams, for people."""
        return [f"{one!r} at {one.got}" for one in list(self.open.values())]

    def crews(self, proxy: Callable[[], Proxy]) -> Iterator[Awaitable[None]]:
        """Yield the crews, each with a proxy of its own."""
        for n in range(4):
            yield self.task_crew(proxy(), f"tasks {n}")
        for n in range(2):
            yield asyncio.to_thread(self.thread_crew, proxy(), f"threads {n}")

    # Single streams, by tasks and threads.

    def wrong(self, text: str | None) -> None:
        """Report what is wrong, if anything is."""
        if text is not None:
            self.report.find("wrong", f"{text} ({self.describe()})")

    def begin(self, rng: Random) -> Reading:
        """Return a stream to be read; it counts as open until `end`."""
        self.made += 1
        key = self.made * 10_000
        reading = self.open[key] = Reading(key, rng)
        return reading

    def end(self, reading: Reading, error: BaseException | None, *, left: bool) -> None:
        """Record how a stream has ended."""
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
        """Run tasks that share a client, one client after the other."""
        rng = Random(f"{self.report.seed}/{name}")
        while self.going:
            client = AsyncioClient()
            try:
                await client.connect_rpc(HOST, proxy.port, "driver", timeout=20, ssl=self.context)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            rngs = [Random(rng.random()) for _ in range(TASKS)]
            await asyncio.gather(*(self._read_streams(client, one) for one in rngs))
            await client.close_rpc()

    async def _read_streams(self, client: AsyncioClient[Any], rng: Random) -> None:
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
        """Run threads that share a client, one client after the other."""
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
                    list(pool.map(partial(self._read_blocking_streams, client), rngs))

    def _read_blocking_streams(self, client: Client[Any], rng: Random) -> None:
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


def _await_threads(before: dict[str, int]) -> None:
    """Wait for the threads that close streams: they end with their connections."""
    deadline = time.monotonic() + 20
    while threading.active_count() > before["threads"] and time.monotonic() < deadline:
        time.sleep(0.01)


def run(budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts; the seed increases by one each round."""
    sys.setswitchinterval(0.001)  # so that threads of clients and of the network alternate
    end = time.monotonic() + budget
    length = min(ROUND, budget / 2)
    with tempfile.TemporaryDirectory() as name, reserved_port() as port:
        certificates = Certificates(Path(name))
        for report.seed in range(seed, seed + 10**9):
            before = held()
            this = Round(report, certificates)
            with Network() as network:
                asyncio.run(this.run(network, port, length))
                for kind, number in network.injected.items():
                    report.count(f"faults: {kind}", number)
            _await_threads(before)
            find_leaks(before, report)
            report.count("rounds")
            if report.failed or time.monotonic() + length / 2 > end:
                break
