"""Bring a published dict up to date with another dict; subscribers receive only the differences."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from sync_struct._difference import same
from sync_struct._notifier import Notifier
from sync_struct._ownership import own

__all__ = ["update_from_dict"]


def update_from_dict(target: Any, source: Mapping[Any, Any]) -> None:
    """Make a dict equal to another one by changing only what differs.

    Parameters
    ----------
    target : Notifier or dict
        The dict to change. Keys that `source` does not have are deleted, values that differ are
        set. Where both have a dict, this is done within it. All changes of a notifier arrive
        together.
    source : mapping
        The new contents. Values taken from it are copied.

    Raises
    ------
    pyon.EncodeError
        A value cannot be encoded; those before it have been set.

    Examples
    --------
    >>> n = Notifier({"a": 1, "b": {"c": 2, "d": 3}})
    >>> n.add_listener(print)
    >>> update_from_dict(n, {"a": 1, "b": {"c": 2, "d": 4}})
    {'action': 'setitem', 'path': ['b'], 'key': 'd', 'value': 4}
    """
    is_notifier = isinstance(target, Notifier)
    present = target.read if is_notifier else target
    source = dict(source)  # may run user code, so no lock is held
    with target.batch() if is_notifier else contextlib.nullcontext():
        for key in [key for key in present if key not in source]:
            del target[key]
        for key, value in source.items():
            if key not in present:
                target[key] = own(value)
            elif type(value) is dict and type(present[key]) is dict:
                update_from_dict(target[key], value)
            elif not same(present[key], value):
                target[key] = own(value)
