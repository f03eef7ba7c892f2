"""Two machines and a cable, which is disturbed, unplugged for a moment, or for good.

Uses Linux network namespaces. If they are not permitted, the report has a note.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

from faults.processes import Child
from faults.report import Report

ADDRESSES = "10.77.3.1", "10.77.3.2"
CALLS = 300

DEAD = 60.0
"""Seconds within which a dead peer is detected: 40 are promised; the machine may be busy."""

DEAD_OLD = 140.0
"""The same on Linux before 6.15, where 120 are promised if data are in flight."""

PULLED = 45.0
"""Seconds of budget from which the cable is unplugged for good."""

DISTURBANCES = {
    "packets lost": "loss 3%",
    "packets late": "delay 10ms 8ms",
    "packets in another order": "delay 10ms reorder 25% 50%",
    "all of it": "loss 2% delay 5ms 5ms reorder 10% duplicate 1%",
}
"""Disturbances, as arguments of ``tc netem``."""


def ip(*arguments: str) -> None:
    """Run the command ``ip``."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Machines:
    """Two connected network namespaces, the server's and the client's."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.names = [f"faults-{os.getpid()}-{number}" for number in (1, 2)]
        self.ends = [f"vf{os.getpid() % 10**6}-{number}" for number in (1, 2)]
        for name in self.names:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "delete", name)
        ip("link", "add", self.ends[0], "type", "veth", "peer", "name", self.ends[1])
        for name, end, address in zip(self.names, self.ends, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")

    def inside(self, number: int) -> list[str]:
        """Return the prefix of a command that runs it on a machine."""
        return ["ip", "netns", "exec", self.names[number]]

    def cable(self, state: str) -> None:
        """Unplug the cable at the server's end, or plug it in again: "down", "up"."""
        ip("-n", self.names[0], "link", "set", self.ends[0], state)

    def disturb(self, how: str) -> bool:
        """Disturb packets in both directions, or stop that; return whether that is possible."""
        for number in (0, 1):
            change = ["add", "dev", self.ends[number], "root", "netem", *how.split()]
            if not how:
                change = ["delete", "dev", self.ends[number], "root"]
            command = [*self.inside(number), "tc", "qdisc", *change]
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                return False
        return True


@contextlib.contextmanager
def two_machines(report: Report) -> Iterator[Machines | None]:
    """Yield two machines; None, and a note in the report, if that is not permitted."""
    if sys.platform != "linux" or shutil.which("ip") is None or os.geteuid() != 0:
        report.note("network namespaces: not permitted here (Linux, root and iproute2 are needed)")
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            machines = Machines(stack)
        except subprocess.CalledProcessError as error:
            report.note(f"network namespaces: not permitted here: {error.stderr.strip()}")
            yield None
            return
        yield machines


@contextlib.contextmanager
def connected(machines: Machines, report: Report) -> Iterator[Child]:
    """Yield clients that are connected to the servers on the other machine."""
    with contextlib.ExitStack() as stack:

        def start(module: str, *arguments: object, number: int) -> Child:
            child = Child(module, *arguments, inside=machines.inside(number))
            stack.callback(child.close)
            return child.wait_until_serving()

        host = ADDRESSES[0]
        servers = [
            start("faults.serving", kind, 0, "--host", host, number=0)
            for kind in ("rpc", "publisher")
        ]
        yield start("faults.distant", host, *(server.port for server in servers), number=1)
        for server in servers:
            if (complaint := server.complaints()) is not None:
                report.find("crashes", f"in the log of a server: {complaint}")


def _call(clients: Child, report: Report, how: str) -> None:
    answer = clients.ask(f"calls {CALLS}")
    report.count(f"calls with {how}", 2 * CALLS)
    if not answer or json.loads(answer) != [2 * CALLS, True]:
        report.find(
            "lost", f"{how}: {answer!r} instead of {2 * CALLS} replies: {clients.log()[-500:]}"
        )


def _flap(machines: Machines, clients: Child, report: Report) -> None:
    """Unplug the cable for a moment during calls, which must all succeed."""
    clients.send(f"calls {CALLS}")
    for _ in range(2):
        machines.cable("down")
        time.sleep(0.3)  # the subject: the time for which the cable is unplugged
        machines.cable("up")
        time.sleep(0.2)
    answer = clients.read_line()
    report.count("calls while the cable was unplugged for a moment", 2 * CALLS)
    if not answer or json.loads(answer) != [2 * CALLS, True]:
        report.find("lost", f"the cable was plugged in again: {answer!r}: {clients.log()[-500:]}")


def _pull(machines: Machines, clients: Child, report: Report) -> None:
    """Unplug the cable for good: every client must raise an error in time."""
    release = tuple(map(int, os.uname().release.split(".")[:2]))
    allowed = DEAD if release >= (6, 15) else DEAD_OLD
    machines.cable("down")
    results = json.loads(clients.ask("last") or "[]")
    for client, seconds in zip(("Client", "AsyncioClient", "mirror"), results, strict=True):
        if isinstance(seconds, str) or seconds > allowed:
            report.find("hung", f"{client}: {seconds} until it detected that its server is gone")
        else:
            report.peak(f"seconds until a {client} detects a dead peer", seconds)


def run(budget: float, seed: int, report: Report) -> None:
    """Disturb packets, then unplug the cable for a moment, and for good if the budget allows."""
    with two_machines(report) as machines:
        if machines is None:
            return
        with connected(machines, report) as clients:
            _call(clients, report, "no disturbance")
            for how, words in DISTURBANCES.items():
                if not machines.disturb(words):
                    report.note("tc netem: not permitted here, or this kernel does not have it")
                    break
                _call(clients, report, how)
                machines.disturb("")
            _flap(machines, clients, report)
            if budget >= PULLED:
                _pull(machines, clients, report)
            else:
                report.note(f"a dead peer: needs a budget of {PULLED:.0f} s for this page")
