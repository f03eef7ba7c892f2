"""One end of a TCP (or TLS) connection that carries messages, driven by asyncio.

The one idea to keep in mind: reading costs no allocation and no task (`asyncio.BufferedProtocol`
on the standing buffer of a `framing.Receiver`), and everything that is sent in one turn of the loop
leaves in one write. Both are what makes a small exchange twice as fast as with asyncio's streams.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import cast

from pyon.asyncio_tasks import settle
from pyon.framing import DEFAULT_LIMIT, FramingError, Message, Receiver, frame
from pyon.tcp import format_address, set_keepalive

__all__ = ["HIGH_WATER", "Connection"]

_logger = logging.getLogger(__name__)

PIECE_SIZE = 256 * 2**10
"""Bytes per write. The transport of Python 3.11 copies what the socket did not take of a write,
again and again: one write of 8 MiB is four times slower than pieces of this size."""

HIGH_WATER = 2**20
"""Bytes of backlog beyond which `Connection.drained` waits: a few pieces keep the socket busy."""


class Connection(asyncio.BufferedProtocol):
    """A protocol object that receives and sends messages. Derive from it.

    All methods are to be called on the event loop's thread, and are called there.

    Parameters
    ----------
    limit : int, optional
        Bytes that a message may have that comes in; a larger one is dropped and reported as such.
    scratch : bytearray, optional
        Memory to receive into, shared by any number of connections of one event loop.

    Attributes
    ----------
    receiver : Receiver
        Cuts what comes in into messages; `receiver.limit` and `receiver.raw_buffers` may be changed
        while a message is being handled, and count from the next one on.
    peername, sockname : str
        The two addresses, as people write them. Known once the connection is open.
    closed : bool
        True from the moment that `connection_closed` has been called.
    """

    transport: asyncio.Transport

    def __init__(self, *, limit: int = DEFAULT_LIMIT, scratch: bytearray | None = None) -> None:
        self.receiver = Receiver(limit=limit, scratch=scratch)
        self.peername = self.sockname = "not connected"
        self.closed = False
        self.group: set[Connection] | None = None
        self._loop = asyncio.get_running_loop()
        self._queue: deque[bytes | memoryview] = deque()
        self._queued = 0  # bytes in the queue
        self._flush_due = False  # somebody is going to call _flush in this turn of the loop
        self._writable = True
        self._reading = True
        self._opened = False
        self._eof = False
        self._closing = False
        self._waiters: list[asyncio.Future[None]] = []

    # What to override.

    def connection_opened(self) -> None:
        """The connection is open (with TLS: and the handshake done)."""

    def message_received(self, message: Message) -> None:
        """A message came in."""

    def connection_closed(self, exc: Exception | None) -> None:
        """The connection is gone; called once if `connection_opened` was, and else not at all.

        Parameters
        ----------
        exc : Exception or None
            What ended it; None if the peer closed it in order or we did.
        """

    def connection_broken(self, error: FramingError) -> None:
        """The peer sent what cannot be cut into messages. The connection is closed behind this."""
        _logger.warning("%s: %s; connection closed", self.peername, error)

    # What to use.

    def send(self, line: str | bytes, buffers: Sequence[memoryview] = ()) -> None:
        """Send one message: queue it; what one turn of the loop queues leaves in one write.

        Silently dropped when the connection is closing: `connection_closed` tells of that.
        """
        self.send_chunks(frame(line, buffers))

    def send_chunks(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Send what `framing.frame` returned; one encoding may so serve many connections."""
        if self._closing:
            return
        for chunk in chunks:
            self._queue.append(chunk)
            self._queued += len(chunk)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def send_now(self, data: bytes | memoryview) -> None:
        """Send bytes as `framing.frame` returned them, in this turn of the loop.

        For who gathers by himself what one turn makes: each call is a write of its own. What is
        queued goes first, and what the socket does not take waits, as ever.
        """
        if self._queue or self._closing or not self._writable:
            self.send_chunks((data,))
        else:
            self.transport.write(data)

    @property
    def backlog(self) -> int:
        """Bytes that were given to `send` and that the operating system has not yet taken."""
        return self._queued + (0 if self.closed else self.transport.get_write_buffer_size())

    async def drained(self) -> None:
        """Wait until the backlog is below `HIGH_WATER`.

        Raises
        ------
        ConnectionResetError
            The connection has been closed, so that it never will be.
        """
        while not self.closed and self.backlog > HIGH_WATER:
            await self._next_change()
        if self.closed:
            raise ConnectionResetError(f"the connection to {self.peername} is closed")

    def pause_reading(self) -> None:
        """Have no more messages delivered, from now on; they stay in the receiver or the socket."""
        self._reading = False

    def resume_reading(self) -> None:
        """Have messages delivered again, beginning in the next turn of the loop."""
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._read_on)

    def close(self) -> None:
        """Send what is queued, then close. Nothing more is delivered or taken to be sent."""
        if not self._closing:
            self._closing = True
            if self._opened and not self._queue:
                self.transport.close()

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        self._closing = True
        self._forget_queue()
        if self._opened:
            self.transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone."""
        while not self.closed:
            await self._next_change()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self.transport = cast("asyncio.Transport", transport)
        if self._closing:  # while it was coming in
            self.transport.abort()
            return
        self._opened = True
        # We hear of every write that was not taken whole, and keep the rest ourselves. Not zero:
        # TLS transports take an empty buffer for a full one then.
        self.transport.set_write_buffer_limits(high=1)
        set_keepalive(transport.get_extra_info("socket"))
        self.peername = format_address(transport.get_extra_info("peername"))
        self.sockname = format_address(transport.get_extra_info("sockname"))
        self.connection_opened()

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        return self.receiver.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self.receiver.buffer_updated(nbytes)
        if not self._reading:
            # Only now, not in pause_reading: most pauses end before anything more comes in.
            self.transport.pause_reading()
        self._deliver()
        self.receiver.detach()

    def _deliver(self) -> None:
        """Hand on what is complete, and write what was sent meanwhile at once."""
        flush_here = not self._flush_due
        self._flush_due = True
        try:
            while self._reading and not self._closing:
                message = self.receiver.next_message()
                if message is None:
                    break
                self.message_received(message)
        except FramingError as error:
            self.connection_broken(error)
            self.abort()
        finally:
            if flush_here and self._queue:
                self._flush()
            elif flush_here:
                self._flush_due = False

    def _read_on(self) -> None:
        if not self._reading or self._closing:
            return
        self._deliver()
        self.receiver.detach()
        if self._reading and not self._closing:
            if self._eof:
                self.close()
            else:
                self.transport.resume_reading()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`: the peer sends nothing more.

        What came before is still answered: messages that wait are delivered, what is queued is
        sent, then the connection is closed. (TLS knows no such half-closed connections.)
        """
        self._eof = True
        if self._reading:
            self.close()
        half_open = bool(self._queue) or not self._reading
        return half_open and self.transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._writable = False

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._writable = True
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self.closed = self._closing = True
        self._forget_queue()
        if self.group is not None:
            self.group.discard(self)
        if self._opened:
            self.connection_closed(exc)
        self._wake_waiters()

    # The queue of what is to be sent.

    def _flush(self) -> None:
        self._flush_due = False
        while self._queue and self._writable:
            if self.transport.is_closing():  # the peer has left: asyncio warns of every write
                self._forget_queue()
                break
            self.transport.write(self._next_piece())
        if self._closing and not self._queue and not self.closed:
            self.transport.close()
        if self._waiters:
            self._wake_waiters()

    def _next_piece(self) -> bytes | memoryview:
        """Take the next bytes to write out of the queue: small ones joined, large ones cut."""
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

    def _forget_queue(self) -> None:
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
