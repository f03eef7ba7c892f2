"""Calls through faults: what the callers are told agrees with what the driver counted.

Rounds of a few seconds. In each, crews of tasks and of threads share clients whose connections go
through proxies, while the server is killed, stopped and started again on the same port.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
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

import trustme
from pc_rpc import AsyncioClient, BestEffortClient, Client, ConnectionLost
from pyon.tcp import client_context

from faults.controller import MODES
from faults.ledger import UNKNOWN, Ledger
from faults.processes import HOST, LONG, Child, held, memory, reserved_port
from faults.proxy import ROUGH, ROUGH_TLS, Network, Proxy
from faults.questions import Question, ask
from faults.report import Report

ROUND = 15.0
"""Seconds of a round, if there are that many."""

GRACE = 30.0
"""Seconds beyond its time-out after which a call hangs: more than any stall, on a slow machine."""

UNBOUNDED = 60.0
"""Seconds that a call without a time-out may take: no fault lasts longer than a second."""

TASKS, THREADS = 24, 4
WARM = 3
"""Rounds after which a process has the memory that it needs."""

MEMORY_GROWTH = 100 * 2**20
"""Bytes that a process may have more after a round than before: buffers, caches, fragments."""


def _v2(line: bytes) -> bytes:
    """Return a greeting as that of an established server."""
    return line[: line.index(b'"features"')] + b'"features":["pyon_v2"]}'


def _v1(line: bytes) -> bytes:
    """Return a greeting as that of an established server of the first generation."""
    return line[: line.index(b',"features"')] + b"}"


WIRES: dict[str, Callable[[bytes], bytes] | None] = {"ours": None, "v2": _v2, "v1": _v1}
CASES = [
    (mode, wire.removesuffix(" over TLS"), wire.endswith("TLS"))
    for wire, mode in zip(["v1", "ours", "ours over TLS", "v2"] * 3, list(MODES) * 4, strict=True)
]
"""Mode of the server, protocol, TLS: each with each other."""


class Certificates:
    """Files for TLS, of a server and a client that know each other."""

    def __init__(self, folder: Path) -> None:
        for name in ("server", "client"):
            leaf = trustme.CA().issue_cert(name)
            leaf.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
            leaf.private_key_pem.write_to_path(folder / f"{name}.key")
        self.of_server = [folder / name for name in ("server.pem", "server.key", "client.pem")]
        self.of_client = [folder / name for name in ("client.pem", "client.key", "server.pem")]
        self.context: ssl.SSLContext = client_context(*self.of_client)


class Round:
    """One server, its clients, and a ledger of their calls.

    Attributes
    ----------
    calls_per_server : tuple of int
        The fewest and the most calls between two ends of the server.
    """

    calls_per_server = 6_000, 25_000

    def __init__(self, folder: Path, report: Report, certificates: Certificates) -> None:
        self.report = report
        self.mode, self.wire, tls = CASES[report.seed % len(CASES)]
        self.certificates = certificates if tls else None
        self.context = certificates.context if tls else None
        self.ledger = Ledger(folder / "counts")
        self.rng = Random(f"calls/{report.seed}")
        self.going = True
        self.made = 0
        self._in_flight: dict[int, tuple[float, Question]] = {}

    # Single calls, of either kind.

    @contextlib.contextmanager
    def asked(self, rng: Random) -> Iterator[Question]:
        """Give a call to make, which is watched until it has ended."""
        question = ask(self.ledger.number(), rng)
        allowed = UNBOUNDED if question.timeout is None else question.timeout + GRACE
        self._in_flight[question.number] = time.monotonic() + allowed, question
        self.made += 1
        try:
            yield question
        finally:
            del self._in_flight[question.number]

    def told(self, question: Question, result: Any, error: BaseException | None) -> None:
        """Note what a caller was told; a result that is not its own is wrong."""
        outcome = question.judge(result, error)
        if outcome is None:
            got = f"{result!r:.200}" if error is None else f"{type(error).__name__}: {error!s:.200}"
            self.report.find("wrong", f"{question!r:.300} got {got} ({self.describe()})")
            outcome = UNKNOWN
        self.ledger.tell(question.number, outcome)

    def describe(self) -> str:
        """Return which case this is, for people."""
        return f"{self.mode}, {self.wire}{', TLS' if self.context else ''}"

    def hung(self) -> list[Question]:
        """Return the calls that should have ended."""
        now = time.monotonic()
        return [one for deadline, one in list(self._in_flight.values()) if deadline < now]

    def crews(self, proxy: Callable[[], Proxy]) -> Iterator[Awaitable[None]]:
        """Give those who call, each through a proxy of its own."""
        for n in range(8):
            yield self.task_crew(proxy(), f"tasks {n}")
        yield asyncio.to_thread(self.thread_crew, proxy(), "threads")
        yield asyncio.to_thread(self.best_effort_crew, proxy(), "best effort")

    def first_line(self, line: bytes) -> bytes:
        """Return the greeting that clients get in place of the server's."""
        replace = WIRES[self.wire]
        return line if replace is None else replace(line)

    # Tasks.

    async def task_crew(self, proxy: Proxy, name: str) -> None:
        """Have tasks share a client, one client after the other."""
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
                await asyncio.gather(*(self._task(client, one, quota) for one in rngs))
            finally:
                await client.close_rpc()
            self.report.count("connections")

    async def _task(self, client: AsyncioClient[Any], rng: Random, quota: int) -> None:
        for _ in range(quota):
            if not self.going:
                return
            with self.asked(rng) as question:
                result, error = None, None
                try:
                    result = await self._begin(client, question, rng)
                except (Exception, asyncio.CancelledError) as e:
                    error = e
                self.told(question, result, error)
            if isinstance(error, ConnectionLost):
                return
        if rng.random() < 0.1:
            client.close_rpc()  # in the middle of the calls of others

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
        """Have threads share a client, one client after the other."""
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
                    list(pool.map(partial(self._thread, client, quota), rngs))
                self.report.count("connections")

    def _thread(self, client: Client[Any], quota: int, rng: Random) -> None:
        for _ in range(quota):
            if not self.going:
                return
            if isinstance(self._call(client, rng), ConnectionLost):
                return

    def _call(self, client: Client[Any], rng: Random) -> BaseException | None:
        with self.asked(rng) as question:
            result, error = None, None
            try:
                method = getattr(client.with_rpc_timeout(question.timeout), question.method)
                result = method(question.number, *question.arguments)
            except Exception as e:
                error = e
            self.told(question, result, error)
        return error

    def best_effort_crew(self, proxy: Proxy, name: str) -> None:
        """Make calls with a client that gives None while there is no server."""
        rng = Random(f"{self.report.seed}/{name}")
        where = HOST, proxy.port, "driver", 2.0, 0.05
        with BestEffortClient(*where, timeout=5, ssl=self.context) as client:
            while self.going:
                with self.asked(rng) as question:
                    result, error = None, None
                    try:
                        result = getattr(client, question.method)(
                            question.number, *question.arguments
                        )
                    except Exception as e:
                        error = e
                    if result is None and error is None:
                        self.ledger.tell(question.number, UNKNOWN)
                        time.sleep(0.001)
                    else:
                        self.told(question, result, error)

    # The server.

    def start_server(self, port: int) -> Child:
        """Start a server on a port and wait until it serves."""
        files = self.certificates.of_server if self.certificates else []
        server = Child("faults.controller", port, self.ledger.path, self.mode, *files)
        return server.wait_until_serving()


def end_server(report: Report, server: Child, where: str, *, kill: bool) -> None:
    """Kill or stop a server; what its log says is looked at."""
    if kill:
        server.kill()
    elif (status := server.terminate()) != 0:
        report.find("crashes", f"a server ended with status {status}: {server.log()[-500:]}")
    report.count("servers killed" if kill else "servers stopped")
    if (complaint := server.complaints()) is not None:
        report.find("crashes", f"in the log of a server ({where}): {complaint}")
    server.close()


async def what_it_holds(port: int, context: ssl.SSLContext | None) -> dict[str, int]:
    """Return what a server, whose driver can tell, has open at the moment."""
    async with AsyncioClient() as client:
        await client.connect_rpc(HOST, port, "driver", timeout=LONG, ssl=context)
        return dict(await client.held())


async def _check_server(this: Round, port: int, before: dict[str, int]) -> None:
    """Find what the server still holds although all clients have gone."""
    deadline = time.monotonic() + 20
    while True:
        after = await what_it_holds(port, this.context)
        grown = {key: (before[key], after[key]) for key in before if after[key] > before[key]}
        growth = after["memory"] - before["memory"]
        this.report.peak("memory of a server, MiB", after["memory"] / 2**20)
        grown.pop("memory", None)
        grown.pop("threads", None)  # executors keep theirs
        if not grown or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    if grown:
        this.report.find("leaks", f"at the server ({this.describe()}): {grown}")
    if growth > MEMORY_GROWTH:
        this.report.find("memory", f"the server has grown by {growth / 2**20:.0f} MiB")


async def _supervise(this: Round, server: Child, port: int, seconds: float) -> Child:
    """Kill and restart the server now and then; look for calls that hang. Return the last one."""
    end, next_end = time.monotonic() + seconds, this.rng.randint(*this.calls_per_server)
    while time.monotonic() < end:
        await asyncio.sleep(0.05)
        if hung := this.hung():
            this.report.find("hung", f"{hung[0]!r:.300} ({this.describe()})")
            break
        if this.made > next_end:
            next_end = this.made + this.rng.randint(*this.calls_per_server)
            kill = this.rng.random() < 0.5
            await asyncio.to_thread(end_server, this.report, server, this.describe(), kill=kill)
            server = await asyncio.to_thread(this.start_server, port)
    return server


async def _run_round(this: Round, network: Network, port: int, seconds: float) -> None:
    """Run one round; whoever has not ended with it hangs."""
    weather = ROUGH_TLS if this.context else ROUGH
    server = await asyncio.to_thread(this.start_server, port)
    before = await what_it_holds(port, this.context)
    seeds = iter(range(this.report.seed * 1000, this.report.seed * 1000 + 100))

    def proxy() -> Proxy:
        first_line = None if this.context else this.first_line
        return network.proxy(port, next(seeds), weather, first_line=first_line)

    crews = [asyncio.ensure_future(crew) for crew in this.crews(proxy)]
    server = await _supervise(this, server, port, seconds)
    this.going = False
    network.calm()
    _, late = await asyncio.wait(crews, timeout=UNBOUNDED + GRACE)
    if late:
        hung = ", ".join(f"{one!r:.200}" for _, one in list(this._in_flight.values())[:3])
        this.report.find("hung", f"{len(late)} crews did not end: {hung} ({this.describe()})")
    for crew in crews:
        if crew.done() and (error := crew.exception()) is not None:
            this.report.find("wrong", f"a client raised {error!r} ({this.describe()})")
    await _check_server(this, port, before)
    await asyncio.to_thread(end_server, this.report, server, this.describe(), kill=False)


def settle(before: dict[str, int], report: Report) -> None:
    """Find what the clients' process still holds."""
    deadline = time.monotonic() + 20
    while True:
        after = held()
        grown = {key: (before[key], after[key]) for key in before if after[key] > before[key]}
        if not grown or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    if grown:
        names = [thread.name for thread in threading.enumerate()]
        report.find("leaks", f"at the clients: {grown}; threads: {names}")


def run(budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts."""
    run_rounds(Round, budget, seed, report)


def run_rounds(which: type[Round], budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts; each has a seed of its own, one more."""
    sys.setswitchinterval(0.001)  # threads of clients and of the network take turns
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
                asyncio.run(_run_round(this, network, port, length))
                for kind, number in network.injected.items():
                    report.count(f"faults: {kind}", number)
                for error in network.errors:
                    report.find("wrong", f"the proxy itself: {error!r}")
            settle(before, report)
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
