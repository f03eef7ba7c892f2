"""Proxies in the child of a fork, which has no thread and no event loop of its parent.

Proxies that the parent used raise errors in the child. The parent is not affected.
"""

from __future__ import annotations

import os
import weakref

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from typing import Protocol

    class ForkAware(Protocol):
        """An object with resources that only one process can use."""

        def forked(self) -> None:
            """Drop the parent's resources, and replace locks: other threads may have held them."""


_owners: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register(owner: ForkAware) -> None:
    """Call ``owner.forked()`` in the child of each fork; keeps a weak reference only."""
    _owners.add(owner)


def require_own_process(parent: int | None) -> None:
    """Raise RuntimeError for a proxy that was used in another process.

    Parameters
    ----------
    parent : int or None
        The id of that process. None: the proxy was not used there.
    """
    if parent is not None:
        raise RuntimeError(
            f"this proxy was made in another process, {parent}, where its calls run; make a new "
            "one here"
        )


def _in_child() -> None:
    for owner in list(_owners):
        owner.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
