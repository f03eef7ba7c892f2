"""msgspec, where `pyon[fast]` is installed, for data that is plain JSON.

It makes choices of its own, and none of them may show: it writes nan as null, does not escape what
is not ASCII, and writes some floats in other words than Python. Wherever something could turn out
differently, these functions decline, and `json` does the work.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Collection, Iterable
from json.encoder import encode_basestring_ascii
from typing import Any

from ._integers import digits_are_limited
from ._v2_spelling import ESCAPE_SPACING

msgspec: Any
try:
    import msgspec
except ImportError:
    msgspec = None

Spell = Callable[[re.Match[bytes]], bytes]

FIXED_FROM = 1e-4
FIXED_BELOW = 1e16
"""Between these, Python writes floats without an exponent, and so does msgspec."""

REWRITE_SPACING = 200
"""Minimum average distance, in characters, between numbers that must be respelled. Where they
stand closer, `json` is faster than respelling."""

ESCAPE = "pyon.escape"
"""What Python calls our way to write characters that are not ASCII."""

SAMPLE_SIZE = 4096
"""Bytes that are looked at before all are."""


def encode(x: Any) -> bytes | None:
    """Write plain JSON as msgspec does, or None. What it takes has no lone surrogates."""
    if msgspec is None:
        return None
    try:
        text: bytes = msgspec.json.encode(x)
    except (ValueError, RecursionError):  # a long integer, a lone surrogate; little stack left
        return None
    return text


def exact(text: bytes, floating: Collection[Collection[Any]], spaced: bool) -> str | None:
    """Give what `json` would have written in place of `encode`; None if that is not certain.

    Parameters
    ----------
    text : bytes
        What `encode` gave.
    floating : collection of collections
        Everything in the value that is a float, and perhaps more.
    spaced : bool
        Whether a space is to be behind each comma and colon.
    """
    if b"\x7f" in text:
        return None
    if not text.isascii():
        escaped = _escaped(text)
        if escaped is None:
            return None
        text = escaped
    if floating:
        if b'"' in text or b"n" in text:  # in a string, what looks like a number need not be one
            if not _in_fixed_notation(floating):
                return None
        else:
            respelled = _like_python(text)
            if respelled is None:
                return None
            text = respelled
    if spaced:
        text = msgspec.json.format(text, indent=0)
    return text.decode("ascii")


def _escaped(text: bytes) -> bytes | None:
    """Escape what is not ASCII as `json` does; None if there is much of it."""
    for part in (text[:SAMPLE_SIZE], text):
        characters = part.decode(errors="ignore")  # which the end of the sample may cut
        if (len(part) - len(characters)) * ESCAPE_SPACING > len(part):
            return None
    return characters.encode("ascii", ESCAPE)


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return encode_basestring_ascii(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(ESCAPE, _escape)


def decode(text: str) -> Any:
    """Read JSON as `json` does.

    Raises
    ------
    ValueError
        If that is not certain.
    """
    if msgspec is None or not digits_are_limited():
        raise ValueError("not certain")
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply for the stack") from None


def _in_fixed_notation(floating: Iterable[Collection[Any]]) -> bool:
    magnitudes = [abs(x) for values in floating for x in values if type(x) is float]
    # The sum of magnitudes is an upper bound for each, and no number at all if one is none.
    return sum(magnitudes) < FIXED_BELOW and min(filter(None, magnitudes), default=1) >= FIXED_FROM


def _like_python(text: bytes) -> bytes | None:
    """Write the numbers in `text`, which holds little else, in Python's words; None if too many."""
    for needle, pattern, spell in REWORDED:
        if needle in text:
            rewritten = _rewrite(text, needle, re.compile(pattern), spell)
            if rewritten is None:
                return None
            text = rewritten
    return text


def _rewrite(
    text: bytes,
    needle: bytes,
    pattern: re.Pattern[bytes],
    spell: Callable[[re.Match[bytes]], bytes],
) -> bytes | None:
    """Do what `re.sub` does, quicker where there is little to do; None if there is much."""
    pieces: list[bytes] = []
    done = 0
    at = text.find(needle)
    while at >= 0:
        match = pattern.match(text, at)
        if match is not None:
            pieces += (text[done:at], spell(match))
            done = match.end()
            if len(pieces) // 2 > len(text) // REWRITE_SPACING:
                return None
        at = text.find(needle, max(at + 1, done))
    return b"".join([*pieces, text[done:]])


def _with_exponent(number: re.Match[bytes]) -> bytes:
    fraction = b"." + number[3] if number[3] else b""
    return b"%b%be-%02d" % (number[2], fraction, len(number[1]) + 5)


def _python_exponent(exponent: re.Match[bytes]) -> bytes:
    return b"e%b%b" % (exponent[1] or b"+", exponent[2].zfill(2))


REWORDED: tuple[tuple[bytes, bytes, Spell], ...] = (
    (b"e", rb"e([+-]?)([0-9]+)", _python_exponent),
    (b"0.0000", rb"0\.0000(?<![0-9]0\.0000)(0*)([1-9])([0-9]*)", _with_exponent),
)
"""What Python spells in other words: how to find it quickly, its pattern, how Python says it."""
