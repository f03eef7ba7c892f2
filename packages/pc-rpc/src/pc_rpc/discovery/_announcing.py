"""Announcing a server while it runs.

The one idea to keep in mind: the controller must serve in any case. Errors of the network or the
library while it is announced are logged only, and nothing waits for the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from pyon.asyncio_tasks import abandon

from pc_rpc.discovery._network import (
    library,
    open_network,
    reachable_addresses,
    reaches_others,
)
from pc_rpc.discovery._records import SERVICE, Record, label, properties

if TYPE_CHECKING:
    from pc_rpc._server import Server

ADDRESS_CHECK = 10.0
"""Seconds between two checks of the addresses: a controller may start before the network does."""

_logger = logging.getLogger("pc_rpc")

WITHDRAWAL = 2.0
"""Maximum delay of the end of a server by withdrawing, in seconds. Usually it is half a second."""


@contextlib.asynccontextmanager
async def announced(
    server: Server, name: str | bool = True, *, tls: bool = False
) -> AsyncIterator[None]:
    """Announce a server on the local network as long as the `async with` block runs.

    A server that only this computer can reach is not announced, which is logged.

    Parameters
    ----------
    server : Server
        The server. It has been started.
    name : str or True, optional
        Name of the server. By default its description, or the names of its targets.
    tls : bool, optional
        Whether it speaks TLS.

    Raises
    ------
    ImportError
        The library `zeroconf` is not installed.
    TypeError, ValueError
        The name is not a string, or is empty.
    """
    require(name)
    task = asyncio.ensure_future(_Announcement(server, name, tls).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=WITHDRAWAL)
        abandon(task)


def require(name: object) -> None:
    """Check that a server can be announced under a name; raise the errors of `announced`."""
    library()
    if name is not True and not isinstance(name, str):
        raise TypeError(f"announce: expected a name or True, got {name!r:.100}")
    if isinstance(name, str) and not name.strip():
        raise ValueError("announce: expected a name, got an empty one")


class _Announcement:
    def __init__(self, server: Server, name: str | bool, tls: bool) -> None:
        targets = tuple(sorted(server.targets))
        description = server.description or ""
        called = name if isinstance(name, str) else description or ", ".join(targets) or "server"
        self._record = Record(called, targets, description, tls)
        self._hosts = [host for host, _ in server.addresses]
        self._port = server.addresses[0][1]
        self._logged = ""

    async def run(self) -> None:
        """Announce the server until this task is cancelled, always with its current addresses."""
        if not reaches_others(self._hosts):
            _logger.info("%r is not announced: it serves this computer only", self._record.name)
            return
        while True:
            addresses = reachable_addresses(self._hosts)
            if not addresses:
                self._warn("this computer has no network")
            else:
                try:
                    await self._announce(addresses)
                except asyncio.CancelledError:
                    raise
                except Exception as error:  # of the network or the library; the server must go on
                    self._warn(f"{type(error).__name__}: {error}")
            await asyncio.sleep(ADDRESS_CHECK)

    def _warn(self, why: str) -> None:
        """Log why the server is not announced, once for each reason."""
        if why != self._logged:
            self._logged = why
            _logger.warning("%r is not announced, for now: %s", self._record.name, why)

    async def _announce(self, addresses: list[str]) -> None:
        """Announce the server until it has other addresses."""
        port, host = self._port, socket.gethostname()
        info = library().AsyncServiceInfo(
            SERVICE,
            f"{label(self._record.name, host, port)}.{SERVICE}",
            parsed_addresses=addresses,
            port=port,
            properties=properties(self._record),
            server=f"pc-rpc-{host.partition('.')[0]}-{port}.local.",
        )
        network = open_network()
        try:
            await (await network.async_register_service(info, allow_name_change=True))
            _logger.info("announced as %r", self._record.name)
            self._logged = ""
            while reachable_addresses(self._hosts) == addresses:  # noqa: ASYNC110 (no event)
                await asyncio.sleep(ADDRESS_CHECK)
        finally:
            await network.async_close()  # which withdraws it
