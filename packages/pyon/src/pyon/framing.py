"""Messages on a byte stream, without any I/O: bytes in, messages out; messages in, buffers out.

A message is one line that ends with a single LF (0x0A). On connections that have negotiated raw
buffers, a line that begins with ``{"buffers":[n1,n2,...],`` is followed, directly behind its LF, by
raw buffers of these sizes in bytes. The key is the first one, so that the sizes are found without
parsing the line.

The one idea to keep in mind: a `Receiver` provides the memory for the next bytes (`get_buffer`),
and the owner of the socket has the bytes written there, with `socket.recv_into` in a blocking
client or with `asyncio.BufferedProtocol`. So small messages cost no allocation per read, and raw
buffers are received directly into the memory of the later array. Between messages a receiver needs
no memory of its own, so any number of connections of one thread can share one scratch buffer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from pyon._announcing import BUFFERS_KEY, MAX_BUFFERS, FramingError, announced, frame, frame_size
from pyon._buffer_reader import GATHERED_SIZE, BufferReader, allocate
from pyon._oversize import HEAD_SIZE, OversizeLine
from pyon._ownership import copy_if_shared

__all__ = [
    "DEFAULT_LIMIT",
    "HEAD_SIZE",
    "LONG_LINE",
    "MAX_BUFFERS",
    "REPLY_LINE_LIMIT",
    "REQUEST_LINE_LIMIT",
    "SCRATCH_SIZE",
    "FramingError",
    "Message",
    "Receiver",
    "copy_if_shared",
    "frame",
    "frame_size",
]

DEFAULT_LIMIT = 2 * 2**30
"""Default limit of one message including its raw buffers, in bytes. Arrays of 1 GiB are accepted,
and a peer cannot make us use more memory than this."""

REQUEST_LINE_LIMIT = 32 * 2**20
"""Default limit of a line at a server, in bytes. All connections wait while a line is decoded: for
this size, 0.05 s for base64, 0.1 s for numbers (3 s for nothing but brackets). Larger data is
arrays, which our clients send as raw buffers; clients that send arrays as text are limited to
arrays of 24 MB."""

REPLY_LINE_LIMIT = 256 * 2**20
"""Default limit of a line at a client or subscriber, in bytes; it has requested the data. Arrays of
150 MB are accepted as base64 (4/3 of that), which is how the established servers send them."""

SCRATCH_SIZE = 256 * 2**10
"""Bytes per read. A socket buffer rarely holds more, and twice this size is not faster."""

HANDED_OVER_SIZE = 2**20
"""Bytes from which a line is returned in the memory into which it was received, without a copy."""

LONG_LINE = 4096
"""Bytes beyond which a line is not small: `whole_lines` does not consider it."""

GROWTH_STEP = 4 * 2**20
"""Bytes by which the memory of a long line grows at most: to clear them takes milliseconds, which
is as long as an event loop should be blocked."""

_LF = ord("\n")
_FIRST_GROWTH = 16 * 2**10  # most lines are small, and clearing more memory takes longer


class Message(NamedTuple):
    """One received message.

    Attributes
    ----------
    line : bytes or bytearray
        The line without its LF. A long line is a bytearray to which nothing else refers.
    buffers : sequence of memoryview
        The raw buffers behind the line, in order; writable, each with its own memory.
    oversize : int
        Zero, or the size in bytes of a message beyond the limit. Its content was dropped while it
        was received: `buffers` is empty, and if the line itself was too long, `line` has only its
        first `HEAD_SIZE` bytes. The next message is received normally.
    limit : int
        Zero, or the limit in bytes that the message exceeded.
    """

    line: bytes | bytearray
    buffers: Sequence[memoryview] = ()
    oversize: int = 0
    limit: int = 0

    def take_text(self) -> str | bytes:
        """Return the line for `pyon.decode`, and free the memory of a long line.

        So a line takes no more than twice its length: the bytes and the text, then the text and its
        value. Call this once: of a long line only the first `HEAD_SIZE` bytes remain.
        """
        line = self.line
        if isinstance(line, bytes):
            return line
        try:
            text = line.decode()
        except UnicodeDecodeError:  # `decode` reports the place
            return bytes(line)
        with contextlib.suppress(BufferError):  # there is a memoryview of the line
            del line[HEAD_SIZE:]
        return text


class Receiver:
    r"""Cuts a stream of bytes into messages. Pure state: no socket, no thread, no clock.

    Parameters
    ----------
    limit : int, optional
        Maximum size of one message including its raw buffers, in bytes. May be changed between
        messages.
    line_limit : int or None, optional
        Maximum size of the line of a message, in bytes. None: only `limit` applies. May be changed
        between messages.
    scratch : bytearray, optional
        Memory to receive into while no message is incomplete. Receivers of one thread may share it
        if each calls `detach` before another one's `get_buffer` is called. By default each receiver
        has its own.
    raw_buffers : bool, optional
        Whether lines may announce raw buffers. May be changed between messages.

    Examples
    --------
    >>> receiver = Receiver()
    >>> receiver.feed(b'first\nsec')
    [Message(line=b'first', buffers=(), oversize=0, limit=0)]
    >>> receiver.feed(b'ond\n')
    [Message(line=b'second', buffers=(), oversize=0, limit=0)]
    """

    __slots__ = (
        "_data",
        "_end",
        "_lent",
        "_oversize",
        "_reader",
        "_scanned",
        "_scratch",
        "_start",
        "_view",
        "limit",
        "line_limit",
        "raw_buffers",
    )

    def __init__(
        self,
        *,
        limit: int = DEFAULT_LIMIT,
        line_limit: int | None = None,
        scratch: bytearray | None = None,
        raw_buffers: bool = False,
    ) -> None:
        self.limit = limit
        self.line_limit = line_limit
        self.raw_buffers = raw_buffers
        self._scratch = bytearray(SCRATCH_SIZE) if scratch is None else scratch
        self._lent = memoryview(b"")
        self._oversize: OversizeLine | None = None
        self._reader: tuple[BufferReader, Message] | None = None  # and the message without buffers
        self._leave_own_memory()

    def _leave_own_memory(self) -> None:
        # data[start:end] is received and not consumed; data[start:scanned] contains no LF.
        self._data = self._scratch
        self._view: memoryview | None = None
        self._start = self._end = self._scanned = 0

    def _most(self) -> int:
        """Return the effective limit of a line, in bytes."""
        line_limit = self.line_limit
        return self.limit if line_limit is None or line_limit > self.limit else line_limit

    @property
    def pending(self) -> int:
        """Bytes received of an incomplete message. Nonzero at the end of the stream: it was cut."""
        unfinished = self._end - self._start
        if self._reader is not None:
            reader, message = self._reader
            unfinished += len(message.line) + reader.received
        if self._oversize is not None:
            unfinished += self._oversize.size
        return unfinished

    def get_buffer(self, sizehint: int = -1) -> memoryview:
        """Return the memory for the next bytes, never empty.

        To be called after `next_message` has returned None. The memory must not be used after
        `buffer_updated` has been called.

        Parameters
        ----------
        sizehint : int, optional
            Ignored; `asyncio.BufferedProtocol` passes it.
        """
        if self._start == self._end:
            if self._reader is not None:
                return self._reader[0].remaining()
            if self._data is not self._scratch:
                self._leave_own_memory()
            self._start = self._end = self._scanned = 0
        elif self._data is self._scratch:
            held = self._end - self._start
            self._move_to_own_memory(max(2 * held, _FIRST_GROWTH))
        elif self._end == len(self._data):
            self._grow()
        if self._view is None:
            self._view = memoryview(self._data)
        self._lent = self._view[self._end :]
        return self._lent

    def _move_to_own_memory(self, size: int) -> None:
        """Move the unconsumed bytes to `size` bytes of memory that no other receiver uses."""
        held = self._end - self._start
        data = bytearray(size)
        data[:held] = memoryview(self._data)[self._start : self._end]
        self._data, self._view = data, None
        self._scanned -= self._start
        self._start, self._end = 0, held

    def _grow(self) -> None:
        """Extend the memory behind the unconsumed bytes, in place.

        The allocators of Linux and macOS move large memory by remapping its pages.
        """
        room = min(self._end, GROWTH_STEP)
        try:
            self._release_memory()
            del self._data[: self._start]
            self._data += bytes(room)
        except BufferError:  # an event loop written in C still refers to it
            self._move_to_own_memory(self._end - self._start + room)
        else:
            self._scanned -= self._start
            self._start, self._end = 0, self._end - self._start

    def _release_memory(self) -> None:
        """Release the memoryviews of the memory, so that its size can change."""
        self._lent.release()
        if self._view is not None:
            self._view.release()
            self._view = None

    def buffer_updated(self, nbytes: int) -> None:
        """Record that `nbytes` bytes were written to the memory that `get_buffer` returned last."""
        if self._reader is not None and self._start == self._end:
            self._reader[0].advance(nbytes)
        else:
            self._end += nbytes

    def whole_lines(self, nbytes: int) -> str | None:
        """Return the bytes just written to the memory of `get_buffer`, if they are whole lines.

        The lines must be ASCII, the first one no longer than `LONG_LINE`, and no earlier bytes may
        be unconsumed; otherwise the result is None. This consumes nothing. If the caller handles
        all of the lines, no further call is needed. Otherwise it must call `buffer_updated` with
        all of the bytes, and then `skip` with the number of bytes that it has handled.
        """
        if self._end or self._reader is not None or self._oversize is not None:
            return None
        if nbytes > LONG_LINE and self._data.find(b"\n", 0, LONG_LINE + 1) < 0:
            return None
        data = self._lent[:nbytes]
        if data[-1] != _LF:
            return None
        try:
            return str(data, "ascii")
        except UnicodeDecodeError:
            return None

    def skip(self, nbytes: int) -> None:
        """Consume bytes of whole lines that were handled already: see `whole_lines`."""
        self._start += nbytes
        self._scanned = self._start

    def detach(self) -> None:
        """Leave the shared scratch: unconsumed bytes are moved to the receiver's own memory.

        Own memory that is no longer needed is freed.
        """
        if self._data is not self._scratch:
            if self._start == self._end:
                self._leave_own_memory()
        elif self._start != self._end:
            self._move_to_own_memory(self._end - self._start)

    def next_message(self) -> Message | None:
        """Return the next message, or None if more bytes are needed.

        Raises
        ------
        FramingError
            Raw buffers were announced in an invalid form.
        """
        while True:
            if self._reader is not None:
                return self._read_buffers()
            if self._start == self._end:
                return None
            newline = self._data.find(b"\n", self._scanned, self._end)
            if newline < 0:
                self._scanned = self._end
                self._note_oversize_line()
                return None
            line = self._take_line(newline)
            size = len(line)
            if self._oversize is not None:
                (line, size), self._oversize = self._oversize.end(line), None
            most = self._most()
            if not (self.raw_buffers and line.startswith(BUFFERS_KEY)):
                return Message(line) if size <= most else Message(line[:HEAD_SIZE], (), size, most)
            message = self._expect_buffers(line, size, most)
            if message is not None:
                return message

    def _take_line(self, newline: int) -> bytes | bytearray:
        """Consume a line and its LF; a long line is returned in its memory, without a copy."""
        size = newline - self._start
        if size >= HANDED_OVER_SIZE and self._data is not self._scratch and not self._start:
            line = self._data
            behind = bytearray(memoryview(line)[newline + 1 : self._end])
            with contextlib.suppress(BufferError):  # as in _grow
                self._release_memory()
                del line[newline:]
                self._leave_own_memory()
                if behind:
                    self._data, self._end = behind, len(behind)
                return line
        taken = bytes(memoryview(self._data)[self._start : newline])
        self._start = self._scanned = newline + 1
        return taken

    def _expect_buffers(self, line: bytes | bytearray, size: int, most: int) -> Message | None:
        """Begin to receive the raw buffers that a line announces, or to drop them.

        A single buffer that arrived in the same read is taken at once: most images arrive so.
        """
        sizes = announced(line)
        total = size + sum(sizes)
        beyond = most if size > most else self.limit if total > self.limit else 0
        begin, end = self._start, self._start + sizes[0]
        if len(sizes) == 1 and sizes[0] > GATHERED_SIZE and end <= self._end and not beyond:
            memory = allocate(sizes[0])
            memory[:] = memoryview(self._data)[begin:end]
            self._start = self._scanned = end
            return Message(line, (memory,))
        message = Message(line)
        if beyond:
            message = Message(line if size <= most else line[:HEAD_SIZE], (), total, beyond)
        self._reader = BufferReader(sizes, dropped=bool(beyond)), message
        return None

    def _read_buffers(self) -> Message | None:
        """Consume received bytes of raw buffers; return the message if it is complete."""
        assert self._reader is not None
        reader, message = self._reader
        while reader.missing and self._start != self._end:
            target = reader.remaining()
            size = min(len(target), self._end - self._start)
            target[:size] = memoryview(self._data)[self._start : self._start + size]
            reader.advance(size)
            self._start += size
        self._scanned = self._start
        if reader.missing:
            return None
        self._reader = None
        return message if message.oversize else message._replace(buffers=reader.buffers())

    def _note_oversize_line(self) -> None:
        """Drop the received part of an incomplete line if it is beyond the limit."""
        if self._oversize is None:
            if self._end - self._start <= self._most():
                return
            self._oversize = OversizeLine()
        self._oversize.drop(memoryview(self._data)[self._start : self._end])
        self._start = self._end

    def feed(self, data: bytes) -> list[Message]:
        """Receive `data` and return the messages that it completes: for tests and small tools."""
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
