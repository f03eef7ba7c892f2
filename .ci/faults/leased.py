"""The server of the page of leases: an instrument that notices whom it is driven by.

``python -m faults.leased PORT MODE``

Blocks have numbers, those of leases above zero. The calls of one lease must not be interrupted:
once anybody else was served, no call of that block may come.
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
    """Notices calls of a lease that was over, and those that come into one."""

    def __init__(self) -> None:
        self._block = 0
        self._over: set[int] = set()
        self._calls = self._aborts = 0
        self._wrong: list[str] = []

    def work(self, block: int) -> int:
        """Do something at once."""
        self._begin(block)
        return block

    async def move(self, block: int, seconds: float) -> int:
        """Take a while, in which others may be served if they may."""
        self._begin(block)
        await asyncio.sleep(seconds)
        if self._block != block and self._block > 0:
            self._wrong.append(f"the lease of {self._block} began in a call of {block}")
        return block

    @immediate
    def abort(self) -> None:
        """Be called at any time."""
        self._aborts += 1

    @immediate
    async def told(self) -> dict[str, Any]:
        """Return what was noticed, and what the process holds."""
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
    """Serve until told to end."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    port, mode = sys.argv[1:]
    server = Server({"instrument": Instrument()}, **MODES[mode])

    def ready(server: Server) -> None:
        print("port", server.port, flush=True)

    await serve(server, HOST, int(port), ready_cb=ready)


if __name__ == "__main__":
    asyncio.run(main())
