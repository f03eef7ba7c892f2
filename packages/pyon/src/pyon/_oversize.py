"""Lines beyond the limit, which are dropped as they are received."""

from __future__ import annotations

from ._announcing import BUFFERS_KEY, LONGEST_ANNOUNCEMENT

HEAD_SIZE = 1024
"""Bytes that are kept of a line beyond the limit: enough to identify the request."""


class OversizeLine:
    """A line beyond the limit, which is dropped up to its LF."""

    __slots__ = ("head", "size")

    def __init__(self) -> None:
        self.head = bytearray()  # includes the whole announcement of raw buffers
        self.size = 0

    def drop(self, data: bytes | bytearray | memoryview) -> None:
        kept = 0
        for room in (HEAD_SIZE, LONGEST_ANNOUNCEMENT):
            if len(self.head) < room and (room == HEAD_SIZE or self._announcing()):
                more = data[kept : kept + room - len(self.head)]
                self.head += more
                kept += len(more)
        self.size += len(data)

    def end(self, data: bytes | bytearray) -> tuple[bytes, int]:
        """Drop the last piece; return the kept part of the line, and the size of the line."""
        self.drop(data)
        return bytes(self.head), self.size

    def _announcing(self) -> bool:
        return self.head.startswith(BUFFERS_KEY) and b"]" not in self.head
