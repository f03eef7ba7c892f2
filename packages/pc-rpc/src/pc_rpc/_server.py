"""The server: listens, and gives each connection access to the targets.

The one idea to keep in mind: `Shared` has the state that all connections share, a `Session` that of
one connection. `Server` only creates and stops them.
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
    coroutine methods are awaited there. The calls of all clients are executed one at a time, in the
    order of their arrival, unless `allow_parallel` or `worker_threads` is set.

    Parameters
    ----------
    targets : dict of str to object
        The objects whose methods can be called, by the names that clients select (without white
        space). A class, function or partial is a factory: it is called without arguments for each
        connection, and returns the target of that connection. An awaitable result is awaited, a
        context manager is entered and left, and the method ``close`` of the target, if it has one,
        is called when the connection ends. Any other object is neither entered, left nor closed;
        the program that made it does that. A client as a target offers its remote methods.
    description : str, optional
        Description of the server, for people.
    builtin_terminate : bool, optional
        Give clients a method ``terminate``, which ends `wait_terminate`.
    allow_parallel : bool, optional
        Let coroutine methods run in parallel: those of different clients, and those that one of our
        clients calls without waiting for earlier ones.
    worker_threads : bool, optional
        Run the plain methods of each target in a thread of its own: one at a time for each target.
        Meanwhile calls of other targets, new connections, pings and method lists are served. A
        target of a factory is made, entered, called, left and closed on that thread.
    properties : bool, optional
        Offer methods ``get_power`` and ``set_power`` for a property ``power`` of a target, unless
        it has methods of these names. No property is read before a client calls its method.
    expose : dict of str to collection of str, optional
        By target name: the methods to offer, and no others. May include other callable attributes,
        ``close``, and methods of attributes, ``axis.move``. By default all public functions and
        methods are offered, except ``close``. Names with a leading underscore can never be called.
    hide : dict of str to collection of str, optional
        By target name: the methods not to offer.
    limit : int, optional
        Maximum size of a message, in bytes, in both directions.
    line_limit : int, optional
        Maximum size of the text of a request, in bytes. It is lower than `limit`, because the event
        loop is blocked while the text is parsed. Large arrays and bytes of our clients do not
        count; clients of the established stack send them as text.

    Raises
    ------
    TypeError
        A target is callable and no factory; or `expose` or `hide` is not a dict of lists.
    ValueError
        The name of a target is invalid; or `expose` or `hide` has a name that the target does not
        have or that cannot be called.

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
        """Description of the server, for people."""
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
        """Stop the server: close its port and its connections, cancel running coroutine methods.

        Returns within a few seconds, also if peers or methods hang. May be called again.
        """
        try:
            await self._shared.end_calls()
        finally:  # also if this task is cancelled, or is that of a coroutine method
            try:
                await super().stop()
            finally:
                await self._shared.end()

    def terminate(self) -> None:
        """End `wait_terminate`, as a client's call of ``terminate`` does."""
        self._shared.terminate()

    def _make_connection(self) -> Connection:
        return Session(self._shared, self._scratch)
