"""The experiment's side on an event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from remote_exec._following import deliver, warn_if_lost
from remote_exec._requests import (
    Request,
    Requester,
    connecting,
    connection_of,
    source_for_caller,
)


class AsyncioRemoteExec(Requester):
    """Executes code in a controller, by way of an asyncio RPC client.

    The asyncio twin of `RemoteExec`, with the same methods as coroutines. What the code prints and
    logs comes out here while it runs.

    Parameters
    ----------
    client : pc_rpc.AsyncioClient
        Connected to the controller's remote execution target. Remains the caller's to close.
    output : bool, optional
        Set to False to leave what code prints and logs to the controller.
    deadline : float, optional
        Seconds that every call may take before it is interrupted. None: as long as it takes.

    Notes
    -----
    For the client's event loop. Several tasks may use it; they wait for each other.

    Examples
    --------
    ::

        async with AsyncioClient() as client:
            await client.connect_rpc("camera.lab", 3250, "camera_rexec")
            rexec = AsyncioRemoteExec(client)
            find_spot_there = await rexec.send(find_spot)
            x, y = await find_spot_there(threshold=0.5)
    """

    def __init__(self, client: Any, *, output: bool = True, deadline: float | None = None) -> None:
        super().__init__(client, deadline)
        self._output = _Follower(client) if output and not self._established else None

    async def add_code(self, code: str, *, origin: str | None = None, first_line: int = 1) -> None:
        """Execute code in the namespace of the connection. See `RemoteExec.add_code`."""
        await self._make(self._adding(code, origin, first_line))

    async def call(self, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in the namespace of the connection. See `RemoteExec.call`."""
        return await self._make(self._calling(function, args, kwargs))

    def send(
        self, function: Callable[..., Any]
    ) -> Coroutine[Any, Any, Callable[..., Coroutine[Any, Any, Any]]]:
        """Send a function; await this for a coroutine function that calls it there.

        What goes along and what is refused is as for `RemoteExec.send`.
        """
        return self._send(function, source_for_caller(function))

    async def connect_global_rpc(
        self,
        host: str | None = None,
        port: int = 3251,
        target: str = "master_dataset_db",
        name: str = "dataset_db",
    ) -> None:
        """Create a global RPC client in the controller. See `remote_exec.connect_global_rpc`."""
        for request in connecting(host, port, target, name, self.client.get_local_host):
            await request.make(self.client)

    async def _send(self, function: Callable[..., Any], source: Any) -> Callable[..., Any]:
        for request in self._sending(source):
            await self._make(request)
        return functools.wraps(function)(functools.partial(self.call, source.name))

    async def _make(self, request: Request) -> Any:
        if self._output is None:
            return await request.make(self.client)
        return await self._output.follow(request)


class _Follower:
    """Brings here what the code of one connection writes, while requests are being served."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._turn = asyncio.Lock()
        self._finished: int | None = None  # not known: to be asked
        self._connection = 0

    async def follow(self, request: Request) -> Any:
        """Make a request; return when it and its output are here."""
        async with self._turn:
            if self._finished is None or connection_of(self._client) != self._connection:
                self._finished = await self._client.keep_output()
                self._connection = connection_of(self._client)
            finished, self._finished = self._finished, None
            over = asyncio.Event()
            reader = asyncio.create_task(self._read_until(over, finished))
            try:
                result = await request.make(self._client)
                self._finished = await self._finish(reader)
                warn_if_lost(self._client, self._connection)
                return result
            except BaseException as error:
                over.set()
                if hasattr(error, "parent_traceback"):  # it came from the other end
                    await self._client.keep_output()  # wakes the reader
                    self._finished = await self._finish(reader)
                raise
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)  # the request tells of it

    async def _read_until(self, over: asyncio.Event, finished: int) -> None:
        """Read until one more call has finished, or one was refused."""
        while not over.is_set() and await self._read(finished) == finished:
            pass

    async def _finish(self, reader: asyncio.Task[None]) -> int | None:
        """Read what is left when the request is over; return the number of finished calls."""
        try:
            await reader
            return await self._read(-1)  # which is never the number, so that this does not wait
        except ConnectionError:
            return None  # the result is here, which counts more

    async def _read(self, known: int) -> int:
        records, finished = await self._client.read_output(known)
        deliver(records)
        return int(finished)
