"""Sent code that resists its deadline: its caller gets an error, and others are served."""

from __future__ import annotations

import time
from random import Random

from pc_rpc import Client

from faults.processes import HOST, Child
from faults.report import Report

DEADLINE = 0.5
"""Seconds that the code may take."""

GRACE = 20.0
"""Seconds beyond the deadline, for a busy machine: half a second is promised."""

CODES = {
    "a loop": "while True: pass",
    "a loop that catches everything": """
while True:
    try:
        while True: pass
    except BaseException: pass
""",
    "a finally that goes on": """
def again():
    try:
        while True: pass
    finally:
        again()
again()
""",
    "a context manager that swallows": """
class Swallowing:
    def __enter__(self): return self
    def __exit__(self, *exc_info): return True
while True:
    with Swallowing():
        while True: pass
""",
    "a generator that is deaf": """
def deaf():
    while True:
        try:
            yield
        except BaseException: pass
for _ in deaf(): pass
""",
    "a finaliser that loops": """
class Stubborn:
    def __del__(self):
        while True: pass
Stubborn()
""",
    "a wait": "import time; time.sleep(3)",
    "a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=3)",
    "recursion": """
def down():
    try: down()
    except RecursionError: down()
down()
""",
    "a trace function": """
import sys
def trace(*_): return trace
sys.settrace(trace)
while True: pass
""",
    "output without end": "while True: print('x' * 1000)",
    "empty output without end": "import sys\nwhile True: sys.stdout.write('')",
    "records without end": "import logging\nwhile True: logging.getLogger('x').warning('y')",
    "a text that never ends": """
class Endless(Exception):
    def __str__(self):
        while True: pass
raise Endless
""",
}
"""Descriptions and code. Each runs in its own controller: some never end."""

MEMORY = 200 * 2**20
"""Bytes that a controller may grow by: a megabyte of output that is not fetched is kept."""


def try_all(end: float, rng: Random, report: Report) -> None:
    """Send each code, at least two; check that its caller gets an error and others are served."""
    names = rng.sample(list(CODES), len(CODES))
    for number, name in enumerate(names):
        if number >= 2 and time.monotonic() > end:
            report.note(f"{len(names) - number} codes were not tried: the budget is too short")
            break
        server = Child("faults.executing").wait_until_serving()
        try:
            _try(name, CODES[name], server, report)
        except Exception as error:
            report.find("wrong", f"{name}: {type(error).__name__}: {error!s:.300}")
        finally:
            server.close()
        report.count("resisting codes")


def _try(name: str, code: str, server: Child, report: Report) -> None:
    memory_before = server.memory
    began = time.monotonic()
    with Client(HOST, server.port, "main_rexec", timeout=DEADLINE + GRACE) as client:
        try:
            client.keep_output()
            client.add_code(code, deadline=DEADLINE)
        except Exception as error:
            report.count(f"codes that ended in {type(error).__name__}")
            if not hasattr(error, "parent_traceback"):
                report.find("hung", f"{name}: {error!r}")
        else:
            report.count("codes that ended by themselves")
    report.peak("seconds until a caller gets an error", time.monotonic() - began)
    with Client(HOST, server.port, "main", timeout=GRACE) as client:
        if client.double(21) != 42:
            report.find("wrong", f"{name}: the driver counts wrongly")
    if (growth := server.memory - memory_before) > MEMORY:
        report.find("memory", f"{name}: the controller has grown by {growth / 2**20:.0f} MiB")
