"""The lean road of an asyncio call: one coroutine, and one loop for all replies of a read.

The common case: a small request without keywords, on a connection with ids that keeps up, and a
small reply that says what was returned. Such a call has no object but the future that its task
awaits; `AsyncioConnection.waiting` has it under what its request and its reply begin with. A call
that was given up stays there, with a future that is done, until its reply came.

The one idea to keep in mind: a line that is not understood here changes nothing. It and all that
came behind it go the general road, which asks `receive` whether the call began here; and then the
task reads its reply as all others do.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from pyon.asyncio_tasks import settle
from pyon.wire import LINE_SIZE, line_scanner, small_text

from pc_rpc._call import Call
from pc_rpc._protocol import RETURNED, _number, cancellation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyon.framing import Message

    from pc_rpc._asyncio_connection import AsyncioConnection


class _Ending:
    """What a task is given that is not the value of its reply."""

    __slots__ = ("message",)

    def __init__(self, message: Message | None = None) -> None:
        self.message = message  # the reply, if it came


_LOST, _TOO_LATE = _Ending(), _Ending()


async def call(
    connection: AsyncioConnection, name: str, args: Sequence[Any], timeout: float | None
) -> Any:
    """Call a method and return its result. See `AsyncioConnection.call`, the general road."""
    side, pending, text = connection.side, connection.waiting, small_text([*args])
    if text is None:
        return await connection.call(name, args, {}, timeout)
    number = next(side.numbers)
    key = f'{{"id":{number}'
    line = f'{key}{side.requests[name]}{text},"kwargs":{{}}}}\n'.encode()
    future = pending[key] = connection.loop.create_future()
    if len(line) > side.limit or not connection.send_small(line):
        pending.pop(key, None)
        return await connection.call(name, args, {}, timeout)
    timer = None
    if timeout is not None:
        timer = connection.loop.call_later(timeout, settle, future, _TOO_LATE)
    try:
        value = await future
    except CancelledError:
        _abandon(connection, key, number)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if type(value) is not _Ending:
        return value
    ended = Call(number, f"call of {name}()")
    ended.sent = True
    if value is _TOO_LATE:
        _abandon(connection, key, number)
        raise side.too_late(ended, timeout)
    ended.reply = value.message
    return connection.result(ended)


def _abandon(connection: AsyncioConnection, key: str, number: int) -> None:
    """Have the server cancel a call, unless its reply came already."""
    if key in connection.waiting:
        connection.send_chunks(cancellation(number))


def take_replies(connection: AsyncioConnection, text: str) -> int:
    """Hand out the replies in some lines; return how many characters of them are done with."""
    pending, scan = connection.waiting, line_scanner(text)
    if scan is None:
        return 0
    lines = text.split("\n")
    lines.pop()
    done = 0
    for line in lines:
        key, _, rest = line.partition(RETURNED)
        try:
            if len(line) > LINE_SIZE:
                break
            value, end = scan(rest, 0)
            if rest[end:] != "}":
                break
            future = pending.pop(key)
        except (KeyError, ValueError, StopIteration, RecursionError):
            break
        done += len(line) + 1
        if not future.done():
            future.set_result(value)
    return done


def receive(connection: AsyncioConnection, message: Message) -> bool:
    """Take a reply in for its task to read; say whether it belongs to a call that began here."""
    future = connection.waiting.pop(f'{{"id":{_number(message.line)}', None)
    if future is None:
        return False
    settle(future, _Ending(message))
    return True


def lose(connection: AsyncioConnection) -> None:
    """Have the tasks hear that their replies will not come."""
    futures = list(connection.waiting.values())
    connection.waiting.clear()
    for future in futures:
        settle(future, _LOST)
