"""Text for terminals, and errors of standard output, for all commands.

The one idea to keep in mind: an error of standard output is an `OutputError`, so that it is not
confused with errors of files and networks. If the reader of standard output has gone
(``pyon show f | head``), the command ends quietly. `run` handles both, and returns the same exit
statuses in all commands.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

__all__ = [
    "OUTPUT_FAILED",
    "READER_GONE",
    "OutputError",
    "ReaderGone",
    "complain",
    "emit",
    "legible",
    "run",
]

READER_GONE = 0
"""Exit status when the reader of standard output has gone: success, since it needed no more."""

OUTPUT_FAILED = 74
"""Exit status when standard output cannot be written, for example because the disk is full:
``EX_IOERR`` of sysexits.h. No command uses it for anything else."""


class OutputError(Exception):
    """Standard output cannot be written. Not an `OSError`, as errors of files and networks are."""


class ReaderGone(OutputError):  # noqa: N818  (not an error for the user)
    """The reader of standard output has gone."""


def legible(text: str, *, lines: bool = False) -> str:
    r"""Return text of unknown origin with all control characters escaped.

    Parameters
    ----------
    text : str
        Text from a peer or a file.
    lines : bool, optional
        Whether to keep line ends and tabs, for text that is shown as a separate paragraph. In a
        message or a table a line end could fake another line, so by default it is escaped.

    Examples
    --------
    >>> print(legible("25 °C\x1b[2J\n"))
    25 °C\x1b[2J\n
    """
    if text.isprintable():
        return text
    passing = "\n\t" if lines else ""
    return "".join(
        c if c.isprintable() or c in passing else c.encode("unicode_escape").decode() for c in text
    )


def emit(text: str) -> None:
    """Write text to standard output and flush.

    Characters that the encoding of standard output does not have are escaped.

    Raises
    ------
    ReaderGone
        The reader of standard output has gone.
    OutputError
        It cannot be written.
    """
    stream = sys.stdout
    if stream is None:  # a program without a console
        return
    encoding = stream.encoding or "utf-8"
    known = text if text.isascii() else text.encode(encoding, "backslashreplace").decode(encoding)
    with _OutputErrors(stream):
        stream.write(known)
        stream.flush()


def complain(command: str, message: object, *, lines: bool = False) -> None:
    """Write one line, ``command: message``, to standard error.

    A failure is ignored: there is nowhere left to report it.
    """
    if sys.stderr is not None:
        with contextlib.suppress(OutputError), _OutputErrors(sys.stderr):
            sys.stderr.write(f"{command}: {legible(str(message), lines=lines)}\n")
            sys.stderr.flush()


def run(command: str, main: Callable[[], int]) -> int:
    """Run a command and return its exit status, even if standard output fails.

    Parameters
    ----------
    command : str
        The name of the command, for messages.
    main : callable
        The command. It returns the exit status. Its exceptions are passed on, except `OutputError`.

    Returns
    -------
    int
        The result of `main`, or `READER_GONE`, or, after a message, `OUTPUT_FAILED`.

    Notes
    -----
    While `main` runs, everything that writes to `sys.stdout` (`print`, argparse, rich) raises
    `OutputError` in place of `OSError`.
    """
    if sys.stdout is None:
        return main()
    output = _Output(sys.stdout)
    try:
        with contextlib.redirect_stdout(cast("TextIO", output)):
            try:
                return main()
            finally:  # otherwise the flush at the interpreter's exit would fail
                output.flush()
    except ReaderGone:
        return READER_GONE
    except OutputError as error:
        complain(command, error)
        return OUTPUT_FAILED


class _Output:
    """Standard output that raises `OutputError` in place of `OSError`; see `run`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _OutputErrors(self._stream):
            return self._stream.write(text)

    def flush(self) -> None:
        if not self._stream.closed:
            with _OutputErrors(self._stream):
                self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _OutputErrors:
    """Turns an `OSError` of a stream into an `OutputError`; later writes are discarded."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, OSError):
            return
        _silence(self._stream)
        # Windows reports a pipe without a reader as an invalid argument.
        if error.errno in (errno.EPIPE, errno.ESHUTDOWN) or _is_closed_windows_pipe(error):
            raise ReaderGone("the reader of standard output has gone") from error
        reason = error.strerror or error
        raise OutputError(f"cannot write standard output: {reason}") from error


def _is_closed_windows_pipe(error: OSError) -> bool:
    return os.name == "nt" and error.errno == errno.EINVAL


def _silence(stream: TextIO) -> None:
    """Discard the rest of the buffer, so that the interpreter's exit does not fail, too."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor, as in tests
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)
