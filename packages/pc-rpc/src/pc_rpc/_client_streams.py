"""The client's half of a stream, for both clients; pure functions beside `ClientSide`.

The one idea to keep in mind: a stream is one call. Its request is sent when the first item is
requested, as a generator begins then. Messages with items are taken in their order. The reply is
the end, with the return value or the exception of the generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyon
from pyon.framing import copy_if_shared

from pc_rpc._client_side import ClientSide, unreadable
from pc_rpc._errors import GenericRemoteException
from pc_rpc._protocol import CLOSING, Chunks, _beyond, _decode
from pc_rpc._stream_call import MOST_BYTES, MOST_ITEMS, StreamCall, has_items, size_of

_CLOSING = CLOSING.encode()


def encode_stream(
    side: ClientSide, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[StreamCall, Chunks]:
    """Return the call of a stream, and the message to send.

    Raises
    ------
    TypeError, ValueError, AttributeError
        As `ClientSide.encode_call`.
    """
    room = min(side.limit, side.line_limit) // 2  # the other half is for one large item
    allowed = MOST_ITEMS, min(MOST_BYTES, room)
    side.requests[name]  # raises if the server has the method no longer
    request = {"action": "call", "name": name, "args": list(args), "kwargs": dict(kwargs)}
    try:
        text, buffers = side.features.encode({**request, "credit": list(allowed)})
    except pyon.EncodeError as error:
        error.add_note(f"in the arguments of {name}()")
        raise
    issued, chunks = side.issue(f"stream of {name}()", text, buffers)
    call = StreamCall(issued.number, issued.what, allowed)
    del text, buffers  # `copy_if_shared` copies buffers that anything else refers to
    return call, copy_if_shared(chunks)


def next_items(side: ClientSide, call: StreamCall) -> list[Any] | None:
    """Take the items of the next message; None if it is the reply, which `ClientSide.result` reads.

    Raises
    ------
    ValueError
        An item was beyond the limit.
    ProtocolError
        The message cannot be read.
    """
    message = call.reply
    assert message is not None
    if not has_items(message):
        return None
    call.reply = None
    if message.oversize:
        raise _beyond(f"an item of the {call.what}", message.oversize, message.limit)
    size = size_of(message)
    try:
        items = _decode(message, side.features.version)["ret"]
        if type(items) is not list:
            raise TypeError("expected a list of items")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise unreadable(call, message.line, error) from error
    call.taken(len(items), size)
    return items


def result_of(side: ClientSide, call: StreamCall) -> Any:
    """Return what the generator returned, or raise what it raised: see `ClientSide.result`."""
    try:
        return side.result(call)
    except StopIteration as error:  # the method's own: it would look like the end
        raise GenericRemoteException(f"StopIteration: {error}".removesuffix(": ")) from error


def closed(side: ClientSide, call: StreamCall) -> None:
    """Raise the exception that the generator of a stream raised when it was closed.

    An exception that it raised earlier is dropped: it belongs to an item that was not requested.
    """
    reply = call.reply
    if reply is not None and reply.line.endswith(_CLOSING):
        side.result(call)


def too_late(side: ClientSide, call: StreamCall, timeout: float | None) -> TimeoutError:
    """Return the error of a stream whose next item did not come in time."""
    return TimeoutError(f"no item of the {call.what} from {side.peer} within {timeout} s")
