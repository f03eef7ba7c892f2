"""Mods: applying one to a structure.

`_actions` has the effect of an action on its container. This module adds what that needs in a
structure: growing replaces an array by a new one, and the tuples that contain it, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sync_struct._actions import ACTIONS, place, walk
from sync_struct._errors import ModError
from sync_struct._kinds import growth, is_array

__all__ = ["applied", "grow", "process_mod", "put"]


def put(target: Any, path: Sequence[Any], value: Any) -> Any:
    """Put a value at `path`, and return the target.

    Tuples on the path are replaced by new ones. The target returned is a new object if only tuples
    are on the path; for an empty path it is `value`.
    """
    if not path:
        return value
    parent = walk(target, path[:-1])
    if not isinstance(parent, tuple):
        parent[path[-1]] = value
        return target
    items = list(parent)
    items[path[-1]] = value
    make = getattr(type(parent), "_make", tuple)  # of a namedtuple
    return put(target, path[:-1], make(items))


def grow(target: Any, path: Sequence[Any], array: Any, rows: Any) -> tuple[Any, Any]:
    """Append to an array in a structure; return the target (see `put`) and the new array."""
    if path and is_array(walk(target, path[:-1])):
        raise TypeError("a row or slice of an array cannot grow: only the whole array can")
    array = growth().grown(array, rows)
    return put(target, path, array), array


def applied(target: Any, mod: Mapping[str, Any]) -> Any:
    """Apply a mod as `process_mod` does, and return the target.

    The result is a new object where the target itself is an array that has grown.
    """
    try:
        action = ACTIONS.get(mod["action"])
        if action is None:
            raise ModError(f"expected one of {', '.join(ACTIONS)}, got {mod['action']!r}")
        container = walk(target, mod["path"])
        if mod["action"] == "append" and is_array(container):
            rows = growth().as_row(container, mod["x"])
            return grow(target, mod["path"], container, rows)[0]
        action.apply(container, mod)
    except ModError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModError(f"{_describe(mod)} does not fit: {type(error).__name__}: {error}") from error
    return target


def process_mod(target: Any, mod: Mapping[str, Any]) -> None:
    """Apply a mod to the target, mutating it.

    Parameters
    ----------
    target : list or dict, or an object that behaves like one
        The whole structure. Containers on the path are indexed; in the last one, an item is set or
        deleted, or the method ``append``, ``insert`` or ``pop`` is called. An array that grows is
        replaced by a longer one, and so are tuples that contain it.
    mod : dict
        As passed to the callbacks of a `Subscriber`. Its values become part of the target.

    Raises
    ------
    ModError
        The mod does not fit the target, which is unchanged. Also for an ``"init"``, which replaces
        the target instead of changing it.

    Examples
    --------
    >>> target = {"scan": [1, 2]}
    >>> process_mod(target, {"action": "append", "path": ["scan"], "x": 3})
    >>> target
    {'scan': [1, 2, 3]}
    """
    if is_array(target) and isinstance(mod, Mapping) and mod.get("action") == "append":
        raise ModError("an array cannot grow in place: keep it in a list or dict")
    applied(target, mod)


def _describe(mod: Any) -> str:
    """Return a description of a mod without its value, which may be huge."""
    if not isinstance(mod, Mapping):
        return f"a {type(mod).__name__} that is no mod"
    which = next((f" of {mod[name]!r}" for name in ("key", "i") if name in mod), "")
    return f"{mod.get('action')}{which} at {place(mod.get('path') or ())}"
