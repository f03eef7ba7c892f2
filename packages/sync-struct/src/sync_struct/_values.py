"""Values of a structure: whose they are, and whether two are the same.

A structure keeps what is assigned by reference, as a dict does; where that cannot be, and where the
user asked for it, it keeps a copy. Two values are the same exactly if their PYON is: 1, 1.0 and
True differ, nan is itself, arrays have a type.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pyon

__all__ = [
    "ATOMS",
    "all_atoms",
    "find_difference",
    "growth",
    "hand_out",
    "is_array",
    "is_container",
    "is_grown",
    "is_record",
    "occurs_twice",
    "own",
    "same",
    "without_ellipsis",
]

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Types whose values cannot change, and hold nothing that can."""


def is_array(value: Any) -> bool:
    """Tell whether `value` is a numpy array, without loading numpy to find out."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_record(value: Any) -> bool:
    """Tell whether `value` is a record: a window on one element of an array that has fields."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.void) and value.dtype.names is not None


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


def is_container(value: Any) -> bool:
    """Tell whether mods can reach inside `value`: a tuple is one if it holds one."""
    if isinstance(value, (list, dict)) or is_array(value) or is_record(value):
        return True
    return isinstance(value, tuple) and not all_atoms(value) and any(map(is_container, value))


def hand_out(value: Any) -> Any:
    """Return a value of the structure in a form in which nobody can change it unnoticed.

    For values that mods cannot reach into: a set comes as a frozenset, so that an attempt to change
    it raises instead of being lost; other mutable objects come as copies.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is set:
        return frozenset(value)
    if kind is tuple:
        return value if all_atoms(value) else tuple(map(hand_out, value))
    return copy.deepcopy(value)


def own(value: Any) -> Any:
    """Return a value equal to `value` that shares nothing mutable with it, nor with itself.

    A notifier in it stands for its structure, and a frozenset (which has no PYON) for a set.
    """
    try:
        return _copied(value)
    except Exception:
        pyon.encode(value, version=2)  # says better what is wrong, and where
        raise


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is list:
        return value.copy() if all_atoms(value) else [_copied(item) for item in value]
    if kind is dict:
        if all_atoms(value.values()):
            return value.copy()
        return {key: _copied(item) for key, item in value.items()}
    if kind is tuple:
        return value if all_atoms(value) else tuple([_copied(item) for item in value])
    if is_array(value):
        return value.copy()
    if kind is frozenset:
        return set(value)
    if hasattr(kind, "raw_view"):  # a notifier
        return _copied(value.raw_view)
    return copy.deepcopy(value)


def occurs_twice(value: Any, containers: Sequence[Any] = ()) -> bool:
    """Tell whether a list, dict or array is in `value` twice, or is one of `containers`.

    A change of it would be a change in two places, of which one is told. `value` must be known to
    be finite: to have a PYON.
    """
    if type(value) is list and all_atoms(value):  # what is assigned most
        return id(value) in map(id, containers)
    return _meets_again(value, set(map(id, containers)))


def _meets_again(value: Any, met: set[int]) -> bool:
    is_tuple = isinstance(value, tuple)
    if not is_tuple:
        if not is_container(value):
            return False
        if id(value) in met:
            return True
        met.add(id(value))
    items = value.values() if isinstance(value, dict) else value
    if not (is_tuple or isinstance(value, (list, dict))) or all_atoms(items):
        return False
    return any(_meets_again(item, met) for item in items)


def all_atoms(values: Any) -> bool:
    """Tell whether nothing in an iterable can change."""
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
