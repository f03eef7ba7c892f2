"""Actions: the fields of mods, and their effects on the container that is changed.

A mod is a dict with an ``"action"``, the ``"path"`` of a container (keys and indices from the
root), and further fields. Only `ACTIONS` knows the fields and the effect of each action. The
structure of the notifier and all replicas are changed by the same entry of it, so they cannot
diverge.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["ACTIONS", "Mod", "ModAction", "place", "walk"]

Mod = dict[str, Any]
"""A modification, in the established form: see PROTOCOL.md."""


class _Action(NamedTuple):
    """One kind of mod: its fields after the path, in wire order, and its effect.

    `apply` is called with the container, ignores the mod's path, and returns the popped item.
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
    """The actions of mods; the value of each is its name, as in ``mod["action"]``."""

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
    """Return a path as a Python expression, for messages."""
    return "".join(["root", *(f"[{key!r}]" for key in path)])
