"""The child of a fork has neither the thread nor the event loop that its parent's proxies run on.

What was in use there counts as lost in the child. The parent notices nothing.
"""

from __future__ import annotations

import os
import weakref

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from typing import Protocol

    class ForkAware(Protocol):
        """An object that owns something which only one process can use."""

        def forked(self) -> None:
            """Give up what the parent owns, and replace locks: they may be held for ever here."""


_owners: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register(owner: ForkAware) -> None:
    """Have ``owner.forked()`` called in the child of each fork; refers to it weakly."""
    _owners.add(owner)


def require_own_process(made_in: int | None) -> None:
    """Refuse to use what was in use in another process.

    Parameters
    ----------
    made_in : int or None
        The other process; None: it was not.
    """
    if made_in is not None:
        raise RuntimeError(
            f"this proxy was made in another process, {made_in}, where its calls run; make a new "
            "one here"
        )


def _in_child() -> None:
    for owner in list(_owners):
        owner.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
