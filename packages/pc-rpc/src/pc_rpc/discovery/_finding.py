"""Finding servers: which are announced, and which of them answer.

The one idea to keep in mind: all results are shown, and nothing is guessed. A record may be wrong;
a connection shows whether there is a server, and the server's greeting counts more than the record.
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
"""Seconds that a search takes. On an idle network, answers come within half a second."""

MOST_SERVERS = 1000
"""Maximum number of records that a search follows. A laboratory has fewer, a flood of records has
more."""

MOST_PROBES = 200
"""Maximum number of simultaneous connections. A process can usually open 1,000 files."""

MOST_ADDRESSES = 4
"""Maximum number of addresses of a record that are tried. A hostile record may have any number."""

PROBE = 1.0
"""Seconds that a server may take to answer at one address, in the network of one building."""


@dataclass(frozen=True)
class FoundServer:
    """A server that was found. Its texts come from the network, and are not verified.

    Attributes
    ----------
    name : str
        The name that is announced. Other servers may have the same name.
    host : str
        An address at which it answers; otherwise its first address.
    port : int
        TCP port.
    targets : tuple of str
        Names of its targets.
    description : str
        Description of the server, for people; empty if there is none.
    tls : bool
        Whether it speaks TLS.
    answers : bool
        Whether it answered during the search. With TLS: whether it accepted a connection.
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

    May be called from any thread, also from one with a running event loop, which it blocks.

    Parameters
    ----------
    timeout : float, optional
        Seconds that the search takes. It always takes this time, because the number of servers is
        not known.

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
                await asyncio.Event().wait()  # the number of servers is not known
        await browser.async_cancel()
    finally:
        await search.end()
        await network.async_close()
    return sorted(search.found.values(), key=lambda one: (one.name, one.host, one.port))


def find_server(name: str, timeout: float = SEARCH) -> FoundServer:
    """Return the server of a name.

    Raises
    ------
    UnknownServer
        No server or several servers have the name, or the server does not answer.
    """
    return select(find_servers(timeout), name)


async def asyncio_find_server(name: str, timeout: float = SEARCH) -> FoundServer:
    """Return the server of a name: `find_server` for asyncio."""
    return select(await asyncio_find_servers(timeout), name)


def select(servers: Iterable[FoundServer], name: str) -> FoundServer:
    """Return the server of a name among those found; raise `UnknownServer` as `find_server`."""
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
        raise UnknownServer(f"the server {name!r} is announced, but does not answer: {where}")
    return named[0]


class _Search:
    """The results of one search so far.

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
        """Handle a record that was found, changed or withdrawn."""
        if state_change.name == "Removed":
            self.found.pop(name, None)
            if (task := self._tasks.pop(name, None)) is not None:
                task.cancel()
        elif name not in self._tasks and len(self._tasks) < MOST_SERVERS:
            self._tasks[name] = asyncio.ensure_future(self._resolve(name))

    async def end(self) -> None:
        """Cancel the tasks that have not finished."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _resolve(self, name: str) -> None:
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
        """Return a server with the contents of its greeting; None if it does not answer there."""
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
    """Return the greeting of a server; None from a TLS server that accepts the connection."""
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
