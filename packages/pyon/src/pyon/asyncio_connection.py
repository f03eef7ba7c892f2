"""One end of a TCP (or TLS) connection that carries messages, on asyncio.

The one idea to keep in mind: reading costs no allocation and no task (`asyncio.BufferedProtocol`
on the permanent buffer of a `framing.Receiver`), and all messages that are sent in one iteration of
the event loop are written at once. This makes a small exchange twice as fast as with asyncio's
streams.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from time import monotonic
from typing import cast

from pyon import forks
from pyon.asyncio_tasks import settle
from pyon.framing import DEFAULT_LIMIT, FramingError, Message, Receiver, frame
from pyon.tcp import format_address, set_keepalive, shutdown

__all__ = ["HIGH_WATER", "TURN", "Connection"]

_logger = logging.getLogger(__name__)

PIECE_SIZE = 256 * 2**10
"""Maximum size of one write, in bytes. The transport of Python 3.11 copies the unsent rest of a
write after each partial send: one write of 8 MiB is four times slower than pieces of this size."""

HIGH_WATER = 2**20
"""Bytes of backlog beyond which `Connection.drained` waits, and beyond which a server stops reading
from the client: a few pieces keep the socket busy."""

TURN = 0.001
"""Seconds for which a server delivers the messages of one connection before it serves the others: a
small message costs microseconds, but the request in it may take long."""


class _State(IntEnum):
    """The state of a connection. In states beyond OPEN, nothing more is accepted for sending."""

    NEW = 0
    OPEN = 1
    CLOSING = 2
    CANCELLED = 3
    """Closed by its owner before it was open."""
    CLOSED = 4


_NEW, _OPEN, _CLOSING, _CANCELLED, _CLOSED = _State

_BY_OWNER, _BY_BACKLOG, _BY_TURN = 1, 2, 4
"""Reasons for paused reading, as bits, since several can apply at a time. (`enum.Flag` is slow.)"""


class Connection(asyncio.BufferedProtocol):
    """A protocol object that receives and sends messages. Derive from it.

    All methods must be called, and all callbacks are called, in the event loop's thread.

    A connection that a server has accepted (it has a `group`) stops reading while its backlog is
    beyond `HIGH_WATER`: no more requests are read from a client that does not read its replies.
    After delivering messages for `TURN` seconds it lets other connections be served first. Neither
    applies to clients: if both ends stopped reading, they would wait for each other.

    In the child of a fork a connection counts as closed, and nothing that is done with it there
    reaches the peer.

    Parameters
    ----------
    limit : int, optional
        Maximum size of a received message, in bytes. A larger message is dropped and delivered as
        oversize: see `Message`.
    line_limit : int or None, optional
        Maximum size of the line of a message, in bytes. None: only `limit` applies.
    scratch : bytearray, optional
        Memory to receive into. It may be shared by all connections of one event loop.

    Attributes
    ----------
    receiver : Receiver
        Splits received bytes into messages. Its attributes may be changed while a message is
        being handled; the change applies from the next message on.
    peername, sockname : str
        The addresses of the peer and of this end, formatted. Known once the connection is open.
    group : set of Connection or None
        The connections of the server that has accepted this one; None at a client.
    """

    transport: asyncio.Transport

    lines_received: Callable[[str], int] | None = None
    """Callback for reads that consist of whole ASCII lines, so that all small messages of one read
    can be handled in one loop. It is called with the lines, line ends included, as one text, and
    returns the number of characters that it has handled: 0, or whole lines. The remaining lines,
    and all other reads, are delivered to `message_received`. It may call `send_now` once for all
    lines."""

    def __init__(
        self,
        *,
        limit: int = DEFAULT_LIMIT,
        line_limit: int | None = None,
        scratch: bytearray | None = None,
    ) -> None:
        self.receiver = Receiver(limit=limit, line_limit=line_limit, scratch=scratch)
        self.peername = self.sockname = "not connected"
        self.group: set[Connection] | None = None
        self._loop = asyncio.get_running_loop()
        self._state = _NEW
        self._pauses = 0  # reasons for paused reading
        self._queue: deque[bytes | memoryview] = deque()
        self._queued = 0  # bytes in the queue
        self._flush_due = False  # _flush will be called in this iteration of the loop
        self._writable = True
        self._eof = False
        self._owner = os.getpid()
        self._waiters: list[asyncio.Future[None]] = []

    # Callbacks, to be overridden.

    def connection_opened(self) -> None:
        """Called when the connection is open; with TLS, when the handshake is complete."""

    def message_received(self, message: Message) -> None:
        """Called with each received message."""

    def connection_closed(self, exc: Exception | None) -> None:
        """Called once when the connection has ended, if `connection_opened` was called.

        Parameters
        ----------
        exc : Exception or None
            The error that ended the connection; None if either end closed it properly.
        """

    def connection_broken(self, error: FramingError) -> None:
        """Called when the peer broke the framing. The connection is closed after this call."""
        _logger.warning("%s: %s; connection closed", self.peername, error)

    # Methods to use.

    def send(
        self, line: str | bytes | list[str | bytes], buffers: Sequence[memoryview] = ()
    ) -> None:
        """Queue one message. All messages queued in one iteration of the loop are written at once.

        Messages are silently dropped while the connection is closing: `connection_closed` reports
        the end.
        """
        self.send_chunks(frame(line, buffers))

    def send_chunks(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Queue the result of `framing.frame`, so that one encoding can serve many connections."""
        if self._state > _OPEN:
            return
        for chunk in chunks:
            self._queue.append(chunk)
            self._queued += len(chunk)
        backlog = self._queued if self._writable else self.backlog
        if backlog > HIGH_WATER and self.group is not None:
            self._pauses |= _BY_BACKLOG
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def send_small(self, line: bytes) -> bool:
        """Queue a small message as `send` does; return whether it was accepted.

        It is refused if the connection is closing, or if the backlog exceeds `HIGH_WATER`.
        """
        if self._state is not _OPEN or not self._writable or self._queued > HIGH_WATER:
            return False
        self._queue.append(line)
        self._queued += len(line)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        return True

    def send_now(self, data: bytes | memoryview) -> None:
        """Write bytes from `framing.frame` immediately.

        For callers that batch their own messages: every call writes at once. Queued messages go
        first; what the socket does not accept is queued.
        """
        # `writable`, inlined: a message to many peers costs this for each of them.
        if self._writable and not self._queue and self._state is _OPEN:
            self.transport.write(data)
        else:
            self.send_chunks((data,))

    @property
    def closed(self) -> bool:
        """Whether the connection has ended and `connection_closed` has been called."""
        return self._state is _CLOSED

    @property
    def writable(self) -> bool:
        """Whether the operating system has accepted all sent bytes, so that more can be written."""
        return self._writable and not self._queue and self._state is _OPEN

    @property
    def backlog(self) -> int:
        """Bytes that were sent and that the operating system has not accepted yet."""
        return self._queued + (0 if self.closed else self.transport.get_write_buffer_size())

    async def drained(self, below: int | None = None) -> None:
        """Wait until the backlog is at most `below` bytes, by default `HIGH_WATER`.

        Raises
        ------
        ConnectionResetError
            The connection has been closed.
        """
        while not self.closed and self.backlog > (HIGH_WATER if below is None else below):
            await self._next_change()
        if self._owner != os.getpid():
            raise ConnectionResetError(
                f"the connection to {self.peername} was made in another process, {self._owner}; "
                "make a new one here"
            )
        if self.closed:
            raise ConnectionResetError(f"the connection to {self.peername} is closed")

    def pause_reading(self) -> None:
        """Stop the delivery of messages. They stay in the receiver or the socket."""
        self._pauses |= _BY_OWNER

    def resume_reading(self) -> None:
        """Resume the delivery of messages in the next iteration of the loop.

        At a server nothing is delivered while the backlog of the client exceeds `HIGH_WATER`.
        """
        if self._pauses & _BY_OWNER:
            self._resume(_BY_OWNER)

    def _resume(self, reason: int) -> None:
        self._pauses &= ~reason
        if not self._pauses:
            self._loop.call_soon(self._continue_reading)

    def close(self) -> None:
        """Send what is queued, then close. Nothing more is delivered or accepted for sending."""
        if self._state is _OPEN:
            self._state = _CLOSING
            if not self._queue:
                self.transport.close()
        elif self._state is _NEW:
            self._state = _CANCELLED

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        self._drop_queue()
        if self._state in (_OPEN, _CLOSING):
            self._state = _CLOSING
            shutdown(self._socket)
            self.transport.abort()
        elif self._state is _NEW:
            self._state = _CANCELLED

    def cancel(self) -> None:
        """End a connection that was not opened, because its TLS handshake has failed."""
        if self._state in (_NEW, _CANCELLED):
            self._end()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended."""
        while not self.closed:
            await self._next_change()

    def forked(self) -> None:
        """See `forks.ForkAware`: in the child the connection is closed, without a callback."""
        if self._state in (_OPEN, _CLOSING):
            forks.drop_descriptor(self._socket.fileno())
        self._state = _CLOSED
        self._drop_queue()

    # Callbacks from asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self.transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")  # a closed TLS transport has none
        if self._state is not _NEW:
            self.transport.abort()
            return
        self._state = _OPEN
        forks.register(self)
        # With this limit, pause_writing is called after every incomplete write, and later messages
        # stay in our queue. Zero is wrong: TLS transports then treat an empty buffer as a full one.
        self.transport.set_write_buffer_limits(high=1)
        set_keepalive(self._socket)
        self.peername = format_address(transport.get_extra_info("peername"))
        self.sockname = format_address(transport.get_extra_info("sockname"))
        self.connection_opened()

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        return self.receiver.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        done, flush_here = 0, not self._flush_due
        self._flush_due = True
        try:
            if self.lines_received is not None and not self._pauses and self._state is _OPEN:
                lines = self.receiver.whole_lines(nbytes)
                if lines is not None:
                    done = self.lines_received(lines)
            if done < nbytes:
                self.take_in(nbytes, done)
        finally:
            if flush_here and self._queue:
                self._flush()
            elif flush_here:
                self._flush_due = False

    def take_in(self, nbytes: int, done: int) -> None:
        """Deliver the messages that a read completed.

        Parameters
        ----------
        nbytes : int
            Number of bytes that were read.
        done : int
            Number of these bytes, from the beginning, that `lines_received` has handled.
        """
        self.receiver.buffer_updated(nbytes)
        self.receiver.skip(done)
        if self._pauses:
            # Not in our pause_reading: most pauses end before more bytes arrive.
            self.transport.pause_reading()
        self._deliver()
        self.receiver.detach()

    def _deliver(self) -> None:
        """Deliver complete messages, then write what was sent meanwhile."""
        flush_here = not self._flush_due
        self._flush_due = True
        until = monotonic() + TURN
        try:
            while not self._pauses and self._state is _OPEN:
                message = self.receiver.next_message()
                if message is None:
                    break
                self.message_received(message)
                if self.group is not None and monotonic() > until:
                    self.give_way()
        except FramingError as error:
            self.connection_broken(error)
            self.abort()
        finally:
            if flush_here and self._queue:
                self._flush()
            elif flush_here:
                self._flush_due = False

    def give_way(self) -> None:
        """Let others run: deliver the next messages in the next iteration, and read after that."""
        if not self._pauses & _BY_TURN:
            self._pauses |= _BY_TURN
            self.transport.pause_reading()
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._resume(_BY_TURN)
        if self._pauses:
            self._watch_peer()

    def _watch_peer(self) -> None:
        """Read from the socket, even if the owner has paused: the peer's end must be noticed.

        The first bytes that arrive during a pause stop this: see `take_in`.
        """
        if self._state is _OPEN and not self._eof:
            self.transport.resume_reading()

    def _continue_reading(self) -> None:
        if self._pauses or self._state is not _OPEN:
            return
        self._deliver()
        self.receiver.detach()
        if not self._pauses and self._state is _OPEN:
            if self._eof:
                self.close()
            else:
                self.transport.resume_reading()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`: the peer sends nothing more.

        Earlier messages are still answered: waiting messages are delivered, queued bytes are sent,
        then the connection is closed. (TLS has no half-closed connections.)
        """
        self._eof = True
        if not self._pauses:
            self._deliver()  # messages that were due in the next iteration of the loop
        if not self._pauses:
            self.close()
        half_open = bool(self._queue or self._pauses)
        return half_open and self.transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._writable = False
        if self.group is not None and self.backlog > HIGH_WATER:
            self._pauses |= _BY_BACKLOG

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`.

        Nothing is written or closed here. A transport that loses its peer, or has nothing left to
        send, inside this callback would call `connection_lost` twice.
        """
        self._writable = True
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._state is _CLOSED:
            return
        shutdown(self._socket)
        opened = self._state is not _CANCELLED
        self._end()
        if opened:
            self.connection_closed(exc)
        self._wake_waiters()

    def _end(self) -> None:
        self._state = _CLOSED
        self._drop_queue()
        if self.group is not None:
            self.group.discard(self)
        self._wake_waiters()

    # The queue of bytes to send.

    def _flush(self) -> None:
        self._flush_due = False
        while self._queue and self._writable:
            if self.transport.is_closing():  # the peer is gone: asyncio would log every write
                self._drop_queue()
                break
            self.transport.write(self._next_piece())
        if self._state is _CLOSING and not self._queue and not self.transport.is_closing():
            self.transport.close()  # once: a second call breaks a TLS transport
        if self._pauses & _BY_BACKLOG and self.backlog <= HIGH_WATER:
            self._resume(_BY_BACKLOG)
        if self._waiters:
            self._wake_waiters()

    def _next_piece(self) -> bytes | memoryview:
        """Remove the next bytes from the queue: small buffers joined, large ones split."""
        piece = self._queue.popleft()
        if len(piece) > PIECE_SIZE:
            view = memoryview(piece)
            self._queue.appendleft(view[PIECE_SIZE:])
            piece = view[:PIECE_SIZE]
        elif self._queue:
            parts, size = [piece], len(piece)
            while self._queue and size + len(self._queue[0]) <= PIECE_SIZE:
                parts.append(self._queue.popleft())
                size += len(parts[-1])
            piece = b"".join(parts)
        self._queued -= len(piece)
        return piece

    def _drop_queue(self) -> None:
        self._queue.clear()
        self._queued = 0

    async def _next_change(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            settle(waiter, None)
