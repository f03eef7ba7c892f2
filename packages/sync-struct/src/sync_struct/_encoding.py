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
from sync_struct._raw_arrays import RawArray
from sync_struct._selection import Touch, touch

__all__ = ["Chunks", "Encoding", "Entry", "Snapshot", "Text", "write_small_step", "write_steps"]

JOIN_SIZE = 16 * 2**10
"""Bytes up to which buffers are joined, once for all subscribers: it costs less than one more write
for each of them."""

Chunks = list[bytes | memoryview]
"""What is written to a socket, one piece after the other."""


class Text(NamedTuple):
    """A mod as it is written, but for its number."""

    line: bytes

    buffers: Sequence[memoryview] = ()
    """The raw buffers that the line refers to."""

    raw: RawArray | None = None
    """What the only buffer is of, for those who get every step: they get the same line."""


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
            return Text(change.line, change.buffers, change.raw)
        if self._texts is None:
            self._texts = {}
        key = encoding, depth
        if key not in self._texts:
            self._texts[key] = text = self._encode(encoding, depth)
            self.size += len(text.line) + frame_size(text.buffers)
        return self._texts[key]

    def _encode(self, encoding: Encoding, depth: int) -> Text:
        change = self.change
        if encoding.version == 1 and change.line_v1 is not None:
            return Text(change.line_v1)
        line = change.below(depth)
        if encoding.raw or not change.buffers:
            return Text(line, change.buffers)
        if change.raw is not None:  # the last field is all that is written anew
            head = line[: -len(change.raw.text) - 1]
            return Text(b"%b%b}" % (head, pyon.encode(change.raw.array(), version=2).encode()))
        mod = pyon.decode(line, buffers=change.buffers)
        return Text(pyon.encode(mod, version=2).encode())


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


def write_steps(texts: Sequence[Text], numbers: Sequence[int | None], encoding: Encoding) -> Chunks:
    """Return mods as buffers to write.

    Parameters
    ----------
    numbers : sequence
        Of each mod its number if a step may end there, or None. What is small goes into one step
        as far as it can.
    """
    if not encoding.numbered:
        return [b"\n".join([*(text.line for text in texts), b""])]
    chunks: Chunks = []
    run: list[bytes] = []  # mods that go into one line, since none has buffers
    for text, number, before in zip(texts, numbers, [None, *numbers], strict=False):
        if not text.buffers:
            run.append(text.line)
            continue
        if run:
            chunks += frame(_line(run, before))
            run = []
        chunks += _with_buffers(text, number)
    if run:
        chunks += frame(_line(run, numbers[-1]))
    return _joined(chunks)


def write_small_step(change: Change) -> Chunks:
    """Return a step of one mod as it was encoded, for those who know numbers."""
    if not change.buffers:
        return [b'%b,"number":%d}\n' % (change.line[:-1], change.number)]
    text = Text(change.line, change.buffers, change.raw)
    return _joined(_with_buffers(text, change.number))


def _with_buffers(text: Text, number: int | None) -> Chunks:
    chunks = frame(_line([text.line], number), text.buffers)
    if text.raw is not None:
        together = text.raw.with_line(chunks[0])
        if together is not None:
            return [together]
    return chunks


def _line(mods: list[bytes], number: int | None) -> bytes:
    """Return one line for mods that are text already."""
    end = b"" if number is None else b',"number":%d' % number
    if len(mods) == 1:
        return b"%b%b}" % (mods[0][:-1], end)
    return b'{"action":"mods","mods":[%b]%b}' % (b",".join(mods), end)


def _joined(chunks: Chunks) -> Chunks:
    """Join small chunks, so that whoever sends them need not, once per subscriber."""
    if len(chunks) > 1 and frame_size(chunks) <= JOIN_SIZE:
        return [b"".join(chunks)]
    return chunks
