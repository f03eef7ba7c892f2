"""The subcommands of `sync-struct` that read from a publisher: get, watch, log."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyon
from pyon.tcp_options import tls_context
from pyon.terminal import OutputError, complain, emit, legible

from sync_struct._actions import Mod
from sync_struct._cli_paths import format_path
from sync_struct._kinds import is_array
from sync_struct._recording import Recorder
from sync_struct._steps import Step
from sync_struct._subscriber import Subscriber

if TYPE_CHECKING:
    from sync_struct._cli_view import View

__all__ = ["Recording", "error_printer", "get", "log", "watch"]

REFRESH_RATE = 10.0
"""Updates per second on a terminal: nobody can read faster."""

SHORT_ARRAY = 10
"""Elements up to which `watch` prints a whole array in a pipe."""


async def get(options: argparse.Namespace) -> None:
    """Print a structure once."""
    subscriber = Subscriber(options.name, _as_it_is, path=options.path)
    await subscriber.connect(options.host, options.port, ssl=tls_context(options))
    emit(pyon.encode(subscriber.target, pretty=True) + "\n")
    await subscriber.close()


async def watch(options: argparse.Namespace) -> None:
    """Show a structure live; in a pipe, or without the extra, a line per mod."""
    if sys.stdout.isatty():
        try:
            from sync_struct._cli_view import View
        except ImportError:
            complain("sync-struct", "pip install rich to see a live tree")
        else:
            await _watch_tree(options, View)
            return
    await _watch_lines(options)


async def _watch_tree(options: argparse.Namespace, make: type[View]) -> None:
    from rich.live import Live

    where = "/".join([options.name, format_path(options.path)]).rstrip("/")
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
        path=options.path,
        max_rate=REFRESH_RATE,
        state_cb=take_state,
        on_error=take_error,
    )
    _silence_log()
    tls = tls_context(options)
    # Drawn on the loop, so that the structure does not change meanwhile.
    with Live(view, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        running = asyncio.ensure_future(subscriber.run(options.host, options.port, ssl=tls))
        try:
            while not running.done():
                live.refresh()
                await asyncio.sleep(1 / REFRESH_RATE)
        finally:
            await subscriber.close()
            await running


async def _watch_lines(options: argparse.Namespace) -> None:
    """Print every mod as a line: the time, a tab, PYON with summaries of long arrays.

    Changes between stale and live are reported on standard error.
    """
    failures: list[OutputError] = []

    async def write(mod: Mod) -> None:
        now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        try:
            emit(f"{now}\t{pyon.encode(_summarised(mod))}\n")
        except OutputError as error:  # a closed pipe, or a full disk
            failures.append(error)
            await subscriber.close()

    subscriber = Subscriber(
        options.name,
        _as_it_is,
        write,
        path=options.path,
        state_cb=_staleness_printer(options.name),
        on_error=error_printer(),
    )
    _silence_log()
    await subscriber.run(options.host, options.port, ssl=tls_context(options))
    if failures:
        raise failures[0]


def _summarised(value: Any) -> Any:
    """Return a value in which every long array is replaced by a description."""
    if is_array(value) and value.size > SHORT_ARRAY:
        return f"<array, {value.dtype} {' x '.join(map(str, value.shape))}>"
    if type(value) is dict:
        return {key: _summarised(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_summarised, value))
    return value


async def log(options: argparse.Namespace) -> None:
    """Write every step to a file, with the time; reconnect for ever."""
    recorder = Recorder(options.file, size=options.rotate_size, interval=options.rotate_every)
    if recorder.dropped:
        complain("sync-struct", f"{options.file}: removed an incomplete line, {recorder.dropped} B")
    recording = Recording(recorder)
    recording.subscriber = Subscriber(
        options.name,
        None,
        recording.write,
        path=options.path,
        max_rate=options.rate,
        decode=False,
        state_cb=recording.take_state,
        on_error=error_printer(),
    )
    _silence_log()
    try:
        await recording.subscriber.run(options.host, options.port, ssl=tls_context(options))
    finally:
        recorder.close()
    if recording.failure is not None:
        raise OSError(f"{options.file}: {recording.failure.strerror or recording.failure}")


class Recording:
    """Writes the steps of a subscriber to files, until a write fails.

    Parameters
    ----------
    recorder : Recorder
        Writes the files.

    Attributes
    ----------
    subscriber : Subscriber
        Calls `write` and `take_state`; does not decode.
    failure : OSError or None
        The error that ended the recording.
    """

    subscriber: Subscriber

    def __init__(self, recorder: Recorder) -> None:
        self.failure: OSError | None = None
        self._recorder = recorder
        self._requested = False  # the structure, with which the next file begins

    async def write(self, step: Step) -> None:
        """Write a step; request the structure when a new file is due."""
        if step.action == "init":
            self._requested = False
        try:
            self._recorder.write(step)
        except OSError as error:
            self.failure = error
            await self.subscriber.close()
        if self._recorder.is_full and not self._requested:
            self._requested = True
            self.subscriber.resync()

    def take_state(self, state: str) -> None:
        """Forget the request for the structure when the connection is lost."""
        self._requested = self._requested and state != "stale"


def error_printer() -> Callable[[Exception], None]:
    """Return a function that prints errors, without immediate repetitions."""
    said = ""

    def say(error: Exception) -> None:
        nonlocal said
        if str(error) != said:
            complain("sync-struct", error)
        said = str(error)

    return say


def _staleness_printer(name: str) -> Callable[[str], None]:
    """Return a state callback that prints when a structure becomes stale, and when it ends."""
    before = ""

    def say(state: str) -> None:
        nonlocal before
        if state == "stale":
            complain("sync-struct", f"{name} is stale: its publisher or origin cannot be reached")
        elif before == "stale" and state != "closed":
            complain("sync-struct", f"{name} is {state} again")
        before = state

    return say


def _silence_log() -> None:
    """Suppress warnings of the library: `on_error` receives the same errors."""
    logging.getLogger("sync_struct").setLevel(logging.ERROR)


def _as_it_is(structure: Any) -> Any:
    return structure
