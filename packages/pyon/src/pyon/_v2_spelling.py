"""How v2 spells things: JSON, where what JSON does not have is an object with one key, the tag."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from math import isfinite

from ._json import SPLIT_PAIR, json_encoder, write_int, write_str
from ._on_demand import load_fast
from ._plain import CLASS_KEY, strings_in
from ._spelling import Spelling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NON_FINITE = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}

FAST_FROM_ITEMS = 32
"""Items from which the preparations for msgspec pay."""

_write_json = json_encoder(",", ":")


def _float(x: float) -> str:
    return repr(x) if isfinite(x) else NON_FINITE[repr(x)]


def _json(x: Any, items: int, floating: list[Collection[Any]]) -> str:
    if items >= FAST_FROM_ITEMS:
        return write_plain(x, floating, _write_json, False)
    text = _write_json(x)
    return with_whole_characters(x, text) if "\\" in text else text


def write_plain(
    x: Any, floating: list[Collection[Any]], write: Callable[[Any], str], spaced: bool
) -> str:
    """Write much plain JSON with msgspec, or with `write` where msgspec may spell it otherwise."""
    fast = load_fast()
    encoded = fast.encode(x)
    if encoded is None:
        return with_whole_characters(x, write(x))
    text: str | None = fast.exact(encoded, floating, spaced)
    return write(x) if text is None else text


def with_whole_characters(x: Any, text: str) -> str:
    """Give back the JSON of `x`; ValueError if the halves of a character stand side by side."""
    if "\\" in text and "\\ud" in text and any(map(re.compile(SPLIT_PAIR).search, strings_in(x))):
        raise ValueError("the two halves of a surrogate pair")
    return text


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
