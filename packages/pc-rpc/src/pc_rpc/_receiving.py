"""The receiving half of a connection of many threads.

The one idea to keep in mind: leader and followers. One of the threads that wait for replies, the
leader, reads the socket and hands out the replies; the others sleep. When the leader has its own
reply, it wakes a follower, which becomes the leader. So a program with one thread needs no second
one, and a call that is given up only leaves its reply pending.
"""

from __future__ import annotations

import contextlib
import threading
import time
from _thread import RLock
from threading import get_ident
from typing import TYPE_CHECKING

from pyon.framing import FramingError, Receiver

from pc_rpc import _interrupts
from pc_rpc._deadlines import LONGEST_RECHECK, RECHECK, within
from pc_rpc._errors import RpcError
from pc_rpc._interrupts import Interrupts, interruption
from pc_rpc._protocol import HANDSHAKE_LIMIT

if TYPE_CHECKING:
    from pc_rpc._call import Call
    from pc_rpc._client_side import ClientSide
    from pc_rpc._socket import NonBlockingSocket

SCRATCH_SIZE = 2**14
"""Bytes of a read. To allocate a larger buffer takes longer than to connect. Arrays do not pass
through it, and longer lines get memory of their own."""


class Receiving:
    """The receiving half of one connection, for any thread.

    Parameters
    ----------
    side : ClientSide
        The negotiated features and the pending calls.
    """

    _socket: NonBlockingSocket

    def __init__(self, side: ClientSide) -> None:
        self.side = side
        self.interrupts = Interrupts()
        self._reading = RLock()  # held while bytes are received and replies are handed out
        self._leading = RLock()  # held by the leader
        self._reader = 0  # the thread that is in the middle of a read
        self._followers: dict[Call, None] = {}
        self._received_at = 0.0  # when the last bytes arrived
        self._partial = False  # whether the receiver has a part of a message
        self._receiver = Receiver(limit=HANDSHAKE_LIMIT, scratch=bytearray(SCRATCH_SIZE))

    # Waiting: as the leader, or as one of its followers.

    def _wait(self, call: Call, deadline: float | None) -> None:
        """Wait until the reply has arrived or the connection is lost."""
        followers, following, pause = self._followers, False, RECHECK
        try:
            while call.reply is None and self.side.reason is None:
                if self._leading.acquire(blocking=False):
                    self._lead(call, deadline)
                elif not following:  # then check once more, before waiting
                    call.waiter = threading.Lock()
                    call.waiter.acquire()
                    followers[call] = None
                    following = True
                elif self.interrupts.during(call.waiter.acquire, True, within(deadline, pause)):
                    followers.pop(call, None)
                    following = False
                else:
                    self._read_if_free()
                    pause = _longer(pause)
        except BaseException:
            self._release(self._leading)  # interrupted before it led
            raise
        finally:
            if following and followers.pop(call, self) is self:
                self._pass_on()  # it was chosen to lead, but it leaves

    def _lead(self, call: Call, deadline: float | None) -> None:
        """Read until the reply has arrived or the connection is lost; then wake a follower."""
        wait, during, pause = self._socket.wait_readable, self.interrupts.during, RECHECK
        try:
            while call.reply is None and self.side.reason is None:
                if during(wait, within(deadline, pause)):
                    self._take_in()
                pause = _longer(pause)
        finally:
            self._release(self._leading)
            self._pass_on()

    def _pass_on(self) -> None:
        """Wake one of the followers, which checks whether it should lead."""
        if self._followers:
            with contextlib.suppress(KeyError):  # all of them have left meanwhile
                _wake(self._followers.popitem()[0])

    def _release(self, lock: RLock) -> None:
        """Release a lock if this thread holds it: it may have been interrupted before."""
        try:
            lock.release()
        except RuntimeError:
            pass

    def _read_if_free(self) -> None:
        """Read unless another thread does: a signal handler may block the leader's thread."""
        if self._socket.wait_readable(0):
            self._take_in()

    # Receiving.

    def _take_in(self) -> None:
        """Receive bytes, and hand out the replies that they complete."""
        try:
            if not self._reading.acquire(timeout=RECHECK):
                return
            self._reader = get_ident()
            self._receive()
            self._received_at = time.monotonic()
            self._hand_out()
        except BlockingIOError:
            pass
        except (OSError, EOFError, RpcError, FramingError) as error:
            self._lose(error)
        except BaseException as error:
            self._lose(interruption(error))  # maybe between receiving bytes and noting how many
            raise
        finally:
            if self._reader == get_ident():
                self._reader = 0
                self._release(self._reading)

    def _receive(self) -> None:
        self._note(self._socket.recv_into(self._receiver.get_buffer()))

    def _note(self, size: int) -> None:
        if not size:
            raise self.side.closed_by_peer(self._receiver.pending)
        self._receiver.buffer_updated(size)

    def _take_in_read(self, data: bytes) -> None:
        """Hand out the replies in bytes that were read already, at the beginning of a message."""
        self._receiver.get_buffer()[: len(data)] = data
        self._note(len(data))
        self._hand_out()

    def _hand_out(self) -> None:
        """Hand out the replies that are complete."""
        while (message := self._receiver.next_message()) is not None:
            call = self.side.receive(message)
            if call is not None and call.waiter is not None:
                _wake(call)
        self._partial = self._receiver.pending > 0

    # The end.

    def _lose(self, reason: BaseException) -> None:
        """End the connection; pending calls raise `ConnectionLost`."""
        self._note_end(reason)
        self._socket.shutdown()

    def _note_end(self, reason: BaseException) -> None:
        reason.__traceback__ = None  # it refers to this object, which would not be freed
        for call in self.side.lost(reason):
            if call.waiter is not None:
                _wake(call)


def _longer(pause: float) -> float:
    """Return the next interval between the checks of a waiting thread."""
    if get_ident() == _interrupts.main:  # a signal handler may have read its reply
        return RECHECK
    return min(2 * pause, LONGEST_RECHECK)


def _wake(call: Call) -> None:
    """Wake the thread that waits for the reply to a call."""
    try:
        call.waiter.release()
    except RuntimeError:  # awake already
        pass
