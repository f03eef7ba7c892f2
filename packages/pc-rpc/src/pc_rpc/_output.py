"""What the ``pc-rpc`` command writes, and the status that it ends with.

The one idea to keep in mind: everything goes to stdout through one function, so that a stdout that
fails, because its reader has gone or the disk is full, is told from whatever else fails.
"""

from __future__ import annotations

import os
import pprint
import sys
import traceback
from contextlib import nullcontext
from typing import Any

import pyon

OK, RAISED, USAGE, NO_ANSWER = 0, 1, 2, 3

SUMMARY_SIZE = 100
"""Elements beyond which a terminal is shown only the ends of an array: a screen has room for few
more. A pipe gets them all."""


class Exit(Exception):  # noqa: N818
    """End with this status; everything has been said."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _pretty(value: Any) -> str:
    if isinstance(value, str):
        return value
    numpy = sys.modules.get("numpy")  # loaded, if there are arrays in the value
    with numpy.printoptions(threshold=SUMMARY_SIZE) if numpy is not None else nullcontext():
        return pprint.pformat(value, sort_dicts=False)


def shown(value: Any) -> str:
    """Return a value as a person, or as the program behind a pipe, wants it."""
    if not sys.stdout.isatty():
        return pyon.encode(value)
    return "" if value is None else _pretty(value)


def legible(text: str) -> str:
    """Escape what is not to be printed: what comes from a server is not to control a terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def say(line: str) -> None:
    """Print a line for people: what their screen does not know is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    emit(legible(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def emit(text: str) -> None:
    """Write to stdout at once, so that a failure of stdout is told from any other."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer must not fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader has seen enough
            raise Exit(OK) from error
        raise ValueError(f"cannot write the output: {error}") from error


def remote_traceback(error: BaseException) -> str:
    """Return what Python would have shown at the server: with causes, notes, members of groups."""
    told = traceback.TracebackException(type(error), error, None)
    _use_remote_frames(told, error)
    return "".join(told.format())


class _RemoteFrames(traceback.StackSummary):
    """The frames at a server, which came as texts."""

    def format(self, **_: Any) -> list[str]:
        return [str(frame) for frame in self]


def _use_remote_frames(told: traceback.TracebackException, error: BaseException) -> None:
    frames = getattr(error, "parent_traceback", None)
    if frames:
        told.stack = _RemoteFrames(frames)
        told.__notes__ = (told.__notes__ or [])[:-1]  # the last one has the frames once more
    links = [(told.__cause__, error.__cause__), (told.__context__, error.__context__)]
    if isinstance(error, BaseExceptionGroup):
        links += zip(told.exceptions or (), error.exceptions, strict=False)
    for told_link, link in links:
        if told_link is not None and link is not None:
            _use_remote_frames(told_link, link)
