"""Repeated keys in a dict or JSON object: valid, but only the last value is kept."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator
from typing import Any

from ._codec import Codec
from ._errors import DecodeError
from ._plain import QUOTED_KEY
from ._v1_grammar import GAP
from ._v1_tokens import parts

CLOSING = frozenset("]})")
OF_PAIRS = frozenset(['"dict"', '"OrderedDict"'])
"""Names of tags, with quotation marks, whose argument is a list of pairs of key and value. In v1,
``OrderedDict`` is a form, too."""

V1_FORM = re.compile(r"(?<!\w)OrderedDict\s*\Z")
LONGEST_NAME = max(map(len, [QUOTED_KEY, *OF_PAIRS]))
LOOK_BACK = 40
"""Number of characters before a bracket that are searched for the name of its form."""


class _Open:
    """An open bracket: where its current item begins, and the keys found so far."""

    def __init__(self, bracket: str, start: int, pairs: bool = False) -> None:
        self.bracket = bracket
        self.start = start
        self.pairs = pairs  # whether its items are pairs of key and value
        self.items = 0  # number of items before the current one
        self.first = ""  # first item of a list, or last key of a dict, if it is short
        self.lines: dict[Any, int] = {}  # line of each key found so far


def repeated_keys(text: str, codec: Codec) -> Iterator[tuple[str, int, int]]:
    """Yield each repeated key as spelled, with the line of the earlier key and that of this one.

    Parameters
    ----------
    text : str
        A valid text.
    codec : Codec
        The codec that can read it.
    """
    line_ends = [match.start() for match in re.finditer("\n", text)]
    stack = [_Open("", 0)]
    for at, part in parts(text):
        inner = stack[-1]
        if part in "[{(":
            stack.append(_Open(part, at + 1, part == "[" and _holds_pairs(stack, text, at)))
        elif part in CLOSING:
            stack.pop()
        else:
            owner = _owner_of_key(stack, part)
            begin = GAP.match(text, inner.start).end()  # type: ignore[union-attr]
            if owner is not None or (part == "," and not inner.items):
                inner.first = text[begin:at].strip() if at - begin < 2 * LONGEST_NAME else ""
            if owner is not None:
                line = bisect(line_ends, begin) + 1
                before = _note(owner, text[begin:at], line, codec)
                if before is not None:
                    yield text[begin:at].split("\n")[0].strip(), before, line
            if part == ",":
                inner.start = at + 1
                inner.items += 1


def _owner_of_key(stack: list[_Open], part: str) -> _Open | None:
    """Return the bracket of the dict whose key ends at `part`; None if no key ends there."""
    inner = stack[-1]
    if part == ":":
        return inner if inner.bracket == "{" else None
    return stack[-2] if len(stack) > 1 and stack[-2].pairs and not inner.items else None


def _holds_pairs(stack: list[_Open], text: str, at: int) -> bool:
    """Return whether the list that begins at `at` is the argument of a form with pairs."""
    inner = stack[-1]
    if inner.items:
        return False
    if inner.bracket == "(":
        end = inner.start - 1
        return V1_FORM.search(text, max(end - LOOK_BACK, 0), end) is not None
    return (
        len(stack) > 2
        and inner.bracket == stack[-2].bracket == "["
        and stack[-2].items == 1
        and stack[-2].first in OF_PAIRS
        and stack[-3].bracket == "{"
        and stack[-3].first == QUOTED_KEY
    )


def _note(owner: _Open, spelled: str, line: int, codec: Codec) -> int | None:
    """Record a key; return the line of the same key before it, or None."""
    try:
        key = codec.decode(spelled)
    except DecodeError:  # not the key of a dict: the key of a tag, for example
        return None
    first = owner.lines.get(key)
    owner.lines[key] = line
    return first
