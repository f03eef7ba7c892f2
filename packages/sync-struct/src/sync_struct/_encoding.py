"""Encodings: how mods and structures are written for each kind of subscriber.

Most subscribers take a mod as it was encoded when it was made. What is written anew for the others
is kept with it, for the next of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyon
from pyon import wire
from pyon.framing import frame, frame_size

from sync_struct._change import Change, fixed
from sync_struct._selection import Touch, touch

__all__ = ["Chunks", "Encoding", "Entry", "Snapshot", "Text", "write_small_step", "write_step"]

JOIN_SIZE = 16 * 2**10
"""Bytes up to which buffers are joined, once for all subscribers: it costs less than one more write
for each of them."""

Chunks = list[bytes | memoryview]
"""What is written to a socket, one piece after the other."""

Text = tuple[bytes, Sequence[memoryview]]
"""A mod as a line, without its number, and the raw buffers that the line refers to."""


class Encoding(NamedTuple):
    """How messages are written for a subscriber."""

    version: int = 2
    """Generation of PYON."""

    numbered: bool = True
    """Whether messages carry numbers; the established protocol knows none."""

    raw: bool = False
    """Whether large arrays travel outside the text."""

    grows: bool = False
    """Whether rows can be appended to arrays; else arrays that have grown are sent whole."""


class Entry:
    """A mod in the log, and what it has been brought into for those who cannot take it as it is."""

    __slots__ = ("_texts", "change", "size")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.size = change.size
        self._texts: dict[tuple[Encoding, int], Text] | None = None  # few mods need any

    def touch(self, part: Sequence[Any]) -> Touch:
        """Tell what the mod does to a part of the structure."""
        change = self.change
        return touch(change.action, change.path, change.key, part, change.in_array)

    def text(self, encoding: Encoding, depth: int = 0) -> Text:
        """Return the mod in an encoding, the path without the first `depth` keys."""
        change = self.change
        if not depth and encoding.version == 2 and (encoding.raw or not change.buffers):
            return change.line, change.buffers
        if self._texts is None:
            self._texts = {}
        key = encoding, depth
        if key not in self._texts:
            self._texts[key] = line, buffers = self._encode(encoding, depth)
            self.size += len(line) + frame_size(buffers)
        return self._texts[key]

    def _encode(self, encoding: Encoding, depth: int) -> Text:
        change = self.change
        if encoding.version == 1 and change.line_v1 is not None:
            return change.line_v1, ()
        line = change.below(depth)
        if encoding.raw or not change.buffers:
            return line, change.buffers
        mod = pyon.decode(line, buffers=change.buffers)
        return pyon.encode(mod, version=2).encode(), ()


class Snapshot:
    """The structure, or a part of it, as it was after mod `number`.

    Its text stays in the pieces in which it was encoded: arrays as text are large.
    """

    __slots__ = ("_pieces", "buffers", "number", "recorded", "size")

    def __init__(self, structure: Any, encoding: Encoding, number: int, recorded: int) -> None:
        buffers: list[memoryview] = []
        pieces = wire.encode_pieces(
            {"action": "init", "struct": structure},
            version=encoding.version,
            buffer_callback=buffers.append if encoding.raw else None,
        )
        self._pieces = [x.encode() if isinstance(x, str) else x for x in pieces]
        self.buffers = list(map(fixed, buffers))  # arrays change in place while this is sent
        self.number = number
        self.recorded = recorded
        self.size = frame_size(self._pieces) + frame_size(self.buffers)

    def chunks(self, encoding: Encoding) -> Chunks:
        """Return the message as it is sent."""
        if not encoding.numbered:
            return [*self._pieces, b"\n"]
        *first, last = self._pieces
        end = b',"number":%d}' % self.number
        if self.buffers:
            return frame([*first, last[:-1] + end], self.buffers)
        return [*first, memoryview(last)[:-1], end + b"\n"]


def write_small_step(change: Change) -> bytes:
    """Return a step of one mod without buffers, for those who know numbers."""
    return b'%b,"number":%d}\n' % (change.line[:-1], change.number)


def write_step(texts: Sequence[Text], encoding: Encoding, number: int | None) -> Chunks:
    """Return mods as buffers to write; those who know numbers take them as one step.

    Parameters
    ----------
    number : int or None
        Of the last of them. None: the step does not end there.
    """
    if not encoding.numbered:
        return [b"\n".join([*(line for line, _ in texts), b""])]
    end = b"" if number is None else b',"number":%d' % number
    chunks: Chunks = []
    run: list[bytes] = []  # mods that go into one line, since none has buffers
    last = len(texts) - 1
    for i, (line, buffers) in enumerate(texts):
        if not buffers:
            run.append(line)
            continue
        if run:
            chunks += frame(_line(run, b""))
            run = []
        chunks += frame(_line([line], end if i == last else b""), buffers)
    if run:
        chunks += frame(_line(run, end))
    return _joined(chunks)


def _line(mods: list[bytes], end: bytes) -> bytes:
    """Return one line for mods that are text already."""
    if len(mods) == 1:
        return b"%b%b}" % (mods[0][:-1], end)
    return b'{"action":"mods","mods":[%b]%b}' % (b",".join(mods), end)


def _joined(chunks: Chunks) -> Chunks:
    """Join small chunks, so that whoever sends them need not, once per subscriber."""
    if len(chunks) > 1 and frame_size(chunks) <= JOIN_SIZE:
        return [b"".join(chunks)]
    return chunks
