"""Copies of values that belong to their receivers.

The one idea to keep in mind: a replica changes in place. So values for callbacks, readers and
queues are copied before the next change; a value that cannot change is never copied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from sync_struct._actions import Mod
from sync_struct._kinds import ATOMS, all_atoms, is_array

__all__ = ["copy_mod", "copy_of", "has_user_leaves", "same_leaf", "unshared"]

_VALUES = ("value", "x", "struct")
"""The fields of mods that may be large or changed by later mods."""


def copy_of(value: Any, leaf: Callable[[Any], Any] = copy.deepcopy) -> Any:
    """Return an equal value that shares nothing mutable with this one.

    Parameters
    ----------
    leaf : callable, optional
        Copies values other than lists, dicts, tuples, sets and arrays.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is list:
        return value.copy() if all_atoms(value) else [copy_of(item, leaf) for item in value]
    if kind is dict:
        if all_atoms(value.values()):
            return value.copy()
        return {key: copy_of(item, leaf) for key, item in value.items()}
    if kind is tuple:
        return value if all_atoms(value) else tuple([copy_of(item, leaf) for item in value])
    if kind is set or is_array(value):
        return value.copy()
    return leaf(value)


def same_leaf(leaf: Any) -> Any:
    """Return the leaf itself: for copies made under a lock, where no user code may run.

    Mods never change a leaf, so a reader can copy it afterwards, where `has_user_leaves` is true.
    """
    return leaf


def copy_mod(mod: Mapping[str, Any]) -> Mod:
    """Return a mod that shares nothing mutable with this one."""
    mine = dict(mod)
    if "path" in mine:
        mine["path"] = list(mine["path"])
    for field in _VALUES:
        if field in mine and type(mine[field]) not in ATOMS:
            mine[field] = copy_of(mine[field])
    return mine


def unshared(mod: Mod) -> Mod:
    """Return a mod to apply, with a copy of its value if that can change; most need no copy."""
    for field in ("value", "x"):
        if field in mod and type(mod[field]) not in ATOMS:
            return {**mod, field: copy_of(mod[field])}
    return mod


def has_user_leaves(value: Any) -> bool:
    """Return whether a value has leaves that may change, or whose copying runs user code."""
    kind = type(value)
    if kind in ATOMS or is_array(value):
        return False
    if isinstance(value, dict):
        return any(map(has_user_leaves, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(has_user_leaves, value))
    return kind.__module__ not in _HARMLESS


_HARMLESS = frozenset({"builtins", "datetime", "fractions", "numpy", "sync_struct._read_only"})
"""Modules whose values, as leaves of a structure, never change. Sets are copied in any case."""
