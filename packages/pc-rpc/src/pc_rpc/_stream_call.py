"""The call of a stream, at the client: the queue of its messages, and its credit.

The one idea to keep in mind: the server sends no more than it has credit for, in items and in
bytes. Credit is given back in bulk, when items are taken out of the queue. So the queue is bounded
by the credit, and a server that is ahead of its reader pauses.

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
"""Items that a server may be ahead of the reader: small ones fill several messages."""

MOST_BYTES = 8 * 2**20
"""Bytes that it may be ahead: two images of a large camera, or sixteen of a small one."""

_ITEMS = re.compile(rb'\{(?:"buffers":\[[0-9,]*\],)?"id":[0-9]{1,18},"status":"items",')


class StreamCall(Call):
    """A call that is answered by messages with items, then by its reply.

    Attributes
    ----------
    parts : deque of Message
        Messages received and not yet taken.
    allowed : tuple of int
        Items and bytes that the server may be ahead.
    """

    __slots__ = ("_items", "_received", "_size", "_taken", "allowed", "parts")

    def __init__(self, number: int, what: str, allowed: tuple[int, int]) -> None:
        self.parts: deque[Message] = deque()
        super().__init__(number, what)
        self.allowed = allowed
        self._items = self._size = 0  # taken, and not yet given back
        self._received = self._taken = 0  # bytes of messages; each is written by one thread only

    @property
    def reply(self) -> Message | None:
        """The next message, None while there is none. Set a message: queue it; None: take one."""
        return self.parts[0] if self.parts else None

    @reply.setter
    def reply(self, message: Message | None) -> None:
        if message is not None:
            self._received += size_of(message)
            self.parts.append(message)
        elif self.parts:
            self._taken += size_of(self.parts.popleft())

    @property
    def overrun(self) -> bool:
        """Whether the queue is as long as the credit, so that the server must not send more."""
        items, size = self.allowed
        return len(self.parts) >= items or self._received - self._taken >= size

    @property
    def at_end(self) -> bool:
        """Whether the next message is the reply, behind all items."""
        message = self.reply
        return message is not None and not has_items(message)

    def forget(self) -> None:
        """Drop the messages in the queue, except the reply."""
        while self.reply is not None and not self.at_end:
            self.reply = None

    def taken(self, items: int, size: int) -> None:
        """Note that a message with so many items and bytes was taken."""
        self._items += items
        self._size += size

    def credit(self) -> Chunks:
        """Return the message that gives credit back; nothing below half of the credit."""
        items, size = self.allowed
        if 2 * self._items < items and 2 * self._size < size:
            return ()
        given = f'"credit":[{self._items},{self._size}]'
        self._items = self._size = 0
        return frame(f'{{"action":"credit","request":{self.number},{given}}}')


def size_of(message: Message) -> int:
    """Return the size of a message in bytes, with its raw buffers."""
    return len(message.line) + sum(map(len, message.buffers))


def has_items(message: Message) -> bool:
    """Return whether a message has items of a stream, and is not the reply."""
    return _ITEMS.match(message.line) is not None
