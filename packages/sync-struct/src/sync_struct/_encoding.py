"""Encodings: how mods and structures are written for each kind of subscriber.

Most subscribers are sent a mod as it was encoded when it was made. Other encodings are cached with
the mod, for the next subscriber that needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyon
from pyon import wire
from pyon.framing import frame, frame_size

from sync_struct._change import Change, as_immutable
from sync_struct._raw_arrays import RawArray
from sync_struct._selection import Touch, touch

__all__ = ["Chunks", "Encoding", "Entry", "Snapshot", "Text", "write_small_step", "write_steps"]

JOIN_SIZE = 16 * 2**10
"""Bytes up to which buffers are joined, once for all subscribers: it costs less than one more write
per subscriber."""

Chunks = list[bytes | memoryview]
"""Buffers to write to a socket, one after the other."""


class Text(NamedTuple):
    """An encoded mod without its number."""

    line: bytes

    buffers: Sequence[memoryview] = ()
    """The raw buffers that the line refers to."""

    raw: RawArray | None = None
    """The array of the only buffer, for subscribers to every step: they all get the same line."""


class Encoding(NamedTuple):
    """How messages are written for a subscriber."""

    version: int = 2
    """Generation of PYON."""

    numbered: bool = True
    """Whether messages have numbers; those of the established protocol do not."""

    raw: bool = False
    """Whether large arrays are sent as raw buffers."""

    grows: bool = False
    """Whether rows can be appended to arrays; else arrays that have grown are sent as a whole."""


class Entry:
    """A mod in the log, with its cached encodings."""

    __slots__ = ("_texts", "change", "size")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.size = change.size
        self._texts: dict[tuple[Encoding, int], Text] | None = None  # few mods need another one

    def touch(self, part: Sequence[Any]) -> Touch:
        """Return the effect of the mod on a part of the structure."""
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
        if change.raw is not None:  # only the last field has to be encoded again
            head = line[: -len(change.raw.text) - 1]
            return Text(b"%b%b}" % (head, pyon.encode(change.raw.array(), version=2).encode()))
        mod = pyon.decode(line, buffers=change.buffers)
        return Text(pyon.encode(mod, version=2).encode())


class Snapshot:
    """The encoded structure, or a part of it, as it was after mod `number`.

    Its text is kept in the pieces that the encoder returned: arrays as text are large.
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
        self.buffers = list(map(as_immutable, buffers))  # arrays change in place while this is sent
        self.number = number
        self.recorded = recorded
        self.size = frame_size(self._pieces) + frame_size(self.buffers)

    def chunks(self, encoding: Encoding) -> Chunks:
        """Return the message to send."""
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
        For each mod its number if a step may end there, or None. Small mods are joined into one
        step where possible.
    """
    if not encoding.numbered:
        return [b"\n".join([*(text.line for text in texts), b""])]
    chunks: Chunks = []
    run: list[bytes] = []  # mods without buffers, to be written as one line
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
    """Return a step of one mod as it was encoded, for encodings with numbers."""
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
    """Return one line for encoded mods."""
    end = b"" if number is None else b',"number":%d' % number
    if len(mods) == 1:
        return b"%b%b}" % (mods[0][:-1], end)
    return b'{"action":"mods","mods":[%b]%b}' % (b",".join(mods), end)


def _joined(chunks: Chunks) -> Chunks:
    """Join small chunks here, instead of once per subscriber when they are sent."""
    if len(chunks) > 1 and frame_size(chunks) <= JOIN_SIZE:
        return [b"".join(chunks)]
    return chunks
