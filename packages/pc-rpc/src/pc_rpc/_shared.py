"""The state that the connections of one server share: targets, turns, threads and tasks.

The one idea to keep in mind: turns, threads and tasks exist between `start` and `end`. Connections
look them up by the name of their target.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pc_rpc._aside import Aside
from pc_rpc._lane import Lane
from pc_rpc._lease_desk import Desk
from pc_rpc._place import STOP_GRACE, Place, Tasks
from pc_rpc._targets import Target
from pc_rpc._worker import Worker

_logger = logging.getLogger("pc_rpc")

MOST_SHOWN = 100
"""Maximum number of leases in the greeting. Clients choose their texts, up to 4 kB each, and our
clients accept a greeting of 1 MiB."""

if TYPE_CHECKING:
    from collections.abc import Collection

    from pc_rpc._session import Session


class Shared:
    """The state that the connections of one server share. For one event loop.

    Parameters
    ----------
    targets, description, builtin_terminate, parallel, worker_threads, properties, expose, hide,
    limit, line_limit
        As for `Server`.

    Attributes
    ----------
    lent : dict of str to Worker
        Existing threads to use for targets, by target name. Their owner stops them.
    """

    stopping = False
    in_child = False  # whether this process is a forked child, without the connections
    _running = False

    def __init__(
        self,
        targets: Mapping[str, Any],
        description: str | None,
        *,
        builtin_terminate: bool,
        parallel: bool,
        worker_threads: bool,
        properties: bool,
        expose: Mapping[str, Collection[str]],
        hide: Mapping[str, Collection[str]],
        limit: int,
        line_limit: int,
    ) -> None:
        _require_known("expose", expose, targets)
        _require_known("hide", hide, targets)
        self.given = dict(targets)
        self.targets = {
            name: Target(
                name,
                target,
                expose=expose.get(name),
                hide=hide.get(name),
                terminate=builtin_terminate,
                worker_threads=worker_threads,
                properties=properties,
            )
            for name, target in targets.items()
        }
        self.description = description
        self.builtin_terminate = builtin_terminate
        self.limit = limit
        self.line_limit = line_limit
        self.parallel = parallel
        self.terminated = asyncio.Event()
        self.sessions: set[Session] = set()  # those with a target
        self.tasks = Tasks()
        self._closings = Tasks()
        self._aside = Aside()
        self._worker_threads = worker_threads
        self.lent: dict[str, Worker] = {}
        self._places: dict[str, Place] = {}
        self._desks: dict[str, Desk] = {}

    def prepare(self) -> None:
        """Reset the state of a server that was stopped before."""
        if self.stopping:
            self.terminated.clear()

    def start(self) -> bool:
        """Create turns, threads and leases; return False if that has been done already."""
        if self._running:
            return False
        self._running = True
        self.stopping = False
        common = Lane()
        self._places = {name: self._place(name, common) for name in self.targets}
        self._desks = {
            name: Desk(name, leasable=not target._is_factory)
            for name, target in self.targets.items()
        }
        return True

    def _place(self, name: str, common: Lane) -> Place:
        worker = self.lent.get(name)
        if worker is None and self._worker_threads:
            worker = Worker(f"target {name}")
        lane = Lane() if self._worker_threads else common
        return Place(
            self.tasks, self._closings, self._aside, None if self.parallel else lane, worker
        )

    def place(self, name: str) -> Place:
        """Return where the methods of a target run."""
        return self._places[name]

    def desk(self, name: str) -> Desk:
        """Return the leases of a target."""
        return self._desks[name]

    def leases(self) -> list[dict[str, Any]]:
        """Return the current leases for the greeting, at most `MOST_SHOWN`."""
        held = (lease for desk in self._desks.values() if (lease := desk.holder()) is not None)
        return list(itertools.islice(held, MOST_SHOWN))

    async def end_calls(self) -> None:
        """Begin no further calls, cancel running coroutine methods, and notify their callers."""
        self.stopping = True
        try:
            for session in self.sessions:
                session.stop_calls()
            self._log_running()
            await self.tasks.cancel()
        finally:
            for session in self.sessions.copy():
                session.notify_and_close()

    def _log_running(self) -> None:
        """Log the methods that the stop waits for."""
        running = sorted(name for session in self.sessions for name in session.running)
        if running:
            _logger.info(
                "stopping: waiting for %s to end, at most %g s",
                ", ".join(running),
                STOP_GRACE,
            )

    async def end(self) -> None:
        """End threads and tasks, after the last connection has ended."""
        self._running = False
        places = self._places.values()
        workers = [place.worker for place in places if place.worker is not None]
        busy = False
        try:
            async with asyncio.timeout(STOP_GRACE):
                for worker in workers:  # running methods, and the `close` methods after them
                    await worker.idle()
                if workers:  # a driver that ends on the loop may need its thread
                    await self._closings.wait()
        except TimeoutError:
            busy = True
        for worker in workers:
            if worker not in self.lent.values():
                worker.stop(busy=busy)
        await self._aside.wait(STOP_GRACE)
        await self._closings.wait()  # those of connections that have just ended
        await self.tasks.cancel()
        await self._closings.cancel()
        self.tasks.abandon()
        self._closings.abandon()

    def terminate(self) -> None:
        """End the server, as a client's call of ``terminate`` does."""
        self.terminated.set()


def _require_known(what: str, option: object, targets: Mapping[str, Any]) -> None:
    """Check an option that is a dict of target names to lists of methods."""
    if not isinstance(option, Mapping):
        raise TypeError(
            f"{what}: expected a dict of target names to lists of methods, got {option!r}"
        )
    for name in set(option) - set(targets):
        raise ValueError(f"{what}: unknown target {name!r}")
