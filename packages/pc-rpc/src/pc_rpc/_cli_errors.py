"""Errors of the ``pc-rpc`` command: whose they are, how they are shown, and their exit statuses.

The one idea to keep in mind: whose fault an error is depends on where it was raised. A traceback is
shown for the user's code only, here or at the server, and without the frames of this package.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from pyon.terminal import OUTPUT_FAILED, OutputError, legible

from pc_rpc._errors import LeaseLost, RpcError, TargetLeased

OK = 0
RAISED = 1
USAGE = 2
NO_ANSWER = 3
DRIVER = 4
INTERNAL = 70
LEASED = 75
INTERRUPTED = 130

STATUSES = {
    OK: "done, or the reader of the output has closed the pipe",
    RAISED: "the remote method raised",
    USAGE: "the command line is wrong, or names a file or an address that cannot be used",
    NO_ANSWER: "no such server or target, or no answer",
    DRIVER: "the driver to serve could not be made or closed: its own code raised",
    INTERNAL: "an error in this program",
    OUTPUT_FAILED: "the output cannot be written",
    LEASED: "another client has a lease on the target: try again later",
    INTERRUPTED: "ended by Ctrl-C",
}
"""What each exit status means. 70 to 75 are those of sysexits.h, 130 is a shell's for SIGINT."""


class Exit(Exception):  # noqa: N818
    """End the command with this status; the error was already shown."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class UsageError(ValueError):
    """An error in the command line."""


def complain(text: str) -> None:
    """Write to stderr, with control characters escaped."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # there is no other place to report it
            sys.stderr.write(legible(text.rstrip(), lines=True) + "\n")
            sys.stderr.flush()


@contextmanager
def explained() -> Iterator[None]:
    """Show an exception of the block on stderr, and raise `Exit` with its status."""
    try:
        yield
    except (Exit, OutputError):
        raise
    except Exception as error:
        status, text = _explanation(error)
        complain(text)
        raise Exit(status) from error


def _explanation(error: Exception) -> tuple[int, str]:
    if isinstance(error, (TargetLeased, LeaseLost)) and not getattr(error, "parent_traceback", ()):
        return LEASED, f"pc-rpc: {error}"
    if hasattr(error, "parent_traceback"):
        return RAISED, "At the server:\n" + remote_traceback(error)
    if isinstance(error, (OSError, RpcError)):
        return NO_ANSWER, f"pc-rpc: {error}"
    if isinstance(error, (ValueError, TypeError, AttributeError)):
        return USAGE, f"pc-rpc: {error}"
    return INTERNAL, "pc-rpc: an error of its own:\n" + "".join(traceback.format_exception(error))


@contextmanager
def files_of(what: str) -> Iterator[None]:
    """Turn an `OSError` of the block, about local files or addresses, into a `UsageError`."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{what}: {error}") from error


# Tracebacks.


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """End the command if the user's code in the block raises, and show its traceback.

    `KeyboardInterrupt` and the cancellation of the task are not caught.
    """
    try:
        yield
    except BaseException as error:  # SystemExit, too
        if isinstance(error, KeyboardInterrupt) or _ends_task(error):
            raise
        complain(f"{user_traceback(error)}pc-rpc: {what} raised {type(error).__name__}")
        raise Exit(DRIVER) from error


def _ends_task(error: BaseException) -> bool:
    """Return whether an exception is the cancellation of a task, if asyncio is loaded."""
    if "asyncio" not in sys.modules or isinstance(error, Exception):
        return False
    from pc_rpc._life import is_cancelled

    return is_cancelled(error)


def user_traceback(error: BaseException) -> str:
    """Return the traceback from the first frame that is neither ours nor the import system's."""
    frames = user_frames(error)
    return "".join(traceback.format_exception(type(error), error, frames))


def user_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback object of the user's first frame; None if no code of theirs ran."""
    frames = error.__traceback__
    while frames is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_machinery(file: str) -> bool:
    import importlib

    ours = os.path.dirname(__file__), os.path.dirname(importlib.__file__)
    return file.startswith("<frozen importlib") or os.path.dirname(file) in ours


def remote_traceback(error: BaseException) -> str:
    """Return the traceback as Python shows it at the server: with causes, notes and groups."""
    shown = traceback.TracebackException(type(error), error, None)
    _use_remote_frames(shown, error)
    return "".join(shown.format())


class _RemoteFrames(traceback.StackSummary):
    """The frames at a server, which arrive as texts."""

    def format(self, **_: object) -> list[str]:
        return [str(frame) for frame in self]


def _use_remote_frames(shown: traceback.TracebackException, error: BaseException) -> None:
    frames = getattr(error, "parent_traceback", None)
    if frames:
        shown.stack = _RemoteFrames(frames)
        shown.__notes__ = (shown.__notes__ or [])[:-1]  # the last one repeats the frames
    links = [(shown.__cause__, error.__cause__), (shown.__context__, error.__context__)]
    if isinstance(error, BaseExceptionGroup):
        links += zip(shown.exceptions or (), error.exceptions, strict=False)
    for shown_link, link in links:
        if shown_link is not None and link is not None:
            _use_remote_frames(shown_link, link)
