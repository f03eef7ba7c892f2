"""The life of a target: looked at, made, called, closed.

The one idea to keep in mind: a `Target` is what a server was given under a name, an `Instance` is
an object whose methods are called. A given object is the one instance of all connections; a factory
makes an instance for each, which is closed with the connection.
"""

from __future__ import annotations

import functools
import inspect
import logging
from typing import TYPE_CHECKING, Any

from pc_rpc._execution import Place, run_at
from pc_rpc._exposure import is_coroutine, is_immediate, method_list, public_methods

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pyon.asyncio_connection import Connection

    from pc_rpc._execution import Tasks
    from pc_rpc._outcome import Outcome

_logger = logging.getLogger(__name__)


class Instance:
    """An object whose methods may be called.

    Parameters
    ----------
    target : object
        The object.
    names : frozenset of str
        The methods that may be called.
    place : Place
        Where they run.
    owned : bool, optional
        It belongs to one connection and is closed with it.

    Attributes
    ----------
    immediate_methods, coroutine_methods : frozenset of str
        Those that do not wait for their turn; those that never run in a worker thread.
    """

    __slots__ = ("coroutine_methods", "immediate_methods", "names", "owned", "place", "target")

    def __init__(
        self, target: object, names: frozenset[str], place: Place, *, owned: bool = False
    ) -> None:
        self.target = target
        self.names = names
        self.place = place
        self.owned = owned
        methods = {name: getattr(target, name, None) for name in names}
        self.immediate_methods = frozenset(n for n, m in methods.items() if is_immediate(m))
        self.coroutine_methods = frozenset(n for n, m in methods.items() if is_coroutine(m))

    def describe(self, *, builtin_terminate: bool, version: int) -> dict[str, Any]:
        """Return the method list."""
        return method_list(
            self.target, self.names, builtin_terminate=builtin_terminate, version=version
        )


class Target:
    """What a server was given under one name.

    Parameters
    ----------
    name : str
        The name.
    given : object
        The object to serve, or the factory that makes one for each connection.
    expose, hide : collection of str or None
        As for `Server`.
    """

    def __init__(
        self,
        name: str,
        given: Any,
        *,
        expose: Collection[str] | None = None,
        hide: Collection[str] | None = None,
    ) -> None:
        if not name or name.split() != [name]:
            raise ValueError(f"expected a target name without white space, got {name!r}")
        if inspect.iscoroutinefunction(given):
            raise TypeError(f"a coroutine function cannot make the target {name!r}")
        self.name = name
        self._given = given
        self._expose = expose
        self._hide = hide or ()

    def open(self, place: Place, connection: Connection, then: Callable[[Outcome], object]) -> None:
        """Have `then` called with the instance for a new connection, or why there is none."""
        make = functools.partial(self._open, place)
        run_at(None, make, functools.partial(self._opened, connection.peername, then), connection)

    def _opened(self, peer: str, then: Callable[[Outcome], object], outcome: Outcome) -> None:
        if outcome.error is not None:
            _logger.error("%s: target %r cannot be made", peer, self.name, exc_info=outcome.error)
        then(outcome)

    def _open(self, place: Place) -> Instance:
        if not callable(self._given):
            return Instance(self._given, self._names_of(self._given), place)
        made = self._given()
        return Instance(made, self._names_of(made), place, owned=True)

    def _names_of(self, target: object) -> frozenset[str]:
        return public_methods(target, expose=self._expose, hide=self._hide)


def close(instance: Instance, closings: Tasks, connection: Connection) -> None:
    """Close an instance whose connection has ended, if it was made for that and has `close`."""
    method = getattr(instance.target, "close", None) if instance.owned else None
    if method is not None:
        then = functools.partial(_closed, closings, connection.peername)
        run_at(instance.place.worker, method, then, connection)


def _closed(closings: Tasks, peer: str, outcome: Outcome) -> None:
    if outcome.error is not None:
        _logger.error("%s: closing its target failed", peer, exc_info=outcome.error)
    elif outcome.awaitable:
        task = closings.start(outcome.settle())
        task.add_done_callback(functools.partial(_close_awaited, closings, peer, outcome))


def _close_awaited(closings: Tasks, peer: str, outcome: Outcome, task: Any) -> None:
    if task.cancelled():  # before it had begun
        outcome.dismiss()
    else:
        _closed(closings, peer, outcome)
