"""The sending half of a connection of many threads: whole messages, one after the other.

The one idea to keep in mind: a signal handler or finaliser may call the client at any point of this
code, on the thread that it interrupts. Hence the locks are reentrant, and the number of bytes sent
is noted in the step that sends them. Such a call is refused only while a message is partly sent.
"""

from __future__ import annotations

import contextlib
import time
from _thread import RLock, start_new_thread
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING

from pc_rpc._call import Call
from pc_rpc._deadlines import RECHECK, remaining, within
from pc_rpc._errors import RpcError
from pc_rpc._interrupts import interruption
from pc_rpc._receiving import Receiving
from pc_rpc._stream_call import StreamCall

if TYPE_CHECKING:
    from pc_rpc._client_side import ClientSide
    from pc_rpc._errors import ConnectionLost
    from pc_rpc._protocol import Chunks
    from pc_rpc._socket import Queue

DRAIN_TIME = 60.0
"""Seconds that a thread waits for the end of a stream that was left. After that, the next call
reads what still arrives."""


class Sending(Receiving):
    """Both halves of one connection, for any thread. The parameter is that of `Receiving`."""

    def __init__(self, side: ClientSide) -> None:
        super().__init__(side)
        self._sending = RLock()  # held while a message is sent
        self._sender = 0  # the thread that is in the middle of one
        # The last message to be sent in one step: thread, size, number of bytes sent.
        self._attempt: tuple[int, int, list[int]] = (0, 0, [])
        self._unsent: Queue = deque()

    def _send(self, call: Call, chunks: Chunks, deadline: float | None) -> None:
        """Send a request.

        Raises
        ------
        TimeoutError
            The deadline has passed. The unsent rest of the message goes before the next one.
        ConnectionLost
            The connection is lost; `sent` is False if that was before anything was sent.
        """
        remaining(deadline)  # raises, so that nothing is sent after the deadline
        me, outer = get_ident(), self._attempt
        try:
            self._send_message(call, chunks, deadline)
        except TimeoutError:
            self._keep_unsent(outer)
            raise
        except RpcError:
            raise
        except OSError as error:
            raise self._failed_to_send(call, chunks, error) from error
        except BaseException as error:
            if error is self.interrupts.raised_in_wait:
                self._keep_unsent(outer)
            elif self._in_the_middle(me):  # between writing bytes and noting how many
                self._lose(interruption(error))
            raise
        finally:
            if self._sender == me:
                self._sender = 0
            self._release(self._sending)

    def _failed_to_send(self, call: Call, chunks: Chunks, error: OSError) -> ConnectionLost:
        self._lose(error)
        call.sent = call.sent and not self._is_unsent(chunks)
        return self.side.error_for(call)

    def _send_message(self, call: Call, chunks: Chunks, deadline: float | None) -> None:
        self._begin_sending(deadline)
        self._look_for_the_end()
        if self.side.reason is not None:
            raise self.side.error_for(call)
        if not call.sent and self._send_at_once(call, chunks, deadline):
            return
        self._sender = get_ident()
        if self._unsent:  # by a call that timed out, or the rest of this one
            self._push([], deadline)
        if not call.sent:
            self.side.expect(call)
            self._push(chunks, deadline)

    def _send_at_once(self, call: Call, chunks: Chunks, deadline: float | None) -> bool:
        """Send a small message in one step, if possible; return whether that was done.

        The number of bytes sent is noted in the same step. So a signal handler that runs before or
        after it may send messages of its own.
        """
        me, chunk, sock = get_ident(), chunks[0], self._socket
        sent: list[int] = []
        self._attempt = (me, len(chunk), sent)
        if len(chunks) > 1 or self._unsent or not sock.plain or not self.side.features.request_ids:
            self._attempt = (0, 0, sent)
            return False
        self.side.expect(call)
        try:
            sent.extend(map(sock.send, chunks, sock.at_once))
        except BlockingIOError:
            sent.append(0)
        if (size := sent[0]) != len(chunk):
            self._sender = me
            self._attempt = (0, 0, sent)
            self._push([memoryview(chunk)[size:] if size else chunk], deadline)
        return True

    def _in_the_middle(self, me: int) -> bool:
        """Return whether this thread has sent, or received, only a part of a message."""
        thread, size, sent = self._attempt
        partly_sent = thread == me and bool(sent) and 0 < sent[0] < size
        return partly_sent or me in (self._sender, self._reader)

    def _is_unsent(self, chunks: Chunks) -> bool:
        """Return whether no byte of the last message was sent. A peer may read before it closes."""
        unsent, sent = self._unsent, self._attempt[2]
        if sent and sent[0]:
            return False
        return not unsent or (len(unsent) >= len(chunks) and unsent[-len(chunks)] is chunks[0])

    def _begin_sending(self, deadline: float | None) -> None:
        """Wait until no other thread is sending; long only if the peer does not read."""
        while self.side.reason is None and not self._sending.acquire(blocking=False):
            if self._sending.acquire(timeout=within(deadline, RECHECK)):
                return
            self.interrupts.during(bool)  # not while acquiring: it could come after that
            self._read_if_free()

    def _keep_unsent(self, outer: tuple[int, int, list[int]]) -> None:
        """Copy the unsent bytes: the caller may write into its arrays again."""
        if self._unsent and outer[0] == get_ident() and not outer[2]:
            # The interrupted message will be sent without another look at `_unsent`.
            self._lose(InterruptedError("a signal handler left a message partly sent"))
        for index, chunk in enumerate(self._unsent):
            self._unsent[index] = bytes(chunk)

    def _look_for_the_end(self) -> None:
        """Read what has arrived: if the peer has closed, nothing is sent any more."""
        try:
            if self._leading.acquire(blocking=False) and self._socket.wait_readable(0):
                self._take_in()
        finally:
            self._release(self._leading)

    def _push(self, chunks: Chunks, deadline: float | None) -> None:
        """Write chunks; the rest that is not written in time stays in front of the next message."""
        self._unsent.extend(chunks)
        while True:
            try:
                self._socket.write(self._unsent)
                return
            except BlockingIOError:
                self._wait_writable(deadline)
            except TimeoutError as error:  # of the network, not of the deadline
                raise ConnectionResetError(str(error)) from error

    def _wait_writable(self, deadline: float | None) -> None:
        """Wait for room. Read meanwhile, unless another thread does: the peer may wait for that."""
        leading = False
        try:
            leading = self._leading.acquire(blocking=False)
            timeout = remaining(deadline)
            if not leading:
                timeout = within(deadline, RECHECK)
            _, readable = self.interrupts.during(self._socket.wait_writable, timeout, leading)
            if readable:
                self._take_in()
        finally:
            if leading:
                self._release(self._leading)
                self._pass_on()
        if self.side.reason is not None:
            raise ConnectionResetError(str(self.side.reason)) from self.side.reason

    # Cleaning up.

    def _clean_up(self, error: BaseException) -> None:
        """Release the locks of this thread after an exception; signal handlers raise anywhere."""
        me = get_ident()
        if self._sender == me:
            self._lose(interruption(error))
            self._sender = 0
            self._release(self._sending)
        if self._reader == me:
            self._lose(interruption(error))
            self._reader = 0
            self._release(self._reading)

    def _give_up(self, call: Call) -> None:
        """Leave the reply of a call pending, and ask the server to cancel the call."""
        chunks = self.side.abandon(call)
        if not chunks or self.side.reason is not None:
            return
        sent = not self._in_the_middle(get_ident()) and self._send_without_reply(chunks)
        if isinstance(call, StreamCall):
            with contextlib.suppress(RuntimeError):  # the interpreter exits
                start_new_thread(self._drain, (call, () if sent else chunks))

    def _send_without_reply(self, chunks: Chunks) -> bool:
        """Send a message that has no reply, or queue it; return whether that was done."""
        try:
            # Another thread that sends, or gives up too, nearly always takes only a moment.
            if not self._sending.acquire(timeout=RECHECK):
                return False
            self._sender = get_ident()
            self._push(chunks, time.monotonic())
        except OSError:
            pass  # no room: it goes with the next message; connection lost: the next call raises
        finally:
            if self._sender == get_ident():
                self._sender = 0
                self._release(self._sending)
        return True

    def _drain(self, call: Call, chunks: Chunks) -> None:
        """Read the rest of a stream that was left, in a thread of its own.

        A server that is blocked by unread items does not read the request to end the stream either.
        """
        deadline = time.monotonic() + DRAIN_TIME
        with contextlib.suppress(OSError, RpcError):
            note = Call(0, call.what)
            note.sent = not chunks  # then only queued bytes are sent
            self._send(note, chunks, deadline)
            self._wait(call, deadline)
