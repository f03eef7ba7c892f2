"""Actions: what a mod says, and what it does to the container that it changes.

A mod is a dict: what is done (``"action"``), to which container (``"path"``: the keys and indices
that lead there from the root), and with what. `ACTIONS` is the only place that knows the fields and
the effect of each action; the notifier's own structure and every replica are changed by the same
entry of it, so they cannot drift apart.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["ACTIONS", "Mod", "ModAction", "place", "walk"]

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
