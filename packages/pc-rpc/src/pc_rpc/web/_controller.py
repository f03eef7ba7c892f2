"""The targets of a server, each with a connection that is made again, and the forms of its methods.

The one idea to keep in mind: all pages share these connections. Without a click, the controller
only connects, pings, and asks for the method list.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyon.backoff import Backoff

from pc_rpc import AsyncioClient
from pc_rpc.web._forms import Form, forms_of

if TYPE_CHECKING:
    import ssl

__all__ = ["Controller", "Station"]

CONNECT_TIMEOUT = 10.0
"""Seconds that an attempt to connect may take."""

LONGEST_WAIT = 5.0
"""Longest time between attempts to connect, in seconds: somebody may be watching."""

PING_INTERVAL = 2.0
"""Seconds between pings. A server that does not answer within this time is "stale": it may be busy
with a call, so the connection is kept."""


@dataclass
class Station:
    """One target: its state, since when (on the monotonic clock), its last error, its forms."""

    name: str
    state: str = "connecting"
    since: float = field(default_factory=time.monotonic)
    trouble: str = ""
    doc: str = ""
    forms: dict[str, Form] = field(default_factory=dict)
    client: AsyncioClient[Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the state, as it is sent to a page."""
        age = time.monotonic() - self.since
        return {"state": self.state, "age": age, "trouble": self.trouble}


class Controller:
    """The connections to the targets of a server, and their state.

    Parameters
    ----------
    host, port
        Address of the server.
    target : str or None
        Show this target only; None: all targets.
    ssl : ssl.SSLContext or None
        Speak TLS.
    """

    def __init__(
        self, host: str, port: int, target: str | None, ssl: ssl.SSLContext | None
    ) -> None:
        self._where = host, port
        self._target = target
        self._ssl = ssl
        self.description = ""
        self.stations: dict[str, Station] = {}
        self.trouble = ""
        self.observers: set[Callable[[], None]] = set()
        """Called when any of these attributes has changed."""

    async def run(self) -> None:
        """Find the targets and stay connected to them, until this is cancelled."""
        names = await self._retry(self._find_targets)
        self.stations = {name: Station(name) for name in names}
        self._notify()
        async with asyncio.TaskGroup() as group:
            for station in self.stations.values():
                group.create_task(self._stay_connected(station))

    async def _find_targets(self) -> list[str]:
        if self._target is not None:
            return [self._target]
        async with AsyncioClient[Any]() as client:
            await client.connect_rpc(*self._where, None, timeout=CONNECT_TIMEOUT, ssl=self._ssl)
            names, description = client.get_rpc_id()
            self.description = description or ""
            return names

    async def _retry(self, attempt: Callable[[], Any]) -> Any:
        backoff = Backoff(0.25, LONGEST_WAIT)
        while True:
            try:
                result = await attempt()
            except Exception as error:
                self.trouble = str(error)
                self._notify()
                await asyncio.sleep(backoff.next())
            else:
                self.trouble = ""
                return result

    async def _stay_connected(self, station: Station) -> None:
        while True:
            async with AsyncioClient[Any]() as client:
                await self._retry(functools.partial(self._connect, station, client))
                try:
                    await self._ping(station, client)
                except Exception as error:
                    self._lose(station, error)

    async def _ping(self, station: Station, client: AsyncioClient[Any]) -> None:
        """Ping regularly, until the connection is lost, which is raised."""
        while True:
            await asyncio.sleep(PING_INTERVAL)
            ping = asyncio.ensure_future(client.ping_rpc())
            try:
                await asyncio.wait({ping}, timeout=PING_INTERVAL)
                if not ping.done():
                    self._mark(station, "stale", "the server does not answer; it may be busy")
                await ping
            finally:
                ping.cancel()
            self._mark(station, "live")

    async def _connect(self, station: Station, client: AsyncioClient[Any]) -> None:
        try:
            await client.connect_rpc(
                *self._where, station.name, timeout=CONNECT_TIMEOUT, ssl=self._ssl
            )
            listed = await client.get_rpc_method_list()
        except Exception as error:
            self._lose(station, error)
            raise
        doc = listed.get("docstring")
        station.doc = doc if isinstance(doc, str) else ""
        station.forms = forms_of(listed)
        station.client = client
        self._mark(station, "live")

    def _lose(self, station: Station, error: Exception) -> None:
        station.client = None
        self._mark(station, "stale", str(error) or type(error).__name__)

    def _mark(self, station: Station, state: str, trouble: str = "") -> None:
        if (station.state, station.trouble) == (state, trouble):
            return
        if station.state != state:
            station.state, station.since = state, time.monotonic()
        station.trouble = trouble
        self._notify()

    def _notify(self) -> None:
        for observer in self.observers:
            observer()
