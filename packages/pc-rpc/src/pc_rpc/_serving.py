"""A controller's main loop: serve until terminated, by a client or by a signal.

The one idea to keep in mind: signals end the same way as a client's ``terminate``; nothing is torn
down from within a signal handler, and what the process had installed before is put back.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

from pyon.framing import DEFAULT_LIMIT

from pc_rpc._server import Server

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""What asks a process to end, on any platform: Ctrl-C, systemd, a closed terminal."""


@contextlib.contextmanager
def termination_signals(
    loop: asyncio.AbstractEventLoop, act: Callable[[], object]
) -> Iterator[None]:
    """Have the signals that ask a process to end call `act` on the loop, within the block.

    Without effect outside of the main thread, where no signal can be handled.
    """
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in SIGNALS:
            number = getattr(signal, name, None)
            # A signal that is ignored stays so: nohup(1), for example.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                handler = lambda *_: loop.call_soon_threadsafe(act)  # noqa: E731
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


async def serve(
    server: Server,
    host: str | Sequence[str] | None,
    port: int,
    *,
    ssl: ssl.SSLContext | None = None,
    ready_cb: Callable[[Server], object] | None = None,
) -> None:
    """Start a server, serve until a client or a signal terminates it, and stop it.

    What `simple_server_loop` does, for a server of your own and a loop that runs already.

    Parameters
    ----------
    server : Server
        Not started yet.
    host, port, ssl, ready_cb
        As for `simple_server_loop`.
    """
    with termination_signals(asyncio.get_running_loop(), server.terminate):
        async with server:
            await server.start(host, port, ssl=ssl)
            if ready_cb is not None:
                ready_cb(server)
            await server.wait_terminate()


def simple_server_loop(
    targets: Mapping[str, Any],
    host: str | Sequence[str] | None,
    port: int,
    description: str | None = None,
    *,
    allow_parallel: bool = False,
    worker_threads: bool = False,
    expose: Mapping[str, Collection[str]] | None = None,
    hide: Mapping[str, Collection[str]] | None = None,
    limit: int = DEFAULT_LIMIT,
    ssl: ssl.SSLContext | None = None,
    ready_cb: Callable[[Server], object] | None = None,
) -> None:
    """Run a server until a client calls ``terminate`` or a signal (SIGINT, SIGTERM, SIGHUP) comes.

    Then it stops in order and returns, so that a controller's exit status is 0.

    Parameters
    ----------
    targets, description, allow_parallel, worker_threads, expose, hide, limit
        As for `Server`.
    host : str, sequence of str or None
        Bind address or addresses; None means all interfaces.
    port : int
        TCP port. 0 has the system choose one.
    ssl : ssl.SSLContext, optional
        Serve TLS; `pyon.tcp.server_context` makes the usual context.
    ready_cb : callable, optional
        Called with the `Server` as soon as clients can connect: it has ``addresses``, for example.

    Raises
    ------
    OSError
        An address cannot be bound, because it is in use, for example.
    """
    server = Server(
        targets,
        description,
        builtin_terminate=True,
        allow_parallel=allow_parallel,
        worker_threads=worker_threads,
        expose=expose,
        hide=hide,
        limit=limit,
    )
    asyncio.run(serve(server, host, port, ssl=ssl, ready_cb=ready_cb))
