"""Addresses of the engine, and the first connection to it.

Only this module imports the client library, on the first connection. Once connected, the library
reconnects by itself; `JetStream.lost` detects where it fails to.
"""

from __future__ import annotations

import asyncio
import importlib
import urllib.parse
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Self

from pyon.asyncio_tasks import settle_error

from sync_struct.gateway import without_secrets
from sync_struct.nats._client import close, recording_tasks
from sync_struct.nats._jetstream import JetStream, JetStreamError
from sync_struct.nats._together import cancel_and_wait

if TYPE_CHECKING:
    import ssl

__all__ = ["Address", "connect"]

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for the first connection."""

CLIENT_OPTIONS: Mapping[str, Any] = {
    "allow_reconnect": True,
    "max_reconnect_attempts": -1,
    "reconnect_time_wait": 0.25,
    "connect_timeout": 2,
    "ping_interval": 3,
    "max_outstanding_pings": 2,
}
"""Our defaults for options of the client library: reconnect for ever, and detect within 9 s a dead
network connection, or that the library's own parser has failed."""


class Address(str):
    """An address with options of the client library.

    Parameters
    ----------
    text : str
        ``nats://[user:password@]host[:port][,host[:port]...]/name``.
    **options
        Options of ``nats.connect``: ``user_credentials``, ``nkeys_seed``, ``tls``,
        ``tls_hostname``, ... They are passed on unchanged.
    """

    options: dict[str, Any]

    def __new__(cls, text: str, **options: Any) -> Self:
        """Return a string with the attribute `options`."""
        address = super().__new__(cls, text)
        address.options = options
        return address


def _make_client() -> Any:
    try:
        library = importlib.import_module("nats.aio.client")
    except ImportError:
        raise ImportError(
            "NATS needs nats-py: pip install nats-py, or the extra [nats]", name="nats"
        ) from None
    return recording_tasks(library.Client)()


def split(address: str) -> tuple[list[str], dict[str, Any]]:
    """Return the servers in an address, and its options of the client library."""
    parts = urllib.parse.urlsplit(address)
    options = dict(getattr(address, "options", {}))
    for key, value in urllib.parse.parse_qsl(parts.query):
        if key not in _FILES:
            known = ", ".join(_FILES)
            raise ValueError(f"expected one of {known} after the ? of an address, got {key!r}")
        options[_FILES[key]] = value
    user, at, hosts = parts.netloc.rpartition("@")
    return [f"nats://{user}{at}{host}" for host in hosts.split(",")], options


_FILES = {"creds": "user_credentials", "nkey": "nkeys_seed"}


async def connect(
    address: str,
    tls: ssl.SSLContext | None = None,
    on_error: Callable[[Exception], object] = lambda error: None,
) -> JetStream:
    """Connect to the engine.

    Parameters
    ----------
    address : str
        Address; an `Address` may have options of the client library.
    tls : ssl.SSLContext, optional
        Use TLS with this context.
    on_error : callable, optional
        Called with every error that the client library reports later.

    Raises
    ------
    JetStreamError
        No server can be reached, or all refuse the connection.
    """
    servers, options = split(address)
    where = without_secrets(servers[0]) + (", ..." if len(servers) > 1 else "")
    client = _make_client()
    first = _FirstConnection(
        len(servers), lambda error: on_error(_as_jetstream_error(where, error))
    )
    if tls is not None:
        options.setdefault("tls", tls)
    options = {**CLIENT_OPTIONS, **options, "error_cb": first.note}
    try:
        await first.wait(client.connect(servers, **options))
    except BaseException as error:
        await close(client)
        if not isinstance(error, Exception):
            raise
        # Any exception of the library: a broken connection makes it raise even a ValueError.
        raise _as_jetstream_error(where, error) from error
    return JetStream(client, where)


def _as_jetstream_error(where: str, error: BaseException) -> JetStreamError:
    return JetStreamError(f"{where}: {error}")


class _FirstConnection:
    """Waits until a server accepts the connection or all have refused it.

    The client library would try for ever.
    """

    def __init__(self, servers: int, on_later: Callable[[Exception], object]) -> None:
        self._left = servers
        self._on_later = on_later
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = False

    async def note(self, error: Exception) -> None:
        """Record an error of the first connection; pass on an error of a later one."""
        self._left -= 1
        if self._over:
            self._on_later(error)
        elif not self._left:
            settle_error(self._failed, error)

    async def wait(self, connecting: Coroutine[Any, Any, Any]) -> Any:
        """Return when the client is connected, or raise the error of the last server."""
        task = asyncio.ensure_future(connecting)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.wait({task, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await self._failed
            return await task
        except TimeoutError:
            raise TimeoutError(f"no answer within {CONNECT_TIMEOUT:g} s") from None
        finally:
            self._over = True
            await cancel_and_wait({task, self._failed})
