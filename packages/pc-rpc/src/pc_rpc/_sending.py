"""What goes out on a connection of many threads: whole messages, one after the other.

The one idea to keep in mind: a signal handler or finaliser may call the client in the middle of all
this, on the thread that it interrupts. Hence no lock is held that its own thread would wait for,
and the number of bytes that left is noted in the step in which they do. Only where bytes of a
message are half out, such a call is refused.
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

SEE_OUT_TIME = 60.0
"""Seconds that a stream which nobody waits for may take to end: then a thread ends, and what comes
is read by the next call."""


class Sending(Receiving):
    """Both halves of one connection, for any thread. The parameter is that of `Receiving`."""

    def __init__(self, side: ClientSide) -> None:
        super().__init__(side)
        self._sending = RLock()  # held while a message goes out
        self._sender = 0  # the thread that is in the middle of one
        # The last message that was to go out in one step: thread, size, bytes taken of it.
        self._attempt: tuple[int, int, list[int]] = (0, 0, [])
        self._unsent: Queue = deque()

    def _send(self, call: Call, chunks: Chunks, deadline: float | None) -> None:
        """Send a request. Nearly all is done before, so that the wait begins where this ends.

        Raises
        ------
        TimeoutError
            The time was over. What was not sent of the message goes before the next one.
        ConnectionLost
            The connection is gone; `sent` says whether it was before anything was sent.
        """
        remaining(deadline)  # without any time left, nothing is sent
        me, outer = get_ident(), self._attempt
        try:
            self._put_out(call, chunks, deadline)
        except TimeoutError:
            self._keep_unsent(outer)
            raise
        except RpcError:
            raise
        except OSError as error:
            raise self._failed_to_send(call, chunks, error) from error
        except BaseException as error:
            if error is self.interrupts.let_in:
                self._keep_unsent(outer)
            elif self._in_the_middle(me):  # between writing bytes and noting how many
                self._lose(interruption(error))
            raise
        finally:
            if self._sender == me:
                self._sender = 0
            self._leave(self._sending)

    def _failed_to_send(self, call: Call, chunks: Chunks, error: OSError) -> ConnectionLost:
        self._lose(error)
        call.sent = call.sent and not self._is_untouched(chunks)
        return self.side.error_for(call)

    def _put_out(self, call: Call, chunks: Chunks, deadline: float | None) -> None:
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
        """Send a small message in one step, if possible; return whether it is out, or on its way.

        The number of bytes is noted in the same step. So a signal handler that comes before or
        behind it may send messages of its own, where their order is free.
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
        """Say whether a message is half out, or half in, on this very thread."""
        thread, size, sent = self._attempt
        half_out = thread == me and bool(sent) and 0 < sent[0] < size
        return half_out or me in (self._sender, self._reader)

    def _is_untouched(self, chunks: Chunks) -> bool:
        """Say whether nothing went out of the last message. A peer may read before it leaves."""
        unsent, sent = self._unsent, self._attempt[2]
        if sent and sent[0]:
            return False
        return not unsent or (len(unsent) >= len(chunks) and unsent[-len(chunks)] is chunks[0])

    def _begin_sending(self, deadline: float | None) -> None:
        """Wait until nobody else is sending, which takes long only if the peer does not read."""
        while self.side.reason is None and not self._sending.acquire(blocking=False):
            if self._sending.acquire(timeout=within(deadline, RECHECK)):
                return
            self.interrupts.during(bool)  # not while acquiring: it could come behind that
            self._read_if_nobody_does()

    def _keep_unsent(self, outer: tuple[int, int, list[int]]) -> None:
        """Copy what is still to be sent: it is its owner's again, who may change it."""
        if self._unsent and outer[0] == get_ident() and not outer[2]:
            # It interrupted a message that was about to go out, which does not look once more.
            self._lose(InterruptedError("a message was left half out by a signal handler"))
        for index, chunk in enumerate(self._unsent):
            self._unsent[index] = bytes(chunk)

    def _look_for_the_end(self) -> None:
        """Read what came unasked: the peer may have closed, and then nothing is sent any more."""
        try:
            if self._leading.acquire(blocking=False) and self._socket.wait_readable(0):
                self._take_in()
        finally:
            self._leave(self._leading)

    def _push(self, chunks: Chunks, deadline: float | None) -> None:
        """Write; what cannot be written in time stays, to be written before anything else."""
        self._unsent.extend(chunks)
        while True:
            try:
                self._socket.write(self._unsent)
                return
            except BlockingIOError:
                self._wait_writable(deadline)
            except TimeoutError as error:  # of the network, not ours
                raise ConnectionResetError(str(error)) from error

    def _wait_writable(self, deadline: float | None) -> None:
        """Wait for room; meanwhile read, if nobody does: the peer may be waiting for just that."""
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
                self._leave(self._leading)
                self._pass_on()
        if self.side.reason is not None:
            raise ConnectionResetError(str(self.side.reason)) from self.side.reason

    # What a thread leaves behind.

    def _clean_up(self, error: BaseException) -> None:
        """Leave what an exception left this thread in: a signal handler may raise anywhere."""
        me = get_ident()
        if self._sender == me:
            self._lose(interruption(error))
            self._sender = 0
            self._leave(self._sending)
        if self._reader == me:
            self._lose(interruption(error))
            self._reader = 0
            self._leave(self._reading)

    def _give_up(self, call: Call) -> None:
        """Leave the reply of a call pending, and tell the server if it cares."""
        chunks = self.side.abandon(call)
        if not chunks or self.side.reason is not None:
            return
        told = not self._in_the_middle(get_ident()) and self._tell(chunks)
        if isinstance(call, StreamCall):
            with contextlib.suppress(RuntimeError):  # the interpreter ends, and all connections
                start_new_thread(self._see_out, (call, () if told else chunks))

    def _tell(self, chunks: Chunks) -> bool:
        """Send what has no reply, as far as there is room; return whether it is on its way."""
        try:
            # Another thread that sends, or gives up too, is nearly always done in a moment.
            if not self._sending.acquire(timeout=RECHECK):
                return False
            self._sender = get_ident()
            self._push(chunks, time.monotonic())
        except OSError:
            pass  # no room, then it goes with the next message; no connection, then that tells
        finally:
            if self._sender == get_ident():
                self._sender = 0
                self._leave(self._sending)
        return True

    def _see_out(self, call: Call, chunks: Chunks) -> None:
        """Have a stream end that nobody waits for, in a thread of its own.

        A server that sends much reads nothing before that is read: not even that it should end.
        """
        deadline = time.monotonic() + SEE_OUT_TIME
        with contextlib.suppress(OSError, RpcError):
            note = Call(0, call.what)
            note.sent = not chunks  # then what waits to be sent is all there is
            self._send(note, chunks, deadline)
            self._wait(call, deadline)
