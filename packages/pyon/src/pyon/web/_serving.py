"""Serving a site: bound sockets with checked addresses, and the HTTP server on them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn

from pyon.web._access import Access
from pyon.web._door import Door, bind_sockets
from pyon.web._site import Site, application

__all__ = ["Serving", "serving"]

LONGEST_MESSAGE = 256 * 2**10
"""Maximum size of a message of a page, in bytes: a screen of some hundred paths takes 20 kB."""

MOST_CONNECTIONS = 512
"""Maximum number of connections; beyond it requests are refused. A page uses seven while it
loads."""

END_GRACE = 2
"""Seconds for which connections may end when the server stops."""


@dataclass(frozen=True)
class Serving:
    """Where a site is served.

    Attributes
    ----------
    port : int
        The port.
    url : str
        The address for a browser. A token is in the fragment, which browsers do not send.
    """

    port: int
    url: str


@contextlib.asynccontextmanager
async def serving(site: Site, door: Door) -> AsyncIterator[Serving]:
    """Serve a site while the block of the context manager runs.

    Parameters
    ----------
    site : Site
        The page.
    door : Door
        The address, and the conditions of access.

    Raises
    ------
    OSError
        The address cannot be bound.
    ValueError
        Other machines could connect without a token or without TLS: see `Door`.
    """
    sockets = bind_sockets(door)
    port = sockets[0].getsockname()[1]
    names = frozenset(name.lower() for name in (*door.names, door.bind) if name)
    access = Access(door.token, door.tls is not None, names, f"site-{port}")
    server = _Server(_config(site, access, door))
    running = asyncio.ensure_future(server.serve(sockets))
    started = asyncio.ensure_future(server.started_event.wait())
    try:
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield Serving(port, _url(door, sockets[0]))
    finally:
        started.cancel()
        server.should_exit = True
        await running
        for one in sockets:
            one.close()


def _config(site: Site, access: Access, door: Door) -> uvicorn.Config:
    config = uvicorn.Config(
        application(site, access),
        loop="none",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=LONGEST_MESSAGE,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=END_GRACE,
    )
    config.load()
    config.ssl = door.tls
    return config


def _url(door: Door, sock: socket.socket) -> str:
    scheme = "http" if door.tls is None else "https"
    host, port = sock.getsockname()[:2]
    if door.names:
        host = door.names[0]
    elif host in ("0.0.0.0", "::"):  # noqa: S104  (not an address to connect to)
        host = socket.gethostname()
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    secret = "" if door.token is None else f"#token={urllib.parse.quote(door.token, safe='')}"
    return f"{scheme}://{address}/{secret}"


class _Server(uvicorn.Server):
    """A server that reports when it has started, and leaves signals to the program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.started_event = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.started_event.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
