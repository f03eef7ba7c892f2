"""msgspec, where `pyon[fast]` is installed, for plain JSON.

The result must be the same as that of `json`, but msgspec writes nan as null, does not escape
non-ASCII characters, and spells some floats differently from Python. Wherever the result could
differ, these functions return None or raise, and `json` is used.
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
"""Both Python and msgspec write floats between these magnitudes without an exponent."""

REWRITE_SPACING = 200
"""Minimum average distance, in characters, between numbers that must be respelled. Where they
stand closer, `json` is faster than respelling."""

ESCAPE = "pyon.escape"
"""Name of our codec error handler, which escapes non-ASCII characters."""

SAMPLE_SIZE = 4096
"""Number of bytes that are checked first, before the whole text."""


def encode(x: Any) -> bytes | None:
    """Return plain JSON written by msgspec, or None. It refuses lone surrogates."""
    if msgspec is None:
        return None
    try:
        text: bytes = msgspec.json.encode(x)
    except (ValueError, RecursionError):  # a long integer, a lone surrogate; not enough stack
        return None
    return text


def exact(text: bytes, floating: Collection[Collection[Any]], spaced: bool) -> str | None:
    """Convert the result of `encode` to that of `json`; return None if they may differ.

    Parameters
    ----------
    text : bytes
        The result of `encode`.
    floating : collection of collections
        Collections with all floats of the value; they may have other items.
    spaced : bool
        Whether there is a space behind each comma and colon.
    """
    if b"\x7f" in text:
        return None
    if not text.isascii():
        escaped = _escaped(text)
        if escaped is None:
            return None
        text = escaped
    if floating:
        if b'"' in text or b"n" in text:  # there are strings, which may look like numbers
            if not _in_fixed_notation(floating):
                return None
        else:
            respelled = _respelled(text)
            if respelled is None:
                return None
            text = respelled
    if spaced:
        text = msgspec.json.format(text, indent=0)
    return text.decode("ascii")


def _escaped(text: bytes) -> bytes | None:
    """Escape non-ASCII characters as `json` does; None if there are many."""
    for part in (text[:SAMPLE_SIZE], text):
        characters = part.decode(errors="ignore")  # the sample may end within a character
        if (len(part) - len(characters)) * ESCAPE_SPACING > len(part):
            return None
    return characters.encode("ascii", ESCAPE)


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return encode_basestring_ascii(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(ESCAPE, _escape)


def decode(text: str) -> Any:
    """Read JSON with the same result as `json`.

    Raises
    ------
    ValueError
        If the text is invalid, or the result could differ.
    """
    if msgspec is None or not digits_are_limited():
        raise ValueError("not certain")
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply for the stack") from None


def _in_fixed_notation(floating: Iterable[Collection[Any]]) -> bool:
    magnitudes = [abs(x) for values in floating for x in values if type(x) is float]
    # The sum of the magnitudes is an upper bound of each, and NaN if one of them is NaN.
    return sum(magnitudes) < FIXED_BELOW and min(filter(None, magnitudes), default=1) >= FIXED_FROM


def _respelled(text: bytes) -> bytes | None:
    """Spell the numbers in `text` as Python does; None if too many of them must be changed."""
    for needle, pattern, spell in RESPELLED:
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
    """Do the same as `re.sub`, faster for few matches; return None if there are many."""
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


RESPELLED: tuple[tuple[bytes, bytes, Spell], ...] = (
    (b"e", rb"e([+-]?)([0-9]+)", _python_exponent),
    (b"0.0000", rb"0\.0000(?<![0-9]0\.0000)(0*)([1-9])([0-9]*)", _with_exponent),
)
"""Numbers that Python spells differently: text to search for, pattern, Python's spelling."""
