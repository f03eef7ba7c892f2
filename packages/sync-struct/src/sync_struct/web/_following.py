"""Notifiers that are followed for pages: their structures, their states, and their changes.

The one idea to keep in mind: each notifier is followed once, for any number of pages. Observers are
called with the paths that have changed, and read the structure themselves when they are ready.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sync_struct import Subscriber

if TYPE_CHECKING:
    import ssl

    from sync_struct._actions import Mod

__all__ = ["Following", "Status", "place_of"]

RATE = 60.0
"""Maximum number of updates per second: no page draws more often."""

HEARTBEAT = 5.0
"""Seconds of silence after which a publisher is sent a ping: a page shows within 10 s that it is
lost."""

Path = tuple[Any, ...]


@dataclass
class Status:
    """The state of one notifier."""

    state: str = "connecting"
    """As in `Subscriber.state`."""

    since: float = 0.0
    """Time of the last change of the state, by `time.monotonic`."""

    trouble: str = ""
    """The last error since the state was live."""


class Following:
    """Follows notifiers of one publisher.

    Parameters
    ----------
    names : iterable of str
        Names of the notifiers.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.statuses = {name: Status(since=time.monotonic()) for name in names}
        self.structures: dict[str, Any] = {}
        self.observers: set[Callable[[Path | None], None]] = set()
        """Called with the path of each change; with None when a state has changed."""

    async def run(self, host: str, port: int, ssl: ssl.SSLContext | None) -> None:
        """Follow the notifiers until this is cancelled."""
        subscribers = [self._subscriber(name) for name in self.statuses]
        running = [asyncio.ensure_future(one.run(host, port, ssl=ssl)) for one in subscribers]
        try:
            await asyncio.gather(*running)
        finally:
            for one in subscribers:
                await one.close()
            await asyncio.gather(*running, return_exceptions=True)

    def _subscriber(self, name: str) -> Subscriber:
        def take(mod: Mod) -> None:
            if subscriber.absent:
                self.structures.pop(name, None)
            else:
                self.structures[name] = subscriber.target
            self._notify((name, *place_of(mod)))

        subscriber = Subscriber(
            name,
            lambda structure: structure,
            take,
            max_rate=RATE,
            heartbeat=HEARTBEAT,
            state_cb=lambda state: self._take_state(name, state),
            on_error=lambda error: self._take_error(name, error),
        )
        return subscriber

    def _take_state(self, name: str, state: str) -> None:
        status = self.statuses[name]
        trouble = "" if state == "live" else status.trouble
        self.statuses[name] = Status(state, time.monotonic(), trouble)
        self._notify(None)

    def _take_error(self, name: str, error: Exception) -> None:
        trouble = f"{name}: {error}"
        if self.statuses[name].trouble != trouble:
            self.statuses[name].trouble = trouble
            self._notify(None)

    def _notify(self, path: Path | None) -> None:
        for observer in self.observers:
            observer(path)


def place_of(mod: Mod) -> Path:
    """Return the path of the part of a structure that a mod has changed.

    Examples
    --------
    >>> place_of({"action": "setitem", "path": ["scan"], "key": "done", "value": True})
    ('scan', 'done')
    >>> place_of({"action": "append", "path": ["scan", "points"], "x": 1})
    ('scan', 'points')
    """
    path = tuple(mod.get("path", ()))
    key = mod.get("key")
    if mod["action"] != "setitem" or not isinstance(key, (str, int)):
        return path
    if isinstance(key, int) and key < 0:
        return path
    return (*path, key)
