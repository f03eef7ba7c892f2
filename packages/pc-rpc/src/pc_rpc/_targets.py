"""Targets of a server, and their instances: the objects whose methods are called.

The one idea to keep in mind: a `Target` is an object or factory under a name, an `Instance` is an
object whose methods are called. An object is the single instance for all connections; a factory
makes an instance for each connection, which ends with the connection. An instance is made, called
and closed in one `Place`: with worker threads, on the target's own thread.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

import pyon
from pyon.framing import frame
from pyon.wire import encode_pieces

from pc_rpc._attributes import kind_of
from pc_rpc._caller import executing
from pc_rpc._exposure import (
    Methods,
    Sole,
    find_methods,
    is_factory,
    methods_of_class,
    served,
)
from pc_rpc._failures import Failure, describe
from pc_rpc._life import Life, is_cancelled
from pc_rpc._method_list import method_list
from pc_rpc._methods import RemoteMethods
from pc_rpc._outcome import Outcome
from pc_rpc._place import Place, explain, run_at
from pc_rpc._protocol import Chunks, Features

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pyon.asyncio_connection import Connection

_logger = logging.getLogger("pc_rpc")


class Instance:
    """An object whose methods may be called.

    Parameters
    ----------
    name : str
        The name that clients select.
    driver : object
        The object.
    methods : Methods
        The methods that may be called.
    place : Place
        Where they run.
    life : Life, optional
        The life of a driver that belongs to one connection.
    terminate : bool, optional
        Whether the server has the built-in method ``terminate``.

    Attributes
    ----------
    target : object
        The object whose attributes are called: the driver, or a `View` of it with added methods.
    plain : frozenset of str
        The methods that block their thread and take a turn.
    described : dict of (int, bool, bool) to str
        The encoded method lists that were requested, by form (see `describe`).
    """

    __slots__ = (
        "_announcements", "_life", "_terminate", "described", "driver", "methods", "name", "place",
        "plain", "target",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        driver: object,
        methods: Methods,
        place: Place,
        *,
        life: Life | None = None,
        terminate: bool = False,
    ) -> None:
        self.name = name
        self.driver = driver
        self.target = methods.callee(driver)
        self.methods = methods
        self.plain = methods.plain
        self.place = place
        self._life = life
        self.described: dict[tuple[int, bool, bool], str] = {}
        self._terminate = terminate
        self._announcements: dict[tuple[int, bool], Chunks] = {}

    def announcement(self, features: Features) -> Chunks:
        """Return the message with the names of the methods."""
        form = features.version, features.streams
        found = self._announcements.get(form)
        if found is None:
            names = {*self.methods.names, *(["terminate"] if self._terminate else [])}
            streams = sorted(self.methods.streams)
            both = {"methods": sorted(names), "streams": streams} if features.streams else names
            found = self._announcements[form] = frame(encode_pieces(both, version=form[0]))
        return found

    def describe(self, form: tuple[int, bool, bool], then: Callable[[Outcome], object]) -> None:
        """Have `then` called with the encoded method list: later, because it may run users' code.

        `form` is the generation of PYON, whether the client is one of ours, and whether it knows
        streams.
        """
        version, ours, streams = form

        def make() -> str:
            listed = method_list(
                self.driver,
                self.methods,
                builtin_terminate=self._terminate,
                version=version,
                values=ours,
                streams=streams,
            )
            return pyon.encode(listed, version=version)

        def made(outcome: Outcome) -> None:
            if outcome.error is None and type(self.driver) is not RemoteMethods:
                self.described[form] = outcome.result
            then(outcome)

        self.place.aside.run(make, made)

    def close(self, connection: Connection) -> None:
        """Close the object, in its place, if it was made for this connection."""
        if self._life is None:
            return
        if self._life.on_loop:
            self._life.left.set()
            return
        peer = connection.peername
        then = functools.partial(_closed, self.place, peer)
        end = functools.partial(_cannot_close, peer)
        run_at(self.place, self._life.end, end, then, connection)


def _cannot_close(peer: str, error: BaseException) -> Failure:
    failure = describe(error)
    _logger.error("%s: closing its target failed", peer, exc_info=error)
    return failure


def _closed(place: Place, peer: str, outcome: Outcome) -> None:
    if outcome.awaitable:
        task = place.closings.start(outcome.settle())
        task.add_done_callback(functools.partial(_close_awaited, place, peer, outcome))


def _close_awaited(place: Place, peer: str, outcome: Outcome, task: Any) -> None:
    if task.cancelled():  # before it had begun
        outcome.dismiss()
    elif outcome.error is not None:
        error = outcome.error
        place.aside.run(functools.partial(_cannot_close, peer, error), _ignore)


def _ignore(outcome: Outcome) -> None:
    """Do nothing: no callback is needed."""


class Target:
    """An object or factory that is served under one name.

    Parameters
    ----------
    name : str
        The name.
    given : object
        The object to serve, or the factory that makes one for each connection.
    expose, hide : collection of str or None
        As for `Server`.
    terminate : bool, optional
        Whether the server has the built-in method ``terminate``.
    worker_threads, properties : bool, optional
        As for `Server`.

    Raises
    ------
    TypeError
        The object is callable and no factory, or `expose` or `hide` is not a list of names.
    ValueError
        The name is invalid, or `expose` or `hide` has a name that the object does not have.
    """

    def __init__(
        self,
        name: str,
        given: Any,
        *,
        expose: Collection[str] | None = None,
        hide: Collection[str] | None = None,
        terminate: bool = False,
        worker_threads: bool = False,
        properties: bool = False,
    ) -> None:
        if not isinstance(name, str) or name.split() != [name]:
            raise ValueError(f"expected a target name without white space, got {name!r}")
        self.name = name
        alone = type(given) is Sole
        if alone:
            given = given.driver
        self._given = served(given)
        self._expose = None if expose is None else _names(expose, f"expose of {name!r}")
        self._hide = _names(hide or (), f"hide of {name!r}")
        self._terminate = terminate
        self._worker_threads = worker_threads
        self._properties = properties
        self._is_factory = not alone and is_factory(self._given)
        self._instance: Instance | None = None
        self._logged_names = False  # the error about names in `expose` and `hide`
        self._logged_waiting = False  # the warning about immediate methods
        if not self._is_factory:
            if not alone:
                _require_object(name, given)
            self._warn_of_waiting(self._find_methods(self._given))
        elif issubclass(type(given), type):
            self._warn_of_waiting(methods_of_class(given))

    def open(
        self,
        place: Place,
        connection: Connection,
        then: Callable[[Outcome], object],
        *,
        details: bool,
    ) -> None:
        """Have `then` called with the instance for a new connection, or with the failure."""
        if self._is_factory:
            fail = functools.partial(self._cannot_make, connection.peername, details)
            made = functools.partial(self._made, place, connection, then, fail, details)
            run_at(place, functools.partial(self._make, place), fail, made, connection)
            return
        outcome = Outcome()
        outcome.result = self._shared(place)
        then(outcome)

    def _shared(self, place: Place) -> Instance:
        """Return the instance of all connections, with the current methods if it is a client."""
        instance = self._instance
        if instance is None or instance.place is not place or type(self._given) is RemoteMethods:
            methods = self._find_methods(self._given, strict=False)
            instance = Instance(self.name, self._given, methods, place, terminate=self._terminate)
            self._instance = instance
        return instance

    def _make(self, place: Place) -> Instance | Life:
        """Make an instance; return a `Life` that must begin on the event loop as it is."""
        life = Life(self._given(), place.worker)
        if life.on_loop:
            return life
        life.begin()
        return self._instance_of(life, place)

    def _made(
        self,
        place: Place,
        connection: Connection,
        then: Callable[[Outcome], object],
        fail: Callable[[BaseException], Failure],
        details: bool,
        outcome: Outcome,
    ) -> None:
        """Pass a new instance on; begin the life of a driver that needs the event loop."""
        if type(outcome.result) is not Life:
            then(outcome)
            return

        def begun(outcome: Outcome) -> None:
            if outcome.error is None or explain(outcome, fail, place, then, details=details):
                then(outcome)

        place.closings.start(self._run_life(outcome.take(), place, connection, begun))

    async def _run_life(
        self,
        life: Life,
        place: Place,
        connection: Connection,
        begun: Callable[[Outcome], object],
    ) -> None:
        """Begin and end a driver that needs the event loop, in one task."""
        executing.set(connection)
        outcome = Outcome()
        try:
            await life.begin_on_loop()
            outcome.result = self._instance_of(life, place)
        except BaseException as error:
            if is_cancelled(error):
                raise
            outcome.error = error
        failed = outcome.error is not None
        begun(outcome)
        del outcome
        if failed:
            return
        await life.left.wait()
        try:
            await life.end_on_loop()
        except BaseException as error:
            if is_cancelled(error):
                raise
            place.aside.run(functools.partial(_cannot_close, connection.peername, error), _ignore)

    def _instance_of(self, life: Life, place: Place) -> Instance:
        driver = served(life.driver)
        try:
            methods = self._find_methods(driver)
        except ValueError as error:
            if not self._logged_names:
                _logger.error("%s", error)
                self._logged_names = True
            methods = self._find_methods(driver, strict=False)
        self._warn_of_waiting(methods)
        return Instance(self.name, driver, methods, place, life=life, terminate=self._terminate)

    def _cannot_make(self, peer: str, details: bool, error: BaseException) -> Failure:
        failure = describe(error, details=details)
        _logger.error("%s: target %r cannot be made", peer, self.name, exc_info=error)
        return failure

    def _find_methods(self, target: object, *, strict: bool = True) -> Methods:
        try:
            methods = find_methods(
                target,
                expose=self._expose,
                hide=self._hide,
                properties=self._properties,
                strict=strict,
            )
        except ValueError as error:
            raise ValueError(f"target {self.name!r}: {error}") from None
        return methods.without("terminate") if self._terminate else methods

    def _warn_of_waiting(self, methods: Methods) -> None:
        """Log that an immediate method must wait for methods that block the event loop."""
        blocking = bool(methods.plain) and not self._worker_threads
        if methods.immediate and blocking and not self._logged_waiting:
            self._logged_waiting = True
            _logger.warning(
                "target %r: %s cannot be called while %s runs: both need the event loop. Set "
                "worker_threads, or write methods that take long as coroutines",
                self.name,
                _listed(methods.immediate),
                _listed(methods.plain),
            )


def _names(names: Collection[str], what: str) -> frozenset[str]:
    if isinstance(names, (str, bytes)):
        raise TypeError(f"{what}: expected a list of names, got the text {names!r}")
    try:
        listed = list(names)
    except TypeError:
        raise TypeError(f"{what}: expected a list of names, got {names!r:.100}") from None
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"{what}: expected names of methods, got {name!r:.100}")
    return frozenset(listed)


def _require_object(name: str, given: object) -> None:
    if callable(given):
        kind = kind_of(given)
        raise TypeError(
            f"the target {name!r} is a {kind} object that can be called, which is ambiguous: to "
            "have it called for each connection, pass lambda: target(); to serve its methods, pass "
            "an object without __call__ that has them"
        )


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
