"""Notifier: a list or dict whose every change is known to others.

All mutators end in `Notifier._record`, which checks, encodes, applies and tells of one mod, in this
order and under one lock: what cannot be encoded or applied changes nothing and is seen by nobody.
A part of the structure (``notifier["a"][3]``) is a notifier too, a view that knows its path; it
makes sure at every change that the path still leads to what it stands for.
"""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from typing import Any, Self

import pyon

from sync_struct._change import Change
from sync_struct._errors import StaleView
from sync_struct._mods import ACTIONS, Mod, place, walk
from sync_struct._structure import Structure, Witness, replica_of
from sync_struct._values import ATOMS, is_array, is_container, own

__all__ = ["Notifier"]

_MISSING: Any = object()


class Notifier:
    """Encapsulates a structure whose changes need to be published.

    It is used like the list or dict that it stands for, from any thread. Parts that can change
    (lists, dicts, arrays) come out as notifiers too, everything else as it is. What is assigned is
    copied: the caller's list, dict or array stays the caller's.

    Parameters
    ----------
    backing_struct : list, dict or numpy.ndarray
        The structure, of what PYON can express, in which no list, dict or array occurs twice. From
        now on it is to be changed through the notifier only.
    root : Notifier, optional
        The notifier of the whole structure that `backing_struct` is a part of.
    path : sequence, optional
        The keys that lead from `root` to `backing_struct`.
    debug : bool, optional
        Before every mod, and before the structure is sent to anybody, compare it with a replica
        kept for this, and raise `ChangedBehindBack` if they differ. Slow; for tests.

    Raises
    ------
    pyon.EncodeError
        From every mutator: the value has no PYON. Nothing was changed (by `update`: from there on).
    StaleView
        From the mutators of a part: it is not in the structure any more. Nothing was changed.

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
        debug: bool = False,
    ) -> None:
        self._backing = backing_struct
        self._root = self if root is None else root
        self._path = list(path)
        self._path_text = None if path else "[]"
        self._in_array = False  # whether it is a part of an array
        self._structure: Structure = Structure() if root is None else root._structure
        self._witness = Witness(backing_struct) if debug and root is None else None

    # To read.

    @property
    def read(self) -> Any:
        """The structure itself, no copy: to be read only, and while nobody changes it."""
        if self._path and is_array(self._backing):
            # An array is replaced by a copy before it changes while its memory is being sent.
            with contextlib.suppress(LookupError, TypeError):
                here = walk(self._root._backing, self._path)
                if self._is_still(here):
                    self._backing = here
        return self._backing

    def _is_still(self, here: Any) -> bool:
        """Tell whether this, an array now at the path, is what this notifier stands for."""
        if here is self._backing:
            return True
        if not (is_array(here) and is_array(self._backing)):
            return False
        return self._in_array or self._structure.is_same_array(here, self._backing)

    raw_view = read

    def copy(self) -> Any:
        """Return the structure as plain Python objects that share nothing with it."""
        with self._structure.lock:
            return replica_of(self.read)

    def __getitem__(self, key: Any) -> Any:
        if type(key) is slice and isinstance(self._backing, list):
            return [self[i] for i in range(*key.indices(len(self)))]
        return self._part(key, self.read[key])

    def _part(self, key: Any, item: Any) -> Any:
        """Return an item as the user gets it: as a notifier where mods can reach inside."""
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None and isinstance(item, numpy.void):
            return item.copy()  # a record is a window on its array
        if not is_container(item):
            return item
        in_array = numpy is not None and is_array(self._backing)
        # Not `base`: what a list or mask selects is a copy, but may have a base of its own.
        if in_array and not numpy.may_share_memory(item, self._backing):
            return item
        part = Notifier(item, self._root, [*self._path, key])
        part._in_array = in_array
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
        """Append to a list."""
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
        with self._structure.lock:
            if default is not _MISSING and i not in self.read:
                return default
            return self._record("pop", i)

    def __setitem__(self, key: Any, value: Any) -> None:
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
        """As on a list."""
        with self._structure.lock:
            end = len(self.read)
            if added := list(values):
                self[end:end] = added

    def remove(self, x: Any) -> None:
        """As on a list."""
        with self._structure.lock:
            del self[self.index(x)]

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """As on a list."""
        with self._structure.lock:
            self[:] = sorted(self.read, key=key, reverse=reverse)

    def reverse(self) -> None:
        """As on a list."""
        with self._structure.lock:
            self[:] = self.read[::-1]

    def clear(self) -> None:
        """As on a list or dict."""
        with self.batch():
            if isinstance(self._backing, dict):
                for key in list(self._backing):
                    del self[key]
            else:
                del self[:]

    def update(self, *others: Any, **items: Any) -> None:
        """As on a dict."""
        with self.batch():
            for key, value in dict(*map(_plain, others), **items).items():
                self[key] = value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """As on a dict."""
        with self._structure.lock:
            if key not in self.read:
                self[key] = default
            return self[key]

    def popitem(self) -> tuple[Any, Any]:
        """As on a dict."""
        with self._structure.lock:
            key = next(reversed(self.read), _MISSING)
            if key is _MISSING:
                raise KeyError("popitem(): the dictionary is empty")
            return key, self.pop(key)

    def __iadd__(self, other: Any) -> Self:
        if is_array(self._backing):
            self._replace_all(
                operator.iadd, other
            )  # as numpy does it: 1.5 is not added to integers
        else:
            self.extend(_plain(other))
        return self

    def __imul__(self, other: Any) -> Self:
        self._replace_all(operator.imul, other)
        return self

    def _replace_all(self, operate: Callable[[Any, Any], Any], other: Any) -> None:
        """Assign to all elements what an operator makes of a copy of them."""
        with self._structure.lock:
            self[_everything(self._backing)] = operate(self.read.copy(), _plain(other))

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    # To tell.

    def batch(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which changes are collected; they arrive together, at its end.

        Other threads wait meanwhile before they change the structure, and publishers before they
        send it whole; so it is also the way to read a structure that other threads change. If
        an exception ends the context, the changes that were made stay, and are told.
        """
        return self._structure.batch()

    def add_listener(self, listener: Callable[[Mod], object]) -> None:
        """Have a function of this process called with every mod of the whole structure.

        Parameters
        ----------
        listener : callable
            It is called in the thread that made the change, before the mutator returns, with a mod
            of its own that it may keep. What it raises is logged. Mods made before it was added,
            also in a batch that is still open, are not for it.
        """
        with self._structure.lock:
            self._structure.listeners.append((listener, self._structure.number))

    def remove_listener(self, listener: Callable[[Mod], object]) -> None:
        """Undo `add_listener`; `ValueError` if the function is no listener."""
        with self._structure.lock:
            listeners = self._structure.listeners
            del listeners[[known for known, _ in listeners].index(listener)]

    def _record(self, action: str, *values: Any) -> Any:
        """Check, encode, apply and tell of one mod; return what was popped."""
        fields, apply = ACTIONS[action]
        mod = {"action": action, "path": self._path, fields[0]: values[0]}
        if type(values[0]) not in (str, int) and action != "append" and _has_nan(values[0]):
            raise ValueError("expected a key or index, got nan: nothing could ever be found there")
        if fields[-1] in ("x", "value"):
            mod[fields[-1]] = _owned(values[-1])
        if self._path_text is None:
            self._path_text = pyon.encode(self._path, version=2)
        structure, witness = self._structure, self._root._witness
        with structure.lock:
            if witness is not None:
                self._check()
            container = self._locate()
            change = Change(mod, bool(structure.wants_v1), self._path_text)
            if is_array(container):
                change.in_array = True
                if action == "setitem":
                    _check_elements(container, values[0], mod["value"])
            result = apply(container, mod)
            if witness is not None:
                witness.apply(change)
            structure.add(change)
        return result

    def _check(self) -> None:
        """In debug mode: raise if the structure is not what the mods so far have made of it."""
        witness = self._root._witness
        if witness is not None:
            witness.compare(self._root._backing)

    def _locate(self) -> Any:
        """Return the container that this view stands for, ready to be changed."""
        root, here = self._root, self._root._backing
        if is_array(here):
            here = root._backing = self._writable(here)
        for key in self._path:
            try:
                inner = here[key]
            except (LookupError, TypeError):
                raise self._stale() from None
            if is_array(inner) and not is_array(here):
                here[key] = inner = self._writable(inner)
            here = inner
        if not self._is_still(here):
            raise self._stale()
        self._backing = here
        return here

    def _writable(self, array: Any) -> Any:
        """Return the array to change in place: a copy if its memory may be on its way somewhere."""
        if array.flags.writeable:
            return array
        copy = array.copy()
        self._structure.note_copy(array, copy)
        return copy

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


def _owned(value: Any) -> Any:
    """Return the structure's own copy of what a user assigns."""
    if type(value) in ATOMS:
        return value
    value = _plain(value)
    try:
        return own(value)
    except Exception:
        pyon.encode(value, version=2)  # says better what is wrong, and where
        raise
