"""Parts of a value that are plain JSON, found by a sweep over containers and written by C code."""

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
"""Items from which a container is gone through in C: below, writing them one by one costs no
more."""

MOST_REPEATED = 64
"""Containers of one level among which repetitions do not matter. In larger levels they are dropped:
of containers that contain themselves there would be more and more."""

ALIKE = 64
"""Items from which it is quicker to count those of the first one's type than to make a set of all
types, if they are all of it. Where the last one is not, that is not tried."""

TABLE = 32
"""Items, with the rows, from which a container whose first item is one is gone through in C."""


class Found:
    """What is in plain JSON.

    Attributes
    ----------
    items : int
        How many items there are in its containers.
    floating : list of collections
        Those in which floats are.
    texts : list of lists
        Those of strings alone.
    mixed : list of collections
        Those of strings and other items.
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
        """Give all strings, keys included, so many at a time."""
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
    """Write what is plain JSON, at most `room` levels deep, on one line; None for all else.

    Parameters
    ----------
    x : list or dict
    room : int
    encode : callable
        Writes plain JSON, of which it is told what is in it. It raises ValueError where the text
        may not be exact.
    """
    found = _sweep(x, room)
    if found is None or not 0 < get_int_max_str_digits() <= MAX_INT_DIGITS:
        return None
    try:
        text = encode(x, found)
    except (ValueError, RecursionError):  # a long integer; little left of the stack
        return None
    if "_" in text and QUOTED_KEY in text:
        return None  # the key that has a meaning
    return text


def _sweep(x: Any, room: int) -> Found | None:
    """Say what is in `x`; None if it is not plain JSON, at most `room` levels deep.

    Goes level by level, in C.
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
    """Give what is in the containers among `values`; None if a key in them is no string."""
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
    """Give those of `values` that are of a type; of many, each once."""
    if len(types) > 1:
        values = [x for x in values if type(x) is kind]
    if len(values) > MOST_REPEATED:
        values = dict(zip(map(id, values), values, strict=True)).values()
    return values
