"""The announcement of raw buffers at the beginning of a line: written and read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ._errors import PyonError

MAX_BUFFERS = 2**16
"""Maximum number of raw buffers of one message. Each buffer costs an object, even a short one, so
the count needs its own limit. Send a structure with more arrays as one array."""

BUFFERS_KEY = b'{"buffers":['
_BUFFERS = re.compile(rb'\{"buffers":\[((?:0|[1-9][0-9]{0,17})(?:,(?:0|[1-9][0-9]{0,17}))*)\]')
LONGEST_ANNOUNCEMENT = len(BUFFERS_KEY) + MAX_BUFFERS * 19


class FramingError(PyonError, ValueError):
    """The peer announced raw buffers in an invalid form, so the next message cannot be found."""


FramingError.__module__ = "pyon.framing"  # the public name


def announced(line: bytes | bytearray) -> list[int]:
    """Return the sizes of the raw buffers that a line announces, in bytes."""
    match = _BUFFERS.match(line)
    if match is None or match[1].count(b",") >= MAX_BUFFERS:
        raise FramingError(
            f"expected the sizes of at most {MAX_BUFFERS} raw buffers, got {bytes(line[:60])!r}"
        )
    return [int(size) for size in match[1].split(b",")]


def frame(
    line: str | bytes | list[str | bytes], buffers: Sequence[memoryview] = ()
) -> list[bytes | memoryview]:
    r"""Return one message as the buffers to write, in order.

    Parameters
    ----------
    line : str or bytes, or a list of these
        The text without a line end, as a whole or in pieces. Pieces are not joined. With `buffers`
        it must be a JSON object with at least one key.
    buffers : sequence of memoryview, optional
        Raw buffers: contiguous, of bytes. They are returned without a copy.

    Examples
    --------
    >>> frame('{"action":"call"}', [memoryview(b"abc")])[0]
    b'{"buffers":[3],"action":"call"}\n'
    """
    if isinstance(line, list) and len(line) > 1:
        first, *rest = [piece.encode() if isinstance(piece, str) else piece for piece in line]
        rest[-1] += b"\n"
        if not buffers:
            return [first, *rest]
        head, *beside = frame(first, buffers)
        return [head[:-1], *rest, *beside]
    whole = line[0] if isinstance(line, list) else line
    data = whole.encode() if isinstance(whole, str) else whole
    if not buffers:
        return [data + b"\n"]
    if len(buffers) > MAX_BUFFERS:
        raise ValueError(f"expected at most {MAX_BUFFERS} raw buffers, got {len(buffers)}")
    if not data.startswith(b'{"'):
        raise ValueError(f"raw buffers go with a JSON object, got {data[:40]!r}")
    sizes = b",".join(b"%d" % len(buffer) for buffer in buffers)
    return [b"%b%b],%b\n" % (BUFFERS_KEY, sizes, data[1:]), *buffers]


def frame_size(chunks: Iterable[bytes | memoryview]) -> int:
    """Return the size of the result of `frame` in bytes."""
    return sum(map(len, chunks))
