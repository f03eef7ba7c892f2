"""The parts of the benchmark that all sections use: servers, turns, tables, promises."""

from __future__ import annotations

import contextlib
import operator
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent

RELATIONS = {"<=": operator.le, "<": operator.lt, ">": operator.gt, ">=": operator.ge}

promises: list[tuple[str, float, str, float]] = []


def promise(text: str, figure: float, relation: str, bound: float) -> None:
    promises.append((text, figure, relation, bound))


def verdict() -> int:
    """Print the promises and whether they are met; return the exit status."""
    print(f"\n{'promise':52} {'figure':>9}    bound")
    met = True
    for text, figure, relation, bound in promises:
        kept = RELATIONS[relation](figure, bound)
        met &= kept
        print(f"{text:52} {figure:9.2f} {relation:>2} {bound:5.2f}  {'met' if kept else 'NOT MET'}")
    return 0 if met else 1


@contextlib.contextmanager
def server(program: str, name: str, python: str = sys.executable) -> Iterator[tuple[int, int]]:
    """Run a server in a process; yield its port and its process id."""
    process = subprocess.Popen([python, HERE / program, name], stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def take_turns(contestants: dict[str, Callable[[], float]], turns: int) -> dict[str, float]:
    """Return the median of the figures of each contestant, in that many turns."""
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, contestant in contestants.items():
            results[name].append(contestant())
    return {name: statistics.median(values) for name, values in results.items()}


def timed(action: Callable[[], object], times: int) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        for _ in range(times):
            action()
        return (time.perf_counter() - began) / times

    return run


def table(title: str, rows: dict[str, float], unit: str, factor: float = 1.0) -> None:
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:34} {value * factor:12.2f} {unit}")


def bare_socket(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process and those that it starts on one core, where the system can.

    Otherwise the time of a small exchange is that of waking an idle core, or not, as the scheduler
    happens to place the two processes: 12 to 100 us for the same bytes on the same machine.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
