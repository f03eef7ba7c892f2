"""The `sync-struct` command: look at published structures, record, relay, replay and publish them.

sync-struct get HOST PORT NAME [PATH]         print the structure once
sync-struct watch HOST PORT NAME [PATH]       show it live
sync-struct log HOST PORT NAME FILE [PATH]    record every step in a file
sync-struct replay FILE... [--until TIME]     print a recorded structure, or publish it again
sync-struct relay HOST PORT NAME...           publish the notifiers of another publisher
sync-struct publish FILE                      publish the structure in a PYON file
sync-struct bridge out HOST PORT NAME...      write notifiers into NATS, with --nats ADDRESS
sync-struct bridge in NAME...                 publish notifiers from NATS
sync-struct web HOST PORT NAME...             show structures in a browser

HOST PORT NAME can be replaced by an address, as in nats://host/NAME.

Exit status: 0 on success, after Ctrl-C, and when a pipe is closed by its reader; 1 after an error,
which is printed; 2 for a wrong command line; 74 if standard output cannot be written.
"""

from __future__ import annotations

import argparse
import datetime
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyon
from pyon import asyncio_signals, terminal
from pyon.tcp_options import add_page_options, add_tls_options, tcp_port

from sync_struct import __version__
from sync_struct._addresses import is_address, name_in
from sync_struct._cli_paths import PATH_HELP, parse_path
from sync_struct._cli_reading import get, log, watch
from sync_struct._cli_serving import publish, relay, replay

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return terminal.run("sync-struct", lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    if not given:
        parser.exit(2, parser.format_help())
    options = parser.parse_args(_with_names(given))
    try:
        asyncio_signals.run(options.run(options))
    except KeyboardInterrupt:
        return 0
    except (OSError, LookupError, ValueError, TypeError, ImportError) as error:
        has_excerpt = isinstance(error, pyon.DecodeError)  # lines of a file, with a caret
        terminal.complain("sync-struct", error, lines=has_excerpt)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sync-struct",
        description="Look at published structures, record, relay, replay and publish them.",
    )
    parser.add_argument("--version", action="version", version=f"sync-struct {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    _add_reading(add)
    _add_serving(add)
    _add_bridges(add)
    _add_web(add)
    return parser


def _with_names(arguments: list[str]) -> list[str]:
    """Return arguments with a port, and the name if there is one, added after each address."""
    if arguments[:1] == ["replay"]:
        return arguments
    expanded: list[str] = []
    for argument in arguments:
        expanded.append(argument)
        if is_address(argument) and expanded[-2:-1] != ["--nats"] and argument[:1] != "-":
            expanded += ["0", *filter(None, [name_in(argument)])]
    return expanded


_Add = Callable[[str, Any, str], argparse.ArgumentParser]


def _add_reading(add: _Add) -> None:
    _add_source(add("get", get, "Print a structure once, as PYON."))
    _add_source(add("watch", watch, "Show a structure live; in a pipe, print a line per mod."))
    command = add("log", log, "Record every step in a file, with its time; reconnect for ever.")
    _add_source(command, with_file=True)
    command.add_argument(
        "--rate", type=_positive, help="maximum steps per second; the last step is always recorded"
    )
    command.add_argument(
        "--rotate-size", type=_size, metavar="SIZE", help="begin a new file at this size: 100M"
    )
    command.add_argument(
        "--rotate-every", type=_duration, metavar="TIME", help="begin a new file at this age: 7d"
    )


def _add_source(command: argparse.ArgumentParser, *, with_file: bool = False) -> None:
    command.add_argument("host")
    command.add_argument("port", type=tcp_port)
    command.add_argument("name", help="name of the notifier")
    if with_file:
        command.add_argument("file", type=Path)
    command.add_argument("path", nargs="?", default=[], type=_path, help=PATH_HELP)
    add_tls_options(command, "publisher's")


def _add_serving(add: _Add) -> None:
    command = add("replay", replay, "Print a recorded structure, or publish it again.")
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="files in order of time, or one address of a stream",
    )
    command.add_argument(
        "--until", type=_time, metavar="TIME", help="stop at this time: 2026-11-26T14:30"
    )
    command.add_argument("--publish", action="store_true", help="publish the steps one by one")
    command.add_argument(
        "--speed", type=_speed, default=1.0, help="factor of the recorded speed; inf: no delays"
    )
    _add_listening_options(command)
    command = add("relay", relay, "Publish the notifiers of another publisher.")
    command.add_argument("host")
    command.add_argument("port", type=tcp_port)
    command.add_argument("names", nargs="+", metavar="NAME", help="name of a notifier")
    command.add_argument("--serve-tls", action="store_true", help="serve TLS with the same files")
    _add_listening_options(command, named=False)
    command = add("publish", publish, "Publish the structure in a PYON file.")
    command.add_argument("file", type=Path)
    _add_listening_options(command)
    command.add_argument(
        "--editable",
        action="store_true",
        help='apply mods read from stdin, one per line, as in {"action": "setitem", "path": [], '
        '"key": "a", "value": 1}, until stdin ends',
    )


def _add_bridges(add: _Add) -> None:
    bridges = add("bridge", None, "Carry published structures over NATS: the extra [nats].")
    directions = bridges.add_subparsers(required=True, metavar="DIRECTION")

    def add_direction(name: str, text: str) -> argparse.ArgumentParser:
        command = directions.add_parser(name, help=text, description=text)
        command.set_defaults(run=lambda options: _bridge(name, options))
        return command

    command = add_direction("out", "Write notifiers of a publisher into NATS.")
    command.add_argument("host")
    command.add_argument("port", type=tcp_port)
    command.add_argument("names", nargs="+", metavar="NAME", help="name of a notifier")
    command.add_argument(
        "--storage",
        choices=["file", "memory"],
        default="file",
        help="storage of a newly created stream (default: file)",
    )
    command.add_argument(
        "--replicas", type=int, default=1, help="replicas of a newly created stream, in a cluster"
    )
    add_tls_options(command, "publisher's")
    _add_nats_options(command)
    command = add_direction("in", "Publish notifiers from NATS.")
    command.add_argument("names", nargs="+", metavar="NAME", help="name of a notifier")
    _add_listening_options(command, named=False)
    _add_nats_options(command)


def _add_web(add: _Add) -> None:
    command = add("web", _web, "Show structures in a browser: the extra [web].")
    command.add_argument("host")
    command.add_argument("port", type=tcp_port)
    command.add_argument("names", nargs="+", metavar="NAME", help="name of a notifier")
    add_page_options(command)
    add_tls_options(command, "publisher's")


async def _web(options: argparse.Namespace) -> None:
    try:
        from sync_struct.web._commands import web
    except ImportError as error:
        raise ImportError(f"{error}; install the extra [web] of pyon and of sync-struct") from None
    await web(options)


def _add_nats_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the connection to NATS to a command."""
    group = command.add_argument_group("NATS")
    group.add_argument("--nats", required=True, metavar="ADDRESS", help="as in nats://host:4222")
    group.add_argument("--creds", metavar="FILE", help="user credentials")
    group.add_argument("--nkey", metavar="FILE", help="seed of an NKey")
    group.add_argument("--nats-ca", metavar="FILE", help="use TLS; CA of the server's certificate")
    group.add_argument("--nats-cert", metavar="FILE", help="use TLS; certificate of this client")
    group.add_argument("--nats-key", metavar="FILE", help="private key of this client")


async def _bridge(direction: str, options: argparse.Namespace) -> None:
    from sync_struct.nats._commands import bridge_in, bridge_out

    await (bridge_out if direction == "out" else bridge_in)(options)


def _add_listening_options(command: argparse.ArgumentParser, *, named: bool = True) -> None:
    """Add the options of the listening socket to a command."""
    if named:
        command.add_argument(
            "--name", help="name of the notifier (default: that of the file, without suffix)"
        )
    command.add_argument("--bind", help="address to listen on (default: both loopback addresses)")
    command.add_argument(
        "--port",
        dest="serve_port",
        type=tcp_port,
        default=0,
        help="port to listen on (default: any free port)",
    )
    add_tls_options(command, "subscribers'" if named else "other end's")


# Arguments.


def _path(text: str) -> list[Any]:
    try:
        return parse_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _time(text: str) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a time as in 2026-11-26T14:30:00, got {text!r}"
        ) from None
    return time if time.tzinfo is not None else time.astimezone()


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected a number above zero, got {text!r}")
    return number


def _speed(text: str) -> float:
    return min(_positive(text), 1e9)


def _size(text: str) -> int:
    return int(_with_unit(text, {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}))


def _duration(text: str) -> float:
    return _with_unit(text, {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400})


def _with_unit(text: str, units: dict[str, int]) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-z]?)", text.lower())
    if found is None or found[2] not in units or not float(found[1]):
        known = ", ".join(filter(None, units))
        raise argparse.ArgumentTypeError(
            f"expected a number above zero, optionally followed by one of {known}; got {text!r}"
        )
    return float(found[1]) * units[found[2]]


if __name__ == "__main__":
    sys.exit(main())
