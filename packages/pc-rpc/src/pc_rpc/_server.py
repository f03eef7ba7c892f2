"""The server: listens, and lets each connection reach the targets.

The one idea to keep in mind: what connections have in common is in `Shared`, what belongs to one of
them is in a `Session`; here they are put together and brought to an end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyon.asyncio_server import AsyncioServer
from pyon.framing import DEFAULT_LIMIT, REQUEST_LINE_LIMIT

from pc_rpc._migration import takes_context
from pc_rpc._session import Session
from pc_rpc._shared import Shared

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Mapping, Sequence

    from pyon.asyncio_connection import Connection


class Server(AsyncioServer):
    """Serves the methods of targets over TCP.

    Runs on asyncio. Plain methods are called on the event loop, unless `worker_threads` is set;
    coroutine methods are awaited there. Calls are executed one at a time, in the order in which
    they came, whichever client they come from, unless `allow_parallel` or `worker_threads` is set.

    Parameters
    ----------
    targets : dict of str to object
        The objects whose methods can be called, by the names that clients select them by (without
        white space). A class, function or partial is called without arguments for each connection
        and makes the target of that connection; if the target then has a method ``close``, it is
        called when the connection ends. What it makes may be awaitable, and is entered and left if
        it is a context manager. An object is neither entered, left nor closed: that is the business
        of the program that made it. A client offers the methods of its own target.
    description : str, optional
        What the server tells people about itself.
    builtin_terminate : bool, optional
        Give clients a method ``terminate``, which ends `wait_terminate`.
    allow_parallel : bool, optional
        Let coroutine methods run in parallel: those of several clients, and those that one client
        of ours calls without waiting.
    worker_threads : bool, optional
        Run the plain methods of each target in a thread of its own: one at a time for each target,
        while calls of other targets, connections, pings and questions about methods are served.
        What a class or function makes is made, entered, called, left and closed on that thread.
    properties : bool, optional
        Offer methods ``get_power`` and ``set_power`` for a property ``power`` of a target, unless
        it has methods of these names. No property is read before a client asks for it.
    expose, hide : dict of str to collection of str, optional
        By target name: the only methods, or the methods not, to be offered. By default all public
        functions and methods are, except ``close``; `expose` may name other attributes that can be
        called, ``close``, and methods of attributes, ``axis.move``. Names with a leading underscore
        never can be called.
    limit : int, optional
        Bytes that one message may have, in both directions.
    line_limit : int, optional
        Bytes that the text of a request may have. Everybody waits while it is read, so it is less:
        large arrays and bytes of our clients do not count, clients of the established stack send
        them as text.

    Raises
    ------
    TypeError
        A target is an object that can itself be called; or `expose` or `hide` are no dicts of
        lists.
    ValueError
        A target cannot have its name, or `expose` or `hide` name what the target does not have or
        what cannot be called.

    Examples
    --------
    ::

        async with Server({"laser": laser}) as server:
            await server.start("::1", 3249)
            await server.wait_terminate()
    """

    def __init__(
        self,
        targets: Mapping[str, Any],
        description: str | None = None,
        builtin_terminate: bool = False,
        allow_parallel: bool = False,
        *,
        worker_threads: bool = False,
        properties: bool = False,
        expose: Mapping[str, Collection[str]] | None = None,
        hide: Mapping[str, Collection[str]] | None = None,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REQUEST_LINE_LIMIT,
    ) -> None:
        super().__init__()
        self._shared = Shared(
            targets,
            description,
            builtin_terminate=builtin_terminate,
            parallel=allow_parallel,
            worker_threads=worker_threads,
            properties=properties,
            expose=expose or {},
            hide=hide or {},
            limit=limit,
            line_limit=line_limit,
        )

    @property
    def targets(self) -> Mapping[str, Any]:
        """The targets, by name."""
        return self._shared.given

    @property
    def description(self) -> str | None:
        """What the server tells people about itself."""
        return self._shared.description

    @takes_context("server_context")
    async def start(
        self,
        host: str | Sequence[str] | None,
        port: int,
        *,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """Start the server. See `AsyncioServer.start`."""
        self._shared.prepare()
        began = self._shared.start()
        try:
            await super().start(host, port, ssl=ssl)
        except BaseException:
            if began:
                await self._shared.end()
            raise

    async def wait_terminate(self) -> None:
        """Wait until a client has called ``terminate``, or a method has raised `SystemExit`."""
        await self._shared.terminated.wait()

    async def serve_forever(self) -> None:
        """Serve until terminated (or cancelled), then stop."""
        try:
            await self.wait_terminate()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop the server: close its port and its connections, cancel coroutine methods that run.

        Returns within a few seconds, also if peers or methods hang. May be called again.
        """
        try:
            await self._shared.end_calls()
        finally:  # also if this task is cancelled, or is one of those
            try:
                await super().stop()
            finally:
                await self._shared.end()

    def terminate(self) -> None:
        """End `wait_terminate`, as a client's call of ``terminate`` does."""
        self._shared.terminate()

    def _make_connection(self) -> Connection:
        return Session(self._shared, self._scratch)
