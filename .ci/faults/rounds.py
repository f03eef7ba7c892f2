"""Rounds with one server that is killed and restarted while clients use it through proxies.

The pages of calls, of clients that reconnect, and of streams derive their rounds from
`ServerRound`.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import trustme
from pc_rpc import AsyncioClient
from pyon.tcp import client_context

from faults.processes import HOST, LONG, Child, held
from faults.proxy import ROUGH, ROUGH_TLS, Network, Proxy
from faults.report import Report

GRACE = 30.0
"""Seconds beyond its time-out after which a call hangs: more than any stall, on a slow machine."""

LEAK_GRACE = 20.0
"""Seconds within which resources of closed connections must have been released."""

MEMORY_GROWTH = 100 * 2**20
"""Bytes that a process may have more after a round than before: buffers, caches, fragments."""


class Certificates:
    """TLS files of a server and a client that trust each other."""

    def __init__(self, folder: Path) -> None:
        for name in ("server", "client"):
            leaf = trustme.CA().issue_cert(name)
            leaf.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
            leaf.private_key_pem.write_to_path(folder / f"{name}.key")
        self.of_server = [folder / name for name in ("server.pem", "server.key", "client.pem")]
        self.of_client = [folder / name for name in ("client.pem", "client.key", "server.pem")]
        self.context: ssl.SSLContext = client_context(*self.of_client)


class ServerRound:
    """One server, and the crews of tasks and threads that use it.

    Parameters
    ----------
    report : Report
    rng : Random
        Source of the random choices of the round.
    mode : str
        A key of `controller.MODES`.
    certificates : Certificates, optional
        None: without TLS.

    Attributes
    ----------
    uses_per_server : tuple of int
        The smallest and the largest number of calls or streams between two ends of the server.
    may_grow : set of str
        Resources of the server that may grow during a round: executors keep their threads.
    going : bool
        False: the crews are to end.
    made : int
        Calls or streams that have begun.
    """

    uses_per_server: tuple[int, int]
    may_grow = frozenset({"threads"})

    def __init__(
        self, report: Report, rng: Random, mode: str, certificates: Certificates | None
    ) -> None:
        self.report, self.rng, self.mode = report, rng, mode
        self.files = certificates.of_server if certificates else []
        self.context = certificates.context if certificates else None
        self.going = True
        self.made = 0

    def describe(self) -> str:
        """Return the case of this round, for people."""
        return f"{self.mode}{', TLS' if self.context else ''}"

    def start_server(self, port: int) -> Child:
        """Start a server on a port and wait until it serves."""
        raise NotImplementedError

    def crews(self, proxy: Callable[[], Proxy]) -> Iterator[Awaitable[None]]:
        """Yield the crews, each with a proxy of its own."""
        raise NotImplementedError

    def proxy_options(self) -> dict[str, Any]:
        """Return further options of the proxies."""
        return {}

    def hung(self) -> list[str]:
        """Return the calls or streams that should have ended, for people."""
        raise NotImplementedError

    def pending(self) -> list[str]:
        """Return the calls or streams that have not ended, for people."""
        raise NotImplementedError

    async def resources(self, port: int) -> dict[str, int]:
        """Return the resources of the server after the clients have gone."""
        return await server_resources(port, self.context)

    async def check_server(self, port: int, before: dict[str, int]) -> dict[str, int]:
        """Report resources that the server has not released; return its resources."""
        deadline = time.monotonic() + LEAK_GRACE
        while True:
            after = await self.resources(port)
            grown = {
                key: (before[key], after[key])
                for key in before
                if key not in {"memory", *self.may_grow} and after[key] > before[key]
            }
            if not grown or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        if grown:
            self.report.find("leaks", f"at the server ({self.describe()}): {grown}")
        growth = after["memory"] - before["memory"]
        if growth > MEMORY_GROWTH:
            self.report.find("memory", f"the server has grown by {growth / 2**20:.0f} MiB")
        return after

    async def run(self, network: Network, port: int, seconds: float) -> None:
        """Run the round; crews that do not end with it hang."""
        weather = ROUGH_TLS if self.context else ROUGH
        server = await asyncio.to_thread(self.start_server, port)
        before = await server_resources(port, self.context)
        seeds = iter(range(self.report.seed * 1000, self.report.seed * 1000 + 100))

        def proxy() -> Proxy:
            return network.proxy(port, next(seeds), weather, **self.proxy_options())

        crews = [asyncio.ensure_future(crew) for crew in self.crews(proxy)]
        server = await self._supervise(server, port, seconds)
        self.going = False
        network.calm()
        _, late = await asyncio.wait(crews, timeout=LONG + GRACE)
        if late:
            hung = ", ".join(self.pending()[:3])
            self.report.find("hung", f"{len(late)} crews did not end: {hung} ({self.describe()})")
        for crew in crews:
            if crew.done() and (error := crew.exception()) is not None:
                self.report.find("wrong", f"a client raised {error!r} ({self.describe()})")
        await self.check_server(port, before)
        await asyncio.to_thread(self._end_server, server, kill=False)

    async def _supervise(self, server: Child, port: int, seconds: float) -> Child:
        """Kill and restart the server at intervals; report hung uses. Return the last server."""
        end, next_end = time.monotonic() + seconds, self.rng.randint(*self.uses_per_server)
        while time.monotonic() < end:
            await asyncio.sleep(0.05)
            if hung := self.hung():
                self.report.find("hung", f"{hung[0]} ({self.describe()})")
                break
            if self.made > next_end:
                next_end = self.made + self.rng.randint(*self.uses_per_server)
                kill = self.rng.random() < 0.5
                await asyncio.to_thread(self._end_server, server, kill=kill)
                server = await asyncio.to_thread(self.start_server, port)
        return server

    def _end_server(self, server: Child, *, kill: bool) -> None:
        """Kill or stop a server, and check its log."""
        report = self.report
        if kill:
            server.kill()
        elif (status := server.terminate()) != 0:
            report.find("crashes", f"a server ended with status {status}: {server.log()[-500:]}")
        report.count("servers killed" if kill else "servers stopped")
        if (complaint := server.complaints()) is not None:
            report.find("crashes", f"in the log of a server ({self.describe()}): {complaint}")
        server.close()


async def server_resources(port: int, context: ssl.SSLContext | None) -> dict[str, int]:
    """Return the resources of a server, whose driver must have the method ``held``."""
    async with AsyncioClient() as client:
        await client.connect_rpc(HOST, port, "driver", timeout=LONG, ssl=context)
        return dict(await client.held())


def find_leaks(before: dict[str, int], report: Report) -> None:
    """Report resources that this process, the clients', has not released."""
    deadline = time.monotonic() + LEAK_GRACE
    while True:
        after = held()
        grown = {key: (before[key], after[key]) for key in before if after[key] > before[key]}
        if not grown or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    if grown:
        names = [thread.name for thread in threading.enumerate()]
        report.find("leaks", f"at the clients: {grown}; threads: {names}")
