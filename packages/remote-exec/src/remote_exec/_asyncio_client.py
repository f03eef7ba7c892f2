"""AsyncioRemoteExec: the client side on an event loop."""

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
    """Executes code in a controller, through an asyncio RPC client.

    The asyncio twin of `RemoteExec`, with the same methods as coroutines. What the code prints and
    logs is printed and logged here while it runs.

    Parameters
    ----------
    client : pc_rpc.AsyncioClient
        Connected to the controller's remote execution target. The caller closes it.
    output : bool, optional
        Set to False to leave what code prints and logs to the controller.
    deadline : float, optional
        Seconds that every call may take before it is interrupted. None: no limit.

    Notes
    -----
    To be used on the client's event loop. Several tasks may use it; their calls are made one after
    the other.

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
        """Send a function; return a coroutine function that calls it there.

        See `RemoteExec.send` for the names that are sent with it, and for the errors.
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
    """Prints and logs here the output of one connection's code, while a request is pending."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = asyncio.Lock()
        self._finished: int | None = None  # finished calls; None: unknown, to be requested
        self._connection = 0

    async def follow(self, request: Request) -> Any:
        """Make a request; return its result when its output has been delivered."""
        async with self._lock:
            if self._finished is None or connection_of(self._client) != self._connection:
                self._finished = await self._client.keep_output()
                self._connection = connection_of(self._client)
            finished, self._finished = self._finished, None
            failed = asyncio.Event()
            reader = asyncio.create_task(self._read_until(failed, finished))
            try:
                result = await request.make(self._client)
                self._finished = await self._finish(reader)
                warn_if_lost(self._client, self._connection)
                return result
            except BaseException as error:
                failed.set()
                if hasattr(error, "parent_traceback"):  # raised at the controller
                    await self._client.keep_output()  # wakes the reader
                    self._finished = await self._finish(reader)
                raise
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)  # the request raises the same

    async def _read_until(self, failed: asyncio.Event, finished: int) -> None:
        """Read output until one more call has finished, or the request has failed."""
        while not failed.is_set() and await self._read(finished) == finished:
            pass

    async def _finish(self, reader: asyncio.Task[None]) -> int | None:
        """Read the remaining output after the request; return the number of finished calls."""
        try:
            await reader
            return await self._read(-1)  # never equal to the number, so this does not wait
        except ConnectionError:
            return None  # the request has its result; output may be lost

    async def _read(self, known: int) -> int:
        records, finished = await self._client.read_output(known)
        deliver(records)
        return int(finished)
