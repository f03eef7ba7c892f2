"""Reads small v1 dicts that would be JSON but for their tuples: requests, replies and mods.

One pass of the C scanner of `json` reads such a text. Each tuple is replaced by ``NaN``, and the
scanner calls our function for the value of that constant. Any other deviation from JSON makes the
scanner stop, or call the function more often than there are tuples. Then the general reader of v1
starts from the beginning.
"""

from __future__ import annotations

from ._json import JsonScanner, Scan
from ._plain import CLASS_KEY
from ._v1_grammar import FLAT_TUPLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPACE_OR_COMMA = frozenset(" ,")


def _new_scanner() -> tuple[list[Any], Scan]:
    """Return a list, and a JSON scanner that takes the value of each constant from its end."""
    values: list[Any] = []
    return values, JsonScanner(constant=lambda _: values.pop()).quick()


_, _scan = _new_scanner()
_idle: list[tuple[list[Any], Scan]] = []
"""Lists and scanners that no thread is using."""


def read_small(text: str) -> Any:
    """Return the value of a small text that begins with a brace; None if it was not read.

    None is never the value of a text that is read here: each has a tuple.
    """
    if "\\" in text or "'" in text or "#" in text or CLASS_KEY in text:
        return None
    parts = FLAT_TUPLE.split(text)
    for part in parts[:-1:2]:
        if part.count('"') % 2:  # the next bracket is in a string
            return None
    if len(parts) == 1:
        return None
    json = "NaN".join(parts[::2])
    try:
        values, scan = _idle.pop()
    except IndexError:
        values, scan = _new_scanner()
    try:
        for inside in parts[-2::-2]:
            values.append(tuple(flat_items(_scan, inside, alone=1)))
        value, end = scan(json, 0)
        exact = end == len(json) and not values
    except (ValueError, StopIteration, IndexError, RecursionError):
        exact = False
    values.clear()
    _idle.append((values, scan))
    return value if exact else None


def flat_items(scan: Scan, inside: str, alone: int) -> list[Any]:
    """Read the text between brackets, if it is JSON without inner brackets.

    Parameters
    ----------
    scan : callable
        A JSON scanner.
    inside : str
    alone : {0, 1}
        The number of items that needs a trailing comma: 1 in tuples, because brackets around one
        item are no tuple, and 0 in sets, because empty brackets are no set.

    Raises
    ------
    ValueError, StopIteration
        If the text is anything else, or a comma is missing or has no item before it.
    """
    comma = False
    if inside[-1:] in SPACE_OR_COMMA:
        inside = inside.rstrip(" ")
        comma = inside[-1:] == ","
        inside = inside.removesuffix(",")
    items: list[Any]
    items, _ = scan(f"[{inside}]", 0)
    if len(items) == (0 if comma else alone):
        raise ValueError("a comma is missing, or alone")
    return items
