"""Servers under load: a well-behaved client keeps half its rate, and memory stays bounded.

Rates are measured alternately without and with a crowd. They are compared only with a budget that
allows enough measurements.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

from pc_rpc import Client

from faults.crowds import ALL, KINDS, Crowd, announce, idle, never_read
from faults.processes import HOST, LONG, Child, held
from faults.report import Report
from faults.rounds import Certificates, find_leaks

JUDGED = 60.0
"""Seconds of budget from which rates are compared; with less, there is one short measurement."""

LEAST = 0.5
"""Fraction of its undisturbed rate that a well-behaved client must keep."""

TURNS = 3

OURS = 3
"""Processes of this page that run at the same time: server, client, crowd."""

PATIENCE = 10.0
"""Seconds within which a client must complete a call or receive a mod, on a busy machine."""

MEMORY = {"rpc": 200 * 2**20, "publisher": 200 * 2**20, "tls": 1100 * 2**20}
"""Bytes that a server may grow by with any crowd: twice its longest line (32 MiB), and 50 kB for
each of 2,000 connections. A TLS connection takes 500 kB, nearly all of it in asyncio, which has a
buffer of 256 KiB for each, and in OpenSSL."""

SETTLING = 30.0
"""Seconds within which a server has processed the input of a crowd. It reads from clients that read
nothing until the socket buffers are full, some megabytes each."""

QUIET = 0.15
"""Largest processor load of the server afterwards, as a fraction of one core."""

CPU = 0.5
"""Largest load of a server without descriptors, as a fraction of one core; a busy loop uses 1."""


class Measured:
    """A server and its well-behaved client."""

    def __init__(self, kind: str, certificates: Certificates) -> None:
        self.kind = kind
        files = certificates.of_server if kind == "tls" else []
        self.server = Child("faults.serving", kind, 0, *files).wait_until_serving()
        own = certificates.of_client if kind == "tls" else []
        role = "publisher" if kind == "publisher" else "rpc"
        self.client = Child("faults.caller", role, self.server.port, *own).wait_until_serving()

    async def rate(self, seconds: float) -> float:
        """Return the rate of the client: mods per second, or calls per second of CPU time.

        A client of an RPC server makes as many calls as it can. So its rate is relative to the CPU
        time of the server, which does not depend on other processes.
        """
        cpu = self.server.cpu_seconds
        done = float(await asyncio.to_thread(self.client.ask, str(seconds)) or 0)
        if self.kind == "publisher":
            return done
        return done * seconds / max(self.server.cpu_seconds - cpu, 0.01)

    async def resources(self) -> dict[str, int]:
        """Return the resources of the server."""
        return dict(json.loads(await asyncio.to_thread(self.server.ask, "?")))

    def close(self, report: Report) -> None:
        """End both processes, and check their logs."""
        for child in (self.client, self.server):
            if (complaint := child.complaints()) is not None:
                report.find("crashes", f"in the log of a {self.kind}: {complaint}")
            lines = child.log().count("\n")
            report.peak("lines in the log of a server", lines)
            child.close()


@contextlib.asynccontextmanager
async def crowded(measured: Measured, name: str, rng: Random, short: bool) -> AsyncIterator[Crowd]:
    """Run a crowd during the block."""
    behave, members, _ = KINDS[name]
    crowd = Crowd(measured.server.port, rng, measured.kind)
    if behave is never_read:
        crowd.received = 4096
    if short:
        crowd.long_line //= 4
        crowd.most //= 4
        members = min(members, 4)
    tasks = [asyncio.ensure_future(_stay(behave(crowd, n), crowd)) for n in range(members)]
    try:
        if behave is idle:
            await asyncio.wait(tasks)
        if behave in (idle, never_read, announce):
            await _until_quiet(measured)
        yield crowd
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        crowd.close()


async def _until_quiet(measured: Measured) -> None:
    """Wait until the server has processed the input of a crowd."""
    deadline, quiet = time.monotonic() + SETTLING, 0
    while quiet < 3 and time.monotonic() < deadline:
        cpu = measured.server.cpu_seconds
        await asyncio.sleep(0.2)
        quiet = quiet + 1 if measured.server.cpu_seconds - cpu < 0.2 * QUIET else 0


async def _stay(behaviour: object, crowd: Crowd) -> None:
    with contextlib.suppress(OSError):
        await behaviour  # type: ignore[misc]


async def _meet(measured: Measured, name: str, seconds: float, short: bool, report: Report) -> None:
    """Measure alternately without and with a crowd."""
    alone, beside, rng = [], [], Random(f"{report.seed}/{name}")
    before, growth = await measured.resources(), 0
    for _ in range(1 if short else TURNS):
        alone.append(await measured.rate(seconds))
        async with crowded(measured, name, rng, short) as crowd:
            measuring = asyncio.ensure_future(measured.rate(seconds))
            while not measuring.done():
                report.peak(f"{measured.kind}: memory, MiB", measured.server.memory / 2**20)
                growth = max(growth, measured.server.memory - before["memory"])
                await asyncio.wait([measuring], timeout=0.1)
            beside.append(await measuring or await measured.rate(PATIENCE))
            report.count("connections of crowds", crowd.connections)
    if growth > MEMORY[measured.kind]:
        report.find("memory", f"{measured.kind}, {name}: {growth / 2**20:.0f} MiB more")
    if min(beside) == 0:
        report.find("hung", f"{measured.kind}, {name}: no call or mod in {PATIENCE} s")
    kept = statistics.median(beside) / max(statistics.median(alone), 1e-9)
    if not short:
        report.peak(f"{measured.kind}: rate kept with {name}", kept)
        if busy():
            report.note("the machine is busy: rates are reported, but not compared")
        elif kept < LEAST:
            rates = f"{statistics.median(beside):.0f} of {statistics.median(alone):.0f} a second"
            report.find("slow", f"{measured.kind}, {name}: {rates}")
    await _find_server_leaks(measured, name, before, report)


def busy() -> bool:
    """Return whether other processes use the processors, so that rates are meaningless."""
    if not hasattr(os, "getloadavg"):
        return False
    return os.getloadavg()[0] > OURS + (os.cpu_count() or 1)


async def _find_server_leaks(
    measured: Measured, name: str, before: dict[str, int], report: Report
) -> None:
    """Report resources that the server has not released after the crowd has gone."""
    deadline = time.monotonic() + LONG
    while (after := await measured.resources())["descriptors"] > before["descriptors"] or (
        after["tasks"] > before["tasks"]
    ):
        if time.monotonic() > deadline:
            report.find("leaks", f"{measured.kind}, {name}: {before} before, {after} now")
            return
        await asyncio.sleep(0.05)


async def _run_crowds(
    budget: float, short: bool, report: Report, certificates: Certificates
) -> None:
    meetings = [(kind, name) for kind in sorted(ALL) for name in KINDS if kind in KINDS[name][2]]
    if short:
        meetings = meetings[report.seed % 3 :: 3]
        report.note("only a third of the crowds was run, with few members: the budget is short")
    turns = 2 * (1 if short else TURNS)
    seconds = max(min(budget * 0.7 / len(meetings) / turns, 2.0), 0.1)
    for kind in sorted({kind for kind, _ in meetings}):
        measured = await asyncio.to_thread(Measured, kind, certificates)
        try:
            await measured.rate(0.2)
            for its_kind, name in meetings:
                if its_kind == kind:
                    await _meet(measured, name, seconds, short, report)
        finally:
            measured.close(report)


# Descriptors.


def _use_up(kinds: list[str], report: Report, certificates: Certificates) -> None:
    """Use up a server's descriptors: it must log that, not spin, and accept again."""
    for kind in kinds:
        files = certificates.of_server if kind == "tls" else []
        server = Child("faults.serving", kind, 48, *files).wait_until_serving()
        with contextlib.ExitStack() as stack:
            for _ in range(120):  # fewer than its descriptors and the listen queue together
                stack.enter_context(socket.create_connection((HOST, server.port)))
            time.sleep(1)  # the subject: what the server does while it can do nothing
            cpu, lines = server.cpu_seconds, _log_lines(server)
            time.sleep(2)
            used, written = server.cpu_seconds - cpu, _log_lines(server) - lines
        if used > 2 * CPU:
            report.find("slow", f"{kind} without descriptors: {used:.1f} s of 2 s")
        if written > 10:
            report.find("wrong", f"{kind} without descriptors: {written} lines in 2 s")
        report.peak("lines in the log of a server without descriptors", lines + written)
        role = "publisher" if kind == "publisher" else "rpc"
        own = certificates.of_client if kind == "tls" else []
        client = Child("faults.caller", role, server.port, *own).wait_until_serving()
        if not float(client.ask("0.2")) and not float(client.ask(str(PATIENCE))):
            report.find("hung", f"{kind}: accepts, but does not serve, after it had no descriptors")
        for child in (client, server):
            if (complaint := child.complaints()) is not None:
                report.find("crashes", f"in the log of a {kind}: {complaint}")
            child.close()
        report.count("servers whose descriptors were used up")


def _log_lines(server: Child) -> int:
    """Return the number of log lines about connections that are or are not accepted."""
    return server.log().count("accepted")


def _mute(report: Report) -> None:
    """Call a method whose error has a `__str__` that never returns; others must be served."""
    server = Child("faults.serving", "rpc", 0).wait_until_serving()
    with Client(HOST, server.port, "driver", timeout=LONG) as one:
        try:
            one.mute()
        except Exception as error:
            if not hasattr(error, "parent_traceback"):
                report.find("hung", f"an error whose text never ends: {error!r}")
        if one.echo(5) != 5:
            report.find("wrong", "another one's reply")
    server.close()


def run(budget: float, seed: int, report: Report) -> None:
    """Run each crowd against each kind of server."""
    sys.setswitchinterval(0.001)
    before = held()
    with tempfile.TemporaryDirectory() as folder:
        certificates = Certificates(Path(folder))
        short = budget < JUDGED
        kinds = [sorted(ALL)[seed % len(ALL)]] if short else sorted(ALL)
        _use_up(kinds, report, certificates)
        _mute(report)
        asyncio.run(_run_crowds(max(budget - 15, 4), short, report, certificates))
    find_leaks(before, report)
