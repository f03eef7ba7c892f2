"""Recordings: the steps of a structure in a text file that can be read and replayed.

Each line has the time, a tab, and a message in PYON as the publisher sent it; see PROTOCOL.md. The
one idea to keep in mind: every file begins with the whole structure, so each can be read alone.
"""

from __future__ import annotations

import datetime
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import pyon

from sync_struct._actions import Mod
from sync_struct._errors import SyncStructError

if TYPE_CHECKING:
    from sync_struct._steps import Step

__all__ = ["Record", "Recorder", "RecordingError", "read_recording"]

TAIL_SIZE = 64 * 2**10
"""Bytes to read at a time when searching for the end of the last complete line."""


class RecordingError(SyncStructError, ValueError):
    """A file is not a recording, or is damaged other than by an incomplete last line."""


class Record(NamedTuple):
    """One step of a recording."""

    time: datetime.datetime
    """Time of arrival, with a time zone."""

    mods: list[Mod]
    """The mods of the step; an init or absent is always alone."""


class Recorder:
    """Appends steps to a file, and begins a new file when that one is full.

    Parameters
    ----------
    path : Path
        The file to write. Full files are renamed: the time of their first line is appended.
    size : int, optional
        Bytes at which a file is full.
    interval : float, optional
        Age in seconds at which a file is full.
    now : callable, optional
        Returns the time, with a time zone.

    Attributes
    ----------
    dropped : int
        Bytes of an incomplete last line that were removed, after a recorder had been killed.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: int | None = None,
        interval: float | None = None,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now().astimezone(),
    ) -> None:
        self._path = path
        self._size = size
        self._interval = interval
        self._now = now
        self.dropped = 0
        self._file = self._open()
        self._began = self._first_time() or now()

    def _open(self) -> io.FileIO:
        file = self._path.open("ab+", buffering=0)  # a failed write leaves nothing in a buffer
        self._is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        if self._is_regular:
            self.dropped = _cut_torn_line(file)
        return file

    def _first_time(self) -> datetime.datetime | None:
        """Return the time of the first line; None if there is none."""
        if not self._is_regular:
            return None
        self._file.seek(0)
        line = self._file.readline()
        self._file.seek(0, os.SEEK_END)
        return _time_of(line) if line else None

    @property
    def is_full(self) -> bool:
        """Whether a new file is due. It begins with the next structure, which must be requested.

        False if the file is empty or not a regular file.
        """
        if not self._is_regular or not self._file.tell():
            return False
        if self._size is not None and self._file.tell() >= self._size:
            return True
        age = (self._now() - self._began).total_seconds()
        return self._interval is not None and age >= self._interval

    def write(self, step: Step) -> None:
        """Write a step, without buffering.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        now = self._now()
        if step.action == "init" and self.is_full:
            self._begin_another(now)
        if self._is_regular and not self._file.tell():
            self._began = now
        time = now.isoformat(timespec="microseconds").encode()
        text = memoryview(b"".join(time + b"\t" + line + b"\n" for line in step.lines))
        while text:  # a disk that is nearly full may accept a part
            text = text[self._file.write(text) :]

    def _begin_another(self, now: datetime.datetime) -> None:
        self._file.close()
        _set_aside(self._path, self._began)
        self._file = self._open()
        self._began = now

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _set_aside(path: Path, began: datetime.datetime) -> Path:
    """Rename a full file to an unused name."""
    stem = f"{path.name}.{began:%Y-%m-%dT%H-%M-%S}"
    aside, count = path.with_name(stem), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{stem}.{count}")
    return path.rename(aside)


def _cut_torn_line(file: io.FileIO) -> int:
    """Truncate a file after its last line end; return the bytes removed."""
    end = file.seek(0, os.SEEK_END)
    keep = end
    while keep:
        start = max(0, keep - TAIL_SIZE)
        file.seek(start)
        newline = file.read(keep - start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    file.truncate(keep)
    file.seek(0, os.SEEK_END)
    return end - keep


def read_recording(paths: Iterable[Path]) -> Iterator[Record]:
    """Iterate over the steps in some files.

    An incomplete last line is ignored: the recorder was killed, or is still writing.

    Raises
    ------
    RecordingError
        Another line is not a record. The error has its file and number.
    OSError
        A file cannot be read.
    """
    for path in paths:
        with path.open("rb") as file:
            yield from _read(path, file)


def _read(path: Path, file: IO[bytes]) -> Iterator[Record]:
    pending: list[Mod] = []  # mods of an incomplete step
    numbered = False
    for count, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
        try:
            time = _time_of(line)
            message = pyon.decode(line.partition(b"\t")[2])
            action = message["action"]
        except (ValueError, TypeError, LookupError) as error:
            raise RecordingError(f"{path}, line {count}: not a record: {error}") from None
        number = message.pop("number", None)
        message.pop("stream", None)
        if action in ("init", "absent"):
            numbered = number is not None
            pending.clear()
            yield Record(time, [message])
            continue
        pending += message["mods"] if action == "mods" else [message]
        if number is not None or not numbered:
            yield Record(time, pending)
            pending = []


def _time_of(line: bytes) -> datetime.datetime:
    time = datetime.datetime.fromisoformat(line.partition(b"\t")[0].decode())
    return time if time.tzinfo is not None else time.astimezone()
