"""The connections of a subscriber to its publisher, one at a time.

A connection records its progress in three futures, each done when a stage is reached and failed
when it cannot be reached any more. It queues messages while callbacks run, and detects silence of
the publisher. Its owner handles the messages.
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
"""Bytes of messages that are queued while callbacks run, in order to measure their lag. Beyond
that, messages wait in the socket and at the publisher."""


class Refused(SubscriptionLost):
    """The connection was closed before the publisher sent anything.

    Attributes
    ----------
    cleanly : bool
        Whether it was closed in order, as established publishers do after our banner, and not by a
        reset.
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
        Called first with the connection and all lines of one read, if they are complete: see
        `Connection.lines_received`.
    lose : callable
        Called with the connection when it is closed, if it had been `ready`; settles `over`.
    name, where : str
        Name of the notifier, and host and port, for error messages.
    opening : sequence of bytes
        The first lines to send.
    limit, line_limit : int
        Bytes of the largest message, and of its line.

    Attributes
    ----------
    answered : future of None
        Done when the first message has arrived; fails with `Refused`.
    ready : future of None
        Done when callbacks have been called with the structure.
    over : future of None
        Done when the connection is closed and callbacks have been called. Never fails.
    error : Exception or None
        The reason, if this end has closed the connection.
    opening : sequence of bytes
        The first lines to send.
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
        self.answered, self.ready, self.over = (self._loop.create_future() for _ in range(3))
        for milestone in (self.answered, self.ready):  # an exception need not be retrieved
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
        self._handling_since = 0.0  # arrival of the message that callbacks are handling
        self._lost: SubscriptionLost | None = None
        self._silent = True  # no message has arrived since the last check
        self._pending = 0  # bytes received of an incomplete message at the last check
        self._pinged = False
        self._heartbeat: asyncio.TimerHandle | None = None

    def connection_opened(self) -> None:
        """Send the first lines."""
        self._opened = True
        for line in self.opening:
            self.send(line)

    # Messages, which are queued while the owner cannot handle them.

    def message_received(self, message: Message) -> None:
        """Pass on a message, or queue it."""
        self._silent = False
        if not self.answered.done():
            self.answered.set_result(None)
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
        """Queue messages until `release` is called."""
        self._held = True
        self._handling_since = time.monotonic()

    def release(self) -> None:
        """Pass on the queued messages, and all later ones."""
        self._held = False
        while self._waiting and not self._held:
            came, message = self._waiting.popleft()
            self._waiting_size -= _size(message)
            self._receive(self, message)
            self._handling_since = came
        if not self._held:
            self.resume_reading()
            if self._lost is not None:
                self._finish(self._lost)

    @property
    def lag(self) -> float:
        """Seconds since the arrival of the oldest unfinished message; 0.0 if there is none."""
        return time.monotonic() - self._handling_since if self._held else 0.0

    # Heartbeat.

    def watch(self, interval: float) -> None:
        """Send a ping after `interval` seconds of silence; fail after another interval."""
        if self._heartbeat is None and not self.closed:
            self._heartbeat = self._loop.call_later(interval, self._check_silence, interval)

    def _check_silence(self, interval: float) -> None:
        self._heartbeat = None
        busy = self._waiting_size > WAITING_SIZE  # reading is paused at this end
        pending, self._pending = self._pending, self.receiver.pending
        if busy or not self._silent or self._pending != pending:
            self._pinged = False
        elif self._pinged:
            self.fail(SubscriptionLost(f"{self._where}: silent for {2 * interval} s"))
            return
        else:
            self._pinged = True
            self.send(control("ping"))
        self._silent = True
        self.watch(interval)

    # Closing.

    def fail(self, error: Exception) -> None:
        """Close the connection because of an error at this end."""
        self.error = self.error or error
        self.drop()

    def drop(self) -> None:
        """Abort the connection, if it was opened; drop queued messages."""
        self._waiting.clear()
        self._waiting_size = 0
        if self._opened:
            self.abort()

    async def end(self) -> None:
        """Abort the connection, if it was opened, and wait until it is closed."""
        self.drop()
        if self._opened:
            await self.wait_closed()

    def connection_broken(self, error: FramingError) -> None:
        """Record that the publisher sent invalid data."""
        self.error = ProtocolError(f"{self._where}: {error}")

    def connection_closed(self, exc: Exception | None) -> None:
        """Settle the futures; but first, queued messages are handled."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if not self.answered.done():
            settle_error(self.answered, self._refusal(exc))
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
            f"{self._where} closed the connection without a reason: publishers of the established "
            f"protocol do so if they have no notifier {self._name!r}, publishers with TLS if the "
            "subscriber does not use it, and servers of another kind, such as a controller",
            cleanly=exc is None,
        )
        refused.__cause__ = exc
        return refused


def _size(message: Message) -> int:
    return len(message.line) + sum(map(len, message.buffers))
