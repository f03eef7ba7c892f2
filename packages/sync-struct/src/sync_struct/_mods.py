"""Mods: what can happen to a structure, as one table.

A mod is a dict: what is done (``"action"``), to which container (``"path"``: the keys and indices
that lead there from the root), and with what. `ACTIONS` is the only place that knows the fields and
the effect of each action; the notifier's own structure and every replica are changed by the same
entry of it, so they cannot drift apart.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sync_struct._errors import ModError
from sync_struct._values import growth, is_array

__all__ = [
    "ACTIONS",
    "Mod",
    "ModAction",
    "applied",
    "grow",
    "place",
    "process_mod",
    "put",
    "walk",
]

Mod = dict[str, Any]
"""A modification, in the established form: see PROTOCOL.md."""


class _Action(NamedTuple):
    """One kind of mod: its fields behind the path, in wire order, and what it does.

    `apply` is given the container, disregards the mod's path, and returns what was popped.
    """

    fields: tuple[str, ...]
    apply: Callable[[Any, Mapping[str, Any]], Any]


def _append(container: Any, mod: Mapping[str, Any]) -> None:
    container.append(mod["x"])


def _insert(container: Any, mod: Mapping[str, Any]) -> None:
    container.insert(mod["i"], mod["x"])


def _pop(container: Any, mod: Mapping[str, Any]) -> Any:
    return container.pop(mod["i"])


def _setitem(container: Any, mod: Mapping[str, Any]) -> None:
    container[mod["key"]] = mod["value"]


def _delitem(container: Any, mod: Mapping[str, Any]) -> None:
    del container[mod["key"]]


ACTIONS: Mapping[str, _Action] = {
    "append": _Action(("x",), _append),
    "insert": _Action(("i", "x"), _insert),
    "pop": _Action(("i",), _pop),
    "setitem": _Action(("key", "value"), _setitem),
    "delitem": _Action(("key",), _delitem),
}


class ModAction(enum.Enum):
    """The actions of mods; the value of each is its name, as ``mod["action"]`` has it."""

    init = "init"
    append = "append"
    insert = "insert"
    pop = "pop"
    setitem = "setitem"
    delitem = "delitem"


def walk(target: Any, path: Sequence[Any]) -> Any:
    """Return the part of `target` that `path` leads to."""
    for key in path:
        target = target[key]
    return target


def place(path: Sequence[Any]) -> str:
    """Return how people write where a path leads to."""
    return "".join(["root", *(f"[{key!r}]" for key in path)])


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
