"""What comes in on a connection of many threads: who reads, and who waits for what.

The one idea to keep in mind: leader and followers. Of the threads that wait for replies one, the
leader, reads the socket and hands out what comes; the others sleep. When the leader's own reply
came it goes, and wakes another one, which leads from then on. So a lone thread pays for no second
one, and a thread that gives up only leaves its reply pending.
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
"""Bytes taken per read. Making a larger buffer takes longer than connecting; arrays do not pass
through it, and what is longer than it gets memory of its own."""


class Receiving:
    """The receiving half of one connection, for any thread.

    Parameters
    ----------
    side : ClientSide
        What was agreed, and what is pending.
    """

    _socket: NonBlockingSocket

    def __init__(self, side: ClientSide) -> None:
        self.side = side
        self.interrupts = Interrupts()
        self._reading = RLock()  # held while bytes are taken in and handed out
        self._leading = RLock()  # held by the leader
        self._reader = 0  # the thread that is in the middle of a read
        self._followers: dict[Call, None] = {}
        self._heard = 0.0  # when the last bytes came
        self._partial = False  # whether something is in hand of a message that is not complete
        self._receiver = Receiver(limit=HANDSHAKE_LIMIT, scratch=bytearray(SCRATCH_SIZE))

    # Waiting: as the leader, or as one of its followers.

    def _wait(self, call: Call, deadline: float | None) -> None:
        """Wait until the reply is there or the connection is lost."""
        followers, following, pause = self._followers, False, RECHECK
        try:
            while call.reply is None and self.side.reason is None:
                if self._leading.acquire(blocking=False):
                    self._lead(call, deadline)
                elif not following:  # and then look once more, before waiting
                    call.waiter = threading.Lock()
                    call.waiter.acquire()
                    followers[call] = None
                    following = True
                elif self.interrupts.during(call.waiter.acquire, True, within(deadline, pause)):
                    followers.pop(call, None)
                    following = False
                else:
                    self._read_if_nobody_does()
                    pause = _longer(pause)
        except BaseException:
            self._leave(self._leading)  # interrupted before it led
            raise
        finally:
            if following and followers.pop(call, self) is self:
                self._pass_on()  # chosen to lead, but it leaves

    def _lead(self, call: Call, deadline: float | None) -> None:
        """Read until the reply is there or the connection is lost; then have another one lead."""
        wait, during, pause = self._socket.wait_readable, self.interrupts.during, RECHECK
        try:
            while call.reply is None and self.side.reason is None:
                if during(wait, within(deadline, pause)):
                    self._take_in()
                pause = _longer(pause)
        finally:
            self._leave(self._leading)
            self._pass_on()

    def _pass_on(self) -> None:
        """Have one of the followers look whether it should lead."""
        if self._followers:
            with contextlib.suppress(KeyError):  # all of them have gone meanwhile
                _wake(self._followers.popitem()[0])

    def _leave(self, lock: RLock) -> None:
        """Release a lock, if this thread has it still, or at all: it may have been interrupted."""
        try:
            lock.release()
        except RuntimeError:
            pass

    def _read_if_nobody_does(self) -> None:
        """Read what came: the leader may be held up by a signal handler, on its thread."""
        if self._socket.wait_readable(0):
            self._take_in()

    # Receiving.

    def _take_in(self) -> None:
        """Take the bytes that came, and hand out the replies that they complete."""
        try:
            if not self._reading.acquire(timeout=RECHECK):
                return
            self._reader = get_ident()
            self._receive()
            self._heard = time.monotonic()
            self._hand_out()
        except BlockingIOError:
            pass
        except (OSError, EOFError, RpcError, FramingError) as error:
            self._lose(error)
        except BaseException as error:
            self._lose(interruption(error))  # between taking bytes and noting how many
            raise
        finally:
            if self._reader == get_ident():
                self._reader = 0
                self._leave(self._reading)

    def _receive(self) -> None:
        self._note(self._socket.recv_into(self._receiver.get_buffer()))

    def _note(self, size: int) -> None:
        if not size:
            raise self.side.closed_by_peer(self._receiver.pending)
        self._receiver.buffer_updated(size)

    def _take_in_read(self, data: bytes) -> None:
        """Go on with bytes that were read already, where nothing was in hand before them."""
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
        """End the connection: nothing that is pending will come."""
        self._note_end(reason)
        self._socket.shutdown()

    def _note_end(self, reason: BaseException) -> None:
        reason.__traceback__ = None  # it leads to this object, which is to end with its last user
        for call in self.side.lost(reason):
            if call.waiter is not None:
                _wake(call)


def _longer(pause: float) -> float:
    """Return how long a thread waits before it looks around the next time."""
    if get_ident() == _interrupts.main:  # a signal handler may have read its reply
        return RECHECK
    return min(2 * pause, LONGEST_RECHECK)


def _wake(call: Call) -> None:
    """Wake the thread that waits for the reply to a call."""
    try:
        call.waiter.release()
    except RuntimeError:  # awake already
        pass
