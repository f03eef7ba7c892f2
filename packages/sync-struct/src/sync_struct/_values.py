"""Values of a structure: whose they are, and whether two are the same.

Two promises are kept here. What is assigned is owned: changing the caller's list or array later
does not change the structure behind everybody's back. And two values are the same exactly if their
PYON is: 1, 1.0 and True differ, nan is itself, arrays have a type.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import pyon

__all__ = ["ATOMS", "find_difference", "is_array", "is_container", "own", "same"]

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Types whose values cannot change, and hold nothing that can."""


def is_array(value: Any) -> bool:
    """Tell whether `value` is a numpy array, without loading numpy to find out."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_container(value: Any) -> bool:
    """Tell whether mods can reach inside `value`."""
    return isinstance(value, (list, dict)) or is_array(value)


def own(value: Any) -> Any:
    """Return a value equal to `value` that shares nothing mutable with it, nor with itself.

    Arrays come back read-only, so that their memory can be sent as it is, at any time later.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is list:
        return value.copy() if _all_atoms(value) else [own(item) for item in value]
    if kind is dict:
        if _all_atoms(value.values()):
            return value.copy()
        return {key: own(item) for key, item in value.items()}
    if kind is tuple:
        return value if _all_atoms(value) else tuple([own(item) for item in value])
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
        if hasattr(kind, "raw_view"):  # a notifier: the structure is meant
            return own(value.raw_view)
        return copy.deepcopy(value)
    if is_array(value):
        value = value.copy()
        value.flags.writeable = False
    return value


def _all_atoms(values: Any) -> bool:
    return set(map(type, values)) <= ATOMS


def same(a: Any, b: Any) -> bool:
    """Tell whether two values have the same PYON."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (set, frozenset)):
        return sorted(map(_form, a)) == sorted(map(_form, b))
    if isinstance(a, tuple):  # which may hold sets
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return find_difference(a, b) is None
    return _form(a) == _form(b)


def _form(value: Any) -> tuple[str, list[bytes]]:
    buffers: list[Any] = []
    text = pyon.encode(value, version=2, buffer_callback=buffers.append)
    return text, [bytes(buffer) for buffer in buffers]


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
