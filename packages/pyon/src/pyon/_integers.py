"""Integers of any size as decimal text, independent of the interpreter's digit limit.

The interpreter refuses to convert between `int` and decimal text beyond a number of digits that the
user can set. This setting must not make a file unreadable, so long integers are converted here, in
halves.
"""

from __future__ import annotations

import math
import sys

SAFE_DIGITS = 640
"""Number of digits that `int` and `str` always convert: the interpreter's limit cannot be lower."""

MAX_INT_DIGITS = 50_000
"""Maximum number of digits of an integer in PYON text, far beyond any measured number. The time of
a conversion grows faster than linearly; up to this limit it costs less per digit than other text
does, so that no input is slow for its length."""

SAFE_BOUND: int = 10**SAFE_DIGITS
DIGITS_PER_BIT = math.log10(2)


def integer_text(x: int) -> str:
    """Return `x` in decimal.

    Raises
    ------
    ValueError
        If it has more than `MAX_INT_DIGITS` digits.
    """
    if -SAFE_BOUND < x < SAFE_BOUND:
        return int.__repr__(x)
    width = int(x.bit_length() * DIGITS_PER_BIT) + 1
    digits = _split(abs(x), width).lstrip("0") if width <= MAX_INT_DIGITS + 1 else ""
    if not 0 < len(digits) <= MAX_INT_DIGITS:
        raise ValueError(f"an integer of more than {MAX_INT_DIGITS} digits")
    return "-" + digits if x < 0 else digits


def _split(x: int, digits: int) -> str:
    """Return the non-negative `x` with leading zeros up to `digits` digits."""
    if digits <= SAFE_DIGITS:
        return int.__repr__(x).zfill(digits)
    low_digits = digits // 2
    high, low = divmod(x, 10**low_digits)
    return _split(high, digits - low_digits) + _split(low, low_digits)


def parse_integer(text: str) -> int:
    """Return the integer that `text` spells in decimal, optionally with a sign and ``_``.

    Raises
    ------
    ValueError
        If it has more than `MAX_INT_DIGITS` digits.
    """
    if len(text) <= SAFE_DIGITS:
        return int(text)
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-").replace("_", "")
    if len(digits) > MAX_INT_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits, more than {MAX_INT_DIGITS}")
    return sign * _join(digits)


def parse_radix_integer(text: str) -> int:
    """Return the integer that `text` spells with ``0x``, ``0o`` or ``0b``, optionally with a sign.

    Raises
    ------
    ValueError
        If it may have more than `MAX_INT_DIGITS` digits in decimal.
    """
    x = int(text, 0)  # linear: the bases are powers of two
    if x.bit_length() * DIGITS_PER_BIT > MAX_INT_DIGITS:
        raise ValueError(f"an integer of more than {MAX_INT_DIGITS} digits")
    return x


def _join(digits: str) -> int:
    if len(digits) <= SAFE_DIGITS:
        return int(digits)
    low_digits = len(digits) // 2
    scale: int = 10**low_digits
    return _join(digits[:-low_digits]) * scale + _join(digits[-low_digits:])


def digits_are_limited() -> bool:
    """Return whether the interpreter's own digit limit is at most `MAX_INT_DIGITS`."""
    return 0 < sys.get_int_max_str_digits() <= MAX_INT_DIGITS
