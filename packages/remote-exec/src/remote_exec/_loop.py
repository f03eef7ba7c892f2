"""The main loop of a controller with a driver and a target that accepts code."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import Any

from pc_rpc import Client, Server, serve

from remote_exec._access import require_guard
from remote_exec._server import RemoteExecServer, checked_deadline


class _GuardedServer(Server):
    """A server whose guard checks the bound addresses before connections are accepted."""

    guard: Callable[[list[tuple[str, int]]], object] | None = None

    def _bound(self, addresses: list[tuple[str, int]]) -> None:
        super()._bound(addresses)
        if self.guard is not None:
            self.guard(addresses)


def simple_rexec_server_loop(
    target_name: str,
    target: Any,
    host: str | Sequence[str] | None,
    port: int,
    description: str | None = None,
    *,
    deadline: float | None = None,
    allow_remote: bool = False,
    ssl: SSLContext | None = None,
    allow_parallel: bool = False,
    worker_threads: bool = False,
    ready_cb: Callable[[Server], object] | None = None,
    ssl_config: None = None,
) -> None:
    """Run a server with remote execution support, until a client or a signal ends it.

    The server has two targets: the driver under `target_name`, and a `RemoteExecServer` for each
    connection under the same name with the suffix ``_rexec``. Sent code finds the driver as
    ``controller_driver``.

    Parameters
    ----------
    target_name : str
        Name of the driver's target.
    target : object
        The driver.
    host : str, sequence of str or None
        Bind address or addresses; None means all interfaces.
    port : int
        TCP port. 0: the system chooses one.
    description : str, optional
        Text about the server, for people.
    deadline : float, optional
        Seconds that any call of sent code may take. None: no limit.
    allow_remote : bool, optional
        Accept connections from other machines without a certificate: **everyone who can reach the
        port then runs code with the rights of this process**.
    ssl, allow_parallel, worker_threads, ready_cb
        As for `pc_rpc.simple_server_loop`.
    ssl_config : None
        A parameter of the established stack. Other values raise a `TypeError` that says what to
        write instead.

    Raises
    ------
    ValueError
        The bound addresses can be reached from other machines, `ssl` demands no certificate of
        clients, and `allow_remote` is not set. No connection was accepted. Or `deadline` is not
        positive.
    TypeError
        `ssl` is not a context, or `ssl_config` was passed.
    OSError
        An address cannot be bound.
    RuntimeError
        An event loop is running in this thread.
    """
    if ssl_config is not None or not isinstance(ssl, SSLContext | None):
        raise TypeError(
            "simple_rexec_server_loop() takes an ssl.SSLContext: write"
            " ssl=pyon.tcp.server_context(certificate, key, peer_certificate)"
        )
    _refuse_running_loop()
    checked_deadline(deadline)
    namespace = {"controller_driver": target}
    make = functools.partial(
        RemoteExecServer, namespace, deadline=deadline, allow_remote=allow_remote
    )
    server = _GuardedServer(
        {target_name: target, f"{target_name}_rexec": make},
        description,
        builtin_terminate=True,
        allow_parallel=allow_parallel,
        worker_threads=worker_threads,
    )
    if not allow_remote:
        server.guard = functools.partial(require_guard, context=ssl)
    try:
        asyncio.run(serve(server, host, port, ssl=ssl, ready_cb=ready_cb))
    finally:
        _close_clients(namespace)


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "simple_rexec_server_loop blocks until the server has ended, and an event loop is running"
        " in this thread (that of a notebook, for example): call it in a thread of its own"
    )


def _close_clients(namespace: dict[str, Any]) -> None:
    """Close the clients that `connect_global_rpc` has made; the caller closes the driver."""
    namespace.pop("controller_driver", None)  # sent code may have removed it
    for shared in namespace.values():
        if isinstance(shared, Client):
            shared.close_rpc()
