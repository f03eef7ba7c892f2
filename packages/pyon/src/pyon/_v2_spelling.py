"""How v2 spells things: JSON, where what JSON does not have is an object with one key, the tag."""

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
"""Items from which the preparations for msgspec pay."""

SAMPLE_FROM = 128
SAMPLED = 16
"""Items from which a look at a few strings is worth it, and how many these are."""

ESCAPE_SPACING = 500
"""Minimum average distance, in bytes, between characters to be escaped. Where they stand closer,
`json` is faster."""

LONG_STRING = 50
"""Characters of text for each item from which a look at all strings is quicker than one at it."""

AT_A_TIME = 256
SLICE = 2**15
"""Strings that are gone through together, and characters, so that they stay in the cache."""

_write_json = json_encoder(",", ":")


def _float(x: float) -> str:
    return repr(x) if isfinite(x) else NON_FINITE[repr(x)]


def _json(x: Any, found: Found) -> str:
    return write_plain(x, found, _write_json, False)


def write_plain(x: Any, found: Found, write: Callable[[Any], str], spaced: bool) -> str:
    """Write plain JSON with msgspec, or with `write` where that is quicker, or may be different.

    Raises
    ------
    ValueError
        If the halves of a character stand side by side in a string.
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
            _refuse_halves(strings)
    return text


def _needs_escapes(found: Found) -> bool:
    """Say whether much is not ASCII, so that msgspec is no help, judging by a few strings."""
    if found.items < SAMPLE_FROM or not found.texts:
        return False
    strings = found.texts[0]
    sample = "".join(strings[:: len(strings) // SAMPLED + 1])
    size = len(sample.encode("utf-8", "surrogatepass"))
    return (size - len(sample)) * ESCAPE_SPACING > size


def _refuse_halves(strings: list[str]) -> None:
    """Raise ValueError if a high half of a character stands before a low one in a string."""
    joined = "".join(strings)
    for start in range(0, 0 if joined.isascii() else len(joined), SLICE):
        try:
            joined[start : start + SLICE].encode("utf-32")
        except UnicodeEncodeError:
            if any(map(re.compile(SPLIT_PAIR).search, strings)):
                raise ValueError("the two halves of a surrogate pair") from None


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
