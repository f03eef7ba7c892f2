"""Readable parts: the methods for reading a container like a list, dict or array."""

from __future__ import annotations

import sys
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from sync_struct._kinds import ATOMS, PLAIN, is_array, is_container, is_record, without_ellipsis
from sync_struct._ownership import hand_out
from sync_struct._part import MISSING, Part, plain
from sync_struct._witness import replica_of

__all__ = ["ReadablePart"]

MOST_CHILDREN = 64
"""Parts of one container that are cached: enough for those that a program names, but not for each
of 100,000 items."""


class ReadablePart(Part):
    """A part that can be read like the list or dict that it stands for.

    Lists, dicts and arrays in it are returned as parts, and so are tuples that contain one; sets
    are returned as frozensets, everything else as it is.
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # compares by value, and changes

    def copy(self) -> Any:
        """Return the structure as plain Python objects that share nothing with it."""
        with self._structure.batch():
            return replica_of(self.read)

    def __getitem__(self, key: Any) -> Any:
        if type(key) in (str, int) and type(self._backing) in PLAIN:
            item = self._backing[key]
            if type(item) in ATOMS:
                return item
            child = self._children.get(key)
            if child is not None and child._backing is item:
                return child
            return self._cached(key, self._item(key, item))
        if type(key) is slice and isinstance(self._backing, list):
            return [self[i] for i in range(*key.indices(len(self)))]
        key = self._without_ellipsis(key)
        return self._item(key, self.read[key])

    def _without_ellipsis(self, key: Any) -> Any:
        """Return a key in a form that can be sent: an ellipsis is replaced by slices."""
        if key is not ... and not (type(key) is tuple and any(part is ... for part in key)):
            return key
        return without_ellipsis(key, self._backing.ndim) if is_array(self._backing) else key

    def _item(self, key: Any, item: Any) -> Any:
        """Return an item for the user: a part, if mods can change its inside."""
        kind, backing = type(item), self._backing
        if kind in ATOMS:
            return item
        if kind not in PLAIN and not is_container(item):
            return hand_out(item)
        part = self._child(key, item)
        if type(backing) not in PLAIN and (is_array(backing) or is_record(backing)):
            # Not `item.base`: a selection by a list or mask is a copy that may have a base, too.
            if not sys.modules["numpy"].may_share_memory(item, backing):
                return item
            part._in_array = True
        return part

    def _cached(self, key: str | int, item: Any) -> Any:
        """Cache an item if it is a part, and return it."""
        if isinstance(item, Part):
            if len(self._children) >= MOST_CHILDREN:
                self._children.clear()
            self._children[key] = item
        return item

    def _child(self, key: Any, item: Any) -> Part:
        """Return an item as a part."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.read)

    def __bool__(self) -> bool:
        return bool(self.read)

    def __contains__(self, item: object) -> bool:
        return plain(item) in self.read

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._backing, dict):
            return iter(self._backing)
        return (self._item(i, item) for i, item in enumerate(self.read))

    def __reversed__(self) -> Iterator[Any]:
        if isinstance(self._backing, dict):
            return reversed(self._backing)
        return (self[i] for i in reversed(range(len(self))))

    def __eq__(self, other: object) -> Any:
        return self.read == plain(other)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        numpy = sys.modules["numpy"]  # the caller
        return numpy.array(self.read, dtype=dtype)

    def get(self, key: Any, default: Any = None) -> Any:
        """As on a dict."""
        item = self.read.get(key, MISSING)
        return default if item is MISSING else self._item(key, item)

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
        found: int = self.read.index(plain(x), *bounds)
        return found

    def count(self, x: Any) -> int:
        """As on a list."""
        number: int = self.read.count(plain(x))
        return number
