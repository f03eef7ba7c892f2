"""Sockets, locks and threads of the parent that the child of a fork must not use.

The one idea to keep in mind: a child inherits every descriptor, but no thread. If both processes
read one socket, each gets a part of the other one's messages. So in the child, before any other
code runs there, each registered owner drops its descriptors and reports from then on that it was
made in another process. The parent is not affected.

Processes started by `subprocess`, or by `multiprocessing` with "spawn" or "forkserver", inherit
nothing and are not affected. On systems without ``os.fork`` no registered object is ever called.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["ForkAware", "drop_descriptor", "register"]


class ForkAware(Protocol):
    """An object that owns a resource which only one process may use."""

    def forked(self) -> None:
        """Drop the resources of the parent. Called in the child, where no other thread runs.

        Locks may be held by threads that do not exist here: replace them, never acquire them.
        Do not send anything and do not shut anything down: the connection is the parent's.
        """


_owners: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register(owner: ForkAware) -> None:
    """Register an object: ``owner.forked()`` is called in each child that this process forks.

    Parameters
    ----------
    owner : ForkAware
        Only a weak reference is kept, so it need not be unregistered. It must be hashable by
        identity.
    """
    _owners.add(owner)


def drop_descriptor(number: int) -> None:
    """Close the file of a descriptor in this process, but keep its number occupied.

    The null device takes its place. So an object that still has the number (an asyncio transport, a
    socket object) reads nothing, and finally closes the null device instead of another file that
    would otherwise have got the same number.

    Parameters
    ----------
    number : int
        The value of ``fileno()``. Nothing happens if it is negative (closed already).
    """
    if number < 0:
        return
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, number, inheritable=False)
    finally:
        os.close(null)


def _in_child() -> None:
    failures = []
    for owner in list(_owners):
        try:
            owner.forked()
        except Exception as error:  # the other owners must still be called
            failures.append(error)
    if failures:
        raise ExceptionGroup("in the child of a fork", failures)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
