"""The server of the page of streams: generators that are counted when they begin and end.

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
    """Gives items that say which they are."""

    def __init__(self) -> None:
        self._open = 0
        self._begun = 0

    def _begin(self) -> None:
        self._open += 1
        self._begun += 1

    def _end(self) -> None:
        self._open -= 1

    def count(self, key: int, n: int, error: bool) -> Iterator[tuple[int, int]]:
        """Give small items, at once."""
        self._begin()
        try:
            for number in range(n):
                yield key, number
            if error:
                raise LookupError(f"end of {key}")
        finally:
            self._end()

    async def scan(self, key: int, n: int, error: bool) -> AsyncIterator[tuple[int, int]]:
        """Give small items, which have to be waited for now and then."""
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
        """Give arrays, all of them the same one, which is written into."""
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
        """Give few items, slowly."""
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
        """Return what came."""
        return value

    @immediate
    async def held(self) -> dict[str, int]:
        """Return what the server holds: one connection has come to ask that."""
        streams = {"generators": self._open, "begun": self._begun}
        return {**held(), **streams, "tasks": len(asyncio.all_tasks()), "memory": memory()}


async def main() -> None:
    """Serve until told to end."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    port, mode, *files = sys.argv[1:]
    context = pyon.tcp.server_context(*files) if files else None
    server = Server({"driver": Driver()}, **MODES[mode])

    def ready(server: Server) -> None:
        print("port", server.port, flush=True)

    await serve(server, HOST, int(port), ssl=context, ready_cb=ready)


if __name__ == "__main__":
    asyncio.run(main())
