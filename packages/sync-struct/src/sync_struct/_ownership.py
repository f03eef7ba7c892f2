"""Ownership: when a structure keeps copies of values, and what it returns to users.

A structure keeps assigned values by reference, as a dict does. It keeps a copy where a reference is
not possible, and where the user has chosen copies.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pyon

from sync_struct._kinds import ATOMS, all_atoms, is_array, is_container

__all__ = ["hand_out", "occurs_twice", "own"]


def hand_out(value: Any) -> Any:
    """Return a value of the structure in a form through which the structure cannot be changed.

    For values whose inside mods cannot change: a set is returned as a frozenset, so that an attempt
    to change it raises instead of being lost; other mutable objects are copied.
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
    """Return an equal value that shares nothing mutable with this one, and nothing within itself.

    A notifier in it is replaced by its structure, and a frozenset (which has no PYON) by a set.
    """
    try:
        return _copied(value)
    except Exception:
        pyon.encode(value, version=2)  # raises a better message, if it is the one that fails
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
    """Return whether a list, dict or array is in `value` twice, or is one of `containers`.

    A change of it would change two places, but make a mod for only one. `value` must not contain
    itself, as is known if it has been encoded.
    """
    if type(value) is list and all_atoms(value):  # the most frequent case
        return id(value) in map(id, containers)
    return _repeats(value, set(map(id, containers)))


def _repeats(value: Any, seen: set[int]) -> bool:
    is_tuple = isinstance(value, tuple)
    if not is_tuple:
        if not is_container(value):
            return False
        if id(value) in seen:
            return True
        seen.add(id(value))
    items = value.values() if isinstance(value, dict) else value
    if not (is_tuple or isinstance(value, (list, dict))) or all_atoms(items):
        return False
    return any(_repeats(item, seen) for item in items)
