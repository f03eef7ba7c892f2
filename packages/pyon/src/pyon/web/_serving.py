"""A site, served: sockets that are bound and looked at, and the server that answers on them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn

from pyon.web._access import Access
from pyon.web._door import Door, bound
from pyon.web._site import Site, application

__all__ = ["Serving", "serving"]

LONGEST_MESSAGE = 256 * 2**10
"""Bytes of one message of a page: the rows on a screen, some hundred paths, are 20 kB."""

MOST_CONNECTIONS = 512
"""Connections at a time; beyond that requests are refused: a page has seven while it loads."""

END_GRACE = 2
"""Seconds that connections have to end in when the server does."""


@dataclass(frozen=True)
class Serving:
    """Where a site is served.

    Attributes
    ----------
    port : int
        The port.
    url : str
        What a browser opens; with the token, if there is one, in the part that is not sent.
    """

    port: int
    url: str


@contextlib.asynccontextmanager
async def serving(site: Site, door: Door) -> AsyncIterator[Serving]:
    """Return a context in which a site is served.

    Parameters
    ----------
    site : Site
        The page.
    door : Door
        Where, and who may enter.

    Raises
    ------
    OSError
        The address cannot be bound.
    ValueError
        The door is open to other machines: see `Door`.
    """
    sockets = bound(door)
    port = sockets[0].getsockname()[1]
    names = frozenset(name.lower() for name in (*door.names, door.bind) if name)
    access = Access(door.token, door.tls is not None, names, f"site-{port}")
    server = _Server(_config(site, access, door))
    running = asyncio.ensure_future(server.serve(sockets))
    begun = asyncio.ensure_future(server.begun.wait())
    try:
        await asyncio.wait({running, begun}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield Serving(port, _url(door, sockets[0]))
    finally:
        begun.cancel()
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
    elif host in ("0.0.0.0", "::"):  # noqa: S104  (which is nowhere to go)
        host = socket.gethostname()
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    secret = "" if door.token is None else f"#token={urllib.parse.quote(door.token, safe='')}"
    return f"{scheme}://{address}/{secret}"


class _Server(uvicorn.Server):
    """A server that says when it has begun, and leaves signals to the program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
