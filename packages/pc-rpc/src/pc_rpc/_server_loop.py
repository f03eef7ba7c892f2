"""A controller's main loop: serve until terminated, by a client or by a signal.

The one idea to keep in mind: a signal ends the server in the same way as a client's ``terminate``.
Nothing is torn down within a signal handler, and the previous signal handlers are restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from pyon.framing import DEFAULT_LIMIT, REQUEST_LINE_LIMIT

from pc_rpc._migration import takes_context
from pc_rpc._server import Server
from pc_rpc._signals import TerminationSignals

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Mapping, Sequence

_logger = logging.getLogger("pc_rpc")

TERMINATED = "terminate() was called"
"""Reason in the log for the end of a server, if no signal ended it."""


async def serve(
    server: Server,
    host: str | Sequence[str] | None,
    port: int,
    *,
    ssl: ssl.SSLContext | None = None,
    ready_cb: Callable[[Server], object] | None = None,
    announce: bool | str = False,
) -> None:
    """Start a server, serve until a client or a signal terminates it, and stop it.

    Like `simple_server_loop`, for a given server and a running event loop.

    Parameters
    ----------
    server : Server
        The server. It has not been started.
    host, port, ssl, ready_cb, announce
        As for `simple_server_loop`.
    """
    with TerminationSignals() as signals:
        await serve_until(
            signals, server, host, port, ssl=ssl, ready_cb=ready_cb, announce=announce
        )
    log_end(server, signals)


async def serve_until(
    signals: TerminationSignals,
    server: Server,
    host: str | Sequence[str] | None,
    port: int,
    *,
    ssl: ssl.SSLContext | None = None,
    ready_cb: Callable[[Server], object] | None = None,
    announce: bool | str = False,
) -> None:
    """Do what `serve` does; the caller handles signals before and after the server runs, too."""
    async with server:
        try:
            async with asyncio.timeout(None) as starting:  # resolving a host name can take long
                signals.call(lambda: starting.reschedule(0))
                await server.start(host, port, ssl=ssl)
        except TimeoutError:
            if starting.expired():
                return
            raise
        signals.call(server.terminate)
        where = ", ".join(f"{host} port {port}" for host, port in server.addresses)
        _logger.info("serving %s on %s", ", ".join(server.targets), where)
        if ready_cb is not None:
            ready_cb(server)
        async with _announced(server, announce, tls=ssl is not None):
            await server.wait_terminate()


def _announced(
    server: Server, announce: bool | str, *, tls: bool
) -> contextlib.AbstractAsyncContextManager[None]:
    if announce is False:
        return contextlib.nullcontext()
    from pc_rpc.discovery import announced

    return announced(server, announce, tls=tls)


def log_end(server: Server, signals: TerminationSignals) -> None:
    """Log why a server has ended."""
    reason = signals.received or TERMINATED
    _logger.info("stopped serving %s: %s", ", ".join(server.targets), reason)


@takes_context("server_context")
def simple_server_loop(
    targets: Mapping[str, Any],
    host: str | Sequence[str] | None,
    port: int,
    description: str | None = None,
    *,
    allow_parallel: bool = False,
    worker_threads: bool = False,
    properties: bool = False,
    expose: Mapping[str, Collection[str]] | None = None,
    hide: Mapping[str, Collection[str]] | None = None,
    limit: int = DEFAULT_LIMIT,
    line_limit: int = REQUEST_LINE_LIMIT,
    ssl: ssl.SSLContext | None = None,
    ready_cb: Callable[[Server], object] | None = None,
    announce: bool | str = False,
) -> None:
    """Run a server until a client calls ``terminate``, or until SIGINT, SIGTERM or SIGHUP.

    Then the server is stopped in order, and the function returns, so that a controller's exit
    status is 0. The function waits for a method that is running on the event loop, and logs its
    name; a second Ctrl-C ends the process at once. The addresses, and the reason for the end, are
    logged at level INFO by the logger ``pc_rpc``.

    May be called from any thread without a running event loop; signals are handled in the main
    thread only.

    Parameters
    ----------
    targets, description, allow_parallel, worker_threads, properties, expose, hide, limit,
    line_limit
        As for `Server`.
    host : str, sequence of str or None
        Bind address or addresses; None means all interfaces.
    port : int
        TCP port. With 0 the system chooses one, the same for all addresses.
    ssl : ssl.SSLContext, optional
        Serve TLS; `pyon.tcp.server_context` makes the usual context.
    ready_cb : callable, optional
        Called with the `Server` as soon as clients can connect; its ``addresses`` are known then.
        An exception of the callback stops the server, and is raised by this function.
    announce : bool or str, optional
        Announce the server on the local network, under this name, or with True under its
        description, so that `find_servers` finds it. Needs the extra ``pc-rpc[discovery]``. A
        server that only this computer can reach is not announced, which is logged.

    Raises
    ------
    OSError
        An address cannot be bound, because it is in use, for example; the message names it.
    RuntimeError
        An event loop is running in this thread.
    """
    _refuse_running_loop()
    if announce is not False:
        from pc_rpc.discovery._announcing import require

        require(announce)
    server = Server(
        targets,
        description,
        builtin_terminate=True,
        allow_parallel=allow_parallel,
        worker_threads=worker_threads,
        properties=properties,
        expose=expose,
        hide=hide,
        limit=limit,
        line_limit=line_limit,
    )
    asyncio.run(serve(server, host, port, ssl=ssl, ready_cb=ready_cb, announce=announce))


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "simple_server_loop blocks until the server has ended, and an event loop is running in this"
        " thread (that of a notebook, for example): call it in a thread of its own, or use"
        " `async with Server(...)`"
    )
