"""Read-only values, as returned by a `Mirror`: subclasses of list, dict and set, and arrays.

The one idea to keep in mind: such a value never changes, so any number of readers can share it. A
mod makes a new value, in which only the containers on the path of the change are copied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sync_struct._actions import ACTIONS, Mod
from sync_struct._copies import copy_of
from sync_struct._kinds import ATOMS, is_array
from sync_struct._mods import applied

__all__ = ["ReadOnlyDict", "ReadOnlyList", "ReadOnlySet", "after", "mutable_copy", "read_only"]


def _refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
    kind = next(base for base in type(self).__mro__ if base.__module__ == "builtins")
    raise TypeError(
        f"a {kind.__name__} of a mirror is read-only: `read` and `copy()` give "
        "a copy of your own; only the publisher changes the structure"
    )


def _without(*names: str) -> Callable[[type], type]:
    """Return a decorator that makes methods raise."""

    def refuse_all(kind: type) -> type:
        for name in names:
            setattr(kind, name, _refuse)
        return kind

    return refuse_all


class _Copyable:
    """Base class: a copy is an ordinary value."""

    def copy(self) -> Any:
        """Return an ordinary, independent copy that may be changed."""
        return mutable_copy(self)

    def __copy__(self) -> Any:
        return mutable_copy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return mutable_copy(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return copy_of, (mutable_copy(self),)


@_without("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend")
@_without("insert", "pop", "remove", "reverse", "sort")
class ReadOnlyList(_Copyable, list[Any]):
    """A list of a mirror."""


@_without("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault")
@_without("update")
class ReadOnlyDict(_Copyable, dict[Any, Any]):
    """A dict of a mirror."""


@_without("__iand__", "__ior__", "__isub__", "__ixor__", "add", "clear", "difference_update")
@_without("discard", "intersection_update", "pop", "remove", "symmetric_difference_update")
@_without("update")
class ReadOnlySet(_Copyable, set[Any]):
    """A set of a mirror."""


def read_only(value: Any, leaf: Callable[[Any], Any] = copy.deepcopy) -> Any:
    """Return an equal read-only value that shares nothing mutable with this one.

    Parameters
    ----------
    leaf : callable, optional
        Copies values other than lists, dicts, tuples, sets and arrays.
    """
    kind = type(value)
    if kind in ATOMS or kind is ReadOnlySet:
        return value
    if kind is tuple:
        return tuple([read_only(item, leaf) for item in value])
    if isinstance(value, list):
        return ReadOnlyList([read_only(item, leaf) for item in value])
    if isinstance(value, dict):
        return ReadOnlyDict({key: read_only(item, leaf) for key, item in value.items()})
    if kind is set:
        return ReadOnlySet(value)
    if is_array(value):
        array = value.copy()
        array.flags.writeable = False
        return array
    return leaf(value)


def mutable_copy(value: Any) -> Any:
    """Return an ordinary copy of a read-only value."""
    if isinstance(value, ReadOnlyList):
        return [mutable_copy(item) for item in value]
    if isinstance(value, ReadOnlyDict):
        return {key: mutable_copy(item) for key, item in value.items()}
    if isinstance(value, ReadOnlySet):
        return set(value)
    if type(value) is tuple:
        return tuple([mutable_copy(item) for item in value])
    return copy_of(value)


def after(value: Any, mod: Mod) -> Any:
    """Return a read-only value with a mod applied; `value` itself does not change."""
    if mod["action"] == "init":
        return read_only(mod["struct"])
    if mod["action"] == "absent":
        return None
    return _after(value, mod["path"], mod)


def _after(value: Any, path: Sequence[Any], mod: Mod) -> Any:
    if is_array(value):  # its parts share its memory; appending rows does not change it
        grows = mod["action"] == "append"
        changed = applied(value if grows else value.copy(), {**mod, "path": path})
        changed.flags.writeable = False
        return changed
    container = _shallow_copy(value)
    if path:
        container[path[0]] = _after(container[path[0]], path[1:], mod)
    else:
        fields = {
            key: read_only(item) if key in ("x", "value") else item for key, item in mod.items()
        }
        ACTIONS[mod["action"]].apply(container, fields)
    return _with_type_of(container, value)


def _shallow_copy(value: Any) -> Any:
    """Return a shallow copy of a container that can be changed."""
    return dict(value) if isinstance(value, dict) else list(value)


def _with_type_of(container: Any, before: Any) -> Any:
    """Return a changed container with the type that it had before."""
    if isinstance(before, tuple):
        return tuple(container)
    return ReadOnlyList(container) if isinstance(container, list) else ReadOnlyDict(container)
