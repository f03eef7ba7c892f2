"""A stream at the server: what it may send, what it has sent, and its end.

The one idea to keep in mind: two sides touch a stream. One advances the iterator, in the place
of its target, perhaps a thread: it counts what is used up, and appends to `_out`. The event
loop counts what is granted, and sends. Each number and container has one side that changes it, or
is changed in one step, so nothing is locked.

`_stream_turns` advances it; the messages are those of PROTOCOL.md, *Streams*.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from pyon.asyncio_connection import HIGH_WATER, TURN
from pyon.framing import copy_if_shared, frame
from pyon.wire import LINE_SIZE, around, small_text

from pc_rpc._execution import explain
from pc_rpc._failures import text_of
from pc_rpc._protocol import Chunks, _beyond, _size

if TYPE_CHECKING:
    from collections.abc import Callable

    from pc_rpc._execution import Place
    from pc_rpc._failures import Failure
    from pc_rpc._outcome import Outcome
    from pc_rpc._protocol import ServerSide
    from pc_rpc._schedule import Call, Schedule
    from pc_rpc._session import Session

MOST = 16 * 2**10
"""Bytes of a message of small items: its text is read and written at once, and not much later than
its first item was made."""

MOST_IN_TURN = HIGH_WATER // 8
"""Bytes of small items that are made in one turn, or little more."""

SHORT_TURN = 2e-4
"""Seconds of a turn that others wait for: one slow item, or some quick ones, so that many streams
beside each other do not take a turn and a message for each item."""

ROOM = HIGH_WATER // 2
"""Bytes that the client has not taken beyond which a stream waits. Less than what stops the server
from reading, so that small items never keep it from hearing that nobody wants them any more. More
of it costs the event loop a third more for each image: it is written bit by bit."""


class Stream:
    """One stream of a connection. For the event loop's thread, but for what advances it.

    Parameters
    ----------
    call : Call
        The call that has returned the iterator, which is its result. It becomes what the iterator
        has returned or raised.
    owner : Session
        The connection. Its `stream_ended` is called in the end, once.
    place : Place
        Where the iterator runs.
    side : ServerSide
        Encodes items. It is used from worker threads, too.
    describe : callable
        Takes exceptions apart.

    Attributes
    ----------
    schedule : Schedule
        Of the connection; set before it starts.
    wanted : bool
        Somebody wants its items.
    sealed : bool
        No more credit comes.
    closing : bool
        The iterator was closed because nobody wanted its items any more.
    """

    schedule: Schedule

    def __init__(
        self,
        call: Call,
        owner: Session,
        place: Place,
        side: ServerSide,
        describe: Callable[[BaseException], Failure],
    ) -> None:
        self.call = call
        self.wanted = True
        self.sealed = False
        self.closing = False
        self._owner = owner
        self._place = place
        self._lane = None if call.immediate else place.lane
        self._side = side
        self._describe = describe
        self._loop = asyncio.get_running_loop()
        self._iterator = call.take()
        self._items, self._bytes = call.credit or (0, 0)  # granted
        self._used_items = self._used_bytes = 0
        self._longest = min(LINE_SIZE, side.limit // 4)  # bytes of an item that is not alone
        self._most = min(MOST, side.limit // 2)  # bytes of several
        self._full = False  # the client does not read
        self._out: deque[str | Chunks] = deque()  # items as text, and messages of one item
        self._flushes = False  # somebody is about to call `flush`
        self._head = f'{{"id":{call.number},"status":"items","ret":['

    # What advances it uses.

    @property
    def may_go_on(self) -> bool:
        """Whether there is a wish, and credit, for another item."""
        return (
            self.wanted
            and not self._full
            and not (self.schedule.barred and not self.call.immediate)  # by a lease
            and self._used_items < self._items
            and self._used_bytes < self._bytes
        )

    def add(self, box: Outcome) -> None:
        """Take an item out of a box, its only owner, and encode it.

        Before the iterator is advanced: then the driver may write into it again.

        Raises
        ------
        TypeError, RuntimeError, ValueError
            It cannot be encoded, or is beyond the limit.
        """
        text = small_text(box.result)
        self._used_items += 1
        if text is not None and len(text) <= self._longest:
            box.result = None
            self._used_bytes += len(text) + 1
            self._out.append(text)
            return
        chunks = self._encode(box)
        size = _size(chunks)
        if size > self._side.limit:
            raise _beyond("an item", size, self._side.limit)
        self._used_bytes += size
        self._out.append(chunks)

    def _encode(self, box: Outcome) -> Chunks:
        try:
            text, buffers = self._side.features.encode(box.take())
            return copy_if_shared(frame(around(self._head, text, "]}"), buffers))
        except BaseException as error:  # as `ServerSide.reply`
            kind = TypeError if issubclass(type(error), TypeError) else RuntimeError
            raise kind(f"an item cannot be encoded: {text_of(error)}") from None

    def turn_is_over(self, began: float, used: int) -> bool:
        """Say whether others should have their turn: given its begin, and the bytes used before."""
        now, lane = monotonic(), self._lane
        return (
            now > began + TURN
            or (now > began + SHORT_TURN and lane is not None and bool(lane.waiting))
            or self._used_bytes - used > MOST_IN_TURN
        )

    # What the loop does.

    def start(self) -> None:
        """Have the first item made, soon."""
        raise NotImplementedError

    def go(self) -> None:
        """Go on if there is something to do, and nothing is done already."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Have the iterator closed, in its place, as soon as that can be."""
        raise NotImplementedError

    def credit(self, items: int, size: int) -> None:
        """Grant more items and bytes."""
        self._items += items
        self._bytes += size
        self.go()

    def look_for_end(self) -> None:
        """Note that nobody can want another item, where that is so."""
        if self.sealed and (self._used_items >= self._items or self._used_bytes >= self._bytes):
            self.wanted = False

    def flush(self) -> None:
        """Send what there is."""
        self._flushes = False
        out, send = self._out, self._owner.send_chunks
        while out:
            entry = out.popleft()
            if isinstance(entry, str):
                texts, size = [entry], len(entry)
                while out and size < self._most and isinstance(text := out[0], str):
                    out.popleft()
                    texts.append(text)
                    size += len(text)
                entry = self._message(texts, size + len(texts))
            send(entry)
        if not self._full and self._owner.backlog > ROOM:
            self._full = True
            self._place.tasks.start(self._wait_for_client())

    def _message(self, texts: list[str], size: int) -> Chunks:
        """Return the message of small items, which have used up `size` bytes; it uses up more."""
        line = f"{self._head}{','.join(texts)}]}}\n".encode()
        self._bytes -= len(line) - 1 - size
        return [line]

    async def _wait_for_client(self) -> None:
        try:
            await self._owner.drained(ROOM)
        except ConnectionError:
            return
        self._full = False
        self.go()

    def finish(self) -> None:
        """Send what is left, and have the owner hear of the end."""
        self.flush()
        if self.call.error is None or explain(
            self.call,
            self._describe,
            self._place,
            self._explained,
            details=self._side.features.exception_details,
        ):
            self._owner.stream_ended(self)

    def _explained(self, outcome: Any) -> None:
        self._owner.stream_ended(self)
