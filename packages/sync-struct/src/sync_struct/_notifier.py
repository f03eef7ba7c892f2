"""Notifier: a list or dict that publishes every change made through it.

The one idea to keep in mind: every mutator makes one mod by `Part._record`, or a batch of mods. A
part of the structure (``notifier["a"][3]``) is a notifier, too.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, Self

import pyon

from sync_struct._actions import Mod
from sync_struct._change import check_structure
from sync_struct._kinds import growth, is_array
from sync_struct._ownership import occurs_twice, own
from sync_struct._part import MISSING, Part, plain
from sync_struct._readable_part import ReadablePart
from sync_struct._structure import Structure
from sync_struct._witness import Witness

__all__ = ["Notifier"]

_P = ParamSpec("_P")
_Method = Callable[Concatenate["Notifier", _P], None]


def _batched(method: _Method[_P]) -> _Method[_P]:
    """Make all changes of a method one batch, postponed while another change is in progress."""

    @functools.wraps(method)
    def whole(self: Notifier, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        structure = self._structure
        with structure.batch():
            if structure.busy:
                structure.postponed.append(functools.partial(whole, self, *args, **kwargs))
            else:
                method(self, *args, **kwargs)

    return whole


def _array_operator(operate: Callable[[Any, Any], Any]) -> Callable[[Notifier, Any], Any]:
    """Return the method of an in-place operator that changes arrays only."""

    def method(self: Notifier, other: Any) -> Any:
        if not is_array(self._backing):
            return NotImplemented
        self._replace_all(operate, other)
        return self

    return method


class Notifier(ReadablePart):
    """Encapsulates a structure whose changes need to be published.

    It is used like the list or dict that it stands for, from any thread. Lists, dicts and arrays in
    it are returned as notifiers, and so are tuples that contain one; sets are returned as
    frozensets, everything else as it is. Assigned values are kept by reference, as in a dict, so
    changes by the notifier are visible in the caller's own list or array. The caller must not
    change them.

    A signal handler or finaliser may make changes at any time. If it interrupts another change,
    its own is made afterwards.

    Parameters
    ----------
    backing_struct : list, dict or numpy.ndarray
        The structure. Its values must have a form in PYON, and no list, dict or array may occur in
        it twice. From now on it must be changed through the notifier only.
    root : Notifier, optional
        The notifier of the whole structure that `backing_struct` is a part of.
    path : sequence, optional
        The keys that lead from `root` to `backing_struct`.
    copy : bool, optional
        Keep copies of the structure and of assigned values, so that no other code can change them.
    debug : bool, optional
        Before every mod, and before the structure is sent to a subscriber, compare it with a
        replica kept for this purpose, and raise `ChangedBehindBack` if they differ. Slow; for
        tests.

    Raises
    ------
    pyon.EncodeError
        The structure cannot be encoded. From every mutator: the value cannot be encoded, and
        nothing was changed (by `update`: items before that one were).
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

    __slots__ = ()

    def __init__(
        self,
        backing_struct: Any,
        root: Notifier | None = None,
        path: Sequence[Any] = [],  # the established signature; never changed
        *,
        copy: bool = False,
        debug: bool = False,
    ) -> None:
        if root is not None:
            super().__init__(root._structure, backing_struct, list(path))
            return
        value = _checked(backing_struct, copy)
        witness = Witness(value) if debug else None
        super().__init__(Structure(value, copies=copy, witness=witness), value, list(path))

    def _child(self, key: Any, item: Any) -> Notifier:
        """See `ReadablePart`."""
        child = Notifier.__new__(Notifier)
        Part.__init__(child, self._structure, item, [*self._path, key])
        return child

    def __repr__(self) -> str:
        return f"Notifier({self.read!r})"

    def __copy__(self) -> Notifier:
        # On a copy of the structure: two notifiers of one structure would miss each other's mods.
        return Notifier(self.copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> Notifier:
        return Notifier(self.copy())

    def __reduce__(self) -> tuple[Any, ...]:
        return Notifier, (self.copy(),)

    # Mutators: each makes one mod, or a batch of mods.

    def append(self, x: Any) -> None:
        """Append an element to a list, or a row to an array.

        Growing replaces the array by a new one with spare capacity. A value with as many
        dimensions as the array is appended as several rows.
        """
        if type(self._backing) is not list and is_array(self._backing):
            x = growth().as_row(self._backing, plain(x))
        self._record("append", value=x)

    def insert(self, i: int, x: Any) -> None:
        """Insert an element into a list."""
        self._record("insert", i, x)

    def pop(self, i: Any = -1, default: Any = MISSING) -> Any:
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
            The element itself. Changes of it are not tracked any more.
        """
        with self._structure.batch():
            if default is not MISSING and i not in self.read:
                return default
            return self._record("pop", i)

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is not str and type(key) is not int:
            key = self._without_ellipsis(key)
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
        """As on a list; or append several rows to an array, in one mod."""
        if isinstance(values, Notifier):  # maybe this one: its items would be in two places
            values = own(values.read)
        if not is_array(values):
            values = list(values)
        if not is_array(self._backing):
            self._extend(list(values))
        elif len(rows := growth().as_rows(self._backing, values)):
            self._record("append", value=rows)

    @_batched
    def _extend(self, values: list[Any]) -> None:
        end = len(self.read)
        if values:
            self[end:end] = values

    @_batched
    def remove(self, x: Any) -> None:
        """As on a list."""
        del self[self.index(x)]

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """As on a list; an array is sorted along its last axis, as by `numpy.sort`."""
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
        """Assign ``arranged(items)``. It may run user code, so it is called without the lock."""
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

    @_batched
    def clear(self) -> None:
        """As on a list or dict."""
        if isinstance(self._backing, dict):
            for key in list(self._backing):
                if key in self._backing:  # else a finaliser has deleted it meanwhile
                    del self[key]
        else:
            del self[:]

    def update(self, *others: Any, **items: Any) -> None:
        """As on a dict."""
        mappings = (own(other.read) if isinstance(other, Notifier) else other for other in others)
        self._update(dict(*mappings, **items))

    @_batched
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
            key = next(reversed(self.read), MISSING)
            if key is MISSING:
                raise KeyError("popitem(): the dictionary is empty")
            return key, self.pop(key)

    def __iadd__(self, other: Any) -> Any:
        if isinstance(self._backing, tuple):
            return self._backing + plain(other)
        if is_array(self._backing):
            self._replace_all(operator.iadd, other)  # as in numpy: 1.5 is not added to integers
        else:
            self.extend(other)
        return self

    def __imul__(self, other: Any) -> Any:
        if isinstance(self._backing, tuple):
            return self._backing * other
        self._replace_all(operator.imul, other)
        return self

    @_batched
    def _replace_all(self, operate: Callable[[Any, Any], Any], other: Any) -> None:
        """Apply an operator to a copy of all elements, and assign the result to them."""
        self[_everything(self._backing)] = operate(self.read.copy(), plain(other))

    def __ior__(self, other: Any) -> Self:
        if is_array(self._backing):
            self._replace_all(operator.ior, other)
        else:
            self.update(other)
        return self

    __isub__ = _array_operator(operator.isub)
    __itruediv__ = _array_operator(operator.itruediv)
    __ifloordiv__ = _array_operator(operator.ifloordiv)
    __imod__ = _array_operator(operator.imod)
    __ipow__ = _array_operator(operator.ipow)
    __iand__ = _array_operator(operator.iand)
    __ixor__ = _array_operator(operator.ixor)
    __ilshift__ = _array_operator(operator.ilshift)
    __irshift__ = _array_operator(operator.irshift)

    # Notification.

    def batch(self) -> contextlib.AbstractContextManager[None]:
        """Return a context whose changes arrive together, when it ends.

        Meanwhile, other threads cannot change the structure and publishers do not send it as a
        whole; so a batch is also the way to read a structure that other threads change. If an
        exception ends the context, the changes made so far remain, and are published.
        """
        return self._structure.batch()

    @property
    def publish(self) -> Callable[[Mod], object] | None:
        """None, or a function that is called with every mod of the whole structure.

        It can only be set on the notifier of the whole structure. It is called in the thread that
        made the change, after the structure has changed and before the mutator returns (in a batch:
        when the batch ends). The mutator raises its exceptions. `Publisher` objects and listeners
        are independent of it.
        """
        return self._structure.publish

    @publish.setter
    def publish(self, publish: Callable[[Mod], object] | None) -> None:
        if self._path:
            raise AttributeError("publish can only be set on the notifier of the whole structure")
        if publish is not None and not callable(publish):
            raise TypeError(f"expected a callable or None, got a {type(publish).__name__}")
        self._structure.publish = publish

    def add_listener(self, listener: Callable[[Mod], object]) -> None:
        """Call a function of this process with every mod of the whole structure.

        Parameters
        ----------
        listener : callable
            Called in the thread that made the change, before the mutator returns, with a copy of
            the mod that it may keep. If another thread is calling listeners at that moment, that
            thread calls this one as well, in order, and the mutator does not wait. No lock is held.
            Exceptions are logged. Mods made before the listener was added are not passed to it,
            even if their batch is still open.
        """
        self._structure.add_listener(listener)

    def remove_listener(self, listener: Callable[[Mod], object]) -> None:
        """Undo `add_listener`; `ValueError` if the function is no listener."""
        self._structure.remove_listener(listener)

    def _stands_for(self, parent: Notifier, key: Any) -> bool:
        if self._structure is not parent._structure or self._path != [*parent._path, key]:
            return False
        try:
            return self._is_still(parent.read[key])
        except (LookupError, TypeError):  # there is no such part any more
            return False


def _everything(backing: Any) -> Any:
    """Return the key of all elements; arrays without dimensions cannot be sliced."""
    return () if is_array(backing) and not backing.ndim else slice(None)


def _checked(structure: Any, copy: bool) -> Any:
    """Return the structure to keep, maybe a copy; `pyon.EncodeError` if it cannot be sent."""
    if copy or isinstance(structure, Notifier):
        structure = own(structure)
    try:
        check_structure(structure)
    except pyon.EncodeError:  # it may contain a notifier
        structure = own(structure)
        check_structure(structure)
    return own(structure) if occurs_twice(structure) else structure
