"""The codec for protocols: texts in pieces, and a known generation of the format.

For code that writes to a socket itself, together with `pyon.framing`. Other code should use
`pyon.encode` and `pyon.decode`, which return the same texts and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ._codec import Readable, shared
from ._json import Scan
from ._plain import CLASS_KEY
from ._v2_reader import PLAIN, may_have_tags
from ._v2_spelling import V2

__all__ = [
    "LINE_SIZE",
    "Pieces",
    "Scan",
    "around",
    "decode",
    "encode_pieces",
    "line_scanner",
    "small_text",
]

SMALL = 256
"""Bytes up to which a text is read without preparation. Its integers are within every limit."""

LINE_SIZE = 4096
"""Maximum length, in characters, of values for `line_scanner`: no integer exceeds the limit
then."""

_scan = PLAIN.quick()

small_text = V2.small_text
"""Return the v2 text of a small plain value, or None for all other values."""

Pieces = list[Any]
"""A text as strings and, for long base64, bytes, in order. The first and the last are strings."""


def encode_pieces(
    value: Any,
    *,
    version: int,
    buffer_callback: Callable[[memoryview], object] | None = None,
) -> Pieces:
    """Return the text of a value in pieces, for `framing.frame`. Long base64 is never copied.

    Parameters
    ----------
    value, version, buffer_callback
        As for `pyon.encode`.

    Raises
    ------
    EncodeError
        As `pyon.encode`.
    """
    text = small_text(value) if version == 2 else None
    if text is not None:
        return [text]
    return shared().encode_pieces(value, version=version, buffer_callback=buffer_callback)


def line_scanner(text: str) -> Scan | None:
    """Return a function that reads v2 values from offsets of a text; None if there may be tags.

    The function takes the text and an offset, and returns a value and the offset of its end. It
    raises `ValueError`, `StopIteration` or `RecursionError` where `decode` would read a value of
    less than `LINE_SIZE` characters differently, or fail. It treats line ends as white space, so
    the caller must check that a value does not extend beyond its line.
    """
    if "_" in text and CLASS_KEY in text:
        return None
    if "\\" in text and may_have_tags(text):
        return None
    return _scan


def around(before: str, pieces: Pieces, behind: str) -> Pieces:
    """Return the pieces with text before and behind them; inner pieces are not copied."""
    if len(pieces) == 1:
        return [f"{before}{pieces[0]}{behind}"]
    return [before + pieces[0], *pieces[1:-1], pieces[-1] + behind]


def decode(text: str | Readable, *, version: int, buffers: Sequence[Readable] | None = None) -> Any:
    """Return the value of a text of a known generation; the other one is not tried.

    Parameters
    ----------
    text, buffers
        As for `pyon.decode`.
    version : {1, 2}

    Raises
    ------
    DecodeError
        If the text is not of this generation.
    """
    if version == 2 and not buffers and type(text) is bytes and len(text) < SMALL:
        try:
            small = text.decode()
            if "\\" not in small and not ("_" in small and CLASS_KEY in small):
                value, end = _scan(small, 0)
                if end == len(small):
                    return value
        except (ValueError, StopIteration, RecursionError):
            pass  # the general reader raises the error, with its place
    return shared().decode(text, buffers=buffers, _version=version)
