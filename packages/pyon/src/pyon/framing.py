"""Messages on a byte stream, without any I/O: bytes in, messages out; messages in, buffers out.

A message is one line ended by a single LF (0x0A). On connections that negotiated it, a line that
begins with ``{"buffers":[n1,n2,...],`` is followed, right behind its LF, by as many bytes of each
raw buffer; the key comes first so that the lengths are found without parsing the line.

The one idea to keep in mind: a `Receiver` says where the next bytes belong (`get_buffer`), and
whoever owns the socket has them written there: `socket.recv_into` of a blocking client, or
`asyncio.BufferedProtocol`. So small messages cost no allocation per read, and raw buffers are
received straight into the memory of the array to be. Between messages a receiver needs no memory
of its own, so any number of connections of one thread can share one scratch buffer.
"""

from __future__ import annotations

import contextlib
import re
import sys
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pyon import PyonError

__all__ = [
    "DEFAULT_LIMIT",
    "HEAD_SIZE",
    "MAX_BUFFERS",
    "SCRATCH_SIZE",
    "FramingError",
    "Message",
    "Receiver",
    "frame",
    "frame_size",
    "owned",
]

DEFAULT_LIMIT = 2 * 2**30
"""Bytes of one message, its raw buffers included. Arrays of 1 GiB pass, also as base64 text (4/3 of
that); a peer cannot make us fill more memory than this."""

SCRATCH_SIZE = 256 * 2**10
"""Bytes taken per read. A socket buffer rarely holds more; twice as much gains nothing."""

HEAD_SIZE = 1024
"""Bytes kept of a line beyond the limit: enough to recognise which request it was."""

MAX_BUFFERS = 2**16
"""Raw buffers of one message. Each costs an object, however short it is, so the count needs a
bound of its own; a structure with more arrays than this is better sent as one array."""

_BUFFERS_KEY = b'{"buffers":['
_BUFFERS = re.compile(rb'\{"buffers":\[((?:0|[1-9][0-9]{0,17})(?:,(?:0|[1-9][0-9]{0,17}))*)\]')
_LONGEST_ANNOUNCEMENT = len(_BUFFERS_KEY) + MAX_BUFFERS * 19
_FIRST_GROWTH = 16 * 2**10  # most are small, and much memory takes long to clear


class FramingError(PyonError, ValueError):
    """The peer announced raw buffers in a way that cannot be understood: the stream is lost."""


class Message(NamedTuple):
    """One message as it came in.

    Attributes
    ----------
    line : bytes
        The line without its LF.
    buffers : sequence of memoryview
        The raw buffers behind the line, in order; writable, each with memory of its own.
    oversize : int
        Zero, or the size in bytes of a message beyond the limit. Its content was dropped as it came
        in: `buffers` is empty, and of a line that was itself too long, `line` has only the first
        `HEAD_SIZE` bytes. The stream goes on behind it.
    """

    line: bytes
    buffers: Sequence[memoryview] = ()
    oversize: int = 0


class Receiver:
    r"""Cuts a stream of bytes into messages. Pure state: no socket, no thread, no clock.

    Parameters
    ----------
    limit : int, optional
        Bytes that one message may have. May be changed between messages.
    scratch : bytearray, optional
        Memory to receive into while no message is unfinished. Receivers that run in one thread may
        share it, if each calls `detach` before another one's `get_buffer`. By default each receiver
        has one of its own.
    raw_buffers : bool, optional
        Whether lines may announce raw buffers. May be changed between messages.

    Examples
    --------
    >>> receiver = Receiver()
    >>> receiver.feed(b'first\nsec')
    [Message(line=b'first', buffers=(), oversize=0)]
    >>> receiver.feed(b'ond\n')
    [Message(line=b'second', buffers=(), oversize=0)]
    """

    __slots__ = (
        "_data",
        "_end",
        "_filling",
        "_scanned",
        "_scratch",
        "_skipping",
        "_start",
        "_view",
        "limit",
        "raw_buffers",
    )

    def __init__(
        self,
        *,
        limit: int = DEFAULT_LIMIT,
        scratch: bytearray | None = None,
        raw_buffers: bool = False,
    ) -> None:
        self.limit = limit
        self.raw_buffers = raw_buffers
        self._scratch = bytearray(SCRATCH_SIZE) if scratch is None else scratch
        self._filling: _Filling | None = None
        self._skipping: _Skipping | None = None
        self._leave_own_memory()

    def _leave_own_memory(self) -> None:
        # data[start:end] is what came in and was not consumed; no LF is in data[start:scanned].
        self._data = self._scratch
        self._view: memoryview | None = None
        self._start = self._end = self._scanned = 0

    @property
    def pending(self) -> int:
        """Bytes in hand of a message that is not complete. Nonzero at the end: it was cut."""
        unfinished = self._end - self._start
        if self._filling is not None:
            unfinished += self._filling.received
        if self._skipping is not None:
            unfinished += self._skipping.dropped
        return unfinished

    def get_buffer(self, sizehint: int = -1) -> memoryview:
        """Return the memory that the next bytes are to be written to, never empty.

        To be called when `next_message` has returned None. Not to be touched any more when
        `buffer_updated` has been called.

        Parameters
        ----------
        sizehint : int, optional
            Ignored; here because `asyncio.BufferedProtocol` passes one.
        """
        if self._filling is not None and self._start == self._end:
            return self._filling.remaining()
        if self._start == self._end:
            if self._data is not self._scratch:
                self._leave_own_memory()
            self._start = self._end = self._scanned = 0
        elif self._data is self._scratch or self._end == len(self._data):
            self._grow()
        if self._view is None:
            self._view = memoryview(self._data)
        return self._view[self._end :]

    def _grow(self) -> None:
        """Move the unconsumed bytes to memory of our own, with as much room behind them."""
        held = self._end - self._start
        data = bytearray(max(2 * held, _FIRST_GROWTH))
        data[:held] = memoryview(self._data)[self._start : self._end]
        self._data, self._view = data, None
        self._scanned -= self._start
        self._start, self._end = 0, held

    def buffer_updated(self, nbytes: int) -> None:
        """Take note that `nbytes` bytes were written to what `get_buffer` returned last."""
        if self._filling is not None and self._start == self._end:
            self._filling.advance(nbytes)
        else:
            self._end += nbytes

    def detach(self) -> None:
        """Leave the shared scratch: what was not consumed moves to memory of its own.

        Memory of its own that is not needed any more is given back.
        """
        if self._data is not self._scratch:
            if self._start == self._end:
                self._leave_own_memory()
        elif self._start != self._end:
            held = self._end - self._start
            data = bytearray(memoryview(self._data)[self._start : self._end])
            self._data, self._view = data, None
            self._scanned -= self._start
            self._start, self._end = 0, held

    def next_message(self) -> Message | None:
        """Return the next message, or None if more bytes are needed.

        Raises
        ------
        FramingError
            Raw buffers were announced in a form that cannot be understood.
        """
        while True:
            if self._filling is not None:
                return self._continue_filling()
            if self._start == self._end:
                return None
            newline = self._data.find(b"\n", self._scanned, self._end)
            if newline < 0:
                self._scanned = self._end
                self._note_oversize_line()
                return None
            line = bytes(memoryview(self._data)[self._start : newline])
            self._start = self._scanned = newline + 1
            size = len(line)
            if self._skipping is not None:
                skipped, self._skipping = self._skipping, None
                skipped.drop(line)
                line, size = bytes(skipped.head), skipped.dropped
            kept = line if size <= self.limit else line[:HEAD_SIZE]
            if not (self.raw_buffers and line.startswith(_BUFFERS_KEY)):
                return Message(kept, (), size if size > self.limit else 0)
            self._filling = _Filling(kept, size, _announced(line), self.limit)

    def _note_oversize_line(self) -> None:
        """Drop what is in hand of a line that is beyond the limit already."""
        held = self._end - self._start
        if self._skipping is None:
            if held <= self.limit:
                return
            self._skipping = _Skipping()
        self._skipping.drop(memoryview(self._data)[self._start : self._end])
        self._start = self._end

    def _continue_filling(self) -> Message | None:
        filling = self._filling
        assert filling is not None
        while self._start != self._end and not filling.complete:
            target = filling.remaining()
            size = min(len(target), self._end - self._start)
            target[:size] = memoryview(self._data)[self._start : self._start + size]
            filling.advance(size)
            self._start += size
        self._scanned = self._start
        if not filling.complete:
            return None
        self._filling = None
        return filling.message()

    def feed(self, data: bytes) -> list[Message]:
        """Take in `data` and return the messages that it completes: for tests and small tools."""
        messages = []
        rest = memoryview(data)
        while rest:
            target = self.get_buffer()
            size = min(len(target), len(rest))
            target[:size] = rest[:size]
            self.buffer_updated(size)
            rest = rest[size:]
            while (message := self.next_message()) is not None:
                messages.append(message)
        return messages


class _Skipping:
    """A line beyond the limit that is being dropped until its LF."""

    __slots__ = ("dropped", "head")

    def __init__(self) -> None:
        self.head = bytearray()  # with all of what it says about raw buffers: they come behind it
        self.dropped = 0

    def drop(self, data: bytes | memoryview) -> None:
        kept = 0
        for room in (HEAD_SIZE, _LONGEST_ANNOUNCEMENT):
            if len(self.head) < room and (room == HEAD_SIZE or self._announcing()):
                more = data[kept : kept + room - len(self.head)]
                self.head += more
                kept += len(more)
        self.dropped += len(data)

    def _announcing(self) -> bool:
        return self.head.startswith(_BUFFERS_KEY) and b"]" not in self.head


class _Filling:
    """The raw buffers of one message while they come in (or are dropped, beyond the limit)."""

    __slots__ = (
        "_buffers",
        "_drain",
        "_lent",
        "_line",
        "_missing",
        "_position",
        "_size",
        "_target",
    )

    def __init__(self, line: bytes, line_size: int, sizes: list[int], limit: int) -> None:
        self._line = line
        self._size = line_size + sum(sizes)
        self._missing = sum(sizes)
        self._drain = bytearray(SCRATCH_SIZE) if self._size > limit else None
        self._buffers = [] if self._drain is not None else [_allocate(size) for size in sizes]
        self._target = -1  # index of the buffer being filled; -1: none yet
        self._position = 0
        self._lent = memoryview(b"")
        self._next_target()

    def _next_target(self) -> None:
        """Go to the next buffer that has room."""
        self._position = 0
        self._target += 1
        while self._target < len(self._buffers) and not len(self._buffers[self._target]):
            self._target += 1

    @property
    def complete(self) -> bool:
        return not self._missing

    @property
    def received(self) -> int:
        return self._size - self._missing

    def remaining(self) -> memoryview:
        if self._drain is not None:
            self._lent = memoryview(self._drain)[: self._missing]
        else:
            self._lent = self._buffers[self._target][self._position :]
        return self._lent

    def advance(self, nbytes: int) -> None:
        with contextlib.suppress(BufferError):  # an event loop may hold it still
            self._lent.release()  # the memory is the message's alone: see `owned`
        self._missing -= nbytes
        if self._drain is None:
            self._position += nbytes
            if self._position == len(self._buffers[self._target]):
                self._next_target()

    def message(self) -> Message:
        if self._drain is not None:
            return Message(self._line, (), self._size)
        return Message(self._line, self._buffers)


def _announced(line: bytes) -> list[int]:
    """Return the sizes of the raw buffers that a line announces, in bytes."""
    match = _BUFFERS.match(line)
    if match is None or match[1].count(b",") >= MAX_BUFFERS:
        raise FramingError(
            f"expected the sizes of at most {MAX_BUFFERS} raw buffers, got {line[:60]!r}"
        )
    return [int(size) for size in match[1].split(b",")]


def _allocate(size: int) -> memoryview:
    """Return `size` bytes of fresh memory.

    `numpy.empty` maps large memory in huge pages and does not clear it: 64 MiB in 10 ms against
    42 ms for a bytearray. What comes in raw is numpy data, so numpy is needed anyway.
    """
    import numpy as np

    return np.empty(size, np.uint8).data


def frame(line: str | bytes, buffers: Sequence[memoryview] = ()) -> list[bytes | memoryview]:
    r"""Return one message as the buffers to write, in order.

    Parameters
    ----------
    line : str or bytes
        The text, without a line end. With `buffers` it must be a JSON object with at least one key.
    buffers : sequence of memoryview, optional
        Raw buffers: contiguous, of bytes. They are passed on as they are, not copied.

    Examples
    --------
    >>> frame('{"action":"call"}', [memoryview(b"abc")])[0]
    b'{"buffers":[3],"action":"call"}\n'
    """
    data = line.encode() if isinstance(line, str) else line
    if not buffers:
        return [data + b"\n"]
    if len(buffers) > MAX_BUFFERS:
        raise ValueError(f"expected at most {MAX_BUFFERS} raw buffers, got {len(buffers)}")
    if not data.startswith(b'{"'):
        raise ValueError(f"raw buffers go with a JSON object, got {data[:40]!r}")
    sizes = b",".join(b"%d" % len(buffer) for buffer in buffers)
    return [b"%b%b],%b\n" % (_BUFFERS_KEY, sizes, data[1:]), *buffers]


def owned(chunks: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """Return the result of `frame` with copies of the raw buffers, unless nobody can change them.

    For who sends later what its owner may write into again: a driver that acquires goes on writing
    into the array that it returned. An array that the driver has let go of is not copied: who calls
    this must have let go of it, too.
    """
    if len(chunks) == 1:
        return chunks
    return [
        chunk if isinstance(chunk, bytes) or _alone(chunk) else _copy(chunk) for chunk in chunks
    ]


def _alone(buffer: memoryview) -> bool:
    """Say whether nobody can write into a buffer: it is bytes, or nothing else leads to its memory.

    Whatever may write into the memory of an array holds a reference to that array or to one that it
    is a view of, so all of these have one holder here. Memory of other kinds has other ways in.
    """
    if type(buffer.obj) is bytes:
        return True
    import numpy as np

    holder: Any = buffer
    name = "obj"
    while _ONE_HOLDER and _references(holder, name) <= _ONE_HOLDER:
        holder, name = getattr(holder, name), "base"
        if type(holder) is not np.ndarray or weakref.getweakrefcount(holder):
            return False
        if holder.base is None:
            return holder.flags.owndata
    return False


def _references(holder: object, name: str) -> int:
    """Count the references to an attribute, one or two of our own included."""
    attribute = getattr(holder, name)
    return sys.getrefcount(attribute)


# Counted by the same function as the others, for interpreters differ in how many are its own.
_ONE_HOLDER = _references(memoryview(bytearray()), "obj") if hasattr(sys, "getrefcount") else 0


def _copy(buffer: memoryview) -> memoryview:
    copy = _allocate(len(buffer))
    copy[:] = buffer
    return copy


def frame_size(chunks: Iterable[bytes | memoryview]) -> int:
    """Return how many bytes the result of `frame` has on the wire."""
    return sum(map(len, chunks))
