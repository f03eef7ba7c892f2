"""The bridges of the page of bridges.

``python -m faults.bridge out PORT ADDRESS STORAGE``, or ``in PORT ADDRESS``. The bridges are those
of the package, with short intervals and small snapshots, so that effects of hours appear within
seconds. They print a line ``port N`` when they are ready; SIGTERM ends them, and SIGUSR1 makes them
log the stacks of their tasks.
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
"""Bytes of steps between snapshots."""


HEARTBEAT = 1.0
"""Seconds of silence of the publisher until a bridge sends a ping."""


def quiet_client() -> None:
    """Silence the log of nats-py: network failures break its parser, and it reconnects."""
    logging.getLogger("nats").setLevel(logging.CRITICAL)


def _log(name: str, error: Exception) -> None:
    logging.getLogger("bridge").warning("%s: %s", name, error)


def _show_tasks() -> None:
    """Print the stacks of all tasks."""
    for task in asyncio.all_tasks():
        print(task, file=sys.stderr)
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


async def main() -> None:
    """Run the bridge until a signal comes."""
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
            HOST, port, ["d"], address, storage=storage, interval=INTERVAL, on_error=_log
        ):
            print("port", port, flush=True)
            await ended.wait()
    else:
        async with Publisher({}) as publisher:
            await publisher.start(HOST, port)
            async with bridging_in(publisher, address, ["d"], on_error=_log):
                print("port", publisher.port, flush=True)
                await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
