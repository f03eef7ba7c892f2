"""Clients on another machine: ``python -m faults.distant ADDRESS PORT PUBLISHER_PORT``.

Commands on standard input: ``calls N`` makes calls with both clients, and answers how many got
their own reply, and whether the mirror was updated; ``last`` makes one more call with each, without
a time-out, and answers the times until each raised an error because the server has gone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from pc_rpc import AsyncioClient, Client, ConnectionLost
from sync_struct import mirror


class Asynchronous:
    """An `AsyncioClient` on a loop in a thread."""

    def __init__(self, host: str, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._client = AsyncioClient[Any]()
        self._do(self._client.connect_rpc(host, port, "driver"))

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def echo(self, value: Any) -> Any:
        """Call the method."""
        return self._do(self._client.echo(value))


def seconds_until_lost(client: Any) -> float | str:
    """Make a call without a time-out; return the seconds until it raised ConnectionLost."""
    began = time.monotonic()
    try:
        client.echo("x" * 1000)
    except ConnectionLost:
        return time.monotonic() - began
    return "answered"


def seconds_until_stale(seen: Any) -> float:
    """Return the seconds until a mirror is stale."""
    began = time.monotonic()
    while seen.state == "live":
        time.sleep(0.05)
    return time.monotonic() - began


def _is_beyond(count: int, structure: Any) -> bool:
    return bool(structure["count"] > count)


def main() -> None:
    """Connect, and execute commands."""
    host, port, publisher_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    clients: list[Any] = [Client(host, port, "driver"), Asynchronous(host, port)]
    seen = mirror(host, publisher_port, "d")
    print("port", port, flush=True)
    for command, *arguments in map(str.split, sys.stdin):
        answer: Any = None
        if command == "calls":
            number, before = int(arguments[0]), seen["count"]
            right = sum(client.echo(n) == n for n in range(number) for client in clients)
            seen.wait(partial(_is_beyond, before), 60)
            answer = [right, seen["count"] > before]
        elif command == "last":
            with ThreadPoolExecutor() as pool:
                stale = pool.submit(seconds_until_stale, seen)
                answer = [*pool.map(seconds_until_lost, clients), stale.result()]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
