"""Calls through faults: the outcomes that callers get agree with the counts of the driver.

Rounds of a few seconds. In each, crews of tasks and of threads share clients whose connections go
through proxies, while the server is killed, stopped and restarted on the same port.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from pc_rpc import AsyncioClient, BestEffortClient, Client, ConnectionLost

from faults.controller import MODES
from faults.ledger import UNKNOWN, Ledger
from faults.processes import HOST, Child, held, memory, reserved_port
from faults.proxy import Network, Proxy
from faults.questions import Question, ask
from faults.report import Report
from faults.rounds import GRACE, MEMORY_GROWTH, Certificates, ServerRound, find_leaks

ROUND = 15.0
"""Seconds of a round, if the budget allows."""

UNBOUNDED = 60.0
"""Seconds that a call without a time-out may take: no fault lasts longer than a second."""

TASKS, THREADS = 24, 4
WARM = 3
"""Rounds after which the memory of a process must not grow further."""


def _v2(line: bytes) -> bytes:
    """Return the greeting that an established server would send."""
    return line[: line.index(b'"features"')] + b'"features":["pyon_v2"]}'


def _v1(line: bytes) -> bytes:
    """Return the greeting that an established server of the first generation would send."""
    return line[: line.index(b',"features"')] + b"}"


WIRES: dict[str, Callable[[bytes], bytes] | None] = {"ours": None, "v2": _v2, "v1": _v1}
CASES = [
    (mode, wire.removesuffix(" over TLS"), wire.endswith("TLS"))
    for wire, mode in zip(["v1", "ours", "ours over TLS", "v2"] * 3, list(MODES) * 4, strict=True)
]
"""Mode of the server, protocol, TLS: all combinations."""


class Round(ServerRound):
    """One server, its clients, and a ledger of their calls."""

    uses_per_server = 6_000, 25_000

    def __init__(self, folder: Path, report: Report, certificates: Certificates) -> None:
        mode, self.wire, tls = CASES[report.seed % len(CASES)]
        rng = Random(f"calls/{report.seed}")
        super().__init__(report, rng, mode, certificates if tls else None)
        self.ledger = Ledger(folder / "counts")
        self._in_flight: dict[int, tuple[float, Question]] = {}

    # Single calls, by tasks and threads.

    @contextlib.contextmanager
    def call(self, rng: Random) -> Iterator[Question]:
        """Yield a call to be made; it counts as in flight until the end of the block."""
        question = ask(self.ledger.number(), rng)
        allowed = UNBOUNDED if question.timeout is None else question.timeout + GRACE
        self._in_flight[question.number] = time.monotonic() + allowed, question
        self.made += 1
        try:
            yield question
        finally:
            del self._in_flight[question.number]

    def note(self, question: Question, result: Any, error: BaseException | None) -> None:
        """Record the outcome that a caller got; a result of another call is a finding."""
        outcome = question.judge(result, error)
        if outcome is None:
            got = f"{result!r:.200}" if error is None else f"{type(error).__name__}: {error!s:.200}"
            self.report.find("wrong", f"{question!r:.300} got {got} ({self.describe()})")
            outcome = UNKNOWN
        self.ledger.record(question.number, outcome)

    def describe(self) -> str:
        """Return the case of this round, for people."""
        return f"{self.mode}, {self.wire}{', TLS' if self.context else ''}"

    def hung(self) -> list[str]:
        """Return the calls that should have ended, for people."""
        now = time.monotonic()
        in_flight = list(self._in_flight.values())
        return [f"{one!r:.300}" for deadline, one in in_flight if deadline < now]

    def pending(self) -> list[str]:
        """Return the calls that have not ended, for people."""
        return [f"{one!r:.200}" for _, one in list(self._in_flight.values())]

    async def resources(self, port: int) -> dict[str, int]:
        """Return the resources of the server after the clients have gone."""
        after = await super().resources(port)
        self.report.peak("memory of a server, MiB", after["memory"] / 2**20)
        return after

    def crews(self, proxy: Callable[[], Proxy]) -> Iterator[Awaitable[None]]:
        """Yield the crews, each with a proxy of its own."""
        for n in range(8):
            yield self.task_crew(proxy(), f"tasks {n}")
        yield asyncio.to_thread(self.thread_crew, proxy(), "threads")
        yield asyncio.to_thread(self.best_effort_crew, proxy(), "best effort")

    def proxy_options(self) -> dict[str, Any]:
        """Return further options of the proxies: without TLS, they replace the greeting."""
        return {} if self.context else {"first_line": self.first_line}

    def first_line(self, line: bytes) -> bytes:
        """Return the greeting that clients get in place of the server's."""
        replace = WIRES[self.wire]
        return line if replace is None else replace(line)

    # Tasks.

    async def task_crew(self, proxy: Proxy, name: str) -> None:
        """Run tasks that share a client, one client after the other."""
        rng = Random(f"{self.report.seed}/{name}")
        while self.going:
            client = AsyncioClient()
            try:
                await client.connect_rpc(HOST, proxy.port, "driver", timeout=20, ssl=self.context)
            except OSError:
                self.report.count("connections refused or lost in the handshake")
                await asyncio.sleep(0.02)
                continue
            quota = rng.randrange(2, 3000)
            try:
                rngs = [Random(rng.random()) for _ in range(TASKS)]
                await asyncio.gather(*(self._make_calls(client, one, quota) for one in rngs))
            finally:
                await client.close_rpc()
            self.report.count("connections")

    async def _make_calls(self, client: AsyncioClient[Any], rng: Random, quota: int) -> None:
        for _ in range(quota):
            if not self.going:
                return
            with self.call(rng) as question:
                result, error = None, None
                try:
                    result = await self._begin(client, question, rng)
                except (Exception, asyncio.CancelledError) as e:
                    error = e
                self.note(question, result, error)
            if isinstance(error, ConnectionLost):
                return
        if rng.random() < 0.1:
            client.close_rpc()  # while other tasks call

    async def _begin(self, client: AsyncioClient[Any], question: Question, rng: Random) -> Any:
        method = getattr(client.with_rpc_timeout(question.timeout), question.method)
        call = method(question.number, *question.arguments)
        if rng.random() > 0.1:
            return await call
        task = asyncio.ensure_future(call)
        await asyncio.sleep(rng.choice((0, 0, 0.001, 0.01)))
        task.cancel()
        self.report.count("cancellations")
        return await task

    # Threads.

    def thread_crew(self, proxy: Proxy, name: str) -> None:
        """Run threads that share a client, one client after the other."""
        rng = Random(f"{self.report.seed}/{name}")
        with ThreadPoolExecutor(THREADS, thread_name_prefix=name) as pool:
            while self.going:
                try:
                    client = Client(HOST, proxy.port, "driver", timeout=20, ssl=self.context)
                except OSError:
                    self.report.count("connections refused or lost in the handshake")
                    time.sleep(0.02)
                    continue
                quota = rng.randrange(2, 1000)
                with client:
                    rngs = [Random(rng.random()) for _ in range(THREADS)]
                    list(pool.map(partial(self._make_blocking_calls, client, quota), rngs))
                self.report.count("connections")

    def _make_blocking_calls(self, client: Client[Any], quota: int, rng: Random) -> None:
        for _ in range(quota):
            if not self.going:
                return
            if isinstance(self._make_call(client, rng), ConnectionLost):
                return

    def _make_call(self, client: Client[Any], rng: Random) -> BaseException | None:
        with self.call(rng) as question:
            result, error = None, None
            try:
                method = getattr(client.with_rpc_timeout(question.timeout), question.method)
                result = method(question.number, *question.arguments)
            except Exception as e:
                error = e
            self.note(question, result, error)
        return error

    def best_effort_crew(self, proxy: Proxy, name: str) -> None:
        """Make calls with a client that returns None while there is no server."""
        rng = Random(f"{self.report.seed}/{name}")
        where = HOST, proxy.port, "driver", 2.0, 0.05
        with BestEffortClient(*where, timeout=5, ssl=self.context) as client:
            while self.going:
                with self.call(rng) as question:
                    result, error = None, None
                    try:
                        result = getattr(client, question.method)(
                            question.number, *question.arguments
                        )
                    except Exception as e:
                        error = e
                    if result is None and error is None:
                        self.ledger.record(question.number, UNKNOWN)
                        time.sleep(0.001)
                    else:
                        self.note(question, result, error)

    # The server.

    def start_server(self, port: int) -> Child:
        """Start a server on a port and wait until it serves."""
        server = Child("faults.controller", port, self.ledger.path, self.mode, *self.files)
        return server.wait_until_serving()


def run(budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts."""
    run_rounds(Round, budget, seed, report)


def run_rounds(which: type[Round], budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts; the seed increases by one each round."""
    sys.setswitchinterval(0.001)  # so that threads of clients and of the network alternate
    end = time.monotonic() + budget
    length = min(ROUND, budget / 2)
    memory_before = 0
    with tempfile.TemporaryDirectory() as name, reserved_port() as port:
        folder = Path(name)
        certificates = Certificates(folder)
        for report.seed in range(seed, seed + 10**9):
            before = held()
            this = which(folder, report, certificates)
            with Network() as network:
                asyncio.run(this.run(network, port, length))
                for kind, number in network.injected.items():
                    report.count(f"faults: {kind}", number)
                for error in network.errors:
                    report.find("wrong", f"the proxy itself: {error!r}")
            find_leaks(before, report)
            sums, disagreements = this.ledger.check()
            for what, number in sums.items():
                report.count(what, number)
            for text in disagreements:
                report.find("lost", f"{text} ({this.describe()})")
            report.count("rounds")
            report.peak("memory of the clients, MiB", memory() / 2**20)
            if report.counted("rounds") == WARM:
                memory_before = memory()
            elif memory_before and memory() - memory_before > MEMORY_GROWTH:
                report.find("memory", f"clients: {memory_before} before, {memory()} now")
            if report.failed or time.monotonic() + length / 2 > end:
                break
