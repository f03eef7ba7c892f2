"""The spelling of v2: JSON, in which other values are objects with one key, the tags."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite

from ._json import SPLIT_PAIR, json_encoder, write_int, write_str
from ._on_demand import load_fast
from ._plain import CLASS_KEY, Found
from ._spelling import Spelling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NON_FINITE = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}

FAST_FROM_ITEMS = 32
"""Minimum number of items of a value that is written by msgspec: below, `json` is faster."""

SAMPLE_FROM = 128
SAMPLED = 16
"""Minimum number of items for a check of a sample of strings, and the size of the sample."""

ESCAPE_SPACING = 500
"""Minimum average distance, in bytes, between characters to be escaped. Where they are closer,
`json` is faster."""

LONG_STRING = 50
"""Average characters per item beyond which checking all strings is faster than checking the
text."""

AT_A_TIME = 256
SLICE = 2**15
"""Number of strings, and of characters, that are checked at a time, so that they stay in the
cache."""

_write_json = json_encoder(",", ":")


def _float(x: float) -> str:
    return repr(x) if isfinite(x) else NON_FINITE[repr(x)]


def _json(x: Any, found: Found) -> str:
    return write_plain(x, found, _write_json, False)


def write_plain(x: Any, found: Found, write: Callable[[Any], str], spaced: bool) -> str:
    """Write plain JSON with msgspec, or with `write` where that is faster or might differ.

    Raises
    ------
    ValueError
        If a string has a high surrogate directly before a low one.
    """
    if found.items >= FAST_FROM_ITEMS and not _needs_escapes(found):
        fast = load_fast()
        encoded = fast.encode(x)
        if encoded is not None:
            text: str | None = fast.exact(encoded, found.floating, spaced)
            return write(x) if text is None else text
    text = write(x)
    if "\\" in text and (len(text) > LONG_STRING * found.items or "\\ud" in text):
        for strings in found.strings(AT_A_TIME):
            _refuse_surrogate_pairs(strings)
    return text


def _needs_escapes(found: Found) -> bool:
    """Estimate from a sample whether so much is not ASCII that msgspec is not faster."""
    if found.items < SAMPLE_FROM or not found.texts:
        return False
    strings = found.texts[0]
    sample = "".join(strings[:: len(strings) // SAMPLED + 1])
    size = len(sample.encode("utf-8", "surrogatepass"))
    return (size - len(sample)) * ESCAPE_SPACING > size


def _refuse_surrogate_pairs(strings: list[str]) -> None:
    """Raise ValueError if a string has a high surrogate directly before a low one."""
    joined = "".join(strings)
    for start in range(0, 0 if joined.isascii() else len(joined), SLICE):
        try:
            joined[start : start + SLICE].encode("utf-32")
        except UnicodeEncodeError:
            if any(map(re.compile(SPLIT_PAIR).search, strings)):
                raise ValueError("a surrogate pair in a string") from None


def _spelling(comma: str, colon: str) -> Spelling:
    def form(name: str, arguments: list[str]) -> str:
        return f'{{"{CLASS_KEY}"{colon}["{name}"{comma}[{comma.join(arguments)}]]}}'

    tuple_, set_ = (form(name, ["[|]"]).split("|") for name in ("tuple", "set"))
    return Spelling(
        leaves={
            type(None): {None: "null"}.__getitem__,
            bool: {True: "true", False: "false"}.__getitem__,
            int: write_int,
            float: _float,
            complex: lambda x: form("complex", [_float(x.real), _float(x.imag)]),
            str: write_str,
        },
        comma=comma,
        colon=colon,
        around_tuple=(tuple_[0], tuple_[1], tuple_[1]),
        around_set=(set_[0], set_[1], form("set", ["[]"])),
        form=form,
        quotes='" "',
        json=_json,
        tagged=True,
    )


V2 = _spelling(",", ":")
V2_PRETTY = _spelling(", ", ": ")
