"""The server of the page of calls: a driver that counts each call in a file that survives it.

``python -m faults.controller PORT COUNTS MODE[/METHOD] [CERTIFICATE KEY PEER]``

A method that is named after the mode is hidden.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any

import pyon.tcp
from pc_rpc import Server, serve

from faults.ledger import map_counts
from faults.processes import HOST, held, memory

MODES: dict[str, dict[str, Any]] = {
    "serial": {},
    "parallel": {"allow_parallel": True},
    "threads": {"worker_threads": True},
}


class Driver:
    """Counts each call by its number, then executes it."""

    def __init__(self, counts: Any) -> None:
        self._counts = counts

    def echo(self, number: int, value: Any) -> Any:
        """Return the argument."""
        self._counts[number] += 1
        return [number, value]

    def fail(self, number: int) -> None:
        """Raise an error that contains the number."""
        self._counts[number] += 1
        raise ValueError(f"call {number}")

    def odd(self, number: int) -> object:
        """Return a value that cannot be encoded."""
        self._counts[number] += 1
        return object()

    def block(self, number: int, seconds: float) -> int:
        """Block for a while, as a driver of an instrument does."""
        self._counts[number] += 1
        time.sleep(seconds)
        return number

    async def rest(self, number: int, seconds: float) -> int:
        """Wait for a while without blocking the loop."""
        self._counts[number] += 1
        await asyncio.sleep(seconds)
        return number

    async def held(self) -> dict[str, int]:
        """Return the resources of the server, the connection of this call included."""
        return {**held(), "tasks": len(asyncio.all_tasks()), "memory": memory()}


async def main() -> None:
    """Serve until a signal comes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    port, counts, mode, *files = sys.argv[1:]
    context = pyon.tcp.server_context(*files) if files else None
    mode, _, hidden = mode.partition("/")
    hide = {"driver": [hidden]} if hidden else None
    server = Server({"driver": Driver(map_counts(counts))}, hide=hide, **MODES[mode])

    def ready(server: Server) -> None:
        print("port", server.port, flush=True)

    await serve(server, HOST, int(port), ssl=context, ready_cb=ready)


if __name__ == "__main__":
    asyncio.run(main())
