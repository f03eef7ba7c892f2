"""The servers of the page of load.

``python -m faults.serving rpc|tls|publisher DESCRIPTORS [--host ADDRESS] [FILES]``

Each line on standard input is answered with the resources of the process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys
from typing import Any

import pyon.tcp
from pc_rpc import Server
from sync_struct import Notifier, Publisher

from faults.processes import HOST, held, memory

CHANGES = 1000
"""Changes of the published structure per second."""


class Driver:
    """The driver of the well-behaved client and the crowds."""

    def echo(self, value: Any) -> Any:
        """Return the argument."""
        return value

    def fail(self) -> None:
        """Raise an error."""
        raise ValueError("x" * 1000)

    def mute(self) -> None:
        """Raise an error whose `__str__` never returns."""
        raise _Endless


class _Endless(Exception):  # noqa: N818
    def __str__(self) -> str:
        while True:
            pass


async def _change(notifier: Notifier) -> None:
    count = 0
    while True:
        for _ in range(CHANGES // 10):
            count += 1
            notifier["count"] = count
        await asyncio.sleep(0.1)


async def _answer() -> None:
    while await asyncio.to_thread(sys.stdin.readline):
        answer = {**held(), "tasks": len(asyncio.all_tasks()), "memory": memory()}
        print(json.dumps(answer), flush=True)


async def main() -> None:
    """Serve until standard input ends."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    kind, descriptors, *files = sys.argv[1:]
    host = HOST
    if files[:1] == ["--host"]:
        host, files = files[1], files[2:]
    context = pyon.tcp.server_context(*files) if files else None
    notifier = Notifier({"count": 0, "ballast": ["x" * 1000] * 100})
    server = Publisher({"d": notifier}) if kind == "publisher" else Server({"driver": Driver()})
    async with server:
        await server.start(host, 0, ssl=context)
        if int(descriptors):
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(descriptors), int(descriptors)))
        print("port", server.port, flush=True)
        changing = asyncio.ensure_future(_change(notifier))
        await _answer()
        changing.cancel()


if __name__ == "__main__":
    asyncio.run(main())
