"""Turns: one call of a target at a time, in the order of arrival, of all connections.

The one idea to keep in mind: the object that took a turn ends it with `Lane.release`, which starts
the next. A lane knows neither methods nor streams: it queues objects that start themselves.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from pyon.asyncio_connection import TURN
from pyon.asyncio_tasks import Later

if TYPE_CHECKING:
    from pc_rpc._schedule import Call


class InTurn(Protocol):
    """An object that takes turns in a lane: a runner, or a stream."""

    def start_in_turn(self, call: Call) -> bool:
        """Start a call that waited for its turn; return whether the turn is over."""


class Lane:
    """Turns: one call at a time, in the order of arrival, of all connections.

    Attributes
    ----------
    busy : bool
        Whether the turn is taken.
    waiting : deque of (InTurn, Call)
        Calls that wait for a turn; streams are represented by their calls.
    """

    __slots__ = ("_later", "busy", "waiting")

    def __init__(self) -> None:
        self._later = Later()
        self.busy = False
        self.waiting: deque[tuple[InTurn, Call]] = deque()

    def take(self, runner: InTurn, call: Call) -> bool:
        """Take the turn if it is free, and return True; else queue the call for `release`."""
        if self.busy or self.waiting:
            self.waiting.append((runner, call))
            return False
        self.busy = True
        return True

    def release(self) -> None:
        """End a turn; start the waiting calls, for as long as a turn of the loop may take."""
        self.busy = False
        until = monotonic() + TURN if self.waiting else 0.0
        while self.waiting and not self.busy:
            self.busy = True
            runner, call = self.waiting.popleft()
            if runner.start_in_turn(call):
                self.busy = False
            if self.waiting and not self.busy and monotonic() > until:
                self._later.ask(self._go_on)  # after other callbacks of the loop
                break

    def _go_on(self) -> None:
        if not self.busy:
            self.release()
