"""orjson, where `pyon[fast]` is installed, for the parts of v2 that are plain JSON.

It is quick because it makes choices of its own, and none of them may show: it writes nan as null, text
beyond ASCII as it is, some floats in other words than Python, and reads long integers as floats. What could
turn out differently is left to `json`.
"""

from __future__ import annotations

import re
from typing import Any

orjson: Any
try:
    import orjson
except ImportError:
    orjson = None

ALL_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
LONG_DIGITS = b"0" * 19
"""So many digits in a row may be an integer beyond 64 bits, which orjson reads as a float."""

NUMBERS: frozenset[type] = frozenset({int, float, bool, list})
SMALLEST_FIXED = 1e-4
LARGEST_FIXED = 1e16
"""Between these Python writes floats without an exponent; and so does orjson, with the same digits."""

EXPONENT = re.compile(rb"e([+-]?)([0-9]+)")
FIXED_MINUS_5 = re.compile(rb"(?<![0-9])0\.0000([1-9])([0-9]*)")
