"""Parts of a value that are plain JSON, found by a sweep over containers and written by C code."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import chain
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
"""Items from which a container is gone through in C."""

MOST_REPEATED = 64
"""Containers of one level among which repetitions do not matter. In larger levels they are dropped:
of containers that contain themselves there would be more and more."""

TABLE = 32
"""Items, with the rows, from which a container whose first item is one is gone through in C."""

Encode = Callable[["Any", int, "list[Collection[Any]]"], str]


def plain_json(x: Any, room: int, encode: Encode) -> str | None:
    """Write what is plain JSON, at most `room` levels deep, on one line; None for all else.

    Parameters
    ----------
    x : list or dict
    room : int
    encode : callable
        Writes plain JSON, of which it is told how many items there are and which collections have
        floats in them. It raises ValueError where the text may not be exact.
    """
    found = _sweep(x, room)
    if found is None or not 0 < get_int_max_str_digits() <= MAX_INT_DIGITS:
        return None
    try:
        text = encode(x, *found)
    except (ValueError, RecursionError):  # a long integer; little left of the stack
        return None
    if "_" in text and QUOTED_KEY in text:
        return None  # the key that has a meaning
    return text


def strings_in(x: Any) -> list[str]:
    """Give all strings in plain JSON, keys included."""
    strings: list[str] = []
    level = [x]
    while level:
        below: list[Any] = []
        for container in level:
            if type(container) is dict:
                strings += container
                below += container.values()
            else:
                below += container
        strings += [value for value in below if type(value) is str]
        level = [value for value in below if type(value) in JSON_CONTAINERS]
    return strings


def _sweep(x: Any, room: int) -> tuple[int, list[Collection[Any]]] | None:
    """Give how many items are in the containers of `x`, and collections with all floats in it.

    None if `x` is not plain JSON, at most `room` levels deep. Goes level by level, in C.
    """
    values: Collection[Any] | None = x
    if type(x) is dict:
        values = x.values() if STR.issuperset(map(type, x)) else None
    items = 0
    floating: list[Collection[Any]] = []
    while values is not None and room > 0:
        room -= 1
        items += len(values)
        types = set(map(type, values))
        if float in types:
            floating.append(values)
        if types <= JSON_LEAVES:
            return items, floating
        if not types <= JSON_TYPES:
            return None
        values = _level_below(values, types)
    return None


def _level_below(values: Collection[Any], types: set[type]) -> list[Any] | None:
    """Give what is in the containers among `values`; None if a key in them is no string."""
    below: list[Any] = []
    if dict in types:
        dicts = _of_type(dict, values, types)
        if not STR.issuperset(map(type, chain.from_iterable(dicts))):
            return None
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
