"""Keys that stand twice in a dict or JSON object: legal, but the first value is lost."""

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
"""Tags, as they are spelled, whose argument is a list of keys with their values. In v1, the second
one is a form, too."""

V1_FORM = re.compile(r"(?<!\w)OrderedDict\s*\Z")
LONGEST_NAME = max(map(len, [QUOTED_KEY, *OF_PAIRS]))
LOOK_BACK = 40
"""Characters before a bracket in which the name of its form is looked for."""


class _Open:
    """An open bracket: where the current item begins, and what is known of it and the first one."""

    def __init__(self, bracket: str, start: int, pairs: bool = False) -> None:
        self.bracket = bracket
        self.start = start
        self.pairs = pairs  # whether its items are keys with their values
        self.items = 0  # before the current one
        self.first = ""  # item of a list, or last key of a dict, if it is short
        self.lines: dict[Any, int] = {}  # of the keys so far


def repeated_keys(text: str, codec: Codec) -> Iterator[tuple[str, int, int]]:
    """Give each key that is repeated, as it is spelled, with the lines of both places.

    Parameters
    ----------
    text : str
        A text that can be read.
    codec : Codec
        What read it.
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
    """Give the bracket of the dict whose key ends at `part`; None if no key does."""
    inner = stack[-1]
    if part == ":":
        return inner if inner.bracket == "{" else None
    return stack[-2] if len(stack) > 1 and stack[-2].pairs and not inner.items else None


def _holds_pairs(stack: list[_Open], text: str, at: int) -> bool:
    """Say whether the list that begins at `at` is that of a form of pairs, in either version."""
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
    """Note a key; give the line where it stood before, if it did."""
    try:
        key = codec.decode(spelled)
    except DecodeError:  # the key of a tag, say, is none of a dict
        return None
    first = owner.lines.get(key)
    owner.lines[key] = line
    return first
