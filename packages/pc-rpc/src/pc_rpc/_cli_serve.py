"""``pc-rpc serve``: make a driver from a user's module, serve it, close it.

The one idea to keep in mind: the user's code runs only within `user_code`, which shows its
exceptions with their traceback; every other error here is about the command line. The driver is
made, called and closed on the event loop, or with worker threads on one thread of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import difflib
import functools
import importlib
import inspect
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from pyon import asyncio_signals
from pyon.tcp_options import loopback_addresses

from pc_rpc._attributes import attributes
from pc_rpc._cli_arguments import parse_arguments
from pc_rpc._cli_errors import (
    DRIVER,
    Exit,
    UsageError,
    complain,
    explained,
    files_of,
    user_code,
    user_frames,
)
from pc_rpc._exposure import Sole
from pc_rpc._life import Life
from pc_rpc._properties import accessors
from pc_rpc._server import Server
from pc_rpc._server_loop import log_end, serve_until
from pc_rpc._signals import TerminationSignals
from pc_rpc._worker import Worker

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


def run(options: argparse.Namespace, context: ssl.SSLContext | None) -> None:
    """Serve a driver until a client or a signal ends it."""
    args, kwargs = parse_arguments(options.arguments)
    if options.announce is not None:
        _require_discovery(options)
    # Under systemd the journal has the time already.
    time_field = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=logging.INFO, format=f"{time_field}%(levelname)s %(name)s: %(message)s"
    )
    sys.path.insert(0, os.getcwd())
    factory = find_factory(options.factory)
    name = _name_of(factory)
    make = functools.partial(make_driver, name, factory, args, kwargs)
    target = options.target or options.factory.rpartition(":")[2]
    run_it = _serve_on_own_thread if options.worker_threads else _serve_on_loop
    asyncio_signals.run(run_it(name, make, target, options, context))


def _require_discovery(options: argparse.Namespace) -> None:
    from pc_rpc.discovery._announcing import require

    try:
        require(_announce(options))
    except (ImportError, ValueError) as error:
        raise UsageError(f"--announce: {error}") from error


# The driver.


def find_factory(named: str) -> Any:
    """Return the object with the name ``MODULE:CLASS``.

    Raises
    ------
    UsageError
        There is no such object, or it is not callable.
    """
    module_name, separator, name = named.partition(":")
    is_path = bool(set(module_name) & set("/\\"))
    if not separator or is_path or not all(module_name.split(".")) or not name.isidentifier():
        raise UsageError(f"expected MODULE:CLASS, got {named!r}")
    module = _import(module_name)
    with user_code(f"looking up {name!r} in the module {module_name!r}"):
        found = getattr(module, name, None)
    if found is None:
        raise UsageError(_no_such_name(module, name))
    if not callable(found):
        what = f"of type {type(found).__name__}"
        raise UsageError(f"expected a class or function, but {named} is {what}")
    return found


def _import(name: str) -> Any:
    with user_code(f"importing the module {name!r}"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if user_frames(error) is not None:  # the user's module imports a missing one
                raise
            where = os.getcwd()
            hint = f"; write {name[:-3]}:CLASS, without .py" if name.endswith(".py") else ""
            missing = UsageError(f"{error}; looked for it in {where} and on Python's path{hint}")
    raise missing


def _no_such_name(module: Any, name: str) -> str:
    similar = difflib.get_close_matches(name, [n for n in vars(module) if n[0] != "_"], 1)
    hint = f"; did you mean {similar[0]!r}?" if similar else ""
    return f"the module {module.__name__!r} has no {name!r}{hint}"


def make_driver(name: str, factory: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call the factory of the driver. Its result may have to be awaited, or entered.

    Raises
    ------
    UsageError
        The factory does not accept the arguments.
    """
    signature = _signature(factory)
    if signature is not None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise UsageError(f"{error}: {name}{signature} makes the driver") from error
    with user_code(name):
        return factory(*args, **kwargs)


def _name_of(factory: Any) -> str:
    return factory.__name__ if hasattr(factory, "__name__") else type(factory).__name__


def _signature(factory: Any) -> inspect.Signature | None:
    """Return the signature of a class or a function, None if it is not known."""
    try:
        return inspect.signature(factory)
    except Exception:  # user's code may compute it
        return None


# Serving it.

CLOSING = "close() of the driver"

CLOSE_TIMEOUT = 5.0
"""Seconds that closing a driver on its thread may take. A method that runs there has to end first;
without a limit, a method that never ends would keep the process alive."""


async def _serve_on_loop(
    name: str,
    make: Callable[[], Any],
    target: str,
    options: argparse.Namespace,
    context: ssl.SSLContext | None,
) -> None:
    """Make a driver on the event loop, serve it until terminated, then exit and close it."""
    with _interruptible():
        life = Life(make(), None)
        if not life.on_loop:
            _begin(name, life)
    if life.on_loop:
        await _begin_on_loop(name, life)
    with TerminationSignals() as signals:
        try:
            await _serve_until_end(life.driver, target, options, context, signals)
        finally:
            with user_code(CLOSING):
                await life.end_on_loop()


async def _serve_on_own_thread(
    name: str,
    make: Callable[[], Any],
    target: str,
    options: argparse.Namespace,
    context: ssl.SSLContext | None,
) -> None:
    """Make a driver, serve it until terminated, close it, all of it on one thread of its own."""
    worker = Worker(f"target {target}")
    life = Life(await worker.call(make), worker)  # until there is a driver, Ctrl-C ends it at once
    await _begin_on_loop(name, life)
    with TerminationSignals() as signals:
        try:
            await _serve_until_end(life.driver, target, options, context, signals, worker)
        finally:
            await _end_on_own_thread(life)
            worker.stop()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt code that blocks the event loop; asyncio's handler would wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _begin(name: str, life: Life) -> None:
    with user_code(name):
        driver = life.begin()
    _require_driver(name, driver)


async def _begin_on_loop(name: str, life: Life) -> None:
    with user_code(name):
        driver = await life.begin_on_loop()
    _require_driver(name, driver)


def _require_driver(name: str, driver: Any) -> None:
    if driver is None:
        raise UsageError(f"expected a driver from {name}, got None")


async def _end_on_own_thread(life: Life) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT) as limit:
            with user_code(CLOSING):
                await life.end_on_loop()
    except TimeoutError:
        if not limit.expired():
            raise
        complain(f"pc-rpc: the driver was not closed: its thread was busy for {CLOSE_TIMEOUT:g} s")
        raise Exit(DRIVER) from None


async def _serve_until_end(
    driver: Any,
    target: str,
    options: argparse.Namespace,
    context: ssl.SSLContext | None,
    signals: TerminationSignals,
    worker: Worker | None = None,
) -> None:
    with explained():
        server = _server(driver, target, options, worker)
        bind = options.bind or loopback_addresses()
        with files_of("serve"):
            await serve_until(
                signals, server, bind, options.port, ssl=context, announce=_announce(options)
            )
        if signals.received is not None:  # a client's terminate is not logged
            log_end(server, signals)


class _DriverServer(Server):
    """A server of one target, which may have a thread already."""

    def __init__(self, target: str, driver: Any, worker: Worker | None, **options: Any) -> None:
        super().__init__({target: Sole(driver)}, builtin_terminate=True, **options)
        if worker is not None:
            self._shared.lent[target] = worker


def _server(driver: Any, target: str, options: argparse.Namespace, worker: Worker | None) -> Server:
    expose, hide = options.expose, options.hide
    for option, names in (("--expose", expose), ("--hide", hide)):
        for name in names or ():
            if not _has(driver, name, properties=options.properties):
                raise UsageError(f"{option}: {type(driver).__name__} has no method {name!r}")
    return _DriverServer(
        target,
        driver,
        worker,
        description=options.description,
        allow_parallel=options.allow_parallel,
        worker_threads=options.worker_threads,
        properties=options.properties,
        expose=None if expose is None else {target: expose},
        hide={target: hide},
    )


def _announce(options: argparse.Namespace) -> bool | str:
    """Return the argument `announce` of the server."""
    return options.announce is not None and (options.announce or True)


def _has(driver: Any, name: str, *, properties: bool) -> bool:
    """Return whether a driver may have an attribute, without reading it."""
    if "." in name:
        return True  # `Server` checks it
    known = attributes(driver)
    if properties:
        known |= accessors(driver, known)
    return name in known or hasattr(type(driver), "__getattr__")
