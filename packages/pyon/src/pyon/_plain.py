"""Parts of a value that are plain JSON, found by a sweep over containers and written by C code."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import chain

from ._integers import digits_are_limited

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
    if found is None or not digits_are_limited():
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
    """Give how many items are in the containers of `x`, and which of them have floats.

    None if `x` is not plain JSON, at most `room` levels deep. Goes level by level, and through a
    large container, or many of them, in C.
    """
    items = 0
    floating: list[Collection[Any]] = []
    level = [x]
    while level:
        room -= 1
        if room < 0:
            return None
        if len(level) >= MANY:
            values = _merged(level)
            if values is None:
                return None
            level = [values]
        below: list[Any] = []
        for container in level:
            kind = type(container)
            values = container if kind is list else container.values()
            items += len(container)
            if len(container) >= MANY:
                if not _sort_out(values, below, floating):
                    return None
            else:
                for value in values:
                    sort = type(value)
                    if sort is list or sort is dict:
                        below.append(value)
                    elif sort not in JSON_LEAVES:
                        return None
                    elif sort is float:
                        floating.append((value,))
            if kind is dict and not STR.issuperset(map(type, container)):
                return None
        level = below
    return items, floating


def _merged(containers: list[Any]) -> list[Any] | None:
    """Give what is in all of these dicts and lists together; None if a key is no string."""
    # Repetitions are dropped: of containers that contain themselves there would be more and more.
    containers = list(dict(zip(map(id, containers), containers, strict=True)).values())
    dicts = [x for x in containers if type(x) is dict]
    if not STR.issuperset(map(type, chain.from_iterable(dicts))):
        return None
    lists = [x for x in containers if type(x) is list] if len(dicts) < len(containers) else []
    return [*chain.from_iterable(map(dict.values, dicts)), *chain.from_iterable(lists)]


def _sort_out(values: Collection[Any], below: list[Any], floating: list[Collection[Any]]) -> bool:
    """Add what is in `values` to the lists, if they are plain JSON."""
    types = set(map(type, values))
    if not types <= JSON_TYPES:
        return False
    if float in types:
        floating.append(values)
    for kind in (dict, list):
        if kind in types:
            below += values if len(types) == 1 else [x for x in values if type(x) is kind]
    return True
