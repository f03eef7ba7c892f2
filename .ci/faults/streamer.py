"""The server of the page of streams: it counts generators when they begin and end.

``python -m faults.streamer PORT MODE [CERTIFICATE KEY PEER]``
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pyon.tcp
from pc_rpc import Server, immediate, serve

from faults.controller import MODES
from faults.processes import HOST, held, memory


class Driver:
    """Yields items that identify themselves."""

    def __init__(self) -> None:
        self._open = 0
        self._begun = 0

    def _begin(self) -> None:
        self._open += 1
        self._begun += 1

    def _end(self) -> None:
        self._open -= 1

    def count(self, key: int, n: int, error: bool) -> Iterator[tuple[int, int]]:
        """Yield small items, without waiting."""
        self._begin()
        try:
            for number in range(n):
                yield key, number
            if error:
                raise LookupError(f"end of {key}")
        finally:
            self._end()

    async def scan(self, key: int, n: int, error: bool) -> AsyncIterator[tuple[int, int]]:
        """Yield small items, some of them after a wait."""
        self._begin()
        try:
            for number in range(n):
                if number % 7 == 0:
                    await asyncio.sleep(0.0005)
                yield key, number
            if error:
                raise LookupError(f"end of {key}")
        finally:
            self._end()

    def frames(self, key: int, n: int, error: bool) -> Iterator[Any]:
        """Yield the same array object repeatedly, with new contents."""
        self._begin()
        try:
            frame = np.empty(5_000, np.int64)
            for number in range(n):
                frame[:] = key + number
                yield frame
                frame[:] = -1
            if error:
                raise LookupError(f"end of {key}")
        finally:
            self._end()

    def pauses(self, key: int, n: int, error: bool) -> Iterator[tuple[int, int]]:
        """Yield few items, slowly."""
        self._begin()
        try:
            for number in range(n):
                if number % 50 == 49:
                    time.sleep(0.002)
                yield key, number
            if error:
                raise LookupError(f"end of {key}")
        finally:
            self._end()

    def echo(self, value: int) -> int:
        """Return the argument."""
        return value

    @immediate
    async def held(self) -> dict[str, int]:
        """Return the resources of the server, the connection of this call included."""
        streams = {"generators": self._open, "begun": self._begun}
        return {**held(), **streams, "tasks": len(asyncio.all_tasks()), "memory": memory()}


async def main() -> None:
    """Serve until a signal comes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    port, mode, *files = sys.argv[1:]
    context = pyon.tcp.server_context(*files) if files else None
    server = Server({"driver": Driver()}, **MODES[mode])

    def ready(server: Server) -> None:
        print("port", server.port, flush=True)

    await serve(server, HOST, int(port), ssl=context, ready_cb=ready)


if __name__ == "__main__":
    asyncio.run(main())
