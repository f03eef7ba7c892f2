"""Keys that stand twice in a dict or JSON object: legal, but the first value is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ._codec import Codec
from ._errors import DecodeError
from ._v1_tokens import parts

CLOSING = frozenset("]})")


class _Open:
    """An open bracket: where the current item begins, and the keys so far with their lines."""

    def __init__(self, bracket: str, start: int) -> None:
        self.bracket = bracket
        self.start = start
        self.lines: dict[Any, int] = {}


def repeated_keys(text: str, codec: Codec) -> Iterator[tuple[str, int, int]]:
    """Give each key that is repeated, as it is spelled, with the lines of both places.

    Parameters
    ----------
    text : str
        A text that can be read. Keys in the lists of pairs of v2 are not looked at.
    codec : Codec
        What read it.
    """
    stack = [_Open("", 0)]
    line, counted = 1, 0
    for at, part in parts(text):
        if part in "[{(":
            stack.append(_Open(part, at + 1))
        elif part in CLOSING:
            stack.pop()
        elif part == ",":
            stack[-1].start = at + 1
        elif stack[-1].bracket == "{":
            spelled = text[stack[-1].start : at]
            line += text.count("\n", counted, at)
            counted = at
            first = _note(stack[-1], spelled, line, codec)
            if first is not None:
                yield spelled.split("\n")[-1].strip(), first, line


def _note(place: _Open, spelled: str, line: int, codec: Codec) -> int | None:
    """Note a key; give the line where it stood before, if it did."""
    try:
        key = codec.decode(spelled)
    except DecodeError:  # the key of a tag, say, is none of a dict
        return None
    first = place.lines.get(key)
    place.lines[key] = line
    return first
