"""The server of the page of leases: an instrument that checks who calls it.

``python -m faults.leased PORT MODE``

Each block of calls has a number; blocks within a lease have positive ones. Once a call of another
block was served, no call of the leased block may follow.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from pc_rpc import Server, immediate, serve

from faults.controller import MODES
from faults.processes import HOST, held


class Instrument:
    """Detects calls of a lease that has ended, and calls that interrupt a lease."""

    def __init__(self) -> None:
        self._block = 0
        self._over: set[int] = set()
        self._calls = self._aborts = 0
        self._wrong: list[str] = []

    def work(self, block: int) -> int:
        """Return at once."""
        self._begin(block)
        return block

    async def move(self, block: int, seconds: float) -> int:
        """Wait for a while, during which other clients may be served."""
        self._begin(block)
        await asyncio.sleep(seconds)
        if self._block != block and self._block > 0:
            self._wrong.append(f"the lease of {self._block} began in a call of {block}")
        return block

    @immediate
    def abort(self) -> None:
        """Count an immediate call."""
        self._aborts += 1

    @immediate
    async def observations(self) -> dict[str, Any]:
        """Return counts, violations, and the resources of the process."""
        counts = {"calls": self._calls, "blocks": len(self._over), "aborts": self._aborts}
        return {**counts, "wrong": self._wrong, **held(), "tasks": len(asyncio.all_tasks())}

    def _begin(self, block: int) -> None:
        self._calls += 1
        if block == self._block:
            return
        if block > 0 and block in self._over:
            self._wrong.append(f"a call of {block} behind that of {self._block}")
        self._over.add(self._block)
        self._block = block


async def main() -> None:
    """Serve until a signal comes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    port, mode = sys.argv[1:]
    server = Server({"instrument": Instrument()}, **MODES[mode])

    def ready(server: Server) -> None:
        print("port", server.port, flush=True)

    await serve(server, HOST, int(port), ready_cb=ready)


if __name__ == "__main__":
    asyncio.run(main())
