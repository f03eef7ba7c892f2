"""Part: a container in a structure, identified by its path, and the making of one mod in it.

All mutators of a `Notifier` end in `Part._record`, which checks, encodes, applies and publishes one
mod, in this order: a mod that cannot be encoded or applied changes nothing and is not published.
What is published was encoded before, so later changes of a value kept by reference do not affect
it. At every change, a part checks that its path still leads to its container.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any

import pyon

from sync_struct._actions import ACTIONS, Mod, place, walk
from sync_struct._change import Change, Restart, write_head, write_path
from sync_struct._errors import ChangeInProgress, StaleView
from sync_struct._kinds import ATOMS, PLAIN, is_array, is_container, is_grown, is_record
from sync_struct._mods import grow
from sync_struct._ownership import occurs_twice, own

if TYPE_CHECKING:
    from sync_struct._structure import Structure

__all__ = ["MISSING", "Part", "plain"]

MISSING: Any = object()
"""Stands for a missing argument or item."""

MOST_HEADS = 256
"""Keys of one container for which the first part of a mod is cached: 50 kB."""


class Part:
    """A container of a structure, or the whole structure.

    Parameters
    ----------
    structure : Structure
        The structure that it is a part of.
    backing : object
        The container.
    path : list
        The keys that lead to the container.
    in_array : bool, optional
        Whether it is a part of an array: rows, fields and slices are new objects each time.
    """

    __slots__ = (
        "__weakref__",
        "_backing",
        "_children",
        "_heads",
        "_in_array",
        "_path",
        "_path_text",
        "_structure",
    )

    def __init__(
        self, structure: Structure, backing: Any, path: list[Any], *, in_array: bool = False
    ) -> None:
        self._structure = structure
        self._backing = backing  # as it was last seen
        self._path = path
        self._path_text = None if path else "[]"
        self._in_array = in_array
        self._children: dict[str | int, Part] = {}  # parts looked up last, by key
        self._heads: dict[
            tuple[str, str | None], str
        ] = {}  # first parts of mods, by action and key

    @property
    def read(self) -> Any:
        """The structure itself, not a copy. Only read it, and only while no thread changes it."""
        if isinstance(self._backing, tuple) or is_array(self._backing):
            with contextlib.suppress(LookupError, TypeError):  # the array may have grown
                here = walk(self._structure.value, self._path)
                if self._is_still(here):
                    self._backing = here
        return self._backing

    raw_view = read

    def _is_still(self, here: Any) -> bool:
        """Return whether `here`, the value now at the path, is the container of this part."""
        if here is self._backing:
            return True
        if self._in_array:  # numpy returns a new object for a row, slice or record each time
            return is_array(here) or is_record(here)
        return is_grown(here, self._backing)

    def _record(self, action: str, key: Any = None, value: Any = MISSING) -> Any:
        """Check, encode, apply and publish one mod; return the popped item, if any.

        Parameters
        ----------
        key : object, optional
            Key or index, if the action has one.
        value : object, optional
            The value to assign, insert or append.
        """
        fields, structure = ACTIONS[action].fields, self._structure
        mod = {"action": action, "path": self._path}
        if action != "append":
            mod[fields[0]] = key
        if value is not MISSING:
            mod[fields[-1]] = value
        head = self._heads.get((action, key)) if key is None or type(key) is str else None
        if head is None:
            head = self._write_head(mod, key)
        if value is MISSING or type(value) in ATOMS:
            change = Change(mod, bool(structure.wants_v1), head)
        else:
            change = self._encode(mod, fields[-1], head)
        with structure.lock:
            if structure.busy:
                if action == "pop":
                    self._refuse_when_busy(action)
                structure.postponed.append(functools.partial(self._record, action, key, value))
                return None
            structure.busy = True
            try:
                result = self._make(change, mod)
            except Exception:
                raise
            except BaseException:  # Ctrl-C, for example: the mod may have been applied or not
                structure.add(Restart(structure.value))
                raise
            finally:
                structure.busy = False
        if structure.unnotified or structure.postponed or structure.on_release:
            structure.run_deferred()
        return result

    def _write_head(self, mod: Mod, key: Any) -> str:
        """Return the text of a mod up to its last field, and cache it for string keys."""
        if type(key) not in (str, int) and _has_nan(key):
            raise ValueError("expected a key or index, got nan, which equals no key")
        if self._path_text is None:
            self._path_text = write_path(self._path)
        head = write_head(mod, self._path_text)
        if key is None or type(key) is str:
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            self._heads[mod["action"], key] = head
        return head

    def _encode(self, mod: Mod, field: str, head: str) -> Change:
        """Return an encoded mod. A value that cannot be kept by reference is replaced by a copy."""
        value, with_v1 = mod[field], bool(self._structure.wants_v1)
        if self._structure.copies or isinstance(value, Part):
            mod[field] = own(value)
            return Change(mod, with_v1, head)
        try:
            change = Change(mod, with_v1, head)
        except pyon.EncodeError:  # it may contain a notifier
            mod[field] = own(value)
            return Change(mod, with_v1, head)
        if not is_array(value) and occurs_twice(value, self._containers()):
            mod[field] = own(value)
        return change

    def _make(self, change: Change, mod: Mod) -> Any:
        """Apply a mod and add it to the structure; called with the lock held."""
        structure = self._structure
        if structure.witness is not None:
            structure.check()
        container = self._locate()
        if self._children and change.action != "append":
            self._forget_child(change)
        if structure.wants_v1 and change.line_v1 is None:
            change = Change(mod, True)
        if type(container) not in PLAIN and (is_array(container) or is_record(container)):
            change.in_array = True
            if change.action == "setitem":
                _check_elements(container, change.key, mod["value"])
        if change.in_array and change.action != "setitem":
            result = None
            self._grow(container, mod)
        else:
            result = ACTIONS[change.action].apply(container, mod)
        if structure.witness is not None:
            structure.witness.apply(change)
        structure.add(change)
        return result

    def _forget_child(self, change: Change) -> None:
        """Drop cached parts that are no longer in the container."""
        if change.action == "setitem" and type(change.key) in (str, int):
            self._children.pop(change.key, None)
        else:
            self._children.clear()

    def _grow(self, array: Any, mod: Mod) -> None:
        if mod["action"] != "append":
            raise TypeError(
                f"{mod['action']} at {place(self._path)}: an array can grow only at its end, by "
                "append and extend; assign a new array instead"
            )
        structure = self._structure
        structure.value, self._backing = grow(structure.value, self._path, array, mod["x"])

    def _refuse_when_busy(self, action: str) -> None:
        if self._structure.busy:
            raise ChangeInProgress(
                f"{action} at {place(self._path)} cannot return a value: it interrupts a change"
            )

    def _locate(self) -> Any:
        """Return the container, after checking that it is still at the path."""
        here = self._structure.value
        try:
            for key in self._path:
                here = here[key]
        except (LookupError, TypeError):
            raise self._stale() from None
        if here is not self._backing:
            if not self._is_still(here):
                raise self._stale()
            self._backing = here
        return here

    def _containers(self) -> list[Any]:
        """Return the containers on the path, from the root to this one."""
        here = self._structure.value
        containers = [here]
        try:
            for key in self._path:
                here = here[key]
                containers.append(here)
        except (LookupError, TypeError):  # `_locate` is going to fail, too
            return containers
        return containers

    def _stale(self) -> StaleView:
        where = place(self._path)
        return StaleView(f"the part at {where} has been replaced or removed: look it up again")


def plain(value: Any) -> Any:
    """Return the structure of a notifier; other values unchanged."""
    return value.read if isinstance(value, Part) else value


def _has_nan(key: Any) -> bool:
    if isinstance(key, tuple):
        return any(map(_has_nan, key))
    return not isinstance(key, slice) and not is_container(key) and bool(key != key)


def _check_elements(array: Any, key: Any, value: Any) -> None:
    """Raise if elements cannot be assigned; numpy would fail after assigning some of them."""
    kind = value.dtype.kind if is_array(value) else type(value).__name__
    if kind not in ("b", "i", "u", "f", "c", "bool", "int", "float", "complex"):
        sys.modules["numpy"].asarray(value, dtype=array[key].dtype)
