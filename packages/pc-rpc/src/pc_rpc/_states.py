"""Calls of `state_cb`: the states of a connection that is made again.

The one idea to keep in mind: each change is queued in the step that makes it, and the callback is
called afterwards, under no lock. The thread that calls it goes on until the queue is empty. So the
callback gets all changes in order, one at a time, from any number of threads.
"""

from __future__ import annotations

import logging
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("pc_rpc")

State = Literal["connected", "lost", "closed"]


class States:
    """Queues changes of the state, and calls the callback.

    Parameters
    ----------
    callback : callable or None
        The user's function. Its exceptions are logged.
    """

    def __init__(self, callback: Callable[[State], object] | None) -> None:
        self._callback = callback
        self._queue: deque[State] = deque()
        self._caller: dict[None, int] = {}  # the thread that is calling the callback, if any

    def note(self, state: State) -> None:
        """Queue a change."""
        if self._callback is not None:
            self._queue.append(state)

    def deliver(self) -> None:
        """Call the callback with the queued changes, unless another thread is doing so."""
        me = get_ident()
        if self._caller.get(None) == me:
            return  # the callback has called the client
        while self._queue:
            try:
                if self._caller.setdefault(None, me) != me:
                    return
                self._deliver_all()
            finally:
                if self._caller.get(None) == me:
                    del self._caller[None]

    def _deliver_all(self) -> None:
        assert self._callback is not None
        while self._queue:
            state = self._queue.popleft()
            try:
                self._callback(state)
            except Exception:
                _logger.exception("the callback for the state of a client failed")

    def forget(self) -> None:
        """Call nothing any more: in the child of a fork, the calling thread may not exist."""
        self._callback = None
        self._queue.clear()
