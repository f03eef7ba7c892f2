"""Capture of what sent code prints and logs, for its caller.

`sys.stdout` and `sys.stderr` belong to the whole process. They are wrapped, once, by a stream that
checks the context of the writing code: text written in the context of a call goes to the `Output`
of that call, all other text to the original stream. Log records that reach the root logger's
handlers are handled in the same way.
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

# Characters kept for a caller that does not fetch them. Nobody reads more than a megabyte, and a
# program that prints for days must not fill the controller's memory.
OUTPUT_LIMIT = 2**20

# Characters that a record counts for besides its text: about the memory of its list and strings.
RECORD_SIZE = 200

# Characters up to which a piece of text is appended to the previous record. `print` writes twice
# for each line, and a program may write single characters; copying this little costs nothing.
PIECE_SIZE = 2**12

_output: contextvars.ContextVar[Output | None] = contextvars.ContextVar("output", default=None)

Record = list[Any]
"""["stdout" or "stderr", text], or ["log", level number, name of the logger, text]."""


def current() -> Output | None:
    """Return the `Output` of the running code; None if its output is not captured."""
    output = _output.get()
    return None if output is None or output.closed else output


class Output:
    """The output of one connection's code that has not been fetched yet.

    Created and read on the event loop; written and closed from any thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Reentrant: a finaliser or a signal handler may print while a record is being stored.
        self._lock = threading.RLock()
        self._records: deque[Record] = deque()
        self._size = 0
        self._lost = 0
        self._changed = asyncio.Event()
        self.closed = False
        pyon.forks.register(self)

    def context(self) -> contextvars.Context:
        """Return a context for code whose output is to be captured here."""
        _install()
        context = contextvars.copy_context()
        context.run(_output.set, self)
        return context

    def write(self, kind: str, text: str) -> None:
        """Store text that was written to "stdout" or "stderr"; empty text is ignored."""
        if text:
            self._add([kind, _plain(text)])

    def log(self, record: logging.LogRecord) -> None:
        """Store a log record, formatted in the thread that logged it: its arguments may change."""
        self._add(["log", int(record.levelno), _plain(record.name), _plain(_formatted(record))])

    def _add(self, record: Record) -> None:
        """Store a record; drop the oldest ones beyond the limit."""
        cut = max(len(record[-1]) - OUTPUT_LIMIT, 0)
        record[-1] = record[-1][cut:]
        with self._lock:
            was_empty = not self._records
            self._lost += cut
            if not self._join(record):
                self._records.append(record)
                self._size += _size(record)
            while self._size > OUTPUT_LIMIT and len(self._records) > 1:
                oldest = self._records.popleft()
                self._size -= _size(oldest)
                self._lost += len(oldest[-1])
        if was_empty:
            self.wake()

    def _join(self, record: Record) -> bool:
        """Append a short text to the last record, if that is of the same kind."""
        last = self._records[-1] if self._records else ["none"]
        kind, text = record[0], record[-1]
        if kind == "log" or last[0] != kind or len(last[-1]) + len(text) > PIECE_SIZE:
            return False
        last[-1] += text
        self._size += len(text)
        return True

    def take(self) -> list[Record]:
        """Return and remove all records, oldest first, with adjacent pieces of text joined."""
        self._changed.clear()
        with self._lock:
            records, self._records, self._size = self._records, deque(), 0
            lost, self._lost = self._lost, 0
        if lost:
            records.appendleft(["stderr", f"[{lost} characters of output lost before this]\n"])
        return _joined(records)

    def forked(self) -> None:
        """Capture no output in the child of a fork, where nothing fetches it."""
        self._lock = threading.RLock()
        self._records = deque()
        self.closed = True

    def wake(self) -> None:
        """Make `wait` return."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing waits
            self._loop.call_soon_threadsafe(self._changed.set)

    def close(self) -> None:
        """Stop capturing: later output goes to the original streams and handlers."""
        self.closed = True
        self.wake()

    async def wait(self, timeout: float) -> None:
        """Wait until there are records to fetch, for `timeout` seconds at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)


def _size(record: Record) -> int:
    return RECORD_SIZE + sum(len(part) for part in record if isinstance(part, str))


def _plain(text: str) -> str:
    """Return a subclass of str as a plain str, which every peer can decode."""
    return text if type(text) is str else str.__str__(text)


def _formatted(record: logging.LogRecord) -> str:
    """Return the message and the traceback of a record, also if its arguments do not match."""
    try:
        return logging.Formatter("%(message)s").format(record)
    except Exception as error:  # of a user's __str__, or of the formatting itself
        return f"{record.msg!r:.1000} cannot be formatted: {error!r:.1000}"


def _joined(records: deque[Record]) -> list[Record]:
    """Join adjacent pieces of text, in linear time."""
    texts: list[tuple[Record, list[str]]] = []
    for record in records:
        if texts and record[0] != "log" and texts[-1][0][0] == record[0]:
            texts[-1][1].append(record[-1])
        else:
            texts.append((record, [record[-1]]))
    return [[*record[:-1], "".join(pieces)] for record, pieces in texts]


class _Stream:
    """A wrapper of `sys.stdout` or `sys.stderr`."""

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
    """Passes records of sent code to its caller, once, and hides them from the handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        output = current()
        if output is None:
            return True
        if "sent_to_caller" not in record.__dict__:
            record.__dict__["sent_to_caller"] = True
            output.log(record)
        return False


_log_filter = _LogFilter()


def _install() -> None:
    """Wrap the streams of the process and filter its log handlers, unless that has been done."""
    for kind in ("stdout", "stderr"):
        stream = getattr(sys, kind)
        if not isinstance(stream, _Stream | None):
            setattr(sys, kind, _Stream(kind, stream))
    for handler in (*logging.root.handlers, logging.lastResort):
        if handler is not None:
            handler.addFilter(_log_filter)  # no effect if it is there already
