"""Kinds of values: immutable ones, containers, arrays.

Nothing here imports numpy to find out: if it has not been imported, there are no arrays.
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
"""Types whose values are immutable and contain no other values."""


PLAIN = (dict, list)
"""The types of most containers."""


def all_atoms(values: Any) -> bool:
    """Return whether all values in an iterable are atoms."""
    return set(map(type, values)) <= ATOMS


def is_container(value: Any) -> bool:
    """Return whether mods can change the inside of `value`: also a tuple that has a container."""
    if isinstance(value, (list, dict)) or is_array(value) or is_record(value):
        return True
    return isinstance(value, tuple) and not all_atoms(value) and any(map(is_container, value))


def is_array(value: Any) -> bool:
    """Return whether `value` is a numpy array, without importing numpy."""
    return isinstance(value, _numpy_type("ndarray"))


def is_record(value: Any) -> bool:
    """Return whether `value` is a record: a view of one element of a structured array."""
    return isinstance(value, _numpy_type("void")) and value.dtype.names is not None


def _numpy_type(name: str) -> Any:
    """Return a type of numpy; no type while numpy is not imported, or is just being imported."""
    return getattr(sys.modules.get("numpy"), name, ())


def is_grown(value: Any, older: Any) -> bool:
    """Return whether `value` is `older` after arrays in it have grown."""
    if value is older:
        return True
    if isinstance(value, tuple) and isinstance(older, tuple):
        return len(value) == len(older) and all(map(is_grown, value, older))
    if not (is_array(value) and is_array(older)):
        return False
    return bool(growth().is_successor(value, older))


@functools.cache
def growth() -> ModuleType:
    """Return the module that grows arrays. It imports numpy, so call this for arrays only."""
    import pyon.growth

    return pyon.growth


def without_ellipsis(key: Any, ndim: int) -> Any:
    """Return a key of an array of `ndim` dimensions with its ellipsis replaced by slices."""
    parts = key if isinstance(key, tuple) else (key,)
    at = next(i for i, part in enumerate(parts) if part is ...)
    others = (*parts[:at], *parts[at + 1 :])
    rest = (slice(None),) * (ndim - sum(map(_dimensions, others)))
    return (*parts[:at], *rest, *parts[at + 1 :])


def _dimensions(part: Any) -> int:
    """Return the number of dimensions that a part of a key indexes."""
    if part is None:
        return 0
    is_mask = is_array(part) and part.dtype.kind == "b"
    return part.ndim if is_mask else 1
