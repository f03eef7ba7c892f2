"""Relay: a subscriber that publishes what it receives.

The origin sends each step once, however many subscribers the relay has. The one idea to keep in
mind: the relay publishes a notifier of its own, with its own numbers. So when the origin restarts,
or the connection to it is lost, the relay's subscribers are sent only the differences.
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
    """A published notifier that follows a stream of mods.

    Parameters
    ----------
    publisher : Publisher
        Publishes the notifier, from the first structure on.
    name : str
        Name of the notifier.
    """

    def __init__(self, publisher: Publisher, name: str) -> None:
        self._publisher = publisher
        self._name = name
        self._notifier: Notifier | None = None
        self._stale = False

    def set_state(self, state: State) -> None:
        """Set the state of the subscription to the origin; inform subscribers after the mods."""
        self._stale = state != "live"
        if self._notifier is not None:
            self._publisher.set_stale(self._name, self._stale)

    def take(self, mods: Sequence[Mod]) -> None:
        """Apply the mods of one step."""
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
        """Return a context whose changes arrive together."""
        if self._notifier is None:
            yield
        else:
            with self._notifier.batch():
                yield

    def become(self, structure: Any) -> Notifier:
        """Change the structure to this one, by the differences if possible; return the notifier."""
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
    """Return a context in which a publisher publishes notifiers of another publisher, the origin.

    Each notifier is published when its structure has arrived. While the origin cannot be reached,
    it remains published and is stale.

    Parameters
    ----------
    publisher : Publisher
        Publishes the notifiers, under the same names as the origin.
    host, port, ssl
        Host, port and TLS context of the origin; or an address and None.
    names : sequence of str
        Names of the notifiers.
    on_error, on_state : callable, optional
        Called with the name and an error, or the name and a state: see `Subscriber`.
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
    """A guard of a subscriber's target that makes each step a batch of the reflection."""

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
