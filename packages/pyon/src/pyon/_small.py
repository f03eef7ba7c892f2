"""Small values of plain types, which are most of what programs send each other.

To write one takes a few microseconds, so nothing is prepared and nothing is looked at twice: each
type has a function that gives the whole text, and a type without one is not plain. Then `KeyError`
ends the attempt, and a `Writer` begins anew. Containers within containers have a table of their
own, so that the last table ends what contains itself.
"""

from __future__ import annotations

from collections.abc import Callable

from ._plain import JSON_CONTAINERS, MANY, TABLE, plain_json
from ._types import MAX_DEPTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._spelling import Spelling

LEVELS = 6
"""Containers in each other: as many as messages have."""

Table = dict[type, Callable[["Any"], str]]


def small_writers(spelling: Spelling) -> Table:
    """Give functions that write a plain value, by exact type; they raise KeyError for all else.

    ValueError is for long integers, if the interpreter limits their digits, and an EncodeError does
    not say where in the value it was.
    """
    leaves = table = {**spelling.leaves, int: repr}
    for _ in range(LEVELS):
        table = {**leaves, **_containers(spelling, table)}
    return table


def _containers(spelling: Spelling, inner: Table) -> Table:
    """Give functions that write containers, in which is what `inner` writes."""
    comma, keys = spelling.comma, spelling.keys
    before, behind, behind_one = spelling.around_tuple

    def write_list(x: list[Any]) -> str:
        if len(x) >= MANY:
            return much(x)
        if x and type(first := x[0]) in JSON_CONTAINERS and len(x) * (len(first) + 1) >= TABLE:
            return much(x)
        return f"[{comma.join([inner[type(value)](value) for value in x])}]"

    def write_tuple(x: tuple[Any, ...]) -> str:
        if len(x) >= MANY:
            return before + much(list(x))[1:-1] + behind
        inside = comma.join([inner[type(value)](value) for value in x])
        return before + inside + (behind if len(x) != 1 else behind_one)

    def write_dict(x: dict[Any, Any]) -> str:
        if len(x) >= MANY:
            return much(x)
        if len(x) > 3:  # of fewer rows, none is long enough for a table
            for first in x.values():
                if type(first) in JSON_CONTAINERS and len(x) * (len(first) + 1) >= TABLE:
                    return much(x)
                break
        entries = [
            (keys[key] if type(key) is str else _no_field(key)) + inner[type(value)](value)
            for key, value in x.items()
        ]
        return f"{{{comma.join(entries)}}}"

    def much(x: list[Any] | dict[Any, Any]) -> str:
        text = plain_json(x, MAX_DEPTH - LEVELS, spelling.json)
        if text is None:
            raise KeyError
        return text

    return {list: write_list, tuple: write_tuple, dict: write_dict}


def _no_field(key: object) -> str:
    raise KeyError(key)
