"""Small values of plain types, which are most of the values that programs send.

Writing one takes a few microseconds, so there is no preparation and no second pass: each plain type
has a function that returns the whole text. A type without such a function raises `KeyError`, which
ends the attempt, and a `Writer` starts from the beginning. Each level of nested containers has its
own table, and the last one has no containers. So a cyclic value ends the attempt, too.
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
"""Number of nested containers: messages rarely have more."""

Table = dict[type, Callable[["Any"], str]]


def small_writers(spelling: Spelling) -> Table:
    """Return functions by exact type that write a plain value, and raise KeyError for other values.

    They raise ValueError for long integers, if the interpreter limits their digits, and an
    EncodeError without the path to the value.
    """
    leaves = table = {**spelling.leaves, int: repr}
    for _ in range(LEVELS):
        table = {**leaves, **_containers(spelling, table)}
    return table


def _containers(spelling: Spelling, inner: Table) -> Table:
    """Return functions that write containers whose items are written by `inner`."""
    comma, keys = spelling.comma, spelling.keys
    before, behind, behind_one = spelling.around_tuple

    def write_list(x: list[Any]) -> str:
        if len(x) >= MANY:
            return write_large(x)
        if x and type(first := x[0]) in JSON_CONTAINERS and len(x) * (len(first) + 1) >= TABLE:
            return write_large(x)
        return f"[{comma.join([inner[type(value)](value) for value in x])}]"

    def write_tuple(x: tuple[Any, ...]) -> str:
        if len(x) >= MANY:
            return before + write_large(list(x))[1:-1] + behind
        inside = comma.join([inner[type(value)](value) for value in x])
        return before + inside + (behind if len(x) != 1 else behind_one)

    def write_dict(x: dict[Any, Any]) -> str:
        if len(x) >= MANY:
            return write_large(x)
        if len(x) > 3:  # fewer rows are not long enough for TABLE
            for first in x.values():
                if type(first) in JSON_CONTAINERS and len(x) * (len(first) + 1) >= TABLE:
                    return write_large(x)
                break
        entries = [
            (keys[key] if type(key) is str else _refuse_key(key)) + inner[type(value)](value)
            for key, value in x.items()
        ]
        return f"{{{comma.join(entries)}}}"

    def write_large(x: list[Any] | dict[Any, Any]) -> str:
        text = plain_json(x, MAX_DEPTH - LEVELS, spelling.json)
        if text is None:
            raise KeyError
        return text

    return {list: write_list, tuple: write_tuple, dict: write_dict}


def _refuse_key(key: object) -> str:
    raise KeyError(key)
