"""Lines beyond the limit, which are dropped as they come in."""

from __future__ import annotations

from ._announcing import BUFFERS_KEY, LONGEST_ANNOUNCEMENT

HEAD_SIZE = 1024
"""Bytes kept of a line beyond the limit: enough to recognise which request it was."""


class OversizeLine:
    """A line beyond the limit that is being dropped until its LF."""

    __slots__ = ("head", "size")

    def __init__(self) -> None:
        self.head = bytearray()  # with all that it says about raw buffers: they come behind it
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
        """Take the last piece; return what was kept of the line, and its size."""
        self.drop(data)
        return bytes(self.head), self.size

    def _announcing(self) -> bool:
        return self.head.startswith(BUFFERS_KEY) and b"]" not in self.head
