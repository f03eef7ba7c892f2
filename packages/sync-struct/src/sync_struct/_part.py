"""Part: a container in a structure, by the path that leads to it, and one mod made there.

All mutators of a `Notifier` end in `Part._record`, which checks, encodes, applies and tells of one
mod, in this order: what cannot be encoded or applied changes nothing and is seen by nobody. What is
told was encoded before, so it stays as it is although the structure keeps what was assigned by
reference. A part makes sure at every change that its path still leads to what it stands for.
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
"""Stands for an argument that was not given, and for what is not there."""

MOST_HEADS = 256
"""Keys of one container whose mods are written from a text that is kept: 50 kB."""


class Part:
    """A container of a structure, or the whole.

    Parameters
    ----------
    structure : Structure
        What it is a part of.
    backing : object
        The container.
    path : list
        The keys that lead to it.
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
        self._children: dict[str | int, Part] = {}  # what was looked up last, by key
        self._heads: dict[tuple[str, str | None], str] = {}  # what mods begin with

    @property
    def read(self) -> Any:
        """The structure itself, no copy: to be read only, and while nobody changes it."""
        if isinstance(self._backing, tuple) or is_array(self._backing):
            with contextlib.suppress(LookupError, TypeError):  # the array may have grown
                here = walk(self._structure.value, self._path)
                if self._is_still(here):
                    self._backing = here
        return self._backing

    raw_view = read

    def _is_still(self, here: Any) -> bool:
        """Tell whether this, a value now at the path, is what this part stands for."""
        if here is self._backing:
            return True
        if self._in_array:  # what numpy gives for a row, slice or record is new each time
            return is_array(here) or is_record(here)
        return is_grown(here, self._backing)

    def _record(self, action: str, key: Any = None, value: Any = MISSING) -> Any:
        """Check, encode, apply and tell of one mod; return what was popped.

        Parameters
        ----------
        key : object, optional
            Key or index, where the action has one.
        value : object, optional
            What is assigned, inserted or appended.
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
            except BaseException:  # Ctrl-C, say: it may have been applied, or not
                structure.add(Restart(structure.value))
                raise
            finally:
                structure.busy = False
        if structure.untold or structure.postponed or structure.awaiting:
            structure.settle()
        return result

    def _write_head(self, mod: Mod, key: Any) -> str:
        """Return the text of a mod up to its last field; most come again and again."""
        if type(key) not in (str, int) and _has_nan(key):
            raise ValueError("expected a key or index, got nan: nothing could ever be found there")
        if self._path_text is None:
            self._path_text = write_path(self._path)
        head = write_head(mod, self._path_text)
        if key is None or type(key) is str:
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            self._heads[mod["action"], key] = head
        return head

    def _encode(self, mod: Mod, field: str, head: str) -> Change:
        """Return a mod encoded. What cannot be kept by reference is replaced in it by a copy."""
        value, with_v1 = mod[field], bool(self._structure.wants_v1)
        if self._structure.copies or isinstance(value, Part):
            mod[field] = own(value)
            return Change(mod, with_v1, head)
        try:
            change = Change(mod, with_v1, head)
        except pyon.EncodeError:  # it holds a notifier, maybe
            mod[field] = own(value)
            return Change(mod, with_v1, head)
        if not is_array(value) and occurs_twice(value, self._containers()):
            mod[field] = own(value)
        return change

    def _make(self, change: Change, mod: Mod) -> Any:
        """Apply a mod, and tell publishers of it; with the lock held."""
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
        """Keep no item longer than the container does."""
        if change.action == "setitem" and type(change.key) in (str, int):
            self._children.pop(change.key, None)
        else:
            self._children.clear()

    def _grow(self, array: Any, mod: Mod) -> None:
        if mod["action"] != "append":
            raise TypeError(
                f"{mod['action']} at {place(self._path)}: an array grows at its end only, by "
                "append and extend; assign another one"
            )
        structure = self._structure
        structure.value, self._backing = grow(structure.value, self._path, array, mod["x"])

    def _refuse_when_busy(self, action: str) -> None:
        if self._structure.busy:
            raise ChangeInProgress(
                f"{action} at {place(self._path)} cannot return anything: it interrupts a change"
            )

    def _locate(self) -> Any:
        """Return the container that this part stands for."""
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
        """Return what this is part of, from the root on, and itself."""
        here = self._structure.value
        containers = [here]
        try:
            for key in self._path:
                here = here[key]
                containers.append(here)
        except (LookupError, TypeError):  # then `_locate` fails, too
            return containers
        return containers

    def _stale(self) -> StaleView:
        where = place(self._path)
        return StaleView(f"what was at {where} is not there any more: look it up again")


def plain(value: Any) -> Any:
    """Return what a notifier stands for; other values as they are."""
    return value.read if isinstance(value, Part) else value


def _has_nan(key: Any) -> bool:
    if isinstance(key, tuple):
        return any(map(_has_nan, key))
    return not isinstance(key, slice) and not is_container(key) and bool(key != key)


def _check_elements(array: Any, key: Any, value: Any) -> None:
    """Raise if elements cannot be assigned, where numpy would find out half-way."""
    kind = value.dtype.kind if is_array(value) else type(value).__name__
    if kind not in ("b", "i", "u", "f", "c", "bool", "int", "float", "complex"):
        sys.modules["numpy"].asarray(value, dtype=array[key].dtype)
