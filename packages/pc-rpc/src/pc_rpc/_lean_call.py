"""The lean road of a blocking call: the common case, in one function.

The common case: a small request on a plain connection with ids, which nobody else uses just now;
the socket takes it at once, and the reply comes in one read. Nearly all calls are such calls, and
most of what a call takes is the number of functions on its road. What is left here costs half.

The one idea to keep in mind: the general road goes on from whatever is reached here. The conditions
are tested first, and each step leaves a state that `BlockingConnection` understands: the call is
not sent yet, sent in part (the rest waits in front of the next message), sent, or replied to. So
nothing is promised here that is not promised there.
"""

from __future__ import annotations

from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING

from pyon.framing import FramingError

from pc_rpc._deadlines import RECHECK
from pc_rpc._errors import RpcError
from pc_rpc._interrupts import interruption, on_main_thread

if TYPE_CHECKING:
    from pc_rpc._client_side import Call
    from pc_rpc._connection import BlockingConnection
    from pc_rpc._protocol import Chunks

READ_SIZE = 4096
"""Bytes of a read that is to bring one small reply; the memory is made for each."""

FRESH = 2e-4
"""Seconds since the last bytes came during which the peer is taken to be there still: that long is
between the calls of a loop. To look costs a system call, and a change of threads; a peer that
closes in this time is noticed when the reply is waited for. No server restarts as quickly."""


def try_to_exchange(
    connection: BlockingConnection, call: Call, chunks: Chunks, deadline: float | None
) -> None:
    """Send a request and take in its reply, as far as this is the common case.

    Where that ends is seen from ``call.sent`` and ``call.reply``.
    """
    if len(chunks) > 1 or connection._unsent or connection._followers or not connection._simple:
        return
    now = monotonic()
    if deadline is not None and deadline - now < RECHECK:
        return
    leading = connection._leading
    try:
        if not leading.acquire(False):
            return
        if now - connection._heard > FRESH and connection._socket.wait_readable(0):
            connection._take_in()
        if connection.side.reason is None and _send(connection, call, chunks):
            _receive(connection, call)
    finally:
        connection._leave(leading)
        if connection._followers:
            connection._pass_on()


def _send(connection: BlockingConnection, call: Call, chunks: Chunks) -> bool:
    """Send a request; return whether it is out. The number of bytes is noted in the same step."""
    sending, send = connection._sending, connection._socket.send
    assert send is not None
    sent: list[int] = []
    try:
        if not sending.acquire(False):
            return False
        if connection._unsent:
            return False
        chunk = chunks[0]
        connection._attempt = get_ident(), len(chunk), sent
        connection.side.expect(call)
        try:
            sent.extend(map(send, chunks, connection._socket.at_once))
        except BlockingIOError:
            sent.append(0)
        if (size := sent[0]) == len(chunk):
            return True
        connection._unsent.append(memoryview(chunk)[size:] if size else chunk)
        connection._attempt = 0, 0, sent
        return False
    except OSError as error:
        raise connection._failed_to_send(call, chunks, error) from error
    except BaseException as error:
        if connection._in_the_middle(get_ident()):
            connection._lose(interruption(error))
        raise
    finally:
        connection._leave(sending)


def _receive(connection: BlockingConnection, call: Call) -> None:
    """Wait for bytes and take them in; if they are not just the reply, as always.

    Off the main thread no signal handler runs while it waits, so that one step can wait and read.
    """
    me, sock = get_ident(), connection._socket
    recv = sock.receive
    if recv is None or on_main_thread(me):
        if not connection._interrupts.during(sock.wait_readable, RECHECK):
            return
        recv = sock.receive_at_once
    try:
        if not connection._reading.acquire(False):
            return
        connection._reader = me
        if connection._receiver.pending:
            return
        data = recv(READ_SIZE)
        if not connection.side.receive_alone(call, data):
            connection._take_in_read(data)
        connection._heard = monotonic()
    except BlockingIOError:
        pass
    except (OSError, EOFError, RpcError, FramingError) as error:
        connection._lose(error)
    except BaseException as error:
        connection._lose(interruption(error))  # between taking bytes and noting how many
        raise
    finally:
        if connection._reader == me:
            connection._reader = 0
            connection._leave(connection._reading)
