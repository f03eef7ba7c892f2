"""The fast path of an asyncio call: one coroutine, and one loop for all replies of a read.

The common case: a small request without keywords, on a connection with ids and without a backlog,
and a small reply with a return value. The only object of such a call is the future that its task
awaits. `AsyncioConnection.waiting` has the future; its key is the common beginning of request and
reply. A call that was given up stays there, with a future that is done, until its reply arrives.

The one idea to keep in mind: a line that is not understood here changes nothing. It and the lines
after it take the general path, which asks `receive` whether the call began here. In that case the
task decodes its reply as on the general path.
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
    """The result of a future that is not the value of a reply."""

    __slots__ = ("message",)

    def __init__(self, message: Message | None = None) -> None:
        self.message = message  # the reply, if it arrived


_LOST, _TOO_LATE = _Ending(), _Ending()


async def call(
    connection: AsyncioConnection, name: str, args: Sequence[Any], timeout: float | None
) -> Any:
    """Call a method and return its result. See `AsyncioConnection.call`, the general path."""
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
    """Ask the server to cancel a call, unless its reply has arrived."""
    if key in connection.waiting:
        connection.send_chunks(cancellation(number))


def take_replies(connection: AsyncioConnection, text: str) -> int:
    """Hand out the replies in some lines; return the number of characters consumed."""
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
    """Pass a reply to the task of its call; return whether that call began here."""
    future = connection.waiting.pop(f'{{"id":{_number(message.line)}', None)
    if future is None:
        return False
    settle(future, _Ending(message))
    return True


def lose(connection: AsyncioConnection) -> None:
    """Wake all waiting tasks, because the connection is lost."""
    futures = list(connection.waiting.values())
    connection.waiting.clear()
    for future in futures:
        settle(future, _LOST)
