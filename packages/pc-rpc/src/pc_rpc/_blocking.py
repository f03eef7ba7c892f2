"""A connection that any number of threads call through, without a thread of its own.

The one idea to keep in mind: leader and followers. Of the threads that wait for replies one, the
leader, reads the socket and hands out what comes; the others sleep. When the leader's own reply
came it goes, and makes another one the leader. So a lone thread pays for no second one, requests of
many threads are in flight together, and a thread that gives up only leaves its reply owed. Ctrl-C
is such a giving up as well: it is let in only where a thread waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT, FramingError, Receiver
from pyon.tcp import format_address

from pc_rpc._errors import ConnectionLost, ProtocolError, RpcError
from pc_rpc._interrupts import Interrupts
from pc_rpc._protocol import (
    BANNER,
    HANDSHAKE_LIMIT,
    AutoTarget,
    Call,
    Chunks,
    ClientSide,
    lost,
)
from pc_rpc._stream import Queue, connect, remaining

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

SCRATCH_SIZE = 2**16
"""Bytes taken per read. Making a larger buffer takes longer than connecting; arrays do not pass
through it, and what is longer than it gets memory of its own."""

RECHECK = 0.05
"""Seconds after which a thread that cannot write looks whether it must also read, because the one
that did has gone. Only a peer that takes nothing until it has been read from makes this matter."""


LONGEST = 1e6
"""Seconds, eleven days, beyond which a time-out is none: some systems cannot wait for longer."""


def deadline_of(timeout: float | None) -> float | None:
    """Return the time of `time.monotonic` that a time-out from now ends at; None if it has none."""
    return None if timeout is None or timeout > LONGEST else time.monotonic() + timeout


class BlockingConnection:
    """One connection to a server; for any thread.

    Parameters
    ----------
    host, port : str, int
        Where the server is.
    deadline : float or None
        When connection and greeting must be there, on the clock of `time.monotonic`.
    ssl : ssl.SSLContext, optional
        Speak TLS.
    limit : int, optional
        Bytes of one message, in both directions.
    line_limit : int, optional
        Bytes of the line of a reply.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        deadline: float | None = None,
        ssl: ssl.SSLContext | None = None,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REPLY_LINE_LIMIT,
    ) -> None:
        self.peer = format_address((host, port))
        self.side = ClientSide(limit=limit, line_limit=line_limit)
        self.side.peer = self.peer
        self._sending = threading.Lock()  # held while a message goes out
        self._mutex = threading.Lock()  # held, shortly, to change what follows and what is owed
        self._leader: object = None  # who reads: a Call, or a thread that cannot write
        self._followers: dict[Call, None] = {}  # in order of arrival
        self._lost: BaseException | None = None
        self._closing = False
        self._unsent: Queue = deque()
        self._interrupts = Interrupts()
        self._receiver = Receiver(limit=HANDSHAKE_LIMIT, scratch=bytearray(SCRATCH_SIZE))
        self._stream = connect(host, port, ssl, deadline)
        self._handshake(BANNER, self.side.read_greeting, deadline)

    # Handshake.

    def select(
        self, target_name: str | AutoTarget | type[AutoTarget], deadline: float | None
    ) -> None:
        """Select a target and learn its methods."""
        self._raise_if_lost("selection of a target")
        line = self.side.select(target_name)
        self._handshake(line, self.side.read_methods, deadline)
        self._receiver.limit = self.side.limit
        self._receiver.line_limit = self.side.line_limit
        self._receiver.raw_buffers = self.side.features.raw_buffers

    def _handshake(self, line: bytes, read: Any, deadline: float | None) -> None:
        """Send a line and read the answer. Whatever goes wrong here ends the connection."""
        try:
            self._push([line + b"\n"], deadline)
            message = self._receiver.next_message()
            while message is None:
                self._stream.wait_readable(deadline)
                self._take_in()
                message = self._receiver.next_message()
            if message.oversize:
                raise ProtocolError(f"{self.peer} sent a line of {message.oversize} bytes")
            read(bytes(message.line))
        except BaseException as error:
            self._fail(error)
            self.close()
            if hasattr(error, "parent_traceback"):
                raise  # the server has no such target after all, and says why
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"{self.peer} did not answer within the time-out") from error
            if isinstance(error, (OSError, EOFError)):
                raise lost(self.peer, error, sent=False) from error
            raise

    # Calls.

    def call(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Any:
        """Call a method of the selected target and return its result."""
        call, chunks = self.side.encode_call(name, args, kwargs)
        return self._complete(call, chunks, timeout)

    def request(self, action: str, timeout: float | None) -> Any:
        """Make a request that is no call of a method and return what it gives."""
        call, chunks = self.side.encode_action(action)
        return self._complete(call, chunks, timeout)

    def _complete(self, call: Call, chunks: Chunks, timeout: float | None) -> Any:
        deadline = deadline_of(timeout)
        with self._interrupts:
            try:
                self._send(call, chunks, deadline)
                self._wait(call, deadline)
            except TimeoutError:
                self._give_up(call)
                raise TimeoutError(
                    f"no reply to the {call.what} from {self.peer} within {timeout} s"
                ) from None
            except BaseException:
                self._give_up(call)
                raise
        if call.reply is None:
            raise lost(self.peer, self._lost, sent=True, what=call.what) from self._lost
        return self.side.result(call)

    def _raise_if_lost(self, what: str) -> None:
        if self._lost is not None:
            raise lost(self.peer, self._lost, sent=False, what=what) from self._lost

    # Sending.

    def _send(self, call: Call, chunks: Chunks, deadline: float | None) -> None:
        """Send a request. Nearly all is done before, so that the wait begins where this ends."""
        remaining(deadline)  # without any time left, nothing is sent
        if not self._sending.acquire(blocking=False):
            self._queue_up(deadline)
        try:
            if self._leader is None and self._stream.readable():
                self._read_unasked()
            self._raise_if_lost(call.what)
            if self._unsent:  # by a call that timed out
                self._push([], deadline)
            with self._mutex:
                self.side.owe(call)
                if self._leader is None:
                    self._leader = call
            self._push(chunks, deadline, call)
        except TimeoutError:
            self._keep_unsent()
            raise
        except ConnectionLost:
            raise
        except OSError as error:
            self._fail(error)
            # The peer may have read what it was sent before it left.
            untouched = len(self._unsent) >= len(chunks) and self._unsent[-len(chunks)] is chunks[0]
            raise lost(self.peer, self._lost, sent=not untouched, what=call.what) from error
        except BaseException as error:
            if error is self._interrupts.let_in:
                self._keep_unsent()
            else:
                self._fail(error)  # interrupted between writing bytes and noting how many
            raise
        finally:
            self._sending.release()

    def _keep_unsent(self) -> None:
        """Copy what is still to be sent: it is its owner's again, who may change it."""
        for index, chunk in enumerate(self._unsent):
            self._unsent[index] = bytes(chunk)

    def _queue_up(self, deadline: float | None) -> None:
        """Wait until nobody else is sending, which takes long only if the peer does not read."""
        while True:
            timeout = remaining(deadline)
            timeout = RECHECK if timeout is None else min(timeout, RECHECK)
            if self._sending.acquire(timeout=timeout):
                return
            self._interrupts.during(bool)  # not while acquiring: it could come behind that

    def _read_unasked(self) -> None:
        """Read what came unasked: the peer may have closed, and then nothing is sent any more."""
        if self._try_to_lead(self._sending):
            try:
                if self._lost is None:
                    self._receive(time.monotonic() + RECHECK)
            except TimeoutError:
                pass  # another thread was faster to read it
            finally:
                self._pass_on()

    def _push(self, chunks: Chunks, deadline: float | None, call: Call | None = None) -> None:
        """Write; what cannot be written in time stays, to be written before anything else."""
        self._unsent.extend(chunks)
        while True:
            try:
                self._stream.write(self._unsent)
                return
            except BlockingIOError:
                self._wait_writable(deadline, call or self._sending)
            except TimeoutError as error:  # of the network, not ours
                raise ConnectionResetError(str(error)) from error

    def _wait_writable(self, deadline: float | None, who: object) -> None:
        """Wait for room; meanwhile read, if nobody does: the peer may be waiting for just that."""
        leading = self._try_to_lead(who)
        try:
            timeout = remaining(deadline)
            if not leading:
                timeout = RECHECK if timeout is None else min(timeout, RECHECK)
            _, readable = self._interrupts.during(self._stream.wait_writable, timeout, leading)
            if readable:
                self._receive(None)
        finally:
            if leading:
                self._pass_on()
        if self._lost is not None:
            raise ConnectionResetError(str(self._lost)) from self._lost

    # Receiving.

    def _wait(self, call: Call, deadline: float | None) -> None:
        """Wait until the reply is there or the connection is lost."""
        if self._leader is not call:
            self._follow(call, deadline)
        if self._leader is call:
            try:
                while call.reply is None and self._lost is None:
                    self._receive(deadline)
            finally:
                self._pass_on()

    def _follow(self, call: Call, deadline: float | None) -> None:
        """Wait for the leader to find the reply, or to go: then this call is the leader."""
        with self._mutex:
            if call.reply is not None or self._lost is not None:
                return
            if self._leader is None:
                self._leader = call
            else:
                call.waiter = threading.Lock()
                call.waiter.acquire()
                self._followers[call] = None
        if call.waiter is not None:
            left = remaining(deadline)
            acquire, left = call.waiter.acquire, -1 if left is None else left
            if not self._interrupts.during(acquire, True, left):
                raise TimeoutError("timed out")

    def _try_to_lead(self, who: object) -> bool:
        with self._mutex:
            if self._leader is None:
                self._leader = who
            return self._leader is who

    def _pass_on(self) -> None:
        """Cease to be the leader; have the first of the followers be it."""
        with self._mutex:
            self._leader = None
            if self._followers:
                heir = next(iter(self._followers))
                del self._followers[heir]
                self._leader = heir
                heir.waiter.release()
            elif self._closing:
                self._stream.close()

    def _receive(self, deadline: float | None) -> None:
        """Wait for bytes and hand out the replies that they complete. The leader only."""
        self._interrupts.during(self._stream.wait_readable, deadline)
        try:
            self._take_in()
            while (message := self._receiver.next_message()) is not None:
                with self._mutex:
                    call = self.side.match(message)
                    if call in self._followers:
                        assert call is not None
                        del self._followers[call]
                        call.waiter.release()
        except (OSError, EOFError, RpcError, FramingError) as error:
            self._fail(error)
        except BaseException as error:
            self._fail(error)  # interrupted between taking bytes and noting how many
            raise

    def _take_in(self) -> None:
        try:
            size = self._stream.recv_into(self._receiver.get_buffer())
        except BlockingIOError:
            return
        if not size:
            where = " in the middle of a reply" if self._receiver.pending else ""
            raise EOFError(f"closed by the server{where}")
        self._receiver.buffer_updated(size)

    # Ends.

    def _give_up(self, call: Call) -> None:
        """Leave the reply of a call owed, and tell the server if it cares."""
        with self._mutex:
            self._followers.pop(call, None)
            chunks = self.side.abandon(call)
            promoted = self._leader is call
        if promoted:
            self._pass_on()
        if chunks and self._lost is None and self._sending.acquire(blocking=False):
            try:
                self._push(chunks, time.monotonic())
            except OSError:
                pass  # no room, then it goes with the next message; no connection, then that tells
            finally:
                self._sending.release()

    def _fail(self, reason: BaseException) -> None:
        """End the connection: nothing that is owed will come."""
        with self._mutex:
            if self._lost is None:
                self._lost = reason
            self.side.end()
            for follower in self._followers:
                follower.waiter.release()
            self._followers.clear()
        self._stream.shutdown()

    def close(self) -> None:
        """Close the connection. Calls that wait end in `ConnectionLost`. May be called again."""
        with self._interrupts:
            self._fail(ConnectionLost("closed by close_rpc()"))
            with self._sending, self._mutex:  # whoever is sending has been woken and leaves
                self._closing = True
                if self._leader is None:
                    self._stream.close()

    @property
    def lost(self) -> BaseException | None:
        """Why the connection is gone, None while it is not."""
        return self._lost

    def local_host(self) -> str:
        """Return the address of the local end."""
        try:
            name = self._stream.getsockname()
        except OSError as error:  # closed
            raise lost(self.peer, self._lost or error, sent=False) from error
        return str(name[0]) if isinstance(name, tuple) else str(name)
