"""The raw buffers behind a line, while they are received.

The one idea to keep in mind: an announcement is not data. Memory is allocated for the buffer that
is being received, and small buffers are gathered until the last one is complete. So a peer cannot
make us allocate much more than it has sent.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Sequence

__all__ = ["GATHERED_SIZE", "BufferReader", "allocate"]

GATHERED_SIZE = 4096
"""Bytes up to which buffers are gathered in one piece of memory: an array object costs some hundred
bytes even for a short buffer."""

PIECE_SIZE = 2**16
"""Bytes per read of buffers that are gathered or dropped."""


class BufferReader:
    """Receives the raw buffers of one message, or drops them.

    Parameters
    ----------
    sizes : sequence of int
        Size of each buffer in bytes.
    dropped : bool
        Whether to drop the buffers, because the message is beyond its limit.

    Attributes
    ----------
    missing : int
        Bytes that are still to be received.
    received : int
        Bytes that have been received.
    """

    __slots__ = (
        "_gathered",
        "_index",
        "_large",
        "_lent",
        "_piece",
        "_position",
        "_sizes",
        "_target",
        "missing",
        "received",
    )

    def __init__(self, sizes: Sequence[int], *, dropped: bool) -> None:
        self.missing = sum(sizes)
        self.received = 0
        kind = "I" if self.missing < 2**32 else "Q"
        self._sizes = array(kind, [self.missing] if dropped else sizes)
        self._large: list[memoryview] = []
        self._target: memoryview | None = None  # the last of `_large`, while it is being filled
        self._gathered: bytearray | None = None if dropped else bytearray()
        self._piece = bytearray(min(PIECE_SIZE, self.missing)) if dropped else bytearray()
        self._index = 0  # of the buffer that is being received
        self._position = 0  # bytes of it that have been received
        self._lent = memoryview(b"")
        self._skip_complete()

    def _skip_complete(self) -> None:
        sizes = self._sizes
        while self._index < len(sizes) and self._position >= sizes[self._index]:
            self._position -= sizes[self._index]
            self._index += 1
            self._target = None

    def remaining(self) -> memoryview:
        """Return the memory for the next bytes."""
        size = self._sizes[self._index]
        if self._gathered is None:
            self._lent = memoryview(self._piece)[: self.missing]
        elif size <= GATHERED_SIZE:
            self._lent = self._room_for_gathered()
        else:
            if self._target is None:
                self._target = allocate(size)
                self._large.append(self._target)
            self._lent = self._target[self._position :]
        return self._lent

    def _room_for_gathered(self) -> memoryview:
        """Return memory for as many of the next small buffers as fit into one piece."""
        size, index = -self._position, self._index
        while index < len(self._sizes) and size < PIECE_SIZE:
            if self._sizes[index] > GATHERED_SIZE:
                break
            size += self._sizes[index]
            index += 1
        size = min(size, PIECE_SIZE)
        if len(self._piece) < size:
            self._piece = bytearray(size)
        return memoryview(self._piece)[:size]

    def advance(self, nbytes: int) -> None:
        """Record that `nbytes` bytes were written to the memory that `remaining` returned last."""
        with contextlib.suppress(BufferError):  # an event loop may still refer to it
            self._lent.release()  # so only the message refers to the memory: see `copy_if_shared`
        if self._gathered is not None and self._sizes[self._index] <= GATHERED_SIZE:
            self._gathered += memoryview(self._piece)[:nbytes]
        self.missing -= nbytes
        self.received += nbytes
        self._position += nbytes
        self._skip_complete()

    def buffers(self) -> list[memoryview]:
        """Return the buffers, each in its own memory. Must not be called if they were dropped."""
        assert self._gathered is not None
        large, position = iter(self._large), 0
        gathered = memoryview(self._gathered)
        found = []
        for size in self._sizes:
            if size > GATHERED_SIZE:
                found.append(next(large))
            else:
                buffer = allocate(size)
                buffer[:] = gathered[position : position + size]
                position += size
                found.append(buffer)
        return found


def allocate(size: int) -> memoryview:
    """Return `size` bytes of new memory, uninitialised.

    `numpy.empty` maps large memory in huge pages and does not clear it: 64 MiB in 10 ms against
    42 ms for a bytearray. Pages that have not been written to take no memory. Raw buffers are numpy
    data, so numpy is needed anyway.
    """
    import numpy as np

    return np.empty(size, np.uint8).data
