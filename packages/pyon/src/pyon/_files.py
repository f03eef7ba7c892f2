"""Files that are whole at every moment.

The new content is written to a file beside the old one, brought to the disk, and renamed over it.
What is no regular file (a pipe, a terminal, a socket) is written through.

A writer that dies leaves the file beside behind, and the next one to store under the same name
removes it. It needs no look into the folder for that: the names are known. A lock tells a file that
was left from one that is being written.
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
except ImportError:  # Windows: an open file cannot be renamed, so no lock would last until then
    fcntl = None

SUFFIX = ".pyon-new"
LONGEST_NAME = 200
"""Bytes of the name that the file beside shares, which with the rest must not exceed what systems
allow: 255 bytes, as a rule."""

SLOTS = 4
"""Names for files beside that can be found again. So many can write to one file at a time before
names become random, and each costs every writer a look, some 2 us."""

WRITE_SIZE = 2**18
"""Bytes that are worth a call of the system."""

MOST_LINKS = 40
"""Symbolic links that are followed: as many as Linux follows."""

DESCRIPTORS = re.compile(
    r"(?:/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/fd|/dev/fd)/([0-9]+)"
)


def read(filename: str | PathLike[str]) -> bytes:
    """Give all that is in a file."""
    with open(os.fsdecode(filename), "rb") as file:  # which refuses the number of a descriptor
        return file.read()


def replace(filename: str | PathLike[str], pieces: Iterable[bytes | memoryview]) -> None:
    """Give a file new content, or, if that raises, leave it as it was.

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
    _remove_left_behind(path)
    with _new_file_beside(path, 0o666 if old is None else PRIVATE) as (descriptor, beside):
        _write_all(descriptor, pieces)
        if access is not None:
            access.put_on(descriptor)
        os.fsync(descriptor)
        if fcntl is None:
            os.close(descriptor)
        os.replace(beside, path)
    _sync_directory(os.path.dirname(path))


def _write_through(descriptor: int, pieces: Iterable[bytes | memoryview]) -> None:
    try:
        _write_all(descriptor, pieces)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, pieces: Iterable[bytes | memoryview]) -> None:
    """Write pieces in their order, the small ones together."""
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
    """Give the number of our own descriptor that a name like ``/dev/stdout`` means, or None.

    To open such a name anew would write at the beginning of a file that a shell appends to.
    """
    for _ in range(MOST_LINKS):
        match = DESCRIPTORS.fullmatch(os.path.abspath(path))
        if match is not None:
            mine = (f"/proc/{os.getpid()}/", "/proc/self/", "/proc/thread-self/", "/dev/fd/")
            return int(match[1]) if os.path.abspath(path).startswith(mine) else None
        try:
            link = os.readlink(path)
        except (OSError, ValueError):  # no link, or nothing; what it is turns out later
            return None
        path = os.path.join(os.path.dirname(path), link)
    return None


def _beside(path: str, middle: str) -> str:
    folder, name = os.path.split(path)
    shared = os.fsencode(name)[:LONGEST_NAME].decode(sys.getfilesystemencoding(), "ignore")
    return os.path.join(folder, f".{shared}.{middle}{SUFFIX}")


@contextlib.contextmanager
def _new_file_beside(path: str, mode: int) -> Iterator[tuple[int, str]]:
    """Make a file that nobody else has, locked; if the block raises, remove it."""
    descriptor, beside = _create_locked(path, mode)
    try:
        yield descriptor, beside
    except BaseException:
        if fcntl is None:  # Windows removes no open file
            with contextlib.suppress(OSError):
                os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    finally:
        with contextlib.suppress(OSError):  # closed already, where it had to be
            os.close(descriptor)


def _names(path: str) -> Iterator[str]:
    """Give names for a file beside: those that can be found again first."""
    if fcntl is not None:
        for number in range(SLOTS):
            yield _beside(path, str(number))
    while True:
        yield _beside(path, os.urandom(6).hex())


def _create_locked(path: str, mode: int) -> tuple[int, str]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    for beside in _names(path):
        try:
            descriptor = os.open(beside, flags, mode)
        except FileExistsError:  # another writer's
            continue
        except OSError as error:
            error.filename = path  # nobody has heard of the file beside
            raise
        if fcntl is None:
            return descriptor, beside
        with contextlib.suppress(OSError):  # a file system without locks: nothing is removed there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, beside
        os.close(descriptor)  # between creation and lock it looked like one that was left behind
    raise AssertionError("there are always more names")


def _remove_left_behind(path: str) -> None:
    """Remove what writers of this file left beside it when they died."""
    if fcntl is None:
        return
    for number in range(SLOTS):
        with contextlib.suppress(OSError):  # there is none; or it is locked: being written
            _remove_unlocked(_beside(path, str(number)))


def _remove_unlocked(beside: str) -> None:
    descriptor = os.open(beside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Before the lock was had, its writer may have renamed it, and another one made its own.
        if os.path.samestat(os.fstat(descriptor), os.lstat(beside)):
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
