"""Notifier: a list or dict whose every change is known to others.

All mutators end in `Notifier._record`, which checks, encodes, applies and tells of one mod, in this
order: what cannot be encoded or applied changes nothing and is seen by nobody. What is told was
encoded before, so it stays as it is although the structure keeps what was assigned by reference.
A part of the structure (``notifier["a"][3]``) is a notifier too, a view that knows its path; it
makes sure at every change that the path still leads to what it stands for.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import sys
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from typing import Any, Concatenate, ParamSpec, Self

import pyon

from sync_struct._actions import ACTIONS, Mod, place, walk
from sync_struct._change import Change, Restart, check_structure, write_path
from sync_struct._errors import ChangeInProgress, StaleView
from sync_struct._kinds import (
    ATOMS,
    growth,
    is_array,
    is_container,
    is_grown,
    is_record,
    without_ellipsis,
)
from sync_struct._mods import grow
from sync_struct._ownership import hand_out, occurs_twice, own
from sync_struct._structure import Structure, Witness, replica_of

__all__ = ["Notifier"]

_MISSING: Any = object()

_PLAIN = (dict, list)

_P = ParamSpec("_P")
_Method = Callable[Concatenate["Notifier", _P], None]


def _as_one(method: _Method[_P]) -> _Method[_P]:
    """Have everything that a method changes arrive together; within another change: after it."""

    @functools.wraps(method)
    def whole(self: Notifier, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        structure = self._structure
        with structure.batch():
            if structure.busy:
                structure.postponed.append(functools.partial(whole, self, *args, **kwargs))
            else:
                method(self, *args, **kwargs)

    return whole


def _of_arrays(operate: Callable[[Any, Any], Any]) -> Callable[[Notifier, Any], Any]:
    """Return the method of an in-place operator that changes arrays only."""

    def method(self: Notifier, other: Any) -> Any:
        if not is_array(self._backing):
            return NotImplemented
        self._replace_all(operate, other)
        return self

    return method


class Notifier:
    """Encapsulates a structure whose changes need to be published.

    It is used like the list or dict that it stands for, from any thread. Lists, dicts and arrays in
    it come out as notifiers too, and so do tuples that hold one; sets come out as frozensets,
    everything else as it is. What is assigned is kept by reference, as a dict keeps it: what the
    notifier changes, the caller's own list or array has, too. The caller must not change it.

    A signal handler or finaliser may make changes at any time. If it interrupts one, its own is
    made afterwards.

    Parameters
    ----------
    backing_struct : list, dict or numpy.ndarray
        The structure, of what PYON can express, in which no list, dict or array occurs twice. From
        now on it is to be changed through the notifier only.
    root : Notifier, optional
        The notifier of the whole structure that `backing_struct` is a part of.
    path : sequence, optional
        The keys that lead from `root` to `backing_struct`.
    copy : bool, optional
        Keep copies of the structure and of what is assigned, so that nobody else can change them.
    debug : bool, optional
        Before every mod, and before the structure is sent to anybody, compare it with a replica
        kept for this, and raise `ChangedBehindBack` if they differ. Slow; for tests.

    Raises
    ------
    pyon.EncodeError
        The structure has no PYON. From every mutator: the value has none, and nothing was changed
        (by `update`: from there on).
    StaleView
        From the mutators of a part: it is not in the structure any more. Nothing was changed.
    ChangeInProgress
        From `pop`, `popitem` and `setdefault`, in a signal handler that interrupts a change.

    Examples
    --------
    >>> n = Notifier([])
    >>> n.append([])
    >>> n[0].append(42)
    >>> n.read
    [[42]]
    """

    __slots__ = (
        "__weakref__",
        "_backing",
        "_copies",
        "_in_array",
        "_path",
        "_path_text",
        "_root",
        "_structure",
        "_witness",
    )
    __hash__ = None  # type: ignore[assignment]  # compares by value, and changes

    def __init__(
        self,
        backing_struct: Any,
        root: Notifier | None = None,
        path: Sequence[Any] = [],  # the established signature; never changed
        *,
        copy: bool = False,
        debug: bool = False,
    ) -> None:
        self._path = list(path)
        self._path_text = None if path else "[]"
        self._in_array = False  # whether it is a part of an array
        self._root = self if root is None else root
        if root is not None:
            self._backing = backing_struct
            self._copies: bool = root._copies
            self._structure: Structure = root._structure
            self._witness = None
            return
        self._backing = _checked(backing_struct, copy)
        self._copies = copy
        self._structure = Structure()
        self._witness = Witness(self._backing) if debug else None

    # To read.

    @property
    def read(self) -> Any:
        """The structure itself, no copy: to be read only, and while nobody changes it."""
        if self._path and (isinstance(self._backing, tuple) or is_array(self._backing)):
            with contextlib.suppress(LookupError, TypeError):  # the array may have grown
                here = walk(self._root._backing, self._path)
                if self._is_still(here):
                    self._backing = here
        return self._backing

    def _is_still(self, here: Any) -> bool:
        """Tell whether this, a value now at the path, is what this notifier stands for."""
        if here is self._backing:
            return True
        if self._in_array:  # what numpy gives for a row, slice or record is new each time
            return is_array(here) or is_record(here)
        return is_grown(here, self._backing)

    raw_view = read

    def copy(self) -> Any:
        """Return the structure as plain Python objects that share nothing with it."""
        with self._structure.batch():
            return replica_of(self.read)

    def __getitem__(self, key: Any) -> Any:
        if type(key) is slice and isinstance(self._backing, list):
            return [self[i] for i in range(*key.indices(len(self)))]
        key = self._spelled(key)
        return self._part(key, self.read[key])

    def _spelled(self, key: Any) -> Any:
        """Return a key as it can be sent: an ellipsis as the slices that it stands for."""
        if key is not ... and not (type(key) is tuple and any(part is ... for part in key)):
            return key
        return without_ellipsis(key, self._backing.ndim) if is_array(self._backing) else key

    def _part(self, key: Any, item: Any) -> Any:
        """Return an item as the user gets it: as a notifier where mods can reach inside."""
        kind, backing = type(item), self._backing
        if kind in ATOMS:
            return item
        if kind not in _PLAIN and not is_container(item):
            return hand_out(item)
        part = Notifier(item, self._root, [*self._path, key])
        if type(backing) not in _PLAIN and (is_array(backing) or is_record(backing)):
            # Not `base`: what a list or mask selects is a copy, but may have a base of its own.
            if not sys.modules["numpy"].may_share_memory(item, backing):
                return item
            part._in_array = True
        return part

    def __len__(self) -> int:
        return len(self.read)

    def __bool__(self) -> bool:
        return bool(self.read)

    def __contains__(self, item: object) -> bool:
        return _plain(item) in self.read

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._backing, dict):
            return iter(self._backing)
        return (self._part(i, item) for i, item in enumerate(self.read))

    def __reversed__(self) -> Iterator[Any]:
        if isinstance(self._backing, dict):
            return reversed(self._backing)
        return (self[i] for i in reversed(range(len(self))))

    def __eq__(self, other: object) -> Any:
        return self.read == _plain(other)

    def __repr__(self) -> str:
        return f"Notifier({self.read!r})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        numpy = sys.modules["numpy"]  # it is who asks
        return numpy.array(self.read, dtype=dtype)

    def __copy__(self) -> Notifier:
        # A notifier of its own: two on one structure would not know of each other's mods.
        return Notifier(self.copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> Notifier:
        return Notifier(self.copy())

    def __reduce__(self) -> tuple[Any, ...]:
        return Notifier, (self.copy(),)

    def get(self, key: Any, default: Any = None) -> Any:
        """As on a dict."""
        item = self.read.get(key, _MISSING)
        return default if item is _MISSING else self._part(key, item)

    def keys(self) -> KeysView[Any]:
        """As on a dict."""
        keys: KeysView[Any] = self.read.keys()
        return keys

    def values(self) -> ValuesView[Any]:
        """As on a dict."""
        return ValuesView(self._as_mapping())

    def items(self) -> ItemsView[Any, Any]:
        """As on a dict."""
        return ItemsView(self._as_mapping())

    def _as_mapping(self) -> Any:
        if not isinstance(self._backing, dict):
            raise AttributeError(f"a {type(self._backing).__name__} has no keys")
        return self

    def index(self, x: Any, *bounds: int) -> int:
        """As on a list."""
        found: int = self.read.index(_plain(x), *bounds)
        return found

    def count(self, x: Any) -> int:
        """As on a list."""
        number: int = self.read.count(_plain(x))
        return number

    # To change: each of these is one mod, or a batch of them.

    def append(self, x: Any) -> None:
        """Append an element to a list, or a row to an array.

        An array that has grown is another one, with room for more. (An array of as many dimensions
        is appended as several rows.)
        """
        if type(self._backing) is not list and is_array(self._backing):
            x = growth().as_row(self._backing, _plain(x))
        self._record("append", x)

    def insert(self, i: int, x: Any) -> None:
        """Insert an element into a list."""
        self._record("insert", i, x)

    def pop(self, i: Any = -1, default: Any = _MISSING) -> Any:
        """Pop an element from a list, or the value of a key from a dict.

        Parameters
        ----------
        i : object, optional
            Index or key.
        default : object, optional
            For a dict: returned if there is no such key.

        Returns
        -------
        object
            The element itself; what happens to it is no longer tracked.
        """
        with self._structure.batch():
            if default is not _MISSING and i not in self.read:
                return default
            return self._record("pop", i)

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is not str and type(key) is not int:
            key = self._spelled(key)
        if isinstance(value, Notifier) and value._stands_for(self, key):
            return  # the second half of ``notifier[key] += x``
        if isinstance(key, slice):
            if isinstance(self._backing, dict):
                raise TypeError("expected a key that can be hashed, got a slice")
            if isinstance(self._backing, list):
                value = list(value)
        self._record("setitem", key, value)

    def __delitem__(self, key: Any) -> None:
        self._record("delitem", key)

    def extend(self, values: Iterable[Any]) -> None:
        """As on a list; or append several rows to an array, by one mod."""
        if isinstance(values, Notifier):  # which may be this one: its items would be in two places
            values = own(values.read)
        if not is_array(values):
            values = list(values)
        if not is_array(self._backing):
            self._extend(list(values))
        elif len(rows := growth().as_rows(self._backing, values)):
            self._record("append", rows)

    @_as_one
    def _extend(self, values: list[Any]) -> None:
        end = len(self.read)
        if values:
            self[end:end] = values

    @_as_one
    def remove(self, x: Any) -> None:
        """As on a list."""
        del self[self.index(x)]

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """As on a list; an array is sorted as numpy does it, along its last axis."""
        if not is_array(self._backing):
            self._arrange(functools.partial(sorted, key=key, reverse=reverse))
        elif key is not None or reverse:
            raise TypeError("an array is sorted without key and reverse, as numpy does it")
        else:
            self._replace_all(lambda items, _: sys.modules["numpy"].sort(items), None)

    def reverse(self) -> None:
        """As on a list."""
        self._arrange(lambda items: items[::-1])

    def _arrange(self, arranged: Callable[[list[Any]], list[Any]]) -> None:
        """Assign `arranged(items)`, which is the user's code, so the lock is not held meanwhile."""
        structure = self._structure
        if not isinstance(self._backing, list):
            raise TypeError(f"expected a list to arrange, got a {type(self._backing).__name__}")
        while True:
            items = list(self.read)
            new = arranged(items)
            with structure.batch():
                if structure.busy:
                    structure.postponed.append(functools.partial(self._arrange, arranged))
                    return
                now = self.read
                if len(now) == len(items) and all(map(operator.is_, now, items)):
                    self[:] = new
                    return

    @_as_one
    def clear(self) -> None:
        """As on a list or dict."""
        if isinstance(self._backing, dict):
            for key in list(self._backing):
                if key in self._backing:  # else a finaliser of what was here came first
                    del self[key]
        else:
            del self[:]

    def update(self, *others: Any, **items: Any) -> None:
        """As on a dict."""
        plain = (own(other.read) if isinstance(other, Notifier) else other for other in others)
        self._update(dict(*plain, **items))

    @_as_one
    def _update(self, items: dict[Any, Any]) -> None:
        for key, value in items.items():
            self[key] = value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """As on a dict."""
        with self._structure.batch():
            if key not in self.read:
                self._refuse_when_busy("setdefault")
                self[key] = default
            return self[key]

    def popitem(self) -> tuple[Any, Any]:
        """As on a dict."""
        with self._structure.batch():
            key = next(reversed(self.read), _MISSING)
            if key is _MISSING:
                raise KeyError("popitem(): the dictionary is empty")
            return key, self.pop(key)

    def __iadd__(self, other: Any) -> Any:
        if isinstance(self._backing, tuple):
            return self._backing + _plain(other)
        if is_array(self._backing):
            self._replace_all(operator.iadd, other)  # by numpy: 1.5 is not added to integers
        else:
            self.extend(other)
        return self

    def __imul__(self, other: Any) -> Any:
        if isinstance(self._backing, tuple):
            return self._backing * other
        self._replace_all(operator.imul, other)
        return self

    @_as_one
    def _replace_all(self, operate: Callable[[Any, Any], Any], other: Any) -> None:
        """Assign to all elements what an operator makes of a copy of them."""
        self[_everything(self._backing)] = operate(self.read.copy(), _plain(other))

    def __ior__(self, other: Any) -> Self:
        if is_array(self._backing):
            self._replace_all(operator.ior, other)
        else:
            self.update(other)
        return self

    __isub__ = _of_arrays(operator.isub)
    __itruediv__ = _of_arrays(operator.itruediv)
    __ifloordiv__ = _of_arrays(operator.ifloordiv)
    __imod__ = _of_arrays(operator.imod)
    __ipow__ = _of_arrays(operator.ipow)
    __iand__ = _of_arrays(operator.iand)
    __ixor__ = _of_arrays(operator.ixor)
    __ilshift__ = _of_arrays(operator.ilshift)
    __irshift__ = _of_arrays(operator.irshift)

    # To tell.

    def batch(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which changes are collected; they arrive together, at its end.

        Other threads wait meanwhile before they change the structure, and publishers before they
        send it whole; so it is also the way to read a structure that other threads change. If
        an exception ends the context, the changes that were made stay, and are told.
        """
        return self._structure.batch()

    @property
    def publish(self) -> Callable[[Mod], object] | None:
        """None, or a function that is called with every mod of the whole structure.

        It is set at the root. It is called in the thread that made the change, before the mutator
        returns and after the structure has changed (in a batch: at its end), and what it raises
        reaches who made the change. Publishers and listeners are independent of it.
        """
        return self._structure.publish

    @publish.setter
    def publish(self, publish: Callable[[Mod], object] | None) -> None:
        if self._root is not self:
            raise AttributeError("publish is set at the notifier of the whole structure, not here")
        if publish is not None and not callable(publish):
            raise TypeError(f"expected a callable or None, got a {type(publish).__name__}")
        self._structure.publish = publish

    def add_listener(self, listener: Callable[[Mod], object]) -> None:
        """Have a function of this process called with every mod of the whole structure.

        Parameters
        ----------
        listener : callable
            It is called before the mutator returns, in the thread that made the change, with a mod
            of its own that it may keep. If another thread is just telling its listeners, that one
            tells of these mods too, in order, and the mutator does not wait. No lock is held. What
            it raises is logged. Mods made before it was added, also in a batch that is still open,
            are not for it.
        """
        self._structure.add_listener(listener)

    def remove_listener(self, listener: Callable[[Mod], object]) -> None:
        """Undo `add_listener`; `ValueError` if the function is no listener."""
        self._structure.remove_listener(listener)

    # One mod.

    def _record(self, action: str, *values: Any) -> Any:
        """Check, encode, apply and tell of one mod; return what was popped."""
        fields = ACTIONS[action].fields
        mod = {"action": action, "path": self._path, fields[0]: values[0]}
        if type(values[0]) not in (str, int) and action != "append" and _has_nan(values[0]):
            raise ValueError("expected a key or index, got nan: nothing could ever be found there")
        mod[fields[-1]] = last = values[-1]
        structure = self._structure
        if self._path_text is None:
            self._path_text = write_path(self._path)
        if type(last) in ATOMS:
            change = Change(mod, bool(structure.wants_v1), self._path_text)
        else:
            change = self._encode(mod, fields[-1])
        with structure.lock:
            if structure.busy:
                if action == "pop":
                    self._refuse_when_busy(action)
                structure.postponed.append(functools.partial(self._record, action, *values))
                return None
            structure.busy = True
            try:
                result = self._make(change, mod)
            except Exception:
                raise
            except BaseException:  # Ctrl-C, say: it may have been applied, or not
                structure.add(Restart(self._root._backing))
                raise
            finally:
                structure.busy = False
        if structure.untold or structure.postponed or structure.awaiting:
            structure.settle()
        return result

    def _encode(self, mod: Mod, field: str) -> Change:
        """Return a mod encoded. What cannot be kept by reference is replaced in it by a copy."""
        with_v1 = bool(self._structure.wants_v1)
        value = mod[field]
        if field not in ("x", "value"):
            return Change(mod, with_v1, self._path_text)
        if self._copies or isinstance(value, Notifier):
            mod[field] = own(value)
            return Change(mod, with_v1, self._path_text)
        try:
            change = Change(mod, with_v1, self._path_text)
        except pyon.EncodeError:  # it holds a notifier, maybe
            mod[field] = own(value)
            return Change(mod, with_v1, self._path_text)
        if occurs_twice(value, self._containers()):
            mod[field] = own(value)
        return change

    def _make(self, change: Change, mod: Mod) -> Any:
        """Apply a mod, and tell publishers of it; with the lock held."""
        structure, witness = self._structure, self._root._witness
        if witness is not None:
            self._check()
        container = self._locate()
        if structure.wants_v1 and change.line_v1 is None:
            change = Change(mod, True, self._path_text)
        if type(container) not in _PLAIN and (is_array(container) or is_record(container)):
            change.in_array = True
            if change.action == "setitem":
                _check_elements(container, change.key, mod["value"])
        if change.in_array and change.action != "setitem":
            result = None
            self._grow(container, mod)
        else:
            result = ACTIONS[change.action].apply(container, mod)
        if witness is not None:
            witness.apply(change)
        structure.add(change)
        return result

    def _grow(self, array: Any, mod: Mod) -> None:
        if mod["action"] != "append":
            raise TypeError(
                f"{mod['action']} at {place(self._path)}: an array grows at its end only, by "
                "append and extend; assign another one"
            )
        root = self._root
        root._backing, self._backing = grow(root._backing, self._path, array, mod["x"])

    def _refuse_when_busy(self, action: str) -> None:
        if self._structure.busy:
            raise ChangeInProgress(
                f"{action} at {place(self._path)} cannot return anything: it interrupts a change"
            )

    def _check(self) -> None:
        """In debug mode: raise if the structure is not what the mods so far have made of it."""
        witness = self._root._witness
        if witness is not None:
            witness.compare(self._root._backing)

    def _locate(self) -> Any:
        """Return the container that this view stands for."""
        here = self._root._backing
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
        """Return what this view is part of, from the root on, and itself."""
        here = self._root._backing
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

    def _stands_for(self, parent: Notifier, key: Any) -> bool:
        if self._root is not parent._root or self._path != [*parent._path, key]:
            return False
        try:
            return self._is_still(parent.read[key])
        except (LookupError, TypeError):  # there is nothing any more
            return False


def _plain(value: Any) -> Any:
    return value.read if isinstance(value, Notifier) else value


def _everything(backing: Any) -> Any:
    """Return the key of all elements; arrays without a dimension know no slice."""
    return () if is_array(backing) and not backing.ndim else slice(None)


def _has_nan(key: Any) -> bool:
    if isinstance(key, tuple):
        return any(map(_has_nan, key))
    return not isinstance(key, slice) and not is_container(key) and bool(key != key)


def _check_elements(array: Any, key: Any, value: Any) -> None:
    """Raise if elements cannot be assigned, where numpy would find out half-way."""
    kind = value.dtype.kind if is_array(value) else type(value).__name__
    if kind not in ("b", "i", "u", "f", "c", "bool", "int", "float", "complex"):
        sys.modules["numpy"].asarray(value, dtype=array[key].dtype)


def _checked(structure: Any, copy: bool) -> Any:
    """Return what a notifier keeps of a structure; `pyon.EncodeError` if it cannot be sent."""
    if copy or isinstance(structure, Notifier):
        structure = own(structure)
    try:
        check_structure(structure)
    except pyon.EncodeError:  # it holds a notifier, maybe
        structure = own(structure)
        check_structure(structure)
    return own(structure) if occurs_twice(structure) else structure
