"""The codec for protocols: texts in pieces, and a generation that both ends have agreed on.

For code that writes to a socket itself, beside `pyon.framing`. Everybody else wants `pyon.encode`
and `pyon.decode`, which give the same texts and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ._codec import Readable, shared

__all__ = ["Pieces", "around", "decode", "encode_pieces"]

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
    return shared().encode_pieces(value, version=version, buffer_callback=buffer_callback)


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
    return shared().decode(text, buffers=buffers, _version=version)
