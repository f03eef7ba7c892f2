"""The ``pc-rpc`` command: talk to any RPC server from a shell, and serve any driver.

The one idea to keep in mind: a terminal gets formatted text; a pipe gets PYON, which programs read
back exactly. `_cli_errors` has the exit statuses.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyon
from pyon import terminal
from pyon.tcp import format_address
from pyon.tcp_options import tls_context

from pc_rpc import _cli_options
from pc_rpc._cli_arguments import parse_arguments, split_call
from pc_rpc._cli_errors import (
    INTERRUPTED,
    OK,
    Exit,
    UsageError,
    complain,
    explained,
    files_of,
)
from pc_rpc._cli_leases import described, shown_leases, targets_with_leases
from pc_rpc._cli_output import say, shown
from pc_rpc._client import Client
from pc_rpc._protocol import AutoTarget
from pc_rpc._remote_stream import RemoteStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from pc_rpc._cli_prompt import Prompt


DEFAULT_TIMEOUT = 10.0
"""Seconds that connecting may take without --timeout. Calls then have no limit."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return terminal.run("pc-rpc", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = _cli_options.parse(argv)
    try:
        with explained():
            COMMANDS[options.command](options)
    except Exit as end:
        return end.status
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


def _tls(options: argparse.Namespace, *, server: bool = False) -> ssl.SSLContext | None:
    with files_of("the files for TLS"):
        return tls_context(options, server=server)


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
    """Connect. The time-out, --timeout or the default, also holds for pings and method lists."""
    timeout = DEFAULT_TIMEOUT if options.timeout is None else options.timeout
    client: Client[Any]
    client = Client(
        options.host,
        options.port,
        None,
        timeout,
        ssl=_tls(options),
        wait_for_leases=options.wait,
    )
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
        leases = client._target.side.leases
    if options.json or not sys.stdout.isatty():
        listed: dict[str, Any] = {"targets": targets, "description": description}
        _write(listed | {"leases": leases} if leases else listed, options)
        return
    say("\n".join(targets_with_leases(targets, leases)))
    if description:
        say(f"\n{description}")


def _list_leases(options: argparse.Namespace) -> None:
    with _client(options, None) as client:
        leases = client._target.side.leases
    if options.json or not sys.stdout.isatty():
        _write(leases, options)
    else:
        say(shown_leases(leases))


def _break_lease(options: argparse.Namespace) -> None:
    with _client(options, options.target) as client:
        broken = client.break_lease(options.reason)
    say(f"{options.target} was not leased" if broken is None else f"broken: {described(broken)}")


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
    name, *words = split_call(options.method) if "(" in options.method else [options.method]
    args, kwargs = parse_arguments([*words, *options.arguments])
    with _client(options, options.target or AutoTarget) as client:
        try:
            method = getattr(client.with_rpc_timeout(options.timeout), name)
        except AttributeError as error:
            raise UsageError(str(error)) from error
        result = method(*args, **kwargs)
        if not isinstance(result, RemoteStream):
            _write(result, options)
            return
        with result:  # closes the generator when Ctrl-C ends the command
            for item in result:
                _write(item, options)


def _ping(options: argparse.Namespace) -> None:
    with _client(options, None) as client:
        targets, _ = client.get_rpc_id()
        if not targets:
            say("connected; no targets")
            return
        client.select_rpc_target(targets[0])
        client.ping_rpc()  # not measured: the first one takes longer
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
    where = format_address((options.host, options.port))
    text = stub_module(where, f'"{options.host}", {options.port}', described)
    if options.output is None:
        terminal.emit(text)
    else:
        with files_of("--output"), open(options.output, "w", encoding="utf-8") as file:
            file.write(text)


def _interactive(options: argparse.Namespace) -> None:
    from pc_rpc._cli_lines import missing_toolkit, pipe_reader, terminal_reader
    from pc_rpc._cli_prompt import Prompt

    def connect(target: str | None) -> Client[Any]:
        return _connect(options, target)

    client = connect(options.target)
    targets, description = client.get_rpc_id()
    if options.target is None and len(targets) == 1:
        client.select_rpc_target(targets[0])
    prompt = Prompt(connect, client, shown, complain, options.timeout, say)
    read: Callable[[], str] = pipe_reader
    try:
        if _is_for_people():
            say(f"{description or format_address((options.host, options.port))} (:help helps)")
            if (hint := missing_toolkit()) is not None:
                say(hint)
            read = terminal_reader(prompt)
        while (text := _answer(prompt, read)) is not None:
            if text:
                say(text)
    finally:
        prompt.client.close_rpc()


def _is_for_people() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _answer(prompt: Prompt, read: Callable[[], str]) -> str | None:
    """Read and execute a line. An error is shown at a terminal, and ends a script."""
    try:
        line = read()
    except EOFError:
        return None
    except KeyboardInterrupt:  # as at any prompt: this line only
        if _is_for_people():
            return ""
        raise
    try:
        with explained():
            return prompt.run(line)
    except Exit:
        if not _is_for_people():
            raise
    except KeyboardInterrupt:
        if not _is_for_people():
            raise
        complain("\ngiven up; the server may still be executing the call")
    return ""


def _find(options: argparse.Namespace) -> None:
    from pc_rpc._cli_find import found, table

    servers = found(options.timeout)
    if options.json or not sys.stdout.isatty():
        _write([dataclasses.asdict(server) for server in servers], options)
    else:
        say(table(servers))


def _web(options: argparse.Namespace) -> None:
    try:
        from pyon.web import door_of

        from pc_rpc.web._commands import web
    except ImportError as error:
        raise UsageError(f"{error}; install the extra [web] of pyon and of pc-rpc") from error
    from pyon import asyncio_signals

    with files_of("the files of the page"):
        door = door_of(options, always_token=True)
    try:
        asyncio_signals.run(web(options, door, _tls(options)))
    except KeyboardInterrupt:
        return  # the usual end


def _serve(options: argparse.Namespace) -> None:
    from pc_rpc import _cli_serve

    _cli_serve.run(options, _tls(options, server=True))


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "list-targets": _list_targets,
    "list-methods": _list_methods,
    "call": _call,
    "interactive": _interactive,
    "leases": _list_leases,
    "break-lease": _break_lease,
    "ping": _ping,
    "stubs": _stubs,
    "find": _find,
    "web": _web,
    "serve": _serve,
}
