"""Files that are whole at every moment.

The new content is written to a file beside the old one, brought to the disk, and renamed over it. A
writer that dies leaves the file beside behind, and the next one to store under the same name
removes it. A lock tells a file that was left from one that is being written.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from os import PathLike

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: an open file cannot be renamed, so no lock would last until then
    fcntl = None

SUFFIX = ".pyon-new"
LONGEST_NAME = 200
"""Bytes of the name that the file beside shares, which with the rest must not exceed what systems
allow: 255 bytes, as a rule."""


def read(filename: str | PathLike[str]) -> bytes:
    """Give all that is in a file."""
    with open(os.fspath(filename), "rb") as file:  # which refuses the number of a descriptor
        return file.read()


def replace(filename: str | PathLike[str], data: bytes) -> None:
    """Give a file new content, or, if that raises, leave it as it was."""
    path = os.path.realpath(os.fspath(filename))  # a symbolic link stays one
    old = _status(path)
    if old is not None and not stat.S_ISREG(old.st_mode):
        _write(path, data)  # a device or a pipe is written to, not replaced
        return
    _remove_left_behind(path)
    with _new_file_beside(path) as (descriptor, beside):
        if old is not None and hasattr(os, "fchown"):
            for owner in ((-1, old.st_gid), (old.st_uid, -1)):
                with contextlib.suppress(OSError):  # not everybody may give files away
                    os.fchown(descriptor, *owner)
        if old is not None and hasattr(os, "fchmod"):
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
        _write(descriptor, data)
        os.fsync(descriptor)
        if fcntl is None:
            os.close(descriptor)
        os.replace(beside, path)
    _sync_directory(os.path.dirname(path))


def _write(file: str | int, data: bytes) -> None:
    with open(file, "wb", closefd=isinstance(file, str)) as opened:
        opened.write(data)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _beside(path: str, middle: str) -> str:
    folder, name = os.path.split(path)
    shared = os.fsencode(name)[:LONGEST_NAME].decode(sys.getfilesystemencoding(), "ignore")
    return os.path.join(folder, f".{shared}.{middle}{SUFFIX}")


@contextlib.contextmanager
def _new_file_beside(path: str) -> Iterator[tuple[int, str]]:
    """Make a file that nobody else has, locked; if the block raises, remove it."""
    descriptor, beside = _create_locked(path)
    try:
        yield descriptor, beside
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    finally:
        with contextlib.suppress(OSError):  # closed already, where it had to be
            os.close(descriptor)


def _create_locked(path: str) -> tuple[int, str]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        beside = _beside(path, os.urandom(6).hex())
        descriptor = os.open(beside, flags, 0o666)
        if fcntl is None:
            return descriptor, beside
        with contextlib.suppress(
            OSError
        ):  # a file system without locks: nothing is removed there either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, beside
        os.close(descriptor)  # between creation and lock it looked like one that was left behind


def _remove_left_behind(path: str) -> None:
    """Remove what writers of this file left beside it when they died."""
    if fcntl is None:
        return
    folder = os.path.dirname(path)
    start = os.path.basename(_beside(path, "")).removesuffix(SUFFIX)
    for name in os.listdir(folder):
        if name.startswith(start) and name.endswith(SUFFIX):
            with contextlib.suppress(OSError):  # it is locked: being written at this moment
                _remove_unlocked(os.path.join(folder, name))


def _remove_unlocked(beside: str) -> None:
    descriptor = os.open(beside, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(beside)
    finally:
        os.close(descriptor)


def _sync_directory(path: str) -> None:
    """Bring the renaming to the disk, on systems where that is a thing one can ask for."""
    with contextlib.suppress(OSError):  # the content is in its place, whatever this says
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
