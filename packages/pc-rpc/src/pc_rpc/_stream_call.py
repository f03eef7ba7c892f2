"""A call whose result comes item by item, at the client: what is queued, and what may still come.

The one idea to keep in mind: the server sends no more than it has credit for, in items and in
bytes. Credit is given back when items are taken out of the queue, in bulk. So the queue is bounded
by what the client has allowed, and a server that runs ahead of its reader stops.

Pure state that both clients share; the messages are those of PROTOCOL.md, *Streams*.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from pyon.framing import Message, frame

from pc_rpc._call import Call

if TYPE_CHECKING:
    from pc_rpc._protocol import Chunks

MOST_ITEMS = 1000
"""Items that a server may be ahead of the reader: enough that small ones fill several messages."""

MOST_BYTES = 8 * 2**20
"""Bytes that it may be ahead: two images of a large camera, or sixteen of a small one."""

_ITEMS = re.compile(rb'\{(?:"buffers":\[[0-9,]*\],)?"id":[0-9]{1,18},"status":"items",')


class StreamCall(Call):
    """A call that is answered by messages with items, and by its reply behind them.

    Attributes
    ----------
    parts : deque of Message
        What came and was not taken.
    allowed : tuple of int
        Items and bytes that the server may be ahead.
    """

    __slots__ = ("_came", "_gone", "_items", "_size", "allowed", "parts")

    def __init__(self, number: int, what: str, allowed: tuple[int, int]) -> None:
        self.parts: deque[Message] = deque()
        super().__init__(number, what)
        self.allowed = allowed
        self._items = self._size = 0  # that were taken, and not yet given back
        self._came = self._gone = 0  # bytes, of all that is no reply: written by one thread each

    @property
    def reply(self) -> Message | None:
        """The next message, None while there is none. Setting it queues one, or takes it out."""
        return self.parts[0] if self.parts else None

    @reply.setter
    def reply(self, message: Message | None) -> None:
        if message is not None:
            self._came += size_of(message)
            self.parts.append(message)
        elif self.parts:
            self._gone += size_of(self.parts.popleft())

    @property
    def overrun(self) -> bool:
        """Whether as much is queued as the server may send, so that it must not send more."""
        items, size = self.allowed
        return len(self.parts) >= items or self._came - self._gone >= size

    @property
    def at_end(self) -> bool:
        """Whether the next message is the reply, behind all items."""
        message = self.reply
        return message is not None and not has_items(message)

    def forget(self) -> None:
        """Drop what came and was not taken, but for the reply."""
        while self.reply is not None and not self.at_end:
            self.reply = None

    def taken(self, items: int, size: int) -> None:
        """Note that a message was taken, with so many items and bytes."""
        self._items += items
        self._size += size

    def credit(self) -> Chunks:
        """Return the message that gives back what was taken; nothing while that is little."""
        items, size = self.allowed
        if 2 * self._items < items and 2 * self._size < size:
            return ()
        given = f'"credit":[{self._items},{self._size}]'
        self._items = self._size = 0
        return frame(f'{{"action":"credit","request":{self.number},{given}}}')


def size_of(message: Message) -> int:
    """Return the bytes that a message costs."""
    return len(message.line) + sum(map(len, message.buffers))


def has_items(message: Message) -> bool:
    """Say whether a message has items of a stream: then it is not the last one."""
    return _ITEMS.match(message.line) is not None
