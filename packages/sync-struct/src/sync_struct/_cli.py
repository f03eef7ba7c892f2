"""The `sync-struct` command: look at published structures, record, relay, replay and publish them.

sync-struct get HOST PORT NAME [PATH]         print the structure once
sync-struct watch HOST PORT NAME [PATH]       show it live
sync-struct log HOST PORT NAME FILE [PATH]    record every step in a file
sync-struct replay FILE... [--until TIME]     print a recorded structure, or publish it again
sync-struct relay HOST PORT NAME...           publish further
sync-struct publish FILE                      serve a PYON file
sync-struct bridge out HOST PORT NAME...      write into NATS, with --nats ADDRESS
sync-struct bridge in NAME...                 publish what is in NATS
sync-struct web HOST PORT NAME...             show them in a browser

Instead of HOST PORT NAME there may be an address, as in nats://host/NAME.

Exit status: 0 at the end, with Ctrl-C, and when the reader of a pipe has gone; 1 for errors that a
message names; 2 for a command line that cannot be understood; 74 if standard output cannot be
written.
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

from pyon import asyncio_signals, terminal
from pyon.tcp_options import add_page_options, add_tls_options

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
    options = _parser().parse_args(_with_names(given))
    try:
        asyncio_signals.run(options.run(options))
    except KeyboardInterrupt:
        return 0
    except (OSError, LookupError, ValueError, TypeError, ImportError) as error:
        terminal.complain("sync-struct", error)
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
    """Return arguments with a port, and maybe a name, behind each address in place of a host."""
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
    command = add("log", log, "Record every step in a file, with the time; reconnect for ever.")
    _add_source(command, with_file=True)
    command.add_argument("--rate", type=float, help="steps per second, at most; the last one comes")
    command.add_argument(
        "--rotate-size", type=_size, metavar="SIZE", help="begin another file then, as in 100M"
    )
    command.add_argument(
        "--rotate-every", type=_duration, metavar="TIME", help="the same by age, as in 12h, 7d"
    )


def _add_source(command: argparse.ArgumentParser, *, with_file: bool = False) -> None:
    command.add_argument("host")
    command.add_argument("port", type=int)
    command.add_argument("name", help="of the notifier")
    if with_file:
        command.add_argument("file", type=Path)
    command.add_argument("path", nargs="?", default=[], type=_path, help=PATH_HELP)
    add_tls_options(command, "publisher's")


def _add_serving(add: _Add) -> None:
    command = add("replay", replay, "Print a recorded structure, or publish it again.")
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="in order of time; or an address: what is there"
    )
    command.add_argument("--until", type=_time, metavar="TIME", help="as in 2026-11-26T14:30")
    command.add_argument("--publish", action="store_true", help="publish it, step by step")
    command.add_argument(
        "--speed", type=_speed, default=1.0, help="times the recorded one; inf: at once"
    )
    _add_door(command)
    command = add("relay", relay, "Publish further what another publisher publishes.")
    command.add_argument("host")
    command.add_argument("port", type=int)
    command.add_argument("names", nargs="+", metavar="NAME", help="of the notifiers")
    command.add_argument("--serve-tls", action="store_true", help="serve with the same files")
    _add_door(command, named=False)
    command = add("publish", publish, "Publish the structure in a PYON file.")
    command.add_argument("file", type=Path)
    _add_door(command)
    command.add_argument(
        "--editable",
        action="store_true",
        help='apply the mods that come as lines on stdin, like {"action": "setitem", "path": [], '
        '"key": "a", "value": 1}, until it ends',
    )


def _add_bridges(add: _Add) -> None:
    bridges = add("bridge", None, "Carry published structures over NATS: the extra [nats].")
    directions = bridges.add_subparsers(required=True, metavar="DIRECTION")

    def add_direction(name: str, text: str) -> argparse.ArgumentParser:
        command = directions.add_parser(name, help=text, description=text)
        command.set_defaults(run=lambda options: _bridge(name, options))
        return command

    command = add_direction("out", "Write what a publisher publishes into NATS.")
    command.add_argument("host")
    command.add_argument("port", type=int)
    command.add_argument("names", nargs="+", metavar="NAME", help="of the notifiers")
    command.add_argument(
        "--storage", choices=["file", "memory"], default="file", help="of a stream that is made"
    )
    command.add_argument("--replicas", type=int, default=1, help="of it, in a cluster")
    add_tls_options(command, "publisher's")
    _add_engine(command)
    command = add_direction("in", "Publish what is in NATS.")
    command.add_argument("names", nargs="+", metavar="NAME", help="of the notifiers")
    _add_door(command, named=False)
    _add_engine(command)


def _add_web(add: _Add) -> None:
    command = add("web", _web, "Show structures in a browser: the extra [web].")
    command.add_argument("host")
    command.add_argument("port", type=int)
    command.add_argument("names", nargs="+", metavar="NAME", help="of the notifiers")
    add_page_options(command)
    add_tls_options(command, "publisher's")


async def _web(options: argparse.Namespace) -> None:
    try:
        from sync_struct.web._commands import web
    except ImportError as error:
        raise ImportError(f"{error}; for a page: the extra [web] of pyon and sync-struct") from None
    await web(options)


def _add_engine(command: argparse.ArgumentParser) -> None:
    """Give a command the options of how NATS is reached."""
    group = command.add_argument_group("NATS")
    group.add_argument("--nats", required=True, metavar="ADDRESS", help="as in nats://host:4222")
    group.add_argument("--creds", metavar="FILE", help="user credentials")
    group.add_argument("--nkey", metavar="FILE", help="seed of a key")
    group.add_argument("--nats-ca", metavar="FILE", help="speak TLS; who signs the server's")
    group.add_argument("--nats-cert", metavar="FILE", help="own certificate, and TLS")
    group.add_argument("--nats-key", metavar="FILE", help="its private key")


async def _bridge(direction: str, options: argparse.Namespace) -> None:
    from sync_struct.nats._commands import bridge_in, bridge_out

    await (bridge_out if direction == "out" else bridge_in)(options)


def _add_door(command: argparse.ArgumentParser, *, named: bool = True) -> None:
    """Give a command the options of where it serves."""
    if named:
        command.add_argument("--name", help="of the notifier (default: the file's, without suffix)")
    command.add_argument("--bind", help="address to listen on (default: both loopbacks)")
    command.add_argument(
        "--port", dest="serve_port", type=int, default=0, help="to listen on (default: any free)"
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


def _speed(text: str) -> float:
    speed = float(text)
    if not speed > 0:
        raise argparse.ArgumentTypeError(f"expected a number above zero, got {text!r}")
    return speed if speed < math.inf else 1e9


def _size(text: str) -> int:
    return int(_with_unit(text, {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}))


def _duration(text: str) -> float:
    return _with_unit(text, {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400})


def _with_unit(text: str, units: dict[str, int]) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-z]?)", text.lower())
    if found is None or found[2] not in units or not float(found[1]):
        known = ", ".join(filter(None, units))
        raise argparse.ArgumentTypeError(
            f"expected a number above zero, and one of {known}; got {text!r}"
        )
    return float(found[1]) * units[found[2]]


if __name__ == "__main__":
    sys.exit(main())
