"""Relay: a subscriber that publishes further what it receives.

The origin sends each step once, however many subscribers the relay has. The one idea to keep in
mind: what is published is a notifier of the relay's own, with numbers of its own. So when the
origin restarts, or the connection to it is lost, the relay's subscribers only see the differences.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sync_struct._actions import Mod
from sync_struct._mods import process_mod
from sync_struct._notifier import Notifier
from sync_struct._subscriber import Subscriber
from sync_struct._subscription import State
from sync_struct._update import update_from_dict

if TYPE_CHECKING:
    import ssl

    from sync_struct._publisher import Publisher

__all__ = ["Reflection", "relaying"]


class Reflection:
    """One notifier of a publisher that becomes what a stream of mods says.

    Parameters
    ----------
    publisher : Publisher
        Where it is published, from the first structure on.
    name : str
        Under which name.
    """

    def __init__(self, publisher: Publisher, name: str) -> None:
        self._publisher = publisher
        self._name = name
        self._notifier: Notifier | None = None
        self._stale = False

    def set_state(self, state: State) -> None:
        """Take note of how the origin is followed; subscribers hear of it behind what changed."""
        self._stale = state != "live"
        if self._notifier is not None:
            self._publisher.set_stale(self._name, self._stale)

    def take(self, mods: Sequence[Mod]) -> None:
        """Apply mods that belong together."""
        for mod in mods:
            if mod["action"] == "absent":
                self._withdraw()
            elif mod["action"] == "init":
                self.become(mod["struct"])
        made = [mod for mod in mods if mod["action"] not in ("init", "absent")]
        with self.batch():
            for mod in made:
                process_mod(self._notifier, mod)

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Return a context whose changes arrive together; it can be entered again and again."""
        if self._notifier is None:
            yield
        else:
            with self._notifier.batch():
                yield

    def become(self, structure: Any) -> Notifier:
        """Make the differences to a structure that came anew; return the notifier."""
        notifier = self._notifier
        if notifier is not None and type(notifier.raw_view) is type(structure):
            if isinstance(structure, dict):
                update_from_dict(notifier, structure)
                return notifier
            if isinstance(structure, list):
                notifier[:] = structure
                return notifier
        self._withdraw()
        self._notifier = notifier = Notifier(structure)
        self._publisher.add_notifier(self._name, notifier)
        self._publisher.set_stale(self._name, self._stale)
        return notifier

    def _withdraw(self) -> None:
        if self._notifier is not None:
            self._publisher.remove_notifier(self._name)
            self._notifier = None


@contextlib.asynccontextmanager
async def relaying(
    publisher: Publisher,
    host: str,
    port: int | None,
    names: Sequence[str],
    *,
    ssl: ssl.SSLContext | None = None,
    on_error: Callable[[str, Exception], Any] | None = None,
    on_state: Callable[[str, str], Any] | None = None,
) -> AsyncIterator[None]:
    """Return a context in which a publisher has the notifiers of another one.

    Each is there from when its structure has come, and stays while the origin is away; subscribers
    are told that it is stale.

    Parameters
    ----------
    publisher : Publisher
        Publishes them, under the names that they have at the origin.
    host, port, ssl
        Of the origin.
    names : sequence of str
        Of the notifiers.
    on_error, on_state : callable, optional
        Called with the name, and an error or a state: see `Subscriber`.
    """
    async with asyncio.TaskGroup() as group:
        subscribers = []
        for name in names:
            reflection = Reflection(publisher, name)
            subscriber = Subscriber(
                name,
                reflection.become,
                on_error=_named(on_error, name),
                state_cb=_both(reflection.set_state, _named(on_state, name)),
            )
            subscriber._observe(_Batches(reflection))
            subscribers.append(subscriber)
            group.create_task(subscriber.run(host, port, ssl=ssl))
        try:
            yield
        finally:
            for subscriber in subscribers:
                await subscriber.close()


class _Batches:
    """Has what a step changes arrive together: the guard of a subscriber's target."""

    def __init__(self, reflection: Reflection) -> None:
        self._reflection = reflection
        self._open = contextlib.ExitStack()

    def __enter__(self) -> None:
        self._open.enter_context(self._reflection.batch())

    def __exit__(self, *exc_info: object) -> None:
        self._open.close()


def _named(callback: Callable[[str, Any], Any] | None, name: str) -> Callable[[Any], Any] | None:
    if callback is None:
        return None
    return lambda what: callback(name, what)


def _both(
    first: Callable[[State], None], then: Callable[[State], Any] | None
) -> Callable[[State], Any]:
    def call(state: State) -> Any:
        first(state)
        return None if then is None else then(state)

    return call
