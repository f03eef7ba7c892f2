"""A connection that any number of threads call through, without a thread of its own.

The one idea to keep in mind: leader and followers. Of the threads that wait for replies one, the
leader, reads the socket and hands out what comes; the others sleep. When the leader's own reply
came it goes, and wakes another one, which leads from then on. So a lone thread pays for no second
one, requests of many threads are in flight together, and a thread that gives up only leaves its
reply pending. Ctrl-C is such a giving up as well: it is let in only where a thread waits, except on
the lean road, which an exception can do no harm at any moment.

Signal handlers and finalisers run in the middle of all this, on the thread that they interrupt, and
may call the client, too. Hence no lock is held that its own thread would wait for: those two that
exist can be acquired again by their owner, and each change of the state is one step. Only where
bytes of a message are half out or half in, such a call is refused.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from _thread import RLock
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pyon import forks
from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT, FramingError, Receiver
from pyon.tcp import format_address

from pc_rpc import _lean_call
from pc_rpc._client_side import Call, ClientSide
from pc_rpc._connecting import connect, shake_hands
from pc_rpc._deadlines import RECHECK, deadline_of, remaining, within
from pc_rpc._errors import ConnectionLost, RpcError
from pc_rpc._interrupts import Interrupts, interruption
from pc_rpc._methods import warn_unclosed
from pc_rpc._protocol import HANDSHAKE_LIMIT, AutoTarget, Chunks
from pc_rpc._socket import Queue
from pc_rpc._unreachable import wanted

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Mapping, Sequence

SCRATCH_SIZE = 2**12
"""Bytes taken per read. Making a larger buffer takes longer than connecting; arrays do not pass
through it, and what is longer than it gets memory of its own."""

LEAN = True
"""Whether common calls may take the lean road: off in tests that the general one is as good."""
DESCRIPTION_TIMEOUT = 5.0
"""Seconds that documentation may take: a server whose event loop is busy answers later, and people
who asked for help, or mistyped a name, do not wait for that."""


class BlockingConnection:
    """One connection to a server; for any thread.

    Parameters
    ----------
    host, port : str, int
        Where the server is.
    timeout : float or None, optional
        Seconds that a request may take which does not say otherwise. None: no limit.
    connect_timeout : float or None, optional
        Seconds for connection, greeting and selection together. None: as `timeout`.
    target_name : str, AutoTarget or None, optional
        The target to select; None: none yet.
    ssl : ssl.SSLContext, optional
        Speak TLS.
    limit : int, optional
        Bytes of one message, in both directions.
    line_limit : int, optional
        Bytes of the line of a reply.

    Attributes
    ----------
    side : ClientSide
        What was agreed, and what is pending.
    """

    def __init__(
        self,
        host: str,
        port: int,
        target_name: str | AutoTarget | type[AutoTarget] | None = None,
        *,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        ssl: ssl.SSLContext | None = None,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REPLY_LINE_LIMIT,
    ) -> None:
        first = timeout if connect_timeout is None else connect_timeout
        deadline = deadline_of(first)
        self.timeout = timeout
        self.side = ClientSide(
            format_address((host, port)), limit=limit, line_limit=line_limit, tls=ssl is not None
        )
        self._sending = RLock()  # held while a message goes out
        self._reading = RLock()  # held while bytes are taken in and handed out
        self._leading = RLock()  # held by the leader
        self._sender = self._reader = 0  # the threads that are in the middle of either
        # The last message that was to go out in one step: thread, size, bytes taken of it.
        self._attempt: tuple[int, int, list[int]] = (0, 0, [])
        self._followers: dict[Call, None] = {}
        self.lean = False  # whether calls may take the lean road
        self._heard = 0.0  # when the last bytes came
        self._freed = False  # whether the socket was given back
        self._partial = False  # whether something is in hand of a message that is not complete
        self._unsent: Queue = deque()
        self.interrupts = Interrupts()
        self._description: Mapping[str, Any] | None = None
        self._receiver = Receiver(limit=HANDSHAKE_LIMIT, scratch=bytearray(SCRATCH_SIZE))
        what = wanted(self.side.peer, target_name)
        self._socket = connect(host, port, ssl, deadline, what)
        forks.register(self)
        try:
            shake_hands(self.side, self._socket, self._receiver, target_name, first, deadline)
        except BaseException:
            self.close()
            raise
        self._selected()

    def select(self, target_name: str | AutoTarget | type[AutoTarget]) -> None:
        """Select a target and learn its methods. A time-out or interruption ends the connection."""
        call, chunks = self.side.select(target_name)
        try:
            self._complete(call, chunks, self.timeout, deadline_of(self.timeout))
            self.side.configure(self._receiver)
        except BaseException:
            self.close()
            raise
        self._selected()

    def _selected(self) -> None:
        """Note what the handshake has led to."""
        self._partial, self._heard = self._receiver.pending > 0, time.monotonic()
        plain = self._socket.plain
        ids, roomy = self.side.features.request_ids, self.side.takes(_lean_call.READ_SIZE)
        self.lean = LEAN and plain and ids and roomy

    # Calls.

    @property
    def names(self) -> Collection[str]:
        """Names of the methods of the selected target."""
        return self.side.methods

    @property
    def label(self) -> str:
        """Target and server, as people write them."""
        return self.side.label

    invoke = _lean_call.invoke  # the lean road, which goes over to the general one

    def call(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Any:
        """Do what `invoke` does, on the general road."""
        call, chunks = self.side.encode_call(name, args, kwargs)
        return self._complete(call, chunks, timeout, deadline_of(timeout))

    def request(self, action: str) -> Any:
        """Make a request that is no call of a method and return what it gives."""
        return self._request(action, self.timeout)

    def _request(self, action: str, timeout: float | None) -> Any:
        call, chunks = self.side.encode_action(action)
        return self._complete(call, chunks, timeout, deadline_of(timeout))

    def described(self) -> Mapping[str, Any]:
        """Return the method list, an empty one if it cannot be had now."""
        if self._description is None:
            try:
                timeout = DESCRIPTION_TIMEOUT if self.timeout is None else self.timeout
                timeout = min(timeout, DESCRIPTION_TIMEOUT)
                self._description = dict(self._request("get_rpc_method_list", timeout))
            except Exception:  # documentation that cannot be had is no error of its reader
                return {}
        return self._description

    def _complete(
        self, call: Call, chunks: Chunks, timeout: float | None, deadline: float | None
    ) -> Any:
        side = self.side
        if self._in_the_middle(get_ident()):
            raise RpcError(
                f"{side.peer}: the {call.what} was tried by a signal handler or finaliser in the "
                "middle of a message that its own thread sends or reads; it was not sent"
            )
        if side.reason is not None:
            raise side.error_for(call)
        self.interrupts.held_back(self._exchange, call, chunks, timeout, deadline)
        return self._result(call)

    def _result(self, call: Call) -> Any:
        if call.reply is None:
            self._free()
            raise self.side.error_for(call)
        return self.side.result(call)

    def _exchange(
        self, call: Call, chunks: Chunks, timeout: float | None, deadline: float | None
    ) -> None:
        """Send a request and wait for its reply, or for the end of the connection."""
        try:
            if not call.sent or self._unsent:
                self._send(call, chunks, deadline)
            if call.reply is None:
                self._wait(call, deadline)
        except TimeoutError:
            self._give_up(call)
            raise self.side.too_late(call, timeout) from None
        except BaseException as error:
            self._clean_up(error)
            self._give_up(call)
            raise

    # Sending.

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

    # Waiting: as the leader, or as one of its followers.

    def _wait(self, call: Call, deadline: float | None) -> None:
        """Wait until the reply is there or the connection is lost."""
        followers, following = self._followers, False
        try:
            while call.reply is None and self.side.reason is None:
                if self._leading.acquire(blocking=False):
                    self._lead(call, deadline)
                elif not following:  # and then look once more, before waiting
                    call.waiter = threading.Lock()
                    call.waiter.acquire()
                    followers[call] = None
                    following = True
                elif self.interrupts.during(call.waiter.acquire, True, within(deadline, RECHECK)):
                    followers.pop(call, None)
                    following = False
                else:
                    self._read_if_nobody_does()
        except BaseException:
            self._leave(self._leading)  # interrupted before it led
            raise
        finally:
            if following and followers.pop(call, self) is self:
                self._pass_on()  # chosen to lead, but it leaves

    def _lead(self, call: Call, deadline: float | None) -> None:
        """Read until the reply is there or the connection is lost; then have another one lead."""
        wait, during = self._socket.wait_readable, self.interrupts.during
        try:
            while call.reply is None and self.side.reason is None:
                if during(wait, within(deadline, RECHECK)):
                    self._take_in()
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

    # Ends.

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
        if not chunks or self.side.reason is not None or self._sender == get_ident():
            return
        try:
            # Another thread that sends, or gives up too, is nearly always done in a moment.
            if self._sending.acquire(timeout=RECHECK):
                self._sender = get_ident()
                self._push(chunks, time.monotonic())
        except OSError:
            pass  # no room, then it goes with the next message; no connection, then that tells
        finally:
            if self._sender == get_ident():
                self._sender = 0
                self._leave(self._sending)

    def _lose(self, reason: BaseException) -> None:
        """End the connection: nothing that is pending will come."""
        self._note_end(reason)
        self._socket.shutdown()

    def _note_end(self, reason: BaseException) -> None:
        reason.__traceback__ = None  # it leads to this object, which is to end with its last user
        for call in self.side.lost(reason):
            if call.waiter is not None:
                _wake(call)

    def close(self) -> None:
        """Close the connection. Calls that wait end in `ConnectionLost`. May be called again."""
        self.interrupts.held_back(self._end)

    def _end(self) -> None:
        reason = ConnectionLost("closed by close_rpc()")
        if not self._free(reason):  # somebody uses the socket: have them leave
            self._lose(reason)
            self._free()

    def _free(self, reason: BaseException | None = None) -> bool:
        """Give the socket back, unless somebody uses it: who leaves last does it then.

        Parameters
        ----------
        reason : BaseException or None, optional
            Of the end of the connection, if that is not noted yet.
        """
        taken = []
        try:
            for lock in (self._sending, self._leading, self._reading):
                if not lock.acquire(blocking=False):
                    return False
                taken.append(lock)
            if reason is not None:
                self._note_end(reason)
            self._socket.close()
            self._freed = True
            return True
        finally:
            for lock in taken:
                self._leave(lock)

    def forked(self) -> None:
        """See `pyon.forks`."""
        self.side.lost(ConnectionLost(f"made in another process, {os.getppid()}"))
        self._socket.forget()

    def __del__(self) -> None:
        if "_socket" not in self.__dict__:  # there was no connection
            return
        if self.side.reason is None:
            warn_unclosed(self)
        if not self._freed:
            self._socket.close()

    def local_host(self) -> str:
        """Return the address of the local end."""
        try:
            name = self._socket.getsockname()
        except OSError as error:  # closed
            if self.side.reason is None:
                self.side.lost(error)
            raise self.side.error_for() from error
        return str(name[0]) if isinstance(name, tuple) else str(name)


def _wake(call: Call) -> None:
    """Wake the thread that waits for the reply to a call."""
    try:
        call.waiter.release()
    except RuntimeError:  # awake already
        pass
