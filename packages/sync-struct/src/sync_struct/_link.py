"""Links: the connections of a subscriber to its publisher, one at a time.

A link knows how far it got (`heard`, `live`, `over`) and notices when the other end falls silent.
What is said on it concerns its owner.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from pyon.asyncio_connection import Connection
from pyon.framing import Message

from sync_struct._errors import SubscriptionLost
from sync_struct._protocol import control

__all__ = ["Backoff", "Link", "settle"]

_T = TypeVar("_T")

FIRST_WAIT = 0.1
"""Seconds before the first attempt to connect again: a publisher that restarts needs about that."""

LONGEST_WAIT = 10.0
"""Seconds between attempts in the long run: nobody waits longer in front of a dashboard."""


class Backoff:
    """How long to wait before the next attempt to connect: longer each time, never the same.

    Parameters
    ----------
    first, longest : float
        Seconds.
    """

    def __init__(self, first: float = FIRST_WAIT, longest: float = LONGEST_WAIT) -> None:
        self._first = first
        self._longest = longest
        self._next = min(first, longest)

    def wait(self) -> float:
        """Return how long to wait now, in seconds."""
        wait, self._next = self._next, min(2 * self._next, self._longest)
        return wait * random.uniform(0.5, 1.0)  # noqa: S311  # so that a hundred do not come at once

    def reset(self) -> None:
        """Begin anew: the connection stood for a while."""
        self._next = min(self._first, self._longest)


class Link(Connection):
    """One connection to a publisher.

    Parameters
    ----------
    receive : callable
        Called with the link and every message.
    lose : callable
        Called with the link when it is gone, if it has been live; it settles `over`.
    opening : sequence of bytes
        The lines to begin with.
    limit : int
        Bytes of the largest message.

    Attributes
    ----------
    heard : future of bool
        Done when the publisher has sent something (True), or closed the connection before (False).
    live : future of Exception or None
        Done when the callbacks have been told of the structure, or cannot be, for that reason.
    over : future of None
        Done when the connection is gone, and everybody has been told.
    error : Exception or None
        Why we ended it, if it was us.
    teller : task or None
        At work on coroutine callbacks; no message comes meanwhile.
    """

    def __init__(
        self,
        receive: Callable[[Link, Message], None],
        lose: Callable[[Link], None],
        opening: Sequence[bytes],
        *,
        limit: int,
    ) -> None:
        super().__init__(limit=limit)
        self.error: Exception | None = None
        self.teller: asyncio.Task[None] | None = None
        self.heard: asyncio.Future[bool] = self._loop.create_future()
        self.live: asyncio.Future[Exception | None] = self._loop.create_future()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._receive = receive
        self._lose = lose
        self._opening = opening
        self._opened = False
        self._silent = True  # no message has come since the last look
        self._pending = 0  # bytes of a long message that had come then
        self._asked = False  # for a sign of life
        self._pulse: asyncio.TimerHandle | None = None

    def connection_opened(self) -> None:
        """Say what we want."""
        self._opened = True
        for line in self._opening:
            self.send(line)

    def message_received(self, message: Message) -> None:
        """Hand on a message."""
        self._silent = False
        self._receive(self, message)

    def watch(self, interval: float) -> None:
        """Ask for a sign of life after `interval` seconds of silence, and give up after two."""
        if self._pulse is None and not self.closed:
            self._pulse = self._loop.call_later(interval, self._look, interval)

    def _look(self, interval: float) -> None:
        self._pulse = None
        busy = self.teller is not None and not self.teller.done()
        pending, self._pending = self._pending, self.receiver.pending
        if busy or not self._silent or self._pending != pending:
            self._asked = False
        elif self._asked:
            self.fail(SubscriptionLost(f"{self.peername}: silent for {2 * interval} s"))
            return
        else:
            self._asked = True
            self.send(control("ping"))
        self._silent = True
        self.watch(interval)

    def fail(self, error: Exception) -> None:
        """End the connection, for a reason of our own."""
        self.error = error
        self.abort()

    async def end(self) -> None:
        """End the connection, as far as there is one, and wait until it is gone."""
        if self._opened:
            self.abort()
            await self.wait_closed()

    def drop(self) -> None:
        """End the connection, as far as there is one."""
        if self._opened:
            self.abort()

    def connection_closed(self, exc: Exception | None) -> None:
        """Tell who waits, in the right order."""
        if self._pulse is not None:
            self._pulse.cancel()
        if not self.heard.done():
            settle(self.heard, False)
        elif not self.live.done():
            lost = SubscriptionLost(f"{self.peername}: the connection was lost: {exc or 'closed'}")
            settle(self.live, self.error or lost)
        elif self.teller is None or self.teller.done():
            self._lose(self)
        else:
            self.teller.add_done_callback(lambda _: self._lose(self))


def settle(future: asyncio.Future[_T], result: _T) -> None:
    """Set the result of a future, unless it has one or who waited for it was cancelled."""
    if not future.done():
        future.set_result(result)
