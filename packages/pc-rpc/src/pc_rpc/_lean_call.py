"""The fast path of a blocking call: the common case, in three functions.

The common case: a small request without keywords, on a plain connection with ids that no other
thread uses at the moment; the socket takes it at once, and a small reply arrives alone in one read.
Nearly all calls are such calls, and most of their time goes into the number of function calls.

The one idea to keep in mind: the general path can go on after each step. The conditions are tested
first, and each step leaves a state that `BlockingConnection` understands: the call is not sent,
partly sent (the rest goes before the next message), sent, or replied to. So the guarantees are
those of the general path.

Ctrl-C is not delayed here, and other signal handlers may raise, too, between any two steps. So the
bytes that are sent or received are noted in the same step: ``map`` and ``extend`` are C code, in
which no signal handler runs. After an exception they are known.
"""

from __future__ import annotations

from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from pyon.framing import FramingError, Message
from pyon.wire import LINE_SIZE, line_scanner, small_text

from pc_rpc import _interrupts
from pc_rpc._call import Call
from pc_rpc._deadlines import RECHECK, deadline_of
from pc_rpc._errors import RpcError
from pc_rpc._interrupts import interruption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pc_rpc._connection import BlockingConnection

READ_SIZE = LINE_SIZE
"""Bytes of a read that should bring one small reply. Each read allocates them."""

FRESH = 1e-3
"""Seconds after the last received bytes during which the connection is not checked before a call:
the calls of a loop follow each other faster. The check costs a system call and a thread switch. A
peer that closes within this time is noticed when the reply is awaited; no process restarts as
quickly."""

_SIZES, _WAIT = (READ_SIZE,), (0,)  # arguments of `recv` for `map`: sizes, and flags that block


def invoke(
    connection: BlockingConnection,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    timeout: float | None,
) -> Any:
    """Call a method of the selected target and return its result."""
    text = None if kwargs or not connection.lean else small_text([*args])
    if (
        text is None
        or (timeout is not None and timeout < RECHECK)
        or connection._followers
        or connection._sender
        or connection._reader
        or ((sent := connection._attempt[2]) and sent[0] != connection._attempt[1])
    ):
        return connection.call(name, args, kwargs, timeout)
    side, me, began = connection.side, get_ident(), monotonic()
    number = next(side.numbers)
    line = f'{{"id":{number}{side.requests[name]}{text},"kwargs":{{}}}}\n'.encode()
    if len(line) > side.limit:
        return connection.call(name, args, kwargs, timeout)
    call = Call(number, f"call of {name}()")
    head = f'{{"id":{number},"status":"ok","ret":'
    reply = _exchange(connection, call, line, head, me, began)
    if reply is None:
        deadline = deadline_of(timeout, began)
        connection.interrupts.held_back(connection._exchange, call, [line], timeout, deadline)
        return connection._result(call)
    try:
        if (scan := line_scanner(reply)) is not None:
            value, end = scan(reply, len(head))
            if reply[end:] == "}\n":
                return value
    except (ValueError, StopIteration, RecursionError):
        pass  # `_result` raises the error
    call.reply = Message(reply[:-1].encode())
    return connection._result(call)


def _exchange(
    connection: BlockingConnection, call: Call, line: bytes, head: str, me: int, began: float
) -> str | None:
    """Send a request and return its reply; None: the general path must go on.

    ``call.sent`` and ``call.reply`` tell how far the call got.
    """
    sock, side, interrupts = connection._socket, connection.side, connection.interrupts
    leading, sending = connection._leading, connection._sending
    sent: list[int] = []
    try:
        if not leading.acquire(False):
            return None
        if began - connection._received_at > FRESH and sock.wait_readable(0):
            interrupts.held_back(connection._take_in)
        try:
            if not sending.acquire(False) or connection._unsent or side.reason is not None:
                return None
            connection._attempt = me, len(line), sent
            call.sent = True
            side.by_number[call.number] = call
            try:
                sent.extend(map(sock.send, (line,), sock.at_once))
            except BlockingIOError:
                sent.append(0)
            if sent[0] != len(line):
                connection._unsent.append(memoryview(line)[sent[0] :])
                connection._attempt = 0, 0, sent
                return None
        except OSError as error:
            raise connection._failed_to_send(call, [line], error) from error
        finally:
            try:
                sending.release()
            except RuntimeError:
                pass
        return _receive(connection, call, head, me)
    except BaseException as error:
        if connection._in_the_middle(me):
            interrupts.held_back(connection._lose, interruption(error))
        if sent:
            interrupts.held_back(connection._give_up, call)
        else:
            side.by_number.pop(call.number, None)
        raise
    finally:
        try:
            leading.release()
        except RuntimeError:
            pass
        if connection._followers:
            connection._pass_on()


def _receive(connection: BlockingConnection, call: Call, head: str, me: int) -> str | None:
    """Wait for bytes; return them if they are exactly the reply to the call, else None.

    Signal handlers run on the main thread only: other threads wait and read in one step.
    """
    sock, reading, flags = connection._socket, connection._reading, _WAIT
    if me == _interrupts.main or not sock.waits:
        flags = sock.at_once
        if not sock.wait_readable(RECHECK):
            return None
    got: list[bytes] = []
    try:
        if not reading.acquire(False):
            return None
        connection._reader = me
        if connection._partial:
            return None
        got.extend(map(sock.recv, _SIZES, flags))
        connection._received_at = monotonic()
        data = got[0]
        reply = data.decode() if data.isascii() else ""
        if reply.startswith(head) and reply.find("\n") == len(reply) - 1:
            connection.side.by_number.pop(call.number, None)
            return reply
        connection.interrupts.held_back(_take_in, connection, call, got)
    except BlockingIOError:
        pass
    except (OSError, EOFError, RpcError, FramingError) as error:
        connection._lose(error)
    except BaseException:
        connection.interrupts.held_back(_take_in, connection, call, got)
        raise
    finally:
        if connection._reader == me:
            connection._reader = 0
            try:
                reading.release()
            except RuntimeError:
                pass
    return None


def _take_in(connection: BlockingConnection, call: Call, got: list[bytes]) -> None:
    """Pass on bytes that are not exactly the reply, or that were read before an interruption."""
    if not got:
        return
    data = got.pop()
    if not data.startswith(b'{"id":%d,' % call.number) or call.number in connection.side.by_number:
        connection._take_in_read(data)
