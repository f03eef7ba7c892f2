"""The codec for protocols: texts in pieces, and a generation that both ends have agreed on.

For code that writes to a socket itself, beside `pyon.framing`. Everybody else wants `pyon.encode`
and `pyon.decode`, which give the same texts and values.
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
"""Bytes of a text that is read without preparations. No integer in it is too long for any limit."""

LINE_SIZE = 4096
"""Characters of a value that `line_scanner` is for. No integer in it is longer than PYON allows."""

_scan = PLAIN.quick()

small_text = V2.small_text
"""Spells a plain value in v2, at once; gives None for all else, also where it cannot be spelt."""

Pieces = list[Any]
"""A text as strings and, for long base64, bytes, in order. The first and the last are strings."""


def encode_pieces(
    value: Any,
    *,
    version: int,
    buffer_callback: Callable[[memoryview], object] | None = None,
) -> Pieces:
    """Give the text of a value in pieces that nobody has joined, for `framing.frame`.

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
    """Give what reads values of v2 out of a text, each from its offset; None if one may be a tag.

    It returns a value and the offset of its end. It raises `ValueError`, `StopIteration` or
    `RecursionError` where `decode` reads a value of less than `LINE_SIZE` characters differently,
    or not at all. It takes white space and line ends for the same: look where the line ends.
    """
    if "_" in text and CLASS_KEY in text:
        return None
    if "\\" in text and may_have_tags(text):
        return None
    return _scan


def around(before: str, pieces: Pieces, behind: str) -> Pieces:
    """Give the pieces with more text around them, without touching what is between."""
    if len(pieces) == 1:
        return [f"{before}{pieces[0]}{behind}"]
    return [before + pieces[0], *pieces[1:-1], pieces[-1] + behind]


def decode(text: str | Readable, *, version: int, buffers: Sequence[Readable] | None = None) -> Any:
    """Give the value of a text whose generation is known; nothing else is tried.

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
            pass  # said better by who reads all texts
    return shared().decode(text, buffers=buffers, _version=version)
