"""Mods: one applied to a structure, wherever in it.

What an action does to its container is in `_actions`. Here is what else it takes: an array that has
grown is another one, and so are the tuples that it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sync_struct._actions import ACTIONS, place, walk
from sync_struct._errors import ModError
from sync_struct._kinds import growth, is_array

__all__ = ["applied", "grow", "process_mod", "put"]


def put(target: Any, path: Sequence[Any], value: Any) -> Any:
    """Put a value in the place that `path` leads to, and return the target.

    Tuples on the way are replaced by others. So the target returned is another one if there are
    only tuples on the way, or none: then it is `value`.
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
        raise TypeError("a row or slice of an array cannot grow: only the whole of it")
    array = growth().grown(array, rows)
    return put(target, path, array), array


def applied(target: Any, mod: Mapping[str, Any]) -> Any:
    """Apply a mod as `process_mod` does, and return the target.

    It is another object than before where the target itself is an array and has grown.
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
    target : list or dict, or what behaves like one
        The whole structure. Containers on the way are indexed; the last one has its item set or
        deleted, or its method ``append``, ``insert`` or ``pop`` called. An array that grows is
        replaced by a longer one, and so are tuples that it is in.
    mod : dict
        As a `Subscriber` passes it to its callbacks. The values in it become part of the target.

    Raises
    ------
    ModError
        The mod does not fit the target, which is left as it was. Also for an ``"init"``: that
        brings a new target instead of changing one.

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
    """Return what a mod would do, without the (possibly huge) value."""
    if not isinstance(mod, Mapping):
        return f"a {type(mod).__name__} that is no mod"
    which = next((f" of {mod[name]!r}" for name in ("key", "i") if name in mod), "")
    return f"{mod.get('action')}{which} at {place(mod.get('path') or ())}"
