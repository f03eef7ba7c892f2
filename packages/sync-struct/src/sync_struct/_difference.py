"""Difference: whether two values are the same, and where two structures differ.

Two values are the same if and only if their PYON is: 1, 1.0 and True differ, nan equals itself, and
arrays of different dtypes differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyon

__all__ = ["find_difference", "same"]


def find_difference(a: Any, b: Any, path: Sequence[Any] = ()) -> list[Any] | None:
    """Return the path to the first part that differs between `a` and `b`; None if they are equal.

    The order of the keys of a dict makes no difference.
    """
    if type(a) is not type(b) or (isinstance(a, (list, dict)) and len(a) != len(b)):
        return [*path]
    if isinstance(a, dict):
        if any(key not in b for key in a):
            return [*path]
        keys = list(a)
    elif isinstance(a, list):
        keys = list(range(len(a)))
    else:
        return None if same(a, b) else [*path]
    differences = (find_difference(a[key], b[key], [*path, key]) for key in keys)
    return next((difference for difference in differences if difference is not None), None)


def same(a: Any, b: Any) -> bool:
    """Return whether two values have the same PYON."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (set, frozenset)):
        return sorted(map(_form, a)) == sorted(map(_form, b))
    if isinstance(a, tuple):  # may contain sets
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return find_difference(a, b) is None
    return _form(a) == _form(b)


def _form(value: Any) -> tuple[str, list[bytes]]:
    buffers: list[Any] = []
    text = pyon.encode(value, version=2, buffer_callback=buffers.append)
    return text, [bytes(buffer) for buffer in buffers]
