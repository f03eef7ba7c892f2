"""The well-behaved client of the page of load.

``python -m faults.caller rpc|publisher PORT [FILES]``

Each line of standard input is a time in seconds. The answer is the number of calls made, or of mods
received, per second during that time.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from pc_rpc import Client
from pyon.tcp import client_context
from sync_struct import mirror

from faults.processes import HOST, LONG


def main() -> None:
    """Measure once per line of standard input."""
    kind, port, *files = sys.argv[1:]
    context = client_context(*files) if files else None
    if kind == "publisher":
        _follow(int(port))
    else:
        _call(int(port), context)


def _call(port: int, context: Any) -> None:
    with Client(HOST, port, "driver", timeout=LONG, ssl=context) as client:
        print("port", port, flush=True)
        for line in sys.stdin:
            calls, end = 0, time.monotonic() + float(line)
            while time.monotonic() < end:
                if client.echo(calls) != calls:
                    raise AssertionError("another one's reply")
                calls += 1
            print(calls / float(line), flush=True)


def _follow(port: int) -> None:
    received = 0

    def read(mod: Any) -> None:
        nonlocal received
        received += 1

    with mirror(HOST, port, "d", read):
        print("port", port, flush=True)
        for line in sys.stdin:
            before = received
            time.sleep(float(line))
            print((received - before) / float(line), flush=True)


if __name__ == "__main__":
    main()
