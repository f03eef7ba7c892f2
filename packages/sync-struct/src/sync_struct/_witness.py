"""Witness: a replica beside a structure that detects changes made without the notifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyon

from sync_struct._actions import place
from sync_struct._difference import find_difference
from sync_struct._errors import ChangedBehindBack
from sync_struct._mods import applied

if TYPE_CHECKING:
    from sync_struct._change import Change

__all__ = ["Witness", "replica_of"]


class Witness:
    """A replica that is kept only to detect changes without a mod (debug mode)."""

    def __init__(self, structure: Any) -> None:
        self._replica = replica_of(structure)

    def apply(self, change: Change) -> None:
        """Apply a mod to the replica."""
        self._replica = applied(self._replica, change.mod())

    def compare(self, structure: Any) -> None:
        """Raise `ChangedBehindBack` if the structure differs; once for each such change."""
        path = find_difference(self._replica, structure)
        if path is not None:
            self._replica = replica_of(structure)
            raise ChangedBehindBack(
                f"the structure was changed at {place(path)}, but not through its notifier: "
                "subscribers do not know of it"
            )


def replica_of(structure: Any) -> Any:
    """Return a copy of a structure that shares nothing with it, as a subscriber would get it."""
    return pyon.decode(pyon.encode(structure, version=2))
