"""One end of a TCP (or TLS) connection that carries messages, driven by asyncio.

The one idea to keep in mind: reading costs no allocation and no task (`asyncio.BufferedProtocol`
on the standing buffer of a `framing.Receiver`), and everything that is sent in one turn of the loop
leaves in one write. Both are what makes a small exchange twice as fast as with asyncio's streams.
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
"""Bytes per write. The transport of Python 3.11 copies what the socket did not take of a write,
again and again: one write of 8 MiB is four times slower than pieces of this size."""

HIGH_WATER = 2**20
"""Bytes of backlog beyond which `Connection.drained` waits, and a server reads nothing more from
that client: a few pieces keep the socket busy."""

TURN = 0.001
"""Seconds that a server takes for the messages of one connection before the others have their turn:
small messages cost microseconds, but what they ask for may take long."""


class _State(IntEnum):
    """What a connection has come to; what is beyond OPEN takes nothing more to be sent."""

    NEW = 0
    OPEN = 1
    CLOSING = 2
    CANCELLED = 3
    """Closed by its owner before it was open."""
    CLOSED = 4


_NEW, _OPEN, _CLOSING, _CANCELLED, _CLOSED = _State

_BY_OWNER, _BY_BACKLOG, _BY_TURN = 1, 2, 4
"""Reasons not to read, as bits: one is not undone with the other. (`enum.Flag` is slow.)"""


class Connection(asyncio.BufferedProtocol):
    """A protocol object that receives and sends messages. Derive from it.

    All methods are to be called on the event loop's thread, and are called there.

    A connection that a server has accepted (it has a `group`) reads nothing more while its backlog
    is beyond `HIGH_WATER`: a client that does not read what it asked for is not heard any further.
    It lets others have their turn when its messages took `TURN`.
    Clients read always, or both ends could wait for each other.

    In the child of a fork a connection counts as closed, and nothing that is done with it there
    reaches the peer.

    Parameters
    ----------
    limit : int, optional
        Bytes that a message may have that comes in; a larger one is dropped and reported as such.
    line_limit : int or None, optional
        Bytes that its line may have. None: as many as the message.
    scratch : bytearray, optional
        Memory to receive into, shared by any number of connections of one event loop.

    Attributes
    ----------
    receiver : Receiver
        Cuts what comes in into messages; its attributes may be changed while a message is being
        handled, and count from the next one on.
    peername, sockname : str
        The two addresses, as people write them. Known once the connection is open.
    group : set of Connection or None
        The connections of the server that has accepted this one; None at a client.
    """

    transport: asyncio.Transport

    lines_received: Callable[[str], int] | None = None
    """What is asked first about a read that brought nothing but whole lines of ASCII, with their
    line ends: given all of them as one text, it returns how many characters it is done with, none
    or whole lines. The rest is delivered as messages, as is everything else. For programs that
    handle all small messages of one read in one loop. It may call `send_now` once for all."""

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
        self._pauses = 0  # reasons not to read: none
        self._queue: deque[bytes | memoryview] = deque()
        self._queued = 0  # bytes in the queue
        self._flush_due = False  # somebody is going to call _flush in this turn of the loop
        self._writable = True
        self._eof = False
        self._owner = os.getpid()
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

    def send(
        self, line: str | bytes | list[str | bytes], buffers: Sequence[memoryview] = ()
    ) -> None:
        """Send one message: queue it; what one turn of the loop queues leaves in one write.

        Silently dropped when the connection is closing: `connection_closed` tells of that.
        """
        self.send_chunks(frame(line, buffers))

    def send_chunks(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Send what `framing.frame` returned; one encoding may so serve many connections."""
        if self._state > _OPEN:
            return
        for chunk in chunks:
            self._queue.append(chunk)
            self._queued += len(chunk)
        much = self._queued if self._writable else self.backlog
        if much > HIGH_WATER and self.group is not None:
            self._pauses |= _BY_BACKLOG
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def send_small(self, line: bytes) -> bool:
        """Send a small message, queued as by `send`; say whether it was taken.

        It is not if the connection is closing, or if more than `HIGH_WATER` bytes are waiting.
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
        """Send bytes as `framing.frame` returned them, in this turn of the loop.

        For callers that batch their own messages: every call writes at once. Queued messages go
        first; what the socket does not accept is queued.
        """
        # `writable`, without a call: this is what a message to many peers costs for each of them.
        if self._writable and not self._queue and self._state is _OPEN:
            self.transport.write(data)
        else:
            self.send_chunks((data,))

    @property
    def closed(self) -> bool:
        """Whether the connection is gone; `connection_closed` has been called then."""
        return self._state is _CLOSED

    @property
    def writable(self) -> bool:
        """Whether the operating system has taken all that was sent, so that more can be written."""
        return self._writable and not self._queue and self._state is _OPEN

    @property
    def backlog(self) -> int:
        """Bytes that were given to `send` and that the operating system has not yet taken."""
        return self._queued + (0 if self.closed else self.transport.get_write_buffer_size())

    async def drained(self, below: int | None = None) -> None:
        """Wait until the backlog is below some number of bytes, by default `HIGH_WATER`.

        Raises
        ------
        ConnectionResetError
            The connection has been closed, so that it never will be.
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
        """Have no more messages delivered, from now on; they stay in the receiver or the socket."""
        self._pauses |= _BY_OWNER

    def resume_reading(self) -> None:
        """Have messages delivered again, beginning in the next turn of the loop.

        Nothing is delivered yet while a client does not read what is sent to it.
        """
        if self._pauses & _BY_OWNER:
            self._resume(_BY_OWNER)

    def _resume(self, reason: int) -> None:
        self._pauses &= ~reason
        if not self._pauses:
            self._loop.call_soon(self._read_on)

    def close(self) -> None:
        """Send what is queued, then close. Nothing more is delivered or taken to be sent."""
        if self._state is _OPEN:
            self._state = _CLOSING
            if not self._queue:
                self.transport.close()
        elif self._state is _NEW:
            self._state = _CANCELLED

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        self._forget_queue()
        if self._state in (_OPEN, _CLOSING):
            self._state = _CLOSING
            shutdown(self._socket)
            self.transport.abort()
        elif self._state is _NEW:
            self._state = _CANCELLED

    def cancel(self) -> None:
        """Give the connection up if it was never opened: what its TLS handshake was for is gone."""
        if self._state in (_NEW, _CANCELLED):
            self._end()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone."""
        while not self.closed:
            await self._next_change()

    def forked(self) -> None:
        """See `forks.ForkAware`: in the child the connection is closed, and nobody is told."""
        if self._state in (_OPEN, _CLOSING):
            forks.drop_descriptor(self._socket.fileno())
        self._state = _CLOSED
        self._forget_queue()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self.transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")  # with TLS it has none at the end
        if self._state is not _NEW:
            self.transport.abort()
            return
        self._state = _OPEN
        forks.register(self)
        # We hear of every write that was not taken whole, and keep the rest ourselves. Not zero:
        # TLS transports take an empty buffer for a full one then.
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
            Bytes that were read.
        done : int
            Bytes of them, from the first on, that `lines_received` is done with.
        """
        self.receiver.buffer_updated(nbytes)
        self.receiver.skip(done)
        if self._pauses:
            # Only now, not in pause_reading: most pauses end before anything more comes in.
            self.transport.pause_reading()
        self._deliver()
        self.receiver.detach()

    def _deliver(self) -> None:
        """Hand on what is complete, and write what was sent meanwhile at once."""
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
        """Deliver nothing more in this turn of the loop, and read nothing before the rest is."""
        if not self._pauses & _BY_TURN:
            self._pauses |= _BY_TURN
            self.transport.pause_reading()
            self._loop.call_soon(self._resume, _BY_TURN)

    def _read_on(self) -> None:
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

        What came before is still answered: messages that wait are delivered, what is queued is
        sent, then the connection is closed. (TLS knows no such half-closed connections.)
        """
        self._eof = True
        if not self._pauses:
            self._deliver()  # what was to be delivered in the next turn of the loop
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

        Nothing is written or closed from here: a transport that finds its peer gone by that, or
        has nothing left to send, has two ends.
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
        self._forget_queue()
        if self.group is not None:
            self.group.discard(self)
        self._wake_waiters()

    # The queue of what is to be sent.

    def _flush(self) -> None:
        self._flush_due = False
        while self._queue and self._writable:
            if self.transport.is_closing():  # the peer has left: asyncio warns of every write
                self._forget_queue()
                break
            self.transport.write(self._next_piece())
        if self._state is _CLOSING and not self._queue and not self.transport.is_closing():
            self.transport.close()  # once: a TLS transport is of no use after a second time
        if self._pauses & _BY_BACKLOG and self.backlog <= HIGH_WATER:
            self._resume(_BY_BACKLOG)
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
