"""What the `sync-struct` command does with a publisher of others: get, watch, log."""

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

__all__ = ["Recording", "get", "log", "say_once", "watch"]

REFRESH_RATE = 10.0
"""Updates per second on a terminal: more cannot be read."""

SHORT_ARRAY = 10
"""Elements of an array up to which `watch` prints it whole in a pipe."""


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
            complain("sync-struct", "for a live tree: pip install rich")
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
    _leave_log_to_us()
    tls = tls_context(options)
    # The loop draws, so that nothing changes while it does.
    with Live(view, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        running = asyncio.ensure_future(subscriber.run(options.host, options.port, ssl=tls))
        try:
            while True:
                live.refresh()
                await asyncio.sleep(1 / REFRESH_RATE)
        finally:
            await subscriber.close()
            await running


async def _watch_lines(options: argparse.Namespace) -> None:
    """Print every mod as a line: the time, a tab, PYON; of arrays what they are like.

    Whether it is up to date is said on standard error.
    """
    failures: list[OutputError] = []

    async def write(mod: Mod) -> None:
        now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        try:
            emit(f"{now}\t{pyon.encode(_summarised(mod))}\n")
        except OutputError as error:  # the reader has left, or the disk is full
            failures.append(error)
            await subscriber.close()

    subscriber = Subscriber(
        options.name,
        _as_it_is,
        write,
        path=options.path,
        state_cb=_say_staleness(options.name),
        on_error=say_once(),
    )
    _leave_log_to_us()
    await subscriber.run(options.host, options.port, ssl=tls_context(options))
    if failures:
        raise failures[0]


def _summarised(value: Any) -> Any:
    """Return a value with a description in the place of every array that is not short."""
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
        complain("sync-struct", f"{options.file}: cut off {recorder.dropped} bytes of a torn line")
    recording = Recording(recorder)
    recording.subscriber = Subscriber(
        options.name,
        None,
        recording.write,
        path=options.path,
        max_rate=options.rate,
        decode=False,
        state_cb=recording.take_state,
        on_error=say_once(),
    )
    _leave_log_to_us()
    try:
        await recording.subscriber.run(options.host, options.port, ssl=tls_context(options))
    finally:
        recorder.close()
    if recording.failure is not None:
        raise OSError(f"{options.file}: {recording.failure.strerror or recording.failure}")


class Recording:
    """Has what a subscriber gets written to files, until one cannot be written.

    Parameters
    ----------
    recorder : Recorder
        Writes them.

    Attributes
    ----------
    subscriber : Subscriber
        Calls `write` and `take_state`; does not decode.
    failure : OSError or None
        Why no more was written.
    """

    subscriber: Subscriber

    def __init__(self, recorder: Recorder) -> None:
        self.failure: OSError | None = None
        self._recorder = recorder
        self._asked = False  # for the structure, which the next file is to begin with

    async def write(self, step: Step) -> None:
        """Write a step, and see to it that another file begins when it is time."""
        if step.action == "init":
            self._asked = False
        try:
            self._recorder.write(step)
        except OSError as error:
            self.failure = error
            await self.subscriber.close()
        if self._recorder.is_full and not self._asked:
            self._asked = True
            self.subscriber.resync()

    def take_state(self, state: str) -> None:
        """Take note that the connection is lost: what was asked for went with it."""
        self._asked = self._asked and state != "stale"


def say_once() -> Callable[[Exception], None]:
    """Return a function that prints errors, but the same one only once in a row."""
    said = ""

    def say(error: Exception) -> None:
        nonlocal said
        if str(error) != said:
            complain("sync-struct", error)
        said = str(error)

    return say


def _say_staleness(name: str) -> Callable[[str], None]:
    """Return a function that prints when a structure is out of date, and when no more."""
    before = ""

    def say(state: str) -> None:
        nonlocal before
        if state == "stale":
            complain("sync-struct", f"{name} is stale: its publisher, or one before that, is away")
        elif before == "stale" and state != "closed":
            complain("sync-struct", f"{name} is {state} again")
        before = state

    return say


def _leave_log_to_us() -> None:
    """Have warnings of the library not printed: `on_error` is told of the same."""
    logging.getLogger("sync_struct").setLevel(logging.ERROR)


def _as_it_is(structure: Any) -> Any:
    return structure
