"""Servers under load: a well-behaved client keeps half its rate, and memory stays bounded.

Rates are measured beside each other, in turns without and with a crowd; they are judged where there
is time to do that often enough.
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

from faults.calls import Certificates, settle
from faults.crowds import ALL, KINDS, Crowd, announce, idle, never_read
from faults.processes import HOST, LONG, Child, held
from faults.report import Report

JUDGED = 60.0
"""Seconds of budget from which rates are judged: below, there is one short turn."""

LEAST = 0.5
"""Part of its undisturbed rate that a well-behaved client keeps."""

TURNS = 3

OURS = 3
"""Processes of a page that want to run at the same time: server, client, crowd."""

PATIENCE = 10.0
"""Seconds within which something gets done, however busy the machine is."""

MEMORY = {"rpc": 200 * 2**20, "publisher": 200 * 2**20, "tls": 1100 * 2**20}
"""Bytes that a server may grow by under any crowd: twice the longest line that it takes (32 MiB),
and 50 kB for each of 2,000 connections. One of TLS costs 500 kB, nearly all of that in
asyncio, which has a buffer of 256 KiB for each, and in OpenSSL."""

SETTLING = 30.0
"""Seconds within which a server has dealt with what a crowd says once: those who read nothing are
taken from until the buffers of the systems are full, some megabytes each."""

QUIET = 0.15
"""Part of a processor that the server uses afterwards, at most."""

CPU = 0.5
"""Part of a processor that a server without descriptors may use: one that spins uses all of it."""


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
        """Return what the client gets done: of a publisher, in a second of time.

        A client of an RPC server makes as many calls as it can. So what counts is a second of the
        server's processor: what others use of the machine makes no difference to that.
        """
        cpu = self.server.cpu_seconds
        done = float(await asyncio.to_thread(self.client.ask, str(seconds)) or 0)
        if self.kind == "publisher":
            return done
        return done * seconds / max(self.server.cpu_seconds - cpu, 0.01)

    async def holds(self) -> dict[str, int]:
        """Return what the server holds."""
        return dict(json.loads(await asyncio.to_thread(self.server.ask, "?")))

    def close(self, report: Report) -> None:
        """End both; what their logs say is looked at."""
        for child in (self.client, self.server):
            if (complaint := child.complaints()) is not None:
                report.find("crashes", f"in the log of a {self.kind}: {complaint}")
            lines = child.log().count("\n")
            report.peak("lines in the log of a server", lines)
            child.close()


@contextlib.asynccontextmanager
async def crowded(measured: Measured, name: str, rng: Random, short: bool) -> AsyncIterator[Crowd]:
    """Have a crowd do its worst."""
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
    """Wait until what a crowd has said is dealt with; of who reads nothing, no more is taken."""
    deadline, quiet = time.monotonic() + SETTLING, 0
    while quiet < 3 and time.monotonic() < deadline:
        cpu = measured.server.cpu_seconds
        await asyncio.sleep(0.2)
        quiet = quiet + 1 if measured.server.cpu_seconds - cpu < 0.2 * QUIET else 0


async def _stay(behaviour: object, crowd: Crowd) -> None:
    with contextlib.suppress(OSError):
        await behaviour  # type: ignore[misc]


async def _meet(measured: Measured, name: str, seconds: float, short: bool, report: Report) -> None:
    """Measure without and with a crowd, in turns."""
    alone, beside, rng = [], [], Random(f"{report.seed}/{name}")
    before, growth = await measured.holds(), 0
    for _ in range(1 if short else TURNS):
        alone.append(await measured.rate(seconds))
        async with crowded(measured, name, rng, short) as crowd:
            measuring = asyncio.ensure_future(measured.rate(seconds))
            while not measuring.done():
                report.peak(f"{measured.kind}: memory, MiB", measured.server.memory / 2**20)
                growth = max(growth, measured.server.memory - before["memory"])
                await asyncio.wait([measuring], timeout=0.1)
            beside.append(await measuring or await measured.rate(PATIENCE))
            report.count("connections of crowds", crowd.met)
    if growth > MEMORY[measured.kind]:
        report.find("memory", f"{measured.kind}, {name}: {growth / 2**20:.0f} MiB more")
    if min(beside) == 0:
        report.find("hung", f"{measured.kind}, {name}: nothing got done in {PATIENCE} s")
    kept = statistics.median(beside) / max(statistics.median(alone), 1e-9)
    if not short:
        report.peak(f"{measured.kind}: rate kept beside {name}", kept)
        if busy():
            report.note("the machine is busy with other things: rates are shown, and not judged")
        elif kept < LEAST:
            rates = f"{statistics.median(beside):.0f} of {statistics.median(alone):.0f} a second"
            report.find("slow", f"{measured.kind}, {name}: {rates}")
    await _until_left(measured, name, before, report)


def busy() -> bool:
    """Say whether more processes want to run here than ours: rates tell nothing then."""
    if not hasattr(os, "getloadavg"):
        return False
    return os.getloadavg()[0] > OURS + (os.cpu_count() or 1)


async def _until_left(
    measured: Measured, name: str, before: dict[str, int], report: Report
) -> None:
    """Find what the server still holds although the crowd has gone."""
    deadline = time.monotonic() + LONG
    while (after := await measured.holds())["descriptors"] > before["descriptors"] or (
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
        report.note("a third of the crowds was met, in small numbers: no time for more")
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
    """Use up a server's descriptors: it lives, does not spin, says so, and accepts again."""
    for kind in kinds:
        files = certificates.of_server if kind == "tls" else []
        server = Child("faults.serving", kind, 48, *files).wait_until_serving()
        with contextlib.ExitStack() as stack:
            for _ in range(120):  # no more than it has descriptors and its system queues
                stack.enter_context(socket.create_connection((HOST, server.port)))
            time.sleep(1)  # the subject: what the server does while it can do nothing
            cpu, lines = server.cpu_seconds, _said(server)
            time.sleep(2)
            used, written = server.cpu_seconds - cpu, _said(server) - lines
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


def _said(server: Child) -> int:
    """Return how many lines say that connections cannot be accepted, or can be again."""
    return server.log().count("accepted")


def _mute(report: Report) -> None:
    """Call a method whose error has a text that never ends; others are served."""
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
    """Meet each kind of server with each crowd."""
    sys.setswitchinterval(0.001)
    before = held()
    with tempfile.TemporaryDirectory() as folder:
        certificates = Certificates(Path(folder))
        short = budget < JUDGED
        kinds = [sorted(ALL)[seed % len(ALL)]] if short else sorted(ALL)
        _use_up(kinds, report, certificates)
        _mute(report)
        asyncio.run(_run_crowds(max(budget - 15, 4), short, report, certificates))
    settle(before, report)
