"""The ``pc-rpc`` command: talk to any RPC server from a shell, and serve any driver.

The one idea to keep in mind: what a person sees in a terminal is pretty; what a pipe gets is PYON,
which any of the programs reads back exactly. Exit statuses: 0 all is well, 1 the remote method
raised, 2 the command line is wrong or the output cannot be written, 3 there is no such server, or
no answer.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyon
from pyon.tcp import format_address

from pc_rpc import __version__
from pc_rpc._client import Client
from pc_rpc._errors import ConnectionLost, IncompatibleServer, ProtocolError
from pc_rpc._exposure import public_methods
from pc_rpc._output import (
    NO_ANSWER,
    OK,
    RAISED,
    USAGE,
    Exit,
    emit,
    legible,
    remote_traceback,
    say,
    shown,
)
from pc_rpc._protocol import AutoTarget
from pc_rpc._words import parse_arguments

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from pc_rpc._prompt import Prompt


DEFAULT_TIMEOUT = 10.0
"""Seconds that connecting may take. Calls may take as long as they need, without --timeout."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _options(argv)
    try:
        with _explained():
            return int(options.run(options) or OK)
    except Exit as end:
        return end.status
    except KeyboardInterrupt:
        return 128 + 2  # as a shell has it


@contextmanager
def _explained() -> Iterator[None]:
    """Tell errors on stderr, in words for people."""
    try:
        yield
    except Exit:
        raise
    except Exception as error:
        if hasattr(error, "parent_traceback"):
            _complain("At the server:\n" + remote_traceback(error).rstrip())
            raise Exit(RAISED) from error
        _complain(f"pc-rpc: {error}")
        unreachable = (OSError, ConnectionLost, ProtocolError, IncompatibleServer)
        raise Exit(NO_ANSWER if isinstance(error, unreachable) else USAGE) from error


def _complain(text: str) -> None:
    print(legible(text), file=sys.stderr)


# The command line.

ARGUMENTS = "PYON values; keyword arguments as name=value; strings in quotes: '\"text\"'"


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.

    To argparse, -1e-3 and -inf are options that it does not know, and options may not stand among
    arguments. So it is not told of the arguments of a call: they are what it leaves over.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    if "--" in rest:
        rest.remove("--")
    takes_arguments = options.run in {_call, _serve}
    unknown = [word for word in rest if not takes_arguments or word.startswith("--")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.arguments = rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pc-rpc",
        description="Talk to RPC servers, or be one.",
        epilog="Exit status: 0 well, 1 the method raised, 2 wrong usage, 3 no server or no answer.",
    )
    parser.add_argument("--version", action="version", version=f"pc-rpc {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], int | None], text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    def add_client(
        name: str, run: Callable[[argparse.Namespace], int | None], text: str
    ) -> argparse.ArgumentParser:
        command = add(name, run, text)
        command.add_argument("host", help="name or address of the server")
        command.add_argument("port", type=int, help="TCP port of the server")
        command.add_argument("--timeout", type=float, metavar="S", help="give up after S seconds")
        _add_tls(command, "server's")
        return command

    listing = add_client("list-targets", _list_targets, "List the targets of a server.")
    methods = add_client("list-methods", _list_methods, "List the methods of a target.")
    calling = add_client("call", _call, "Call a method and show what it returns.")
    prompt = add_client("interactive", _interactive, "Call methods at a prompt, with completion.")
    add_client("ping", _ping, "Ask the server for a sign of life and tell how long it took.")
    stubs = add_client("stubs", _stubs, "Write a Python module with the types of all targets.")
    for command in (methods, calling, prompt):
        command.add_argument("-t", "--target", help="the target; needless if there is only one")
    for command in (listing, methods, calling):
        command.add_argument("--json", action="store_true", help="write JSON (PYON v2)")
    calling.add_argument("method")
    calling.usage = "%(prog)s [option ...] host port method [argument ...]"
    calling.epilog = f"Arguments: {ARGUMENTS}"
    stubs.add_argument("-o", "--output", metavar="FILE", help="write here instead of to stdout")
    _add_serve(add("serve", _serve, "Serve an object of any Python class until terminated."))
    return parser


def _add_tls(command: argparse.ArgumentParser, whose: str) -> None:
    group = command.add_argument_group("TLS (all three, PEM files)")
    group.add_argument("--cert", metavar="FILE", help="own certificate")
    group.add_argument("--key", metavar="FILE", help="own private key")
    group.add_argument("--peer-cert", metavar="FILE", help=f"the {whose} certificate")


def _add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument("factory", metavar="MODULE:CLASS", help="what makes the driver")
    command.usage = "%(prog)s [option ...] MODULE:CLASS [argument ...]"
    command.epilog = f"Arguments of the class: {ARGUMENTS}"
    command.add_argument(
        "--bind", action="append", metavar="ADDRESS", help="default: ::1 127.0.0.1"
    )
    command.add_argument("--port", type=int, default=0, help="default: any that is free")
    command.add_argument("--target", help="name of the target; default: that of the class")
    command.add_argument("--description", help="what the server tells about itself")
    command.add_argument("--allow-parallel", action="store_true", help="see pc_rpc.Server")
    command.add_argument("--worker-threads", action="store_true", help="see pc_rpc.Server")
    command.add_argument(
        "--hide", action="append", default=[], metavar="METHOD", help="clients cannot call it"
    )
    _add_tls(command, "clients'")


def _tls(options: argparse.Namespace, *, server: bool = False) -> ssl.SSLContext | None:
    files = (options.cert, options.key, options.peer_cert)
    if files == (None, None, None):
        return None
    if None in files:
        raise ValueError("TLS needs --cert, --key and --peer-cert")
    import pyon.tcp

    return (pyon.tcp.server_context if server else pyon.tcp.client_context)(*files)


def _write(value: Any, options: argparse.Namespace) -> None:
    text = pyon.encode(value, version=2) if options.json else shown(value)
    if text:
        say(text)


# Commands.


@contextmanager
def _client(options: argparse.Namespace, target: Any) -> Iterator[Client[Any]]:
    client = _connect(options, target)
    try:
        yield client
    finally:
        client.close_rpc()


def _connect(options: argparse.Namespace, target: Any) -> Client[Any]:
    timeout = DEFAULT_TIMEOUT if options.timeout is None else options.timeout
    client: Client[Any]
    client = Client(options.host, options.port, None, timeout, ssl=_tls(options))
    client._timeout = options.timeout
    if target is not None:
        try:
            client.select_rpc_target(target)
        except BaseException:
            client.close_rpc()
            raise
    return client


def _list_targets(options: argparse.Namespace) -> None:
    with _client(options, None) as client:
        targets, description = client.get_rpc_id()
    if options.json or not sys.stdout.isatty():
        _write({"targets": targets, "description": description}, options)
        return
    say("\n".join(targets))
    if description:
        say(f"\n{description}")


def _list_methods(options: argparse.Namespace) -> None:
    with _client(options, options.target or AutoTarget) as client:
        described = client.get_rpc_method_list()
        if options.json or not sys.stdout.isatty():
            _write(described, options)
            return
        if described["docstring"]:
            say(described["docstring"] + "\n")
        for name, (_, doc) in described["methods"].items():
            say(f"{name}{getattr(client.__rpc__, name).__signature__ or '(...)'}")
            if doc:
                say("    " + doc.replace("\n", "\n    "))


def _call(options: argparse.Namespace) -> None:
    args, kwargs = parse_arguments(options.arguments)
    with _client(options, options.target or AutoTarget) as client:
        try:
            method = getattr(client.__rpc__, options.method)
        except AttributeError as error:
            raise ValueError(str(error)) from error
        _write(method(*args, **kwargs), options)


def _ping(options: argparse.Namespace) -> None:
    with _client(options, None) as client:
        targets, _ = client.get_rpc_id()
        if not targets:
            say("connected; no targets")
            return
        client.select_rpc_target(targets[0])
        client.ping_rpc()  # the first one pays for warming up
        began = time.perf_counter()
        client.ping_rpc()
        milliseconds = 1e3 * (time.perf_counter() - began)
    say(f"answer from {format_address((options.host, options.port))} in {milliseconds:.2f} ms")


def _stubs(options: argparse.Namespace) -> None:
    from pc_rpc._stubs import stub_module

    with _client(options, None) as client:
        targets, _ = client.get_rpc_id()
    described = {}
    for target in targets:
        with _client(options, target) as client:
            described[target] = client.get_rpc_method_list()
    where = f"{options.host}:{options.port}"
    text = stub_module(where, f'"{options.host}", {options.port}', described)
    if options.output is None:
        emit(text)
    else:
        with open(options.output, "w", encoding="utf-8") as file:
            file.write(text)


def _interactive(options: argparse.Namespace) -> None:
    from pc_rpc._prompt import Prompt, line_reader

    def connect(target: str | None) -> Client[Any]:
        return _connect(options, target)

    client = connect(options.target)
    targets, description = client.get_rpc_id()
    if options.target is None and len(targets) == 1:
        client.select_rpc_target(targets[0])
    prompt = Prompt(connect, client, shown)
    terminal = sys.stdin.isatty()
    if terminal:
        say(f"{description or format_address((options.host, options.port))} (:help helps)")
    read = line_reader(prompt) if terminal else input
    try:
        while (text := _answer(prompt, read)) is not None:
            if text:
                say(text)
    finally:
        prompt.client.close_rpc()


def _answer(prompt: Prompt, read: Callable[[], str]) -> str | None:
    """Read a line and do what it says. A person is told of an error, a script ends with it."""
    try:
        line = read()
    except EOFError:
        return None
    except KeyboardInterrupt:  # as at any prompt: this line only
        return ""
    try:
        with _explained():
            return prompt.run(line)
    except (Exit, KeyboardInterrupt):
        if not sys.stdin.isatty():
            raise
        return ""


def _serve(options: argparse.Namespace) -> None:
    import asyncio

    module, separator, name = options.factory.partition(":")
    if not separator:
        raise ValueError(f"expected MODULE:CLASS, got {options.factory!r}")
    # Under systemd the journal has the time already.
    time_field = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=logging.INFO, format=f"{time_field}%(levelname)s %(name)s: %(message)s"
    )
    sys.path.insert(0, os.getcwd())
    args, kwargs = parse_arguments(options.arguments)
    driver = getattr(importlib.import_module(module), name)(*args, **kwargs)
    asyncio.run(_serve_driver(driver, options.target or name, options))


async def _serve_driver(driver: Any, target: str, options: argparse.Namespace) -> None:
    """Serve until terminated, then close the driver, if it can be closed."""
    from pc_rpc._server import Server
    from pc_rpc._serving import serve

    try:
        for method in options.hide:
            if method not in public_methods(driver):
                raise ValueError(f"--hide: {type(driver).__name__} has no method {method!r}")
        server = Server(
            {target: _served(driver)},
            options.description,
            builtin_terminate=True,
            allow_parallel=options.allow_parallel,
            worker_threads=options.worker_threads,
            hide={target: options.hide},
        )
        bind = options.bind or ["127.0.0.1", "::1"]
        context = _tls(options, server=True)
        await serve(server, bind, options.port, ssl=context, ready_cb=_say_where)
    finally:
        closed: Any = driver.close() if hasattr(driver, "close") else None
        if hasattr(type(closed), "__await__"):
            await closed


def _served(driver: Any) -> Any:
    """Return what the server takes for an object: what can be called would make its targets."""
    if not callable(driver):
        return driver
    methods = {name: getattr(driver, name) for name in public_methods(driver)}
    return SimpleNamespace(**methods, __doc__=inspect.getdoc(driver))


def _say_where(server: Any) -> None:
    where = ", ".join(f"{host} port {port}" for host, port in server.addresses)
    logging.getLogger("pc_rpc").info("serving %s on %s", ", ".join(server.targets), where)
