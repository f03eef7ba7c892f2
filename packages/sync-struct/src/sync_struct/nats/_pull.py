"""Messages of a stream from a sequence on, in batches that the reader requests.

The one idea to keep in mind: at most one request is open, and it is bounded in messages and bytes.
So no buffer of the client library can overflow, however slow the reader is. A message that is lost
nevertheless is detected by the engine's count, and the reader continues after what it has.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, Self

from sync_struct.nats._jetstream import Entry, JetStream, JetStreamError
from sync_struct.nats._layout import Label, Manifest, Subjects

__all__ = ["Pull", "read_snapshot"]

BATCH = 512
"""Messages of one request: at 5,000 a second, ten requests."""

BATCH_SIZE = 8 * 2**20
"""Bytes of one request: the most that a reader holds in memory, besides one step."""

EXPIRY = 30.0
"""Seconds until the engine ends a request without messages."""

HEARTBEAT = 1.0
"""Seconds of silence after which the engine sends a heartbeat."""

SILENCE = 10.0
"""Seconds without any message until the consumer counts as lost: fifty readers of 150 MB each, in
one process, delay each other by some seconds."""

IDLE = 30.0
"""Seconds without a request after which the engine deletes a consumer. A reader whose subscriber
does not read for longer creates another one."""


class Pull:
    """A consumer of a stream, as returned by `open`."""

    def __init__(self, js: JetStream, stream: str, name: str) -> None:
        self._js = js
        self._stream = stream
        self._name = name
        self._inbox = js.inbox()
        self._subscription: Any = None
        self._waiting: deque[Entry] = deque()
        self._changed = asyncio.Event()
        self._request_open = False  # a request is open
        self._request = self._left = 0  # number of the request, and messages it may still bring
        self._count = 0  # messages that the consumer has delivered
        self._failure: str | None = None

    @classmethod
    async def open(cls, js: JetStream, stream: str, subjects: list[str], begin: int) -> Self:
        """Create a consumer of messages with these subjects, from the sequence `begin` on."""
        name = await js.make_consumer(stream, subjects, begin, IDLE)
        pull = cls(js, stream, name)
        pull._subscription = await js.subscribe(f"{pull._inbox}.*", pull._receive)
        return pull

    async def close(self) -> None:
        """Request nothing more; the engine deletes the consumer by itself."""
        if self._subscription is not None:
            await self._js.unsubscribe(self._subscription)

    async def next(self) -> list[Entry]:
        """Wait for messages; return those that have arrived, in order.

        Raises
        ------
        JetStreamError
            The consumer or a message has been lost.
        """
        while not self._waiting:
            if self._failure is not None:
                raise JetStreamError(f"{self._js.where}: {self._stream}: {self._failure}")
            if not self._request_open:
                await self._send_request()
            self._changed.clear()
            try:
                async with asyncio.timeout(SILENCE):
                    await self._changed.wait()
            except TimeoutError:
                raise JetStreamError(f"{self._js.where}: silent for {SILENCE:g} s") from None
        entries = list(self._waiting)
        self._waiting.clear()
        return entries

    async def _send_request(self) -> None:
        self._request_open = True
        self._request += 1
        self._left = BATCH
        request = {
            "batch": BATCH,
            "max_bytes": BATCH_SIZE,
            "expires": round(EXPIRY * 1e9),
            "idle_heartbeat": round(HEARTBEAT * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        reply = f"{self._inbox}.{self._request}"
        await self._js.publish(subject, json.dumps(request).encode(), reply=reply)

    async def _receive(self, message: Any) -> None:
        status = (message.headers or {}).get("Status")
        if status is None:
            self._take(message)
        elif status in ("408", "409"):
            self._end_request(message.subject, message.headers.get("Description", ""))
        elif status == "100":
            self._check(int(message.headers.get("Nats-Last-Consumer", self._count)))
        else:
            self._failure = f"status {status}"
        self._changed.set()

    def _end_request(self, which: str, why: str) -> None:
        """Handle the end of a request; `which` is its reply subject."""
        if "Consumer Deleted" in why or "Leadership" in why or "Shutdown" in why:
            self._failure = why
        elif which == f"{self._inbox}.{self._request}":
            self._request_open = False

    def _check(self, count: int) -> None:
        """Detect a lost message; `count` is the engine's count of messages sent."""
        if count != self._count:
            self._failure = self._failure or f"message {self._count + 1} was lost in transit"

    def _take(self, message: Any) -> None:
        sequence, count, time = _read_reply(message.reply)
        self._check(count - 1)
        self._count = count
        if self._failure is None:
            entry = Entry(sequence, message.subject, message.headers or {}, message.data, time)
            self._waiting.append(entry)
        self._left -= 1
        if not self._left:
            self._request_open = False


def _read_reply(reply: str) -> tuple[int, int, int]:
    """Return the sequence of a message in its stream and in its consumer, and its time."""
    tokens = reply.split(".")
    at = 5 if len(tokens) == 9 else 7  # newer engines insert domain and account before
    return int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 2])


async def read_snapshot(
    js: JetStream, names: Subjects, manifest: Manifest
) -> list[bytes | memoryview] | None:
    """Return the parts of a snapshot; None if one has been deleted."""
    parts: list[Entry] = []
    while True:
        had = len(parts)
        try:
            whole = await _read_parts(js, names, manifest, parts)
        except JetStreamError:
            if len(parts) == had:
                raise
            continue  # after the parts received: many readers at once may delay each other
        data: list[bytes | memoryview] = [part.data for part in parts]
        return data if whole and sum(map(len, data)) == manifest.size else None


async def _read_parts(
    js: JetStream, names: Subjects, manifest: Manifest, parts: list[Entry]
) -> bool:
    """Append the missing parts to `parts`; return whether the snapshot is complete."""
    begin = parts[-1].seq + 1 if parts else manifest.begin
    pull = await Pull.open(js, names.stream, [names.part], begin)
    try:
        while True:
            for entry in await pull.next():
                label = Label.read(entry.headers)
                if entry.seq > manifest.end or label.part != len(parts) + 1:
                    return False
                if (label.stream, label.last) != (manifest.stream, manifest.number):
                    return False  # of another snapshot: ours was lost, and its sequences reused
                parts.append(entry)
                if entry.seq == manifest.end:
                    return True
    finally:
        await pull.close()
