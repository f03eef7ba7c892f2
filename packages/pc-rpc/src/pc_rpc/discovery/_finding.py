"""Finding servers: who is announced, and who of them answers.

The one idea to keep in mind: all that is found is shown, and nothing is guessed. A record is what
somebody says; whether there is a server is found by a connection to it, and what that server says
of itself counts more than the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pyon.tcp import format_address

from pc_rpc._errors import ProtocolError, UnknownServer
from pc_rpc._greeting import Greeting, read_greeting
from pc_rpc._protocol import BANNER, HANDSHAKE_LIMIT
from pc_rpc.discovery._network import library, multicast_question, open_network
from pc_rpc.discovery._records import SERVICE, read

SEARCH = 3.0
"""Seconds that a search takes. Answers come within half a second, where the network is idle."""

MOST_SERVERS = 1000
"""Records of one search that are looked at: no laboratory has that many, a flood has."""

MOST_PROBES = 200
"""Connections that are made at the same time: processes may have a thousand files open."""

MOST_ADDRESSES = 4
"""Addresses of a record that are tried. Somebody else may have chosen them."""

PROBE = 1.0
"""Seconds that a server may take to answer at one address, in a network of one building."""


@dataclass(frozen=True)
class FoundServer:
    """A server that was found. All texts are what it, or somebody else, has said.

    Attributes
    ----------
    name : str
        What it is announced as. Others may have the same name.
    host : str
        An address at which it answers; else the first one that it has.
    port : int
        TCP port.
    targets : tuple of str
        Names of its targets.
    description : str
        What it tells people about itself; empty if nothing.
    tls : bool
        Whether it speaks TLS.
    answers : bool
        Whether it answered within the time of the search. If it speaks TLS: whether it could be
        connected to.
    """

    name: str
    host: str
    port: int
    targets: tuple[str, ...]
    description: str
    tls: bool
    answers: bool


def find_servers(timeout: float = SEARCH) -> list[FoundServer]:
    """Return the servers that are announced on the local network, sorted by name.

    To be called from any thread, also where an event loop runs, which it blocks.

    Parameters
    ----------
    timeout : float, optional
        Seconds that the search takes: it cannot know whether there are more.

    Raises
    ------
    ImportError
        The library `zeroconf` is not installed.
    OSError
        There is no network.
    """
    library()
    result: list[Any] = []

    def search() -> None:
        try:
            result.append(asyncio.run(asyncio_find_servers(timeout)))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=search, name="find_servers", daemon=True)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    found: list[FoundServer] = result[0]
    return found


async def asyncio_find_servers(timeout: float = SEARCH) -> list[FoundServer]:
    """Return the servers that are announced on the local network: `find_servers` for asyncio."""
    network = open_network()
    search = _Search(network)
    try:
        browser = library().AsyncServiceBrowser(
            network.zeroconf,
            SERVICE,
            handlers=[search.changed],
            question_type=multicast_question(),
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.Event().wait()  # for the others, of whom nobody knows how many
        await browser.async_cancel()
    finally:
        await search.end()
        await network.async_close()
    return sorted(search.found.values(), key=lambda one: (one.name, one.host, one.port))


def find_server(name: str, timeout: float = SEARCH) -> FoundServer:
    """Return the one server of a name.

    Raises
    ------
    UnknownServer
        There is none, or more than one, or it does not answer.
    """
    return only(find_servers(timeout), name)


async def asyncio_find_server(name: str, timeout: float = SEARCH) -> FoundServer:
    """Return the one server of a name: `find_server` for asyncio."""
    return only(await asyncio_find_servers(timeout), name)


def only(servers: Iterable[FoundServer], name: str) -> FoundServer:
    """Return the one of some servers that has a name; raise `UnknownServer` else."""
    servers = list(servers)
    named = [server for server in servers if server.name == name]
    where = ", ".join(
        format_address((server.host, server.port)) + ("" if server.answers else " (not answering)")
        for server in named
    )
    if len(named) > 1:
        raise UnknownServer(f"there are {len(named)} servers called {name!r}: {where}")
    if not named:
        others = ", ".join(repr(server.name) for server in servers[:10]) or "none"
        raise UnknownServer(f"no server called {name!r} was found; found: {others}")
    if not named[0].answers:
        raise UnknownServer(f"the server {name!r} is announced, and does not answer: {where}")
    return named[0]


class _Search:
    """What one search has found so far.

    Attributes
    ----------
    found : dict of str to FoundServer
        By the names of their records.
    """

    def __init__(self, network: Any) -> None:
        self.found: dict[str, FoundServer] = {}
        self._network = network
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._probes = asyncio.Semaphore(MOST_PROBES)

    def changed(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        """Take in that there is a record, or that one was withdrawn."""
        if state_change.name == "Removed":
            self.found.pop(name, None)
            if (task := self._tasks.pop(name, None)) is not None:
                task.cancel()
        elif name not in self._tasks and len(self._tasks) < MOST_SERVERS:
            self._tasks[name] = asyncio.ensure_future(self._look_at(name))

    async def end(self) -> None:
        """Give up what is not known yet."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _look_at(self, name: str) -> None:
        info = library().AsyncServiceInfo(SERVICE, name)
        network, question = self._network.zeroconf, multicast_question()
        while not await info.async_request(network, 1000, question):
            pass  # until the search is over
        record = read(info.properties, name)
        hosts = info.parsed_scoped_addresses()
        if not hosts or not info.port:
            return
        server = FoundServer(record.name, hosts[0], info.port, *record[1:], answers=False)
        self.found[name] = server
        probes = [
            asyncio.ensure_future(self._probe(server, host)) for host in hosts[:MOST_ADDRESSES]
        ]
        try:
            for answer in asyncio.as_completed(probes):
                if (answered := await answer) is not None:
                    self.found[name] = answered
                    return
        finally:
            for probe in probes:
                probe.cancel()

    async def _probe(self, server: FoundServer, host: str) -> FoundServer | None:
        """Return what a server says of itself at an address; None if nothing answers there."""
        try:
            async with self._probes, asyncio.timeout(PROBE):
                greeting = await _greeting(host, server.port, tls=server.tls)
        except (OSError, EOFError, ValueError, ProtocolError):
            return None
        server = replace(server, host=host, answers=True)
        if greeting is None:
            return server
        described = greeting.description if isinstance(greeting.description, str) else ""
        return replace(server, targets=tuple(greeting.targets), description=described)


async def _greeting(host: str, port: int, *, tls: bool) -> Greeting | None:
    """Return the greeting of a server; None of one that speaks TLS, where it takes a connection."""
    reader, writer = await asyncio.open_connection(host, port, limit=HANDSHAKE_LIMIT)
    try:
        if tls:
            return None
        writer.write(BANNER + b"\n")
        line = await reader.readuntil(b"\n")
        return read_greeting(line[:-1], format_address((host, port)))
    except asyncio.LimitOverrunError as error:
        raise ValueError("too long for a greeting") from error
    finally:
        writer.close()
