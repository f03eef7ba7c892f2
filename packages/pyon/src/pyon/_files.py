"""Atomic and durable replacement of files.

The new content is written to a temporary file in the same folder, synced to disk, and renamed over
the old file. A file that is not regular (a pipe, a terminal, a socket) is written directly.

A writer that dies leaves its temporary file behind, and the next writer of the same file removes
it. It need not list the folder for that, because the names of temporary files are known. A lock
distinguishes an abandoned file from one that is being written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from os import PathLike

from ._access import PRIVATE, Access

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: an open file cannot be renamed, so a lock would end too early
    fcntl = None

SUFFIX = ".pyon-new"
LONGEST_NAME = 200
"""Maximum number of bytes of the name that are part of the temporary name. Together with the rest
they must not exceed the limit of file systems, usually 255 bytes."""

SLOTS = 4
"""Number of temporary names that later writers can find. If more writers store one file at a time,
they use random names. Each slot costs every writer some 2 us."""

WRITE_SIZE = 2**18
"""Minimum number of bytes per system call, if there are as many."""

MOST_LINKS = 40
"""Maximum number of symbolic links that are followed: the limit of Linux."""

DESCRIPTORS = re.compile(
    r"(?:/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/fd|/dev/fd)/([0-9]+)"
)


def read(filename: str | PathLike[str]) -> bytes:
    """Return the content of a file."""
    with open(os.fsdecode(filename), "rb") as file:  # fsdecode refuses numbers of descriptors
        return file.read()


def replace(filename: str | PathLike[str], pieces: Iterable[bytes | memoryview]) -> None:
    """Replace the content of a file; if that raises, the file is unchanged.

    Parameters
    ----------
    filename : path-like
    pieces : iterable of bytes-like
        The content, in order.
    """
    name = os.fsdecode(filename)
    if not name:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    number = _own_descriptor(name)
    if number is not None:
        _write_through(os.dup(number), pieces)
        return
    old = _status(name)
    if old is not None and not stat.S_ISREG(old.st_mode):
        _write_through(os.open(name, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)), pieces)
        return
    _replace_regular(os.path.realpath(name), old, pieces)  # a symbolic link stays one


def _replace_regular(
    path: str, old: os.stat_result | None, pieces: Iterable[bytes | memoryview]
) -> None:
    access = None if old is None else Access(path, old)
    _remove_abandoned(path)
    with _temporary_file(path, 0o666 if old is None else PRIVATE) as (descriptor, temporary):
        _write_all(descriptor, pieces)
        if access is not None:
            access.apply_to(descriptor)
        os.fsync(descriptor)
        if fcntl is None:
            os.close(descriptor)
        os.replace(temporary, path)
    _sync_directory(os.path.dirname(path))


def _write_through(descriptor: int, pieces: Iterable[bytes | memoryview]) -> None:
    try:
        _write_all(descriptor, pieces)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, pieces: Iterable[bytes | memoryview]) -> None:
    """Write pieces in order; small pieces are joined."""
    small: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        small.append(piece)
        size += len(piece)
        if size >= WRITE_SIZE:
            _write(descriptor, piece if len(small) == 1 else b"".join(small))
            small.clear()
            size = 0
    _write(descriptor, b"".join(small))


def _write(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _own_descriptor(path: str) -> int | None:
    """Return the number of the own descriptor that a name such as ``/dev/stdout`` means, or None.

    Opening such a name again would write at the beginning of a file to which a shell appends.
    """
    for _ in range(MOST_LINKS):
        match = DESCRIPTORS.fullmatch(os.path.abspath(path))
        if match is not None:
            mine = (f"/proc/{os.getpid()}/", "/proc/self/", "/proc/thread-self/", "/dev/fd/")
            return int(match[1]) if os.path.abspath(path).startswith(mine) else None
        try:
            link = os.readlink(path)
        except (OSError, ValueError):  # not a link; the caller finds out what it is
            return None
        path = os.path.join(os.path.dirname(path), link)
    return None


def _temporary_name(path: str, middle: str) -> str:
    folder, name = os.path.split(path)
    shared = os.fsencode(name)[:LONGEST_NAME].decode(sys.getfilesystemencoding(), "ignore")
    return os.path.join(folder, f".{shared}.{middle}{SUFFIX}")


@contextlib.contextmanager
def _temporary_file(path: str, mode: int) -> Iterator[tuple[int, str]]:
    """Create a new locked file; if the block raises, remove it."""
    descriptor, temporary = _create_locked(path, mode)
    try:
        yield descriptor, temporary
    except BaseException:
        if fcntl is None:  # Windows cannot remove an open file
            with contextlib.suppress(OSError):
                os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    finally:
        with contextlib.suppress(OSError):  # closed already on Windows
            os.close(descriptor)


def _names(path: str) -> Iterator[str]:
    """Yield names for a temporary file, beginning with those that later writers can find."""
    if fcntl is not None:
        for number in range(SLOTS):
            yield _temporary_name(path, str(number))
    while True:
        yield _temporary_name(path, os.urandom(6).hex())


def _create_locked(path: str, mode: int) -> tuple[int, str]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    for temporary in _names(path):
        try:
            descriptor = os.open(temporary, flags, mode)
        except FileExistsError:  # that of another writer
            continue
        except OSError as error:
            error.filename = path  # the caller does not know the temporary name
            raise
        if fcntl is None:
            return descriptor, temporary
        with contextlib.suppress(OSError):  # a file system without locks: no file is removed there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, temporary
        os.close(descriptor)  # another writer has removed it between creation and lock
    raise AssertionError("there are always more names")


def _remove_abandoned(path: str) -> None:
    """Remove temporary files of writers of this file that have died."""
    if fcntl is None:
        return
    for number in range(SLOTS):
        with contextlib.suppress(OSError):  # there is none, or it is locked: being written
            _remove_unlocked(_temporary_name(path, str(number)))


def _remove_unlocked(temporary: str) -> None:
    descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Before we got the lock, its writer may have renamed it, and another one created a new
        # file.
        if os.path.samestat(os.fstat(descriptor), os.lstat(temporary)):
            os.unlink(temporary)
    finally:
        os.close(descriptor)


def _sync_directory(path: str) -> None:
    """Sync the renaming to disk, on systems that support it."""
    with contextlib.suppress(OSError):  # the file has been replaced already
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
