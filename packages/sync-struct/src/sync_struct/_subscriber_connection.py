"""The connections of a subscriber to its publisher, one at a time.

A connection knows how far it got (three futures, all of the same kind: done when that is reached,
failed when it never will be), keeps messages that come too early, and notices when the other end
falls silent. What is said on it concerns its owner.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence

from pyon.asyncio_connection import Connection
from pyon.asyncio_tasks import settle, settle_error
from pyon.framing import FramingError, Message

from sync_struct._errors import ProtocolError, SubscriptionLost
from sync_struct._protocol import control

__all__ = ["Refused", "SubscriberConnection"]

WAITING_SIZE = 2**20
"""Bytes of messages that are kept while callbacks are at work, to know how far behind they are.
Beyond that, messages wait in the socket and at the publisher."""


class Refused(SubscriptionLost):
    """The connection was closed before the publisher said anything.

    Attributes
    ----------
    cleanly : bool
        Whether it ended in order, as established publishers end it at a banner of ours, and not by
        a reset.
    """

    def __init__(self, message: str, *, cleanly: bool) -> None:
        super().__init__(message)
        self.cleanly = cleanly


class SubscriberConnection(Connection):
    """One connection to a publisher.

    Parameters
    ----------
    receive : callable
        Called with the connection and each message, in order.
    receive_lines : callable
        Called first with the connection and all lines of one read, if they came whole: see
        `Connection.lines_received`.
    lose : callable
        Called with the connection when it is gone, if it had been `ready`; settles `over`.
    name, where : str
        The notifier, and host and port: for error messages.
    opening : sequence of bytes
        The lines to begin with.
    limit, line_limit : int
        Bytes of the largest message, and of its line.

    Attributes
    ----------
    heard : future of None
        Done when the publisher has said something; fails with `Refused`.
    ready : future of None
        Done when the callbacks have been told of the structure.
    over : future of None
        Done when the connection is gone, and everybody has been told. Never fails.
    error : Exception or None
        Why we ended it, if it was us.
    opening : sequence of bytes
        The lines that it begins with.
    greeted : bool
        For the owner: whether it has handled a message of this connection.
    """

    def __init__(
        self,
        receive: Callable[[SubscriberConnection, Message], None],
        receive_lines: Callable[[SubscriberConnection, str], int],
        lose: Callable[[SubscriberConnection], None],
        name: str,
        where: str,
        opening: Sequence[bytes],
        *,
        limit: int,
        line_limit: int,
    ) -> None:
        super().__init__(limit=limit, line_limit=line_limit)
        self.error: Exception | None = None
        self.greeted = False
        self.heard, self.ready, self.over = (self._loop.create_future() for _ in range(3))
        for milestone in (self.heard, self.ready):  # nobody has to wait for them
            milestone.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._receive, self._receive_lines = receive, receive_lines
        self._lose = lose
        self._name = name
        self._where = where
        self.opening = opening
        self._opened = False
        self._held = False
        self._waiting: deque[tuple[float, Message]] = deque()
        self._waiting_size = 0
        self._in_hand = 0.0  # when the message came that callbacks are at work on
        self._lost: SubscriptionLost | None = None
        self._silent = True  # no message has come since the last look
        self._pending = 0  # bytes of a long message that had come then
        self._asked = False  # for a sign of life
        self._pulse: asyncio.TimerHandle | None = None

    def connection_opened(self) -> None:
        """Say what we want."""
        self._opened = True
        for line in self.opening:
            self.send(line)

    # Messages, which wait while the owner is not ready for them.

    def message_received(self, message: Message) -> None:
        """Hand on a message, now or later."""
        self._silent = False
        if not self.heard.done():
            self.heard.set_result(None)
        if not self._held:
            self._receive(self, message)
            return
        self._waiting.append((time.monotonic(), message))
        self._waiting_size += _size(message)
        if self._waiting_size > WAITING_SIZE:
            self.pause_reading()

    def lines_received(self, lines: str) -> int:
        """See `Connection`."""
        if self._held:
            return 0
        self._silent = False
        return self._receive_lines(self, lines)

    def hold(self) -> None:
        """Hand on no message until `release` is called."""
        self._held = True
        self._in_hand = time.monotonic()

    def release(self) -> None:
        """Hand on the messages that wait, and those that come."""
        self._held = False
        while self._waiting and not self._held:
            came, message = self._waiting.popleft()
            self._waiting_size -= _size(message)
            self._receive(self, message)
            self._in_hand = came
        if not self._held:
            self.resume_reading()
            if self._lost is not None:
                self._finish(self._lost)

    @property
    def lag(self) -> float:
        """Seconds since the oldest message came that has not been dealt with; 0.0 without one."""
        return time.monotonic() - self._in_hand if self._held else 0.0

    # Signs of life.

    def watch(self, interval: float) -> None:
        """Ask for a sign of life after `interval` seconds of silence, and give up after two."""
        if self._pulse is None and not self.closed:
            self._pulse = self._loop.call_later(interval, self._look, interval)

    def _look(self, interval: float) -> None:
        self._pulse = None
        busy = self._waiting_size > WAITING_SIZE  # it is us who do not read
        pending, self._pending = self._pending, self.receiver.pending
        if busy or not self._silent or self._pending != pending:
            self._asked = False
        elif self._asked:
            self.fail(SubscriptionLost(f"{self._where}: silent for {2 * interval} s"))
            return
        else:
            self._asked = True
            self.send(control("ping"))
        self._silent = True
        self.watch(interval)

    # The end.

    def fail(self, error: Exception) -> None:
        """End the connection, for a reason of our own."""
        self.error = self.error or error
        self.drop()

    def drop(self) -> None:
        """End the connection, as far as there is one; messages that wait are forgotten."""
        self._waiting.clear()
        self._waiting_size = 0
        if self._opened:
            self.abort()

    async def end(self) -> None:
        """End the connection, as far as there is one, and wait until it is gone."""
        self.drop()
        if self._opened:
            await self.wait_closed()

    def connection_broken(self, error: FramingError) -> None:
        """Note what the publisher sent that is no message."""
        self.error = ProtocolError(f"{self._where}: {error}")

    def connection_closed(self, exc: Exception | None) -> None:
        """Tell who waits; behind the messages that have come before."""
        if self._pulse is not None:
            self._pulse.cancel()
        if not self.heard.done():
            settle_error(self.heard, self._refusal(exc))
        lost = SubscriptionLost(f"{self._where}: the connection was lost: {exc or 'closed'}")
        lost.__cause__ = exc
        if self._held:
            self._lost = lost
        else:
            self._finish(lost)

    def _finish(self, lost: SubscriptionLost) -> None:
        self._lost = None
        ready = self.ready
        if ready.done() and not ready.cancelled() and not ready.exception():
            self._lose(self)
        else:
            settle_error(self.ready, self.error or lost)
            settle(self.over, None)

    def _refusal(self, exc: Exception | None) -> Exception:
        if self.error is not None:
            return self.error
        if isinstance(exc, ssl.SSLError):
            return Refused(f"{self._where} refused us over TLS: {exc}", cleanly=False)
        refused = Refused(
            f"{self._where} closed the connection without a word: publishers of the established "
            f"protocol do so if they have no notifier {self._name!r}, and those that speak TLS if "
            "the subscriber does not",
            cleanly=exc is None,
        )
        refused.__cause__ = exc
        return refused


def _size(message: Message) -> int:
    return len(message.line) + sum(map(len, message.buffers))
