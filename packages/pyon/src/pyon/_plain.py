"""Parts of a value that are plain JSON: found by a scan of the containers, and written in C."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import chain, islice
from sys import get_int_max_str_digits

from ._integers import MAX_INT_DIGITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STR: frozenset[type] = frozenset({str})
JSON_LEAVES: frozenset[type] = frozenset({type(None), bool, int, float, str})
JSON_CONTAINERS: frozenset[type] = frozenset({list, dict})
JSON_TYPES = JSON_LEAVES | JSON_CONTAINERS
CLASS_KEY = "__jsonclass__"
QUOTED_KEY = f'"{CLASS_KEY}"'

MANY = 9
"""Minimum number of items of a container that is scanned in C. Below, writing the items one by one
is as fast."""

MOST_REPEATED = 64
"""Maximum number of containers of one level in which the same container may occur more than once.
In larger levels each is scanned once: otherwise cyclic containers would make levels grow without
end."""

ALIKE = 64
"""Minimum number of items for the fast check that all have one type: counting the type of the first
is faster than creating a set of all types. It is not tried if the last item has another type."""

TABLE = 32
"""Minimum number of items, those of the inner containers included, of a container of containers
that is scanned in C."""


class Found:
    """The contents of a plain JSON value.

    Attributes
    ----------
    items : int
        Number of items in all containers.
    floating : list of collections
        The collections of items that include floats.
    texts : list of lists
        The collections of strings only.
    mixed : list of collections
        The collections of strings and other items.
    keyed : list of collections
        All dicts.
    """

    __slots__ = ("floating", "items", "keyed", "mixed", "texts")

    def __init__(self) -> None:
        self.items = 0
        self.floating: list[Collection[Any]] = []
        self.texts: list[list[str]] = []
        self.mixed: list[Collection[Any]] = []
        self.keyed: list[Collection[dict[str, Any]]] = []

    def strings(self, count: int) -> Iterator[list[str]]:
        """Yield all strings, keys included, in lists of at most `count`."""
        for texts in self.texts:
            for start in range(0, len(texts), count):
                yield texts[start : start + count]
        keys = map(chain.from_iterable, self.keyed)
        mixed = ([x for x in values if type(x) is str] for values in self.mixed)
        others = chain.from_iterable(chain(keys, mixed))
        while some := [*islice(others, count)]:
            yield some


Encode = Callable[["Any", Found], str]


def plain_json(x: Any, room: int, encode: Encode) -> str | None:
    """Return the text of plain JSON of at most `room` levels, on one line; None for other values.

    Parameters
    ----------
    x : list or dict
    room : int
        Maximum number of levels.
    encode : callable
        Writes plain JSON, given the value and its contents. It raises ValueError where the text
        may not be exact.
    """
    found = _sweep(x, room)
    if found is None or not 0 < get_int_max_str_digits() <= MAX_INT_DIGITS:
        return None
    try:
        text = encode(x, found)
    except (ValueError, RecursionError):  # a long integer; not enough stack
        return None
    if "_" in text and QUOTED_KEY in text:
        return None  # it may be the key of a tag
    return text


def _sweep(x: Any, room: int) -> Found | None:
    """Return the contents of `x`; None if it is not plain JSON of at most `room` levels.

    The scan proceeds level by level, in C.
    """
    values: Collection[Any] | None = x
    found = Found()
    if type(x) is dict:
        values = x.values() if STR.issuperset(map(type, x)) else None
        found.keyed.append((x,))
    while values is not None and room > 0:
        room -= 1
        found.items += len(values)
        types = _types_of(values)
        if float in types:
            found.floating.append(values)
        if str in types:
            if len(types) > 1:
                found.mixed.append(values)
            else:
                found.texts.append(values if type(values) is list else [*values])
        if types <= JSON_LEAVES:
            return found
        if not types <= JSON_TYPES:
            return None
        values = _level_below(values, types, found)
    return None


def _types_of(values: Collection[Any]) -> set[type]:
    if type(values) is list and len(values) > ALIKE and type(values[0]) is type(values[-1]):
        types = [*map(type, values)]
        return {types[0]} if types.count(types[0]) == len(types) else set(types)
    return set(map(type, values))


def _level_below(values: Collection[Any], types: set[type], found: Found) -> list[Any] | None:
    """Return the items of the containers in `values`; None if a key in them is not a string."""
    below: list[Any] = []
    if dict in types:
        dicts = _of_type(dict, values, types)
        if not STR.issuperset(map(type, chain.from_iterable(dicts))):
            return None
        found.keyed.append(dicts)
        below = [*chain.from_iterable(map(dict.values, dicts))]
    if list in types:
        below += chain.from_iterable(_of_type(list, values, types))
    return below


def _of_type(kind: type, values: Collection[Any], types: set[type]) -> Collection[Any]:
    """Return the items of `values` that have this type; if they are many, each only once."""
    if len(types) > 1:
        values = [x for x in values if type(x) is kind]
    if len(values) > MOST_REPEATED:
        values = dict(zip(map(id, values), values, strict=True)).values()
    return values
