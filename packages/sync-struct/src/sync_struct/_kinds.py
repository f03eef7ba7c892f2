"""Kinds of values: what can change, what mods can reach into, what is an array.

Nothing here loads numpy to find out: where nobody has loaded it, there is no array.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

__all__ = [
    "ATOMS",
    "PLAIN",
    "all_atoms",
    "growth",
    "is_array",
    "is_container",
    "is_grown",
    "is_record",
    "without_ellipsis",
]

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Types whose values cannot change, and hold nothing that can."""


PLAIN = (dict, list)
"""The types of most containers."""


def all_atoms(values: Any) -> bool:
    """Tell whether nothing in an iterable can change."""
    return set(map(type, values)) <= ATOMS


def is_container(value: Any) -> bool:
    """Tell whether mods can reach inside `value`: a tuple is one if it holds one."""
    if isinstance(value, (list, dict)) or is_array(value) or is_record(value):
        return True
    return isinstance(value, tuple) and not all_atoms(value) and any(map(is_container, value))


def is_array(value: Any) -> bool:
    """Tell whether `value` is a numpy array, without loading numpy to find out."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_record(value: Any) -> bool:
    """Tell whether `value` is a record: a window on one element of an array that has fields."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.void) and value.dtype.names is not None


def is_grown(value: Any, older: Any) -> bool:
    """Tell whether `value` is what `older` has become by the growth of arrays in it."""
    if value is older:
        return True
    if isinstance(value, tuple) and isinstance(older, tuple):
        return len(value) == len(older) and all(map(is_grown, value, older))
    if not (is_array(value) and is_array(older)):
        return False
    return bool(growth().is_successor(value, older))


@functools.cache
def growth() -> ModuleType:
    """Return the module that makes arrays grow. It loads numpy, so only where there is one."""
    import pyon.growth

    return pyon.growth


def without_ellipsis(key: Any, ndim: int) -> Any:
    """Return a key of an array of `ndim` dimensions with slices for the ellipsis in it."""
    parts = key if isinstance(key, tuple) else (key,)
    at = next(i for i, part in enumerate(parts) if part is ...)
    others = (*parts[:at], *parts[at + 1 :])
    rest = (slice(None),) * (ndim - sum(map(_dimensions, others)))
    return (*parts[:at], *rest, *parts[at + 1 :])


def _dimensions(part: Any) -> int:
    """Return how many dimensions of an array a part of a key stands for."""
    if part is None:
        return 0
    is_mask = is_array(part) and part.dtype.kind == "b"
    return part.ndim if is_mask else 1
