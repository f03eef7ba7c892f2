"""The bridges of the page of bridges.

``python -m faults.bridge out PORT ADDRESS STORAGE``, or ``in PORT ADDRESS``. They are
those of the package, with short intervals and small snapshots, so that seconds show what otherwise
takes hours. A line ``port N`` says that they are at work; they end with SIGTERM, and with SIGUSR1
they log what they are waiting for.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from sync_struct import Publisher
from sync_struct.nats import _ledger, _outlet, bridging_in, bridging_out

from faults.processes import HOST

INTERVAL = 0.25
"""Seconds between beacons."""

LEAST_STEPS = 200_000
"""Bytes of steps until there is another snapshot."""


HEARTBEAT = 1.0
"""Seconds of silence of the publisher until a bridge asks it for a sign of life."""


def quiet_client() -> None:
    """Have nats-py not log how a network that fails breaks its parser: it connects again."""
    logging.getLogger("nats").setLevel(logging.CRITICAL)


def _say(name: str, error: Exception) -> None:
    logging.getLogger("bridge").warning("%s: %s", name, error)


def _show_tasks() -> None:
    """Say what all tasks are waiting for."""
    for task in asyncio.all_tasks():
        print(task, file=sys.stderr)
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


async def main() -> None:
    """Bridge, until a signal comes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    quiet_client()
    _ledger.LEAST_STEPS, _outlet.HEARTBEAT = LEAST_STEPS, HEARTBEAT
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _show_tasks)
    direction, port, address = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if direction == "out":
        storage = "memory" if sys.argv[4] == "memory" else "file"
        async with bridging_out(
            HOST, port, ["d"], address, storage=storage, interval=INTERVAL, on_error=_say
        ):
            print("port", port, flush=True)
            await ended.wait()
    else:
        async with Publisher({}) as publisher:
            await publisher.start(HOST, port)
            async with bridging_in(publisher, address, ["d"], on_error=_say):
                print("port", publisher.port, flush=True)
                await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
