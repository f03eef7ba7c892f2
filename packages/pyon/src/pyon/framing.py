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
"""Bytes of one message, its raw buffers included. Arrays of 1 GiB pass; a peer cannot make us fill
more memory than this."""

REQUEST_LINE_LIMIT = 32 * 2**20
"""Bytes of a line that a server takes by default. Everybody waits while a line is decoded: 0.05 s
for this much base64, 0.1 s for numbers (3 s for nothing but brackets). What is larger is an array,
and comes as a raw buffer from clients of ours; clients that write arrays as text have 24 MB."""

REPLY_LINE_LIMIT = 256 * 2**20
"""Bytes of a line that a client or subscriber takes by default: it has asked for it. Arrays of
150 MB pass as base64 (4/3 of that), which is how servers of the established stack send them."""

SCRATCH_SIZE = 256 * 2**10
"""Bytes taken per read. A socket buffer rarely holds more; twice as much gains nothing."""

HANDED_OVER_SIZE = 2**20
"""Bytes from which a line is handed over in the memory that it came into, not copied."""

LONG_LINE = 4096
"""Bytes from which a line is no small one. It is not worth a look if it may be handled at once."""

GROWTH_STEP = 4 * 2**20
"""Bytes by which the memory of a long line grows at most: clearing them takes milliseconds, and
no event loop is to wait longer for that."""

_LF = ord("\n")
_FIRST_GROWTH = 16 * 2**10  # most are small, and much memory takes long to clear


class Message(NamedTuple):
    """One message as it came in.

    Attributes
    ----------
    line : bytes or bytearray
        The line without its LF. A long one is a bytearray that is the receiver's alone.
    buffers : sequence of memoryview
        The raw buffers behind the line, in order; writable, each with memory of its own.
    oversize : int
        Zero, or the size in bytes of a message beyond the limit. Its content was dropped as it came
        in: `buffers` is empty, and of a line that was itself too long, `line` has only the first
        `HEAD_SIZE` bytes. The stream goes on behind it.
    limit : int
        Zero, or the limit in bytes that the message is beyond.
    """

    line: bytes | bytearray
    buffers: Sequence[memoryview] = ()
    oversize: int = 0
    limit: int = 0

    def take_text(self) -> str | bytes:
        """Return the line for `pyon.decode`, and free the memory of a long one.

        So a line costs no more than twice its length: the bytes and the text, then the text and its
        value. To be called once: of a long line only the first `HEAD_SIZE` bytes are left.
        """
        line = self.line
        if isinstance(line, bytes):
            return line
        try:
            text = line.decode()
        except UnicodeDecodeError:  # the reader says where
            return bytes(line)
        with contextlib.suppress(BufferError):  # somebody looks at it
            del line[HEAD_SIZE:]
        return text


class Receiver:
    r"""Cuts a stream of bytes into messages. Pure state: no socket, no thread, no clock.

    Parameters
    ----------
    limit : int, optional
        Bytes that one message may have, its raw buffers included. May be changed between messages.
    line_limit : int or None, optional
        Bytes that its line may have. None: as many as the message. May be changed as well.
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
        # data[start:end] is what came in and was not consumed; no LF is in data[start:scanned].
        self._data = self._scratch
        self._view: memoryview | None = None
        self._start = self._end = self._scanned = 0

    def _most(self) -> int:
        """Return the limit of lines that applies."""
        line_limit = self.line_limit
        return self.limit if line_limit is None or line_limit > self.limit else line_limit

    @property
    def pending(self) -> int:
        """Bytes in hand of a message that is not complete. Nonzero at the end: it was cut."""
        unfinished = self._end - self._start
        if self._reader is not None:
            reader, message = self._reader
            unfinished += len(message.line) + reader.received
        if self._oversize is not None:
            unfinished += self._oversize.size
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
        """Move the unconsumed bytes to `size` bytes that no other receiver uses."""
        held = self._end - self._start
        data = bytearray(size)
        data[:held] = memoryview(self._data)[self._start : self._end]
        self._data, self._view = data, None
        self._scanned -= self._start
        self._start, self._end = 0, held

    def _grow(self) -> None:
        """Make room behind the unconsumed bytes, in place.

        The allocators of Linux and macOS move large memory by remapping its pages.
        """
        room = min(self._end, GROWTH_STEP)
        try:
            self._release_memory()
            del self._data[: self._start]
            self._data += bytes(room)
        except BufferError:  # an event loop in C holds it still
            self._move_to_own_memory(self._end - self._start + room)
        else:
            self._scanned -= self._start
            self._start, self._end = 0, self._end - self._start

    def _release_memory(self) -> None:
        """Release what looks into our memory, so that its size can change."""
        self._lent.release()
        if self._view is not None:
            self._view.release()
            self._view = None

    def buffer_updated(self, nbytes: int) -> None:
        """Take note that `nbytes` bytes were written to what `get_buffer` returned last."""
        if self._reader is not None and self._start == self._end:
            self._reader[0].advance(nbytes)
        else:
            self._end += nbytes

    def whole_lines(self, nbytes: int) -> str | None:
        """Return what was just written to what `get_buffer` returned last, if it is whole lines.

        They must be ASCII, the first one no longer than `LONG_LINE`, and nothing may be in hand
        from before; otherwise None. Nothing is consumed by this: either all of the lines are done
        with, and nothing needs to be called, or `buffer_updated` is told of the bytes, and `skip`
        of those that are done with.
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
        """Consume bytes of whole lines without looking at them: see `whole_lines`."""
        self._start += nbytes
        self._scanned = self._start

    def detach(self) -> None:
        """Leave the shared scratch: what was not consumed moves to memory of its own.

        Memory of its own that is not needed any more is given back.
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
            Raw buffers were announced in a form that cannot be understood.
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
        """Consume a line and its LF; a long one is handed over in its memory."""
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

        One that came in the same read is taken at once: such is an image, most of the time.
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
        """Hand on what came in one read with the line; return the message if it is complete."""
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
        """Drop what is in hand of a line that is beyond the limit already."""
        if self._oversize is None:
            if self._end - self._start <= self._most():
                return
            self._oversize = OversizeLine()
        self._oversize.drop(memoryview(self._data)[self._start : self._end])
        self._start = self._end

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
