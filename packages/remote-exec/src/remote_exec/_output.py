"""What sent code prints and logs, kept for its caller.

`sys.stdout` and `sys.stderr` belong to the whole process. They are wrapped, once, by a stream that
looks at the context of the code that writes: what is written in the context of a call goes to that
call's `Output`, everything else goes where it always went. The same for records that reach the root
logger's handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import sys
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, TextIO

import pyon.forks

# Characters kept for a caller that does not fetch them. A program that prints a megabyte is not
# read by a person; one that does so for days must not fill the controller's memory.
OUTPUT_LIMIT = 2**20

# What a record counts for besides its text: about the memory that its list and texts take.
RECORD_SIZE = 200

# Characters up to which a piece of text is joined to the one before it. `print` writes twice for
# each line, and a program may write character by character; copying so little costs nothing.
PIECE_SIZE = 2**12

_output: contextvars.ContextVar[Output | None] = contextvars.ContextVar("output", default=None)

Record = list[Any]
"""["stdout" or "stderr", text], or ["log", level number, name of the logger, text]."""


def current() -> Output | None:
    """Return where the output of the running code goes, None if it goes where it always went."""
    output = _output.get()
    return None if output is None or output.closed else output


class Output:
    """What the code of one connection has written and nobody has fetched yet.

    Made and read on the event loop, written and closed from any thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Reentrant: a finaliser or a signal handler may print in the middle of keeping a record.
        self._lock = threading.RLock()
        self._records: deque[Record] = deque()
        self._size = 0
        self._lost = 0
        self._changed = asyncio.Event()
        self.closed = False
        pyon.forks.register(self)

    def context(self) -> contextvars.Context:
        """Return a context for code whose output is to be kept here."""
        _divert()
        context = contextvars.copy_context()
        context.run(_output.set, self)
        return context

    def write(self, kind: str, text: str) -> None:
        """Keep what is written to "stdout" or "stderr"; nothing is no news."""
        if text:
            self._add([kind, _plain(text)])

    def log(self, record: logging.LogRecord) -> None:
        """Keep a log record; called where it was made, for what it formats may be anything."""
        self._add(["log", int(record.levelno), _plain(record.name), _plain(_formatted(record))])

    def _add(self, record: Record) -> None:
        """Keep a record; forget the oldest ones if there are too many."""
        cut = max(len(record[-1]) - OUTPUT_LIMIT, 0)
        record[-1] = record[-1][cut:]
        with self._lock:
            news = not self._records
            self._lost += cut
            if not self._join(record):
                self._records.append(record)
                self._size += _size(record)
            while self._size > OUTPUT_LIMIT and len(self._records) > 1:
                oldest = self._records.popleft()
                self._size -= _size(oldest)
                self._lost += len(oldest[-1])
        if news:
            self.wake()

    def _join(self, record: Record) -> bool:
        """Join a short text to the one before it, if that is of the same kind."""
        last = self._records[-1] if self._records else ["nothing"]
        kind, text = record[0], record[-1]
        if kind == "log" or last[0] != kind or len(last[-1]) + len(text) > PIECE_SIZE:
            return False
        last[-1] += text
        self._size += len(text)
        return True

    def take(self) -> list[Record]:
        """Return what has not been fetched yet, oldest first; adjacent pieces of text joined."""
        self._changed.clear()
        with self._lock:
            records, self._records, self._size = self._records, deque(), 0
            lost, self._lost = self._lost, 0
        if lost:
            records.appendleft(["stderr", f"[{lost} characters of output lost before this]\n"])
        return _joined(records)

    def forked(self) -> None:
        """Leave what the child of a fork writes where it always went: nobody fetches it there."""
        self._lock = threading.RLock()
        self._records = deque()
        self.closed = True

    def wake(self) -> None:
        """Have `wait` return."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._changed.set)

    def close(self) -> None:
        """Have what is written from now on go where it always went."""
        self.closed = True
        self.wake()

    async def wait(self, timeout: float) -> None:
        """Wait until there is something to fetch, for `timeout` seconds at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)


def _size(record: Record) -> int:
    return RECORD_SIZE + sum(len(part) for part in record if isinstance(part, str))


def _plain(text: str) -> str:
    """Return a text of a subclass as a str, which every peer can read."""
    return text if type(text) is str else str.__str__(text)


def _formatted(record: logging.LogRecord) -> str:
    """Return the message and the traceback of a record, also if its arguments do not fit it."""
    try:
        return logging.Formatter("%(message)s").format(record)
    except Exception as error:  # any of users' __str__, and what logging itself would report
        return f"{record.msg!r:.1000} cannot be formatted: {error!r:.1000}"


def _joined(records: deque[Record]) -> list[Record]:
    """Join neighbours: a list of pieces for each text, so that it takes linear time."""
    texts: list[tuple[Record, list[str]]] = []
    for record in records:
        if texts and record[0] != "log" and texts[-1][0][0] == record[0]:
            texts[-1][1].append(record[-1])
        else:
            texts.append((record, [record[-1]]))
    return [[*record[:-1], "".join(pieces)] for record, pieces in texts]


class _Stream:
    """Stands in for `sys.stdout` or `sys.stderr`."""

    def __init__(self, kind: str, original: TextIO) -> None:
        self._kind = kind
        self._original = original

    def write(self, text: str) -> int:
        output = current()
        if output is None:
            return self._original.write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        output.write(self._kind, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        return current() is None and self._original.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _LogFilter(logging.Filter):
    """Keeps records of sent code from a handler, and passes them to its caller, once."""

    def filter(self, record: logging.LogRecord) -> bool:
        output = current()
        if output is None:
            return True
        if "sent_to_caller" not in record.__dict__:
            record.__dict__["sent_to_caller"] = True
            output.log(record)
        return False


_log_filter = _LogFilter()


def _divert() -> None:
    """Wrap the streams and filter the handlers of the process, unless that has been done."""
    for kind in ("stdout", "stderr"):
        stream = getattr(sys, kind)
        if not isinstance(stream, _Stream | None):
            setattr(sys, kind, _Stream(kind, stream))
    for handler in (*logging.root.handlers, logging.lastResort):
        if handler is not None:
            handler.addFilter(_log_filter)  # a second time has no effect
