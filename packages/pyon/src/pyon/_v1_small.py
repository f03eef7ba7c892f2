"""Reads small dicts of v1 in which tuples alone are no JSON: requests, replies and mods.

One pass of the C scanner of `json` reads such a text. ``NaN`` takes the place of each tuple, and
for the value of that constant the scanner asks us. Whatever else is no JSON makes the scanner stop,
or ask more often than there are tuples; then the reader of all v1 begins anew.
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
    """Give a list, and a scanner of JSON that takes the value of each constant from its end."""
    values: list[Any] = []
    return values, JsonScanner(constant=lambda _: values.pop()).quick()


_, _scan = _new_scanner()
_idle: list[tuple[list[Any], Scan]] = []
"""What no thread is using."""


def read_small(text: str) -> Any:
    """Give the value of a small text that begins with a brace; None if it must be read otherwise.

    No text that is read here has the value None: there is a tuple in each.
    """
    if "\\" in text or "'" in text or "#" in text or CLASS_KEY in text:
        return None
    parts = FLAT_TUPLE.split(text)
    for part in parts[:-1:2]:
        if part.count('"') % 2:  # the bracket behind it is in a string
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
    """Read what is between brackets, if it is JSON without brackets of its own.

    Parameters
    ----------
    scan : callable
        A scanner of JSON.
    inside : str
    alone : {0, 1}
        The number of items that there cannot be without a comma behind the last one: brackets
        around one item are no tuple, and around none no set.

    Raises
    ------
    ValueError, StopIteration
        If it is something else, or a comma is missing or alone.
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
