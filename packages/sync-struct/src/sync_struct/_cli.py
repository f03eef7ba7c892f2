"""The `sync-struct` command: look at published structures, record them, publish a file.

sync-struct get HOST PORT NAME [PATH]      print the structure once
sync-struct watch HOST PORT NAME [PATH]    show it live
sync-struct log HOST PORT NAME FILE        append every mod to a file
sync-struct publish FILE                   serve a PYON file
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pyon

from sync_struct import __version__
from sync_struct._mods import Mod, process_mod
from sync_struct._notifier import Notifier
from sync_struct._publisher import Publisher
from sync_struct._subscriber import Subscriber

if TYPE_CHECKING:
    from sync_struct._view import View

__all__ = ["main"]

REFRESH_RATE = 10.0
"""Updates per second on a terminal: more cannot be read."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        asyncio.run(options.run(options))
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # who read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, LookupError, ValueError) as error:
        _say(error)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sync-struct", description="Look at published structures, record and publish them."
    )
    parser.add_argument("--version", action="version", version=f"sync-struct {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    for name, run, text in (
        ("get", _get, "Print a structure once, as PYON."),
        ("watch", _watch, "Show a structure live; in a pipe, print one line per mod."),
        ("log", _log, "Append every mod to a file, with the time; reconnect for ever."),
    ):
        command = add(name, run, text)
        command.add_argument("host")
        command.add_argument("port", type=int)
        command.add_argument("name", help="of the notifier")
        if name == "log":
            command.add_argument("file", type=Path)
        else:
            command.add_argument(
                "path", nargs="?", default="", help="of a part: keys and indices, as in a/0/b"
            )
    command = add("publish", _publish, "Publish the structure in a PYON file.")
    command.add_argument("file", type=Path)
    command.add_argument("--name", help="of the notifier (default: the file's, without suffix)")
    command.add_argument("--bind", default="127.0.0.1", help="address to listen on")
    command.add_argument("--port", type=int, default=0, help="default: any free one")
    command.add_argument(
        "--editable",
        action="store_true",
        help='apply the mods that come as lines on stdin, like {"action": "setitem", "path": [], '
        '"key": "a", "value": 1}, until it ends',
    )
    return parser


def _path(text: str) -> list[str | int]:
    return [int(key) if key.isdecimal() else key for key in text.split("/") if key]


def _as_it_is(structure: Any) -> Any:
    return structure


async def _get(options: argparse.Namespace) -> None:
    subscriber = Subscriber(options.name, _as_it_is, path=_path(options.path))
    await subscriber.connect(options.host, options.port)
    print(pyon.encode(subscriber.target, pretty=True))
    await subscriber.close()


async def _watch(options: argparse.Namespace) -> None:
    if sys.stdout.isatty():
        try:
            from sync_struct._view import View
        except ImportError:
            print("for a live tree: pip install rich", file=sys.stderr)
        else:
            await _watch_tree(options, View)
            return
    await _follow(options, sys.stdout, path=_path(options.path))


async def _watch_tree(options: argparse.Namespace, make: type[View]) -> None:
    from rich.live import Live

    where = "/".join([options.name, options.path]).rstrip("/")
    view = make(f"{where} at {options.host} port {options.port}")

    def take_state(state: str) -> None:
        view.state = state
        if state == "live":
            view.trouble = ""

    def take_error(error: Exception) -> None:
        view.trouble = legible(str(error))

    def take(mod: Mod) -> None:
        view.target = subscriber.target
        view.note(mod)

    subscriber = Subscriber(
        options.name,
        _as_it_is,
        take,
        path=_path(options.path),
        max_rate=REFRESH_RATE,
        state_cb=take_state,
        on_error=take_error,
    )
    _leave_log_to_us()
    # The loop draws, so that nothing changes while it does.
    with Live(view, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        running = asyncio.ensure_future(subscriber.run(options.host, options.port))
        try:
            while True:
                live.refresh()
                await asyncio.sleep(1 / REFRESH_RATE)
        finally:
            await subscriber.close()
            await running


async def _log(options: argparse.Namespace) -> None:
    with options.file.open("a", encoding="utf-8") as file:
        await _follow(options, file)


async def _follow(options: argparse.Namespace, file: TextIO, **wish: Any) -> None:
    """Write every mod as a line: the time, a tab, PYON."""
    failures: list[OSError] = []

    async def write(mod: Mod) -> None:
        now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        try:
            file.write(f"{now}\t{pyon.encode(mod)}\n")
            file.flush()
        except OSError as error:  # the reader has left, or the disk is full
            failures.append(error)
            await subscriber.close()

    said = ""

    def say_once(error: Exception) -> None:
        nonlocal said
        if str(error) != said:
            _say(error)
        said = str(error)

    subscriber = Subscriber(options.name, _as_it_is, write, on_error=say_once, **wish)
    _leave_log_to_us()
    await subscriber.run(options.host, options.port)
    if failures:
        raise failures[0]


def legible(text: str) -> str:
    """Escape what is not to be printed: a publisher is not to control a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _leave_log_to_us() -> None:
    """Have warnings of the library not printed: `on_error` is told of the same."""
    logging.getLogger("sync_struct").setLevel(logging.ERROR)


def _say(error: Exception) -> None:
    print(f"sync-struct: {legible(str(error))}", file=sys.stderr)


async def _publish(options: argparse.Namespace) -> None:
    notifier = Notifier(pyon.load_file(options.file))
    name = options.name or options.file.stem
    async with Publisher({name: notifier}) as publisher:
        await publisher.start(options.bind, options.port)
        print(f"{name} at {options.bind} port {publisher.port}", flush=True)
        if options.editable:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            # A daemon: nothing can wake a thread that waits for stdin.
            threading.Thread(target=_edit, args=(notifier, loop, ended), daemon=True).start()
            await ended.wait()
        else:
            await asyncio.get_running_loop().create_future()


def _edit(notifier: Notifier, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Apply mods from stdin, until it ends."""
    for line in sys.stdin:
        try:
            process_mod(notifier, pyon.decode(line))
        except (ValueError, TypeError, LookupError) as error:
            _say(error)
    with contextlib.suppress(RuntimeError):  # the loop was faster
        loop.call_soon_threadsafe(ended.set)


if __name__ == "__main__":
    sys.exit(main())
