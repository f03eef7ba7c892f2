"""Writes messages into a stream: in order, acknowledged, by one writer.

The one idea to keep in mind: each message names the sequence and the id of its predecessor. The
sequence is not enough: if a message is refused because another bridge has taken its sequence, the
message after it would fit. So a message arrives only if all before it have arrived. After any
error, the id of the last message in the stream shows which one it is: one of ours, or one of
another bridge, which ends this one.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from pyon.asyncio_tasks import settle

from sync_struct._errors import SyncStructError
from sync_struct.nats._jetstream import NO_STREAM, JetStream, JetStreamError
from sync_struct.nats._layout import LABEL, MESSAGE_ID, Label

__all__ = ["Displaced", "Pipeline"]

WINDOW = 1024
"""Messages that await acknowledgement: a fifth of a second at 5,000 steps a second."""

WINDOW_SIZE = 8 * 2**20
"""Bytes of messages that await acknowledgement."""

ACK_TIMEOUT = 5.0
"""Seconds to wait for an acknowledgement. Syncing a snapshot to a slow disk takes one second."""

RETRY_WAIT = 0.25
"""Seconds between attempts while the engine cannot be reached."""


class Displaced(SyncStructError, RuntimeError):  # noqa: N818
    """Another program has written into the stream, or the stream has lost messages of ours."""


class _Message(NamedTuple):
    place: int
    subject: str
    label: Label | None
    data: bytes
    id: str


class Pipeline:
    """Writes into one stream.

    Parameters
    ----------
    js : JetStream
    stream : str
    seq : int
        Sequence of the last message in the stream.
    on_error : callable
        Called with the error when messages have to be sent again.

    Attributes
    ----------
    writer : str
        First part of the ids of its messages, unique to this writer.
    arrived : int
        Sequence of the last message that was acknowledged.
    """

    def __init__(
        self,
        js: JetStream,
        stream: str,
        seq: int,
        on_error: Callable[[Exception], object] = lambda error: None,
    ) -> None:
        self.writer = secrets.token_hex(8)
        self.arrived = seq
        self._js = js
        self._stream = stream
        self._queue: deque[_Message] = deque()  # not acknowledged
        self._sent = 0  # number of messages at the front of the queue that have been sent
        self._size = 0
        self._on_error = on_error
        self._recovered: int | None = None  # `arrived` at the last recovery
        self._epoch = 0  # counts recoveries; acknowledgements from before the last one are void
        self._changed = asyncio.Event()  # wakes `run`
        self._error: str | None = None
        self._since: float | None = None  # time of the last acknowledgement, or of the first send
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False

    def put(self, place: int, subject: str, data: bytes, label: Label | None = None) -> None:
        """Queue a message; `place` is its sequence, which follows that of the last one queued."""
        self._queue.append(_Message(place, subject, label, data, self._id(place)))
        self._size += len(data)
        self._changed.set()

    def _id(self, place: int) -> str:
        return f"{self.writer}:{place}"

    @property
    def full(self) -> bool:
        """Whether to await `room` before another `put`."""
        return len(self._queue) >= WINDOW or self._size >= WINDOW_SIZE

    async def room(self) -> None:
        """Wait until this is not full."""
        while self.full:
            await self._next_change()

    async def arrival(self, place: int) -> None:
        """Wait until a message is acknowledged."""
        while self.arrived < place:
            await self._next_change()

    def waiting_since(self, now: float) -> float:
        """Return the seconds for which the oldest message has been awaiting acknowledgement."""
        return 0.0 if self._since is None or not self._queue else now - self._since

    async def run(self) -> None:
        """Send the queued messages, until this is cancelled.

        Raises
        ------
        Displaced
            This writer cannot continue.
        """
        inbox = self._js.inbox()
        subscription = await self._js.subscribe(f"{inbox}.*.*", self._acknowledged)
        try:
            while True:
                await self._send(inbox)
                await self._wait()
                if self._error is not None:
                    await self._recover()
        finally:
            await self._js.unsubscribe(subscription)

    async def _send(self, inbox: str) -> None:
        while self._sent < len(self._queue) and self._error is None:
            if self._since is None:
                self._since = _now()
            message = self._queue[self._sent]
            self._sent += 1
            headers = {MESSAGE_ID: message.id}
            headers["Nats-Expected-Last-Sequence"] = str(message.place - 1)
            if message.place - 1 > self.arrived:  # else it has arrived, and may have been purged
                headers["Nats-Expected-Last-Msg-Id"] = self._id(message.place - 1)
            if message.label is not None:
                headers[LABEL] = str(message.label)
            reply = f"{inbox}.{self._epoch}.{message.place}"
            try:
                await self._js.publish(message.subject, message.data, headers, reply)
            except JetStreamError as error:
                self._error = str(error)

    async def _wait(self) -> None:
        """Wait until there is something to do."""
        self._changed.clear()
        if self._error is not None or self._sent < len(self._queue):
            return
        left = None
        if self._since is not None and self._queue:
            left = max(0.0, ACK_TIMEOUT - (_now() - self._since))
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            self._error = f"no acknowledgement within {ACK_TIMEOUT:g} s"

    async def _acknowledged(self, message: Any) -> None:
        *_, epoch, place = message.subject.split(".")
        if int(epoch) != self._epoch:
            return
        try:
            answer = json.loads(message.data)
            error = answer.get("error")
        except ValueError:  # no responders: the status is in the headers
            error = {"description": "no acknowledgement: no stream listens on this subject"}
        if error is None:
            self._advance(int(place))
        elif self._error is None:
            self._error = str(error.get("description", error))
        self._changed.set()

    def _advance(self, place: int) -> None:
        """Record that the messages up to a sequence are in the stream."""
        while self._queue and self._queue[0].place <= place:
            self._size -= len(self._queue.popleft().data)
            self._sent = max(0, self._sent - 1)
        self.arrived = max(self.arrived, place)
        self._since = _now() if self._queue else None
        self._wake()

    async def _recover(self) -> None:
        """Determine which messages have arrived, and send the others again."""
        self._epoch += 1
        reason, self._error = self._error, None
        self._on_error(JetStreamError(f"{self._stream}: {reason}; sending again"))
        if self._recovered == self.arrived:  # no progress since the last recovery
            await asyncio.sleep(RETRY_WAIT)
        self._recovered = self.arrived
        while True:
            try:
                _, last, _ = await self._js.state(self._stream)
                entry = await self._js.at(self._stream, last) if last > self.arrived else None
                break
            except JetStreamError as error:
                if error.code == NO_STREAM:
                    raise Displaced(f"the stream is gone: {error}") from error
                await asyncio.sleep(RETRY_WAIT)
        if last < self.arrived:
            raise Displaced(f"{self._stream} ends at {last}, but had {self.arrived}: {reason}")
        if last > self.arrived:
            theirs = "?" if entry is None else entry.headers.get(MESSAGE_ID, "?")
            if theirs != self._id(last):
                raise Displaced(f"another writer is at work on {self._stream}: {theirs}")
            self._advance(last)
        self._sent = 0
        self._since = None

    def close(self) -> None:
        """Wake all waiting tasks with an error; `run` must have ended."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            settle(waiter, None)

    async def _next_change(self) -> None:
        if not self._closed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self._closed:
            raise JetStreamError(f"{self._stream}: this bridge has stopped writing")


def _now() -> float:
    return asyncio.get_running_loop().time()
