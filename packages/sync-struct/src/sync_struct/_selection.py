"""Selects mods for subscribers that request only a part, or only the newest values.

Both depend on what a mod changes. Nothing here reads the structure: a mod has the path of its
container and the key, but not the type of the container. It may be a list, where an insertion moves
items, or a dict. Where that makes a difference, the result is conservative.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

__all__ = ["EVERYTHING", "Touch", "Wish", "newest", "touch"]


class Wish(NamedTuple):
    """What a subscriber requests of a notifier; the default is everything."""

    path: tuple[Any, ...] = ()
    """Only this part of the structure."""

    mods_only: bool = False
    """No structure, only mods from now on."""

    newest: bool = False
    """Leave out mods that are superseded before they can be sent."""


EVERYTHING = Wish()


class Touch(enum.Enum):
    """The effect of a mod on a part of the structure."""

    INSIDE = "inside"
    """It changes the inside of the part."""

    REPLACED = "replaced"
    """It replaces or removes the part, or may do so."""

    OUTSIDE = "outside"
    """It does not affect the part."""


def touch(
    action: str, path: Sequence[Any], key: Any, part: Sequence[Any], in_array: bool = False
) -> Touch:
    """Return the effect of a mod on the part of the structure at the path `part`.

    Parameters
    ----------
    action, path, key
        Fields of the mod; `key` may be an index, and is None for an append.
    in_array : bool, optional
        Whether the container is an array, where many keys overlap: rows, fields, slices, masks.
    """
    for theirs, ours in zip(path, part, strict=False):
        if theirs != ours:
            overlap = _may_overlap if in_array else _may_be_same_place
            return Touch.REPLACED if overlap(theirs, ours) else Touch.OUTSIDE
    if len(path) >= len(part):
        return Touch.INSIDE
    ours = part[len(path)]
    if action == "append":
        concerned = not _is_from_start(ours) if in_array else _is_index(ours) and ours < 0
    elif _is_index(ours) and action != "setitem":
        concerned = not isinstance(key, str)  # moves the items after it in a list
    elif in_array:
        concerned = _may_overlap(key, ours)
    else:
        concerned = _may_be_same_place(key, ours)
    return Touch.REPLACED if concerned else Touch.OUTSIDE


def _may_be_same_place(a: Any, b: Any) -> bool:
    """Return whether two keys may mean the same place: -1 and 5 may, or a slice and 5."""
    if isinstance(a, str) or isinstance(b, str):
        return bool(type(a) is type(b) and a == b)
    if _is_index(a) and _is_index(b):
        return bool(a == b or a < 0 or b < 0)
    if _is_index(a) or _is_index(b):
        other = b if _is_index(a) else a
        return not (other is None or isinstance(other, (float, bytes))) or bool(a == b)
    try:
        return bool(a == b)
    except ValueError:  # an array, which selects elements
        return True


def _may_overlap(a: Any, b: Any) -> bool:
    """Return whether two keys of an array may select a common element."""
    if isinstance(a, str) and isinstance(b, str):
        return a == b
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return all(map(_may_overlap, a, b))
    if _is_index(a) and _is_index(b):
        return bool(a == b or a < 0 or b < 0)
    return True


def _is_from_start(key: Any) -> bool:
    """Return whether a key means the same elements of an array after rows are appended."""
    if isinstance(key, tuple) and key:
        key = key[0]
    return _is_index(key) and key >= 0


def _is_index(key: Any) -> bool:
    return isinstance(key, int) and not isinstance(key, bool)  # a bool is a mask to an array


class _Place:
    """A place in the structure, and the mods that may be left out once it is set again."""

    __slots__ = ("inner", "made", "parts")

    def __init__(self) -> None:
        self.made: list[int] = []  # the mod that set the present value
        self.inner: list[int] = []  # mods that changed it since, except those in `parts`
        self.parts: dict[Any, _Place] = {}

    def part(self, key: Any) -> _Place:
        return self.parts.setdefault(key, _Place())

    def take_inner(self) -> list[int]:
        """Remove and return all mods that changed the value since it was set."""
        taken, self.inner = self.inner, []
        for part in self.parts.values():
            taken += part.take_all()
        self.parts.clear()
        return taken

    def take_all(self) -> list[int]:
        taken, self.made = self.made, []
        return taken + self.take_inner()


class _Change(Protocol):
    """The attributes of a change that are needed here."""

    action: str
    path: list[Any]
    key: Any


_C = TypeVar("_C", bound=_Change)


def newest(changes: Sequence[_C]) -> list[_C]:
    """Leave out mods whose effect is overwritten by later ones.

    Parameters
    ----------
    changes : sequence of changes
        All changes, in order.

    Returns
    -------
    list of Change
        The remaining changes, in order. Applied to the same structure, they have the same result,
        except for the order of the keys of dicts.
    """
    left_out: set[int] = set()
    root = _Place()
    for number, change in enumerate(changes):
        place, key = _reach(root, change)
        if change.action != "setitem" or key is _MOVES:
            # Items may have moved: earlier mods in them are left out only with the container.
            place.inner = [*place.take_inner(), number]
        elif key is _WHOLE:
            left_out.update(place.take_inner())
            place.inner = [number]
        else:
            target = place.part(key)
            left_out.update(target.take_all())
            target.made = [number]
    return [change for number, change in enumerate(changes) if number not in left_out]


_MOVES: Any = object()
_WHOLE: Any = object()


def _reach(root: _Place, change: _Change) -> tuple[_Place, Any]:
    """Return the container that a mod changes, and the key in it.

    Removing an item of a dict is a change inside the item's place. The key is `_WHOLE` if all
    elements are set at once, and `_MOVES` if other keys may mean the same place.
    """
    place = root
    for key in change.path:
        if not _is_fixed(key):
            return place, _MOVES
        place = place.part(key)
    if change.action in ("append", "insert"):
        return place, _MOVES
    if change.action == "setitem":
        if isinstance(change.key, slice) and change.key == slice(None):
            return place, _WHOLE
        return place, change.key if _is_fixed(change.key) else _MOVES
    if _is_fixed(change.key) and not _is_index(change.key):
        return place.part(change.key), _MOVES
    return place, _MOVES


def _is_fixed(key: Any) -> bool:
    """Return whether a key means one place until an item is inserted or removed."""
    if isinstance(key, tuple):
        return all(map(_is_fixed, key))
    if isinstance(key, int):
        return _is_index(key) and key >= 0
    return key is None or isinstance(key, (str, bytes, float))
