"""What the connections of one server share: targets, the order of calls, coroutines that run.

The one idea to keep in mind: a connection asks for its target once, and gets with it all that
depends on which target it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from pc_rpc._execution import Lane, ParallelLane, Worker
from pc_rpc._exposure import public_methods

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping

STOP_GRACE = 1.0
"""Seconds that coroutine methods which are cancelled at the end have to clean up."""


class Opened(NamedTuple):
    """A target as one connection has it.

    Attributes
    ----------
    target : object
        Whose methods are called.
    names : frozenset of str
        Those that may be called.
    lane : Lane
        Where calls wait for their turn.
    worker : Worker or None
        The thread in which plain methods run, if not on the event loop.
    close : callable or None
        To be called when the connection ends.
    """

    target: object
    names: frozenset[str]
    lane: Lane
    worker: Worker | None
    close: Callable[[], Any] | None


class Host:
    """Holds the targets of a server. For one event loop.

    Parameters
    ----------
    targets, description, builtin_terminate, parallel, worker_threads, expose, hide, limit
        As for `Server`.
    """

    def __init__(
        self,
        targets: Mapping[str, Any],
        description: str | None,
        *,
        builtin_terminate: bool,
        parallel: bool,
        worker_threads: bool,
        expose: Mapping[str, Collection[str]],
        hide: Mapping[str, Collection[str]],
        limit: int,
    ) -> None:
        for name, target in targets.items():
            if not name or name.split() != [name]:
                raise ValueError(f"expected a target name without white space, got {name!r}")
            if inspect.iscoroutinefunction(target):
                raise TypeError(f"a coroutine function cannot make the target {name!r}")
        for name in {*expose, *hide} - set(targets):
            raise ValueError(f"methods of an unknown target are exposed or hidden: {name!r}")
        self.targets = dict(targets)
        self.description = description
        self.builtin_terminate = builtin_terminate
        self.limit = limit
        self.parallel = parallel
        self.stopping = False
        self.terminated = asyncio.Event()
        self._expose, self._hide = expose, hide
        self._worker_threads = worker_threads
        lane = ParallelLane() if parallel else Lane()
        self._lanes = {
            name: Lane() if worker_threads and not parallel else lane for name in targets
        }
        self._workers: dict[str, Worker] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closings: set[asyncio.Task[Any]] = set()  # of targets: not to be cancelled
        self._names: dict[str, frozenset[str]] = {}

    def prepare(self) -> None:
        """Begin anew, if the server was stopped before."""
        if self.stopping:
            self.terminated.clear()

    def start(self) -> None:
        """Begin to run methods."""
        self.stopping = False
        if self._worker_threads:
            self._workers = {name: Worker(f"target {name}") for name in self.targets}

    async def cancel_tasks(self) -> None:
        """Begin no calls any more, and cancel the coroutine methods that run."""
        self.stopping = True
        await _end(self._tasks)

    async def end(self) -> None:
        """End what is left, when there are no connections any more."""
        workers, self._workers = self._workers.values(), {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE):
                for worker in workers:  # what they run, and the `close` methods behind it
                    await worker.idle()
        for worker in workers:
            worker.stop()
        if self._closings:  # `close` methods of the targets of connections that ended just now
            await asyncio.wait(self._closings, timeout=STOP_GRACE)
        await _end(self._tasks | self._closings)

    def terminate(self) -> None:
        """Let the server end, as a client's call of ``terminate`` does."""
        self.terminated.set()

    def open_target(self, name: str) -> Opened:
        """Return the target of a new connection; make it, if it is made for each."""
        target = self.targets[name]
        close = None
        if callable(target):
            target = target()
            close = getattr(target, "close", None)
        names = public_methods(target, expose=self._expose.get(name), hide=self._hide.get(name, ()))
        if self.builtin_terminate:
            names |= {"terminate"}
        if self._names.get(name) != names:  # one set for all connections that see the same
            self._names[name] = names
        return Opened(target, self._names[name], self._lanes[name], self._workers.get(name), close)

    def start_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine until it ends or the server stops."""
        return _keep(self._tasks, coroutine)

    def start_closing(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run the coroutine that closes a target, which has some time to finish in the end."""
        return _keep(self._closings, coroutine)


def _keep(tasks: set[asyncio.Task[Any]], coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and give them some time to clean up."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_GRACE)
