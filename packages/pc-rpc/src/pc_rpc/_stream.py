"""A stream at the server: its credit, the items to send, and its end.

The one idea to keep in mind: two sides use a stream. One advances the iterator, in the place of its
target, perhaps a thread: it counts the used credit, and appends to `_out`. The event loop counts
the granted credit, and sends. Each number and container is changed by one side only, or in one
step, so no lock is needed.

`_stream_turns` advances the iterator; the messages are those of PROTOCOL.md, *Streams*.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from pyon.asyncio_connection import HIGH_WATER, TURN
from pyon.framing import copy_if_shared, frame
from pyon.wire import LINE_SIZE, around, small_text

from pc_rpc._failures import text_of
from pc_rpc._place import explain
from pc_rpc._protocol import Chunks, _beyond, _size

if TYPE_CHECKING:
    from collections.abc import Callable

    from pc_rpc._failures import Failure
    from pc_rpc._outcome import Outcome
    from pc_rpc._place import Place
    from pc_rpc._protocol import ServerSide
    from pc_rpc._schedule import Call, Schedule
    from pc_rpc._session import Session

MOST = 16 * 2**10
"""Maximum size of a message of small items, in bytes: it is encoded in one step, and its first item
is not delayed for long."""

MOST_IN_TURN = HIGH_WATER // 8
"""Size of the items after which a turn ends, in bytes."""

SHORT_TURN = 2e-4
"""Seconds of a turn while others wait: one slow item or several quick ones. Parallel streams then
need no turn and message for each item."""

ROOM = HIGH_WATER // 2
"""Size of unsent data beyond which a stream pauses, in bytes. It is less than `HIGH_WATER`, which
stops reading, so that a cancellation is always read. With a larger value the event loop needs a
third more time for each image, because the image is written in smaller parts."""


class Stream:
    """One stream of a connection. For the event loop's thread, except for advancing the iterator.

    Parameters
    ----------
    call : Call
        The call whose result is the iterator. In the end, its outcome is that of the iterator.
    owner : Session
        The connection. Its `stream_ended` is called once, in the end.
    place : Place
        Where the iterator runs.
    side : ServerSide
        Encodes items, also in worker threads.
    describe : callable
        Describes exceptions.

    Attributes
    ----------
    schedule : Schedule
        The schedule of the connection; set before the stream starts.
    wanted : bool
        Whether the client still reads its items.
    sealed : bool
        Whether no more credit comes.
    closing : bool
        Whether the iterator was closed before its end.
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
        self._longest = min(LINE_SIZE, side.limit // 4)  # bytes of an item that shares a message
        self._most = min(MOST, side.limit // 2)  # bytes of a message of several items
        self._full = False  # whether too much data is unsent
        self._out: deque[str | Chunks] = deque()  # items as text, and messages of one item
        self._flushes = False  # whether `flush` is scheduled
        self._head = f'{{"id":{call.number},"status":"items","ret":['

    # For the side that advances the iterator.

    @property
    def may_continue(self) -> bool:
        """Whether another item is wanted, and there is credit and room for it."""
        return (
            self.wanted
            and not self._full
            and not (self.schedule.barred and not self.call.immediate)  # by a lease
            and self._used_items < self._items
            and self._used_bytes < self._bytes
        )

    def add(self, box: Outcome) -> None:
        """Take an item out of its only owner, and encode it.

        It is encoded before the iterator is advanced, because the driver may write into it then.

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
        """Say whether a turn must end; given its begin, and the bytes of credit used before it."""
        now, lane = monotonic(), self._lane
        return (
            now > began + TURN
            or (now > began + SHORT_TURN and lane is not None and bool(lane.waiting))
            or self._used_bytes - used > MOST_IN_TURN
        )

    # For the event loop.

    def start(self) -> None:
        """Schedule the first turn."""
        raise NotImplementedError

    def resume(self) -> None:
        """Resume the stream, if it may continue and does not run."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Have the iterator closed, in its place, as soon as possible."""
        raise NotImplementedError

    def credit(self, items: int, size: int) -> None:
        """Grant more items and bytes."""
        self._items += items
        self._bytes += size
        self.resume()

    def end_if_exhausted(self) -> None:
        """End the stream if its credit is used up and no more comes."""
        if self.sealed and (self._used_items >= self._items or self._used_bytes >= self._bytes):
            self.wanted = False

    def flush(self) -> None:
        """Send the items that were made; pause the stream if the client does not read."""
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
        """Return a message of small items; use credit for the rest of the line, beyond `size`."""
        line = f"{self._head}{','.join(texts)}]}}\n".encode()
        self._bytes -= len(line) - 1 - size
        return [line]

    async def _wait_for_client(self) -> None:
        try:
            await self._owner.drained(ROOM)
        except ConnectionError:
            return
        self._full = False
        self.resume()

    def finish(self) -> None:
        """Send the remaining items, and notify the owner of the end."""
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
