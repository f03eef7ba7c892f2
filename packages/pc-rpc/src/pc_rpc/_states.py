"""The states of a connection that is made again, told to a function of the user's.

The one idea to keep in mind: a change is noted by whoever makes it, in the step that makes it, and
told afterwards, where no lock is held. Whoever tells goes on until nothing is left, so the function
hears of all changes in their order, of one at a time, whichever threads they came from.
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
    """Tells of changes of the state.

    Parameters
    ----------
    callback : callable or None
        The function. What it raises is logged.
    """

    def __init__(self, callback: Callable[[State], object] | None) -> None:
        self._callback = callback
        self._news: deque[State] = deque()
        self._teller: dict[None, int] = {}  # the thread that tells, while one does

    def note(self, state: State) -> None:
        """Note a change, to be told by the next `tell`."""
        if self._callback is not None:
            self._news.append(state)

    def tell(self) -> None:
        """Tell of what was noted. If that goes on already, whoever does it will."""
        me = get_ident()
        if self._teller.get(None) == me:
            return  # the function has called the client
        while self._news:
            try:
                if self._teller.setdefault(None, me) != me:
                    return
                self._tell_all()
            finally:
                if self._teller.get(None) == me:
                    del self._teller[None]

    def _tell_all(self) -> None:
        assert self._callback is not None
        while self._news:
            state = self._news.popleft()
            try:
                self._callback(state)
            except Exception:
                _logger.exception("the callback for the state of a client failed")

    def forget(self) -> None:
        """Tell nothing any more: in the child of a fork, where the teller may not exist."""
        self._callback = None
        self._news.clear()
