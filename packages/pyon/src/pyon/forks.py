"""What must not go on in the child of a fork: sockets, locks and threads that are the parent's.

The one idea to keep in mind: a child inherits every descriptor, but no thread. If both processes
read one socket, each gets a part of the other one's messages. So in the child, before any other
code runs there, each registered owner drops its descriptors and says from then on that it was made
in another process. The parent notices nothing.

Processes that are started by `subprocess`, or by `multiprocessing` with "spawn" or "forkserver",
inherit nothing and are not concerned. Systems without ``os.fork`` never call what is registered.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["ForkAware", "drop_descriptor", "register"]


class ForkAware(Protocol):
    """An object that owns something which only one process can use."""

    def forked(self) -> None:
        """Give up what the parent owns. Called in the child, where no other thread runs.

        Locks may be held by threads that do not exist here: replace them, never acquire them.
        Nothing may be sent and nothing shut down: the connection is the parent's.
        """


_owners: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register(owner: ForkAware) -> None:
    """Have ``owner.forked()`` called in each child that this process forks, from any thread.

    Parameters
    ----------
    owner : ForkAware
        Referred to weakly: it need not be unregistered. It must be hashable by identity.
    """
    _owners.add(owner)


def drop_descriptor(number: int) -> None:
    """Close a descriptor's file in this process, but keep its number occupied.

    The null device takes its place. So an object that still refers to the number (an asyncio
    transport, a socket object) reads nothing, and closes the null device in the end, rather than a
    file that was given the same number meanwhile.

    Parameters
    ----------
    number : int
        As ``fileno()`` returns it; negative (closed already): nothing happens.
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
        except Exception as error:  # the others are still to be told
            failures.append(error)
    if failures:
        raise ExceptionGroup("in the child of a fork", failures)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
