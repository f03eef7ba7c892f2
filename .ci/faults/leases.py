"""Leases through faults: never two holders, and no lease that outlives its holder.

Rounds of a few seconds. In each, client processes take leases of one instrument through proxies,
while they are killed and stopped, leases are broken, and the server is killed and restarted on the
same port. The instrument checks who calls it.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator
from random import Random
from typing import Any

from pc_rpc import Client, ConnectionLost, GenericRemoteException

from faults.calls import WIRES
from faults.controller import MODES
from faults.holder import LONGER, TASKS, THREADS, TTL
from faults.processes import HOST, LONG, Child, held, reserved_port
from faults.proxy import ROUGH, Network
from faults.report import Report
from faults.rounds import find_leaks

ROUND = 20.0
"""Seconds of a round, if the budget allows."""

PROCESSES = 8
"""Client processes: with the clients in each, about fifty clients."""

BLOCKS = 10**6
"""Largest number of blocks of one process."""

SLACK = 10.0
"""Seconds that a lease may outlive its holder beyond its time, on a slow machine."""


class Round:
    """One instrument, its server and the client processes."""

    def __init__(self, report: Report, network: Network, port: int) -> None:
        self.report, self.port = report, port
        self.rng = Random(f"leases/{report.seed}")
        self.mode = list(MODES)[report.seed % len(MODES)]
        seeds = itertools.count(report.seed * 1000)
        self._proxies = [network.proxy(port, next(seeds), ROUGH) for _ in range(PROCESSES)]
        self.old = network.proxy(port, next(seeds), ROUGH, first_line=WIRES["v1"])
        self._firsts = itertools.count(1, BLOCKS)
        self.died: dict[int, float] = {}  # time of the kill, by the first block of a process
        self.holders: list[tuple[int, Child]] = []
        self.before: dict[str, Any] = {}
        self.start_server()

    # Processes.

    def start_server(self) -> None:
        """Start the server on its port."""
        self.server = Child("faults.leased", self.port, self.mode).wait_until_serving()
        self.monitor: Client[Any] = Client(HOST, self.port, "instrument", LONG)
        self.before = self.monitor.observations()

    def end_server(self, *, kill: bool) -> None:
        """Report the violations that the instrument has detected, then kill or stop its server."""
        self.report_violations()
        self.monitor.close_rpc()
        if kill:
            self.server.kill()
        elif (status := self.server.terminate()) != 0:
            self.report.find("crashes", f"a server ended with status {status}")
        self._check_log(self.server, "a server")
        self.report.count("servers killed" if kill else "servers stopped")

    def start_holder(self) -> None:
        """Start a client process."""
        number = len(self.holders)
        first = next(self._firsts)
        port = self._proxies[number % PROCESSES].port
        self.holders.append((first, Child("faults.holder", port, first, self.report.seed + first)))

    def kill_holder(self) -> None:
        """Kill a client process."""
        first, holder = self.holders.pop(self.rng.randrange(len(self.holders)))
        holder.kill()
        self.died[first] = time.monotonic()
        self._check_log(holder, "a client")
        self.report.count("processes of clients killed")

    def _check_log(self, child: Child, what: str) -> None:
        if (complaint := child.complaints()) is not None:
            self.report.find("wrong", f"in the log of {what} ({self.mode}): {complaint}")
        child.close()

    # Checks.

    def report_violations(self) -> None:
        """Report the violations and counts of the instrument."""
        observed = self.monitor.observations()
        for text in observed["wrong"]:
            self.report.find("wrong", f"{text} ({self.mode})")
        for what in ("calls", "blocks", "aborts"):
            self.report.count(what, observed[what])

    def check_lease(self) -> None:
        """Report a lease that has outlived its holder and its time."""
        lease = self.monitor.get_rpc_lease()
        if lease is None:
            return
        self.report.count("leases seen")
        _, _, number = lease["purpose"].partition("block ")
        first = int(number) // BLOCKS * BLOCKS + 1 if number else 0
        if time.monotonic() > self.died.get(first, time.monotonic()) + TTL + SLACK:
            self.report.find("lost", f"a lease outlives its holder: {lease} ({self.mode})")

    # Disturbances.

    def disturb(self) -> None:
        """Kill or stop a process."""
        what = self.rng.random()
        if what < 0.4:
            self.kill_holder()
            self.start_holder()
        elif what < 0.9:
            with self.stopped(self.rng.choice(self.holders)[1]):
                time.sleep(self.rng.choice([TTL / 2, TTL * 3]))
        else:
            self.end_server(kill=what < 0.95)
            self.start_server()

    @contextlib.contextmanager
    def stopped(self, holder: Child) -> Iterator[None]:
        """Stop a process for a while, as a debugger does."""
        holder.process.send_signal(signal.SIGSTOP)
        self.report.count("processes of clients stopped")
        try:
            yield
        finally:
            holder.process.send_signal(signal.SIGCONT)

    def call_as_an_old_client(self) -> None:
        """Make a call with a client of the first generation."""
        block = -next(self._firsts)
        try:
            with Client(HOST, self.old.port, "instrument", LONG) as client:
                if client.work(block) != block:
                    self.report.find("wrong", f"the reply of another call ({self.mode})")
            self.report.count("calls of old clients answered")
        except GenericRemoteException as error:
            if not str(error).startswith("pc_rpc.TargetLeased: the target 'instrument' is"):
                self.report.find("wrong", f"an old client got {error!r} ({self.mode})")
            self.report.count("calls of old clients refused")
        except (ConnectionLost, OSError):
            self.report.count("connections of old clients lost")

    def finish(self) -> None:
        """Kill all clients; then the target must be free, and all resources released."""
        while self.holders:
            self.kill_holder()
        with self.monitor.lease("the last one", wait=LONGER + SLACK):
            if self.monitor.work(0) != 0:
                self.report.find("wrong", "the reply of another call")
        deadline = time.monotonic() + SLACK
        while True:
            after = self.monitor.observations()
            grown = {
                key: (self.before[key], after[key])
                for key in ("descriptors", "tasks")
                if after[key] > self.before[key]
            }
            if not grown or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if grown:
            self.report.find("leaks", f"at the server ({self.mode}): {grown}")
        self.end_server(kill=False)


def _run_round(this: Round, network: Network, seconds: float) -> None:
    for _ in range(PROCESSES):
        this.start_holder()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(this.rng.randrange(1, 20)):
            time.sleep(0.05)
            this.check_lease()
            if this.rng.random() < 0.01:
                broken = this.monitor.break_lease("a drill")
                this.report.count("leases broken", broken is not None)
        this.call_as_an_old_client()
        this.disturb()
    network.calm()
    this.finish()


def run(budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts; the seed increases by one each round."""
    end = time.monotonic() + budget
    length = min(ROUND, budget / 2)
    report.peak("clients at a time", PROCESSES * (THREADS + TASKS))
    with reserved_port() as port:
        for report.seed in range(seed, seed + 10**9):
            before = held()
            with Network() as network:
                _run_round(Round(report, network, port), network, length)
                for kind, number in network.injected.items():
                    report.count(f"faults: {kind}", number)
                for error in network.errors:
                    report.find("wrong", f"the proxy itself: {error!r}")
            find_leaks(before, report)
            report.count("rounds")
            if report.failed or time.monotonic() + length / 2 > end:
                break
