"""The client's half of a stream, as pure code beside `ClientSide`: what both clients do with one.

The one idea to keep in mind: a stream is one call. Its request goes out when the first item is
asked for, as a generator begins then; each message with items is taken when those before it have
been; its reply is the end, with what the generator returned or raised.
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
    """Return a call of a method that gives its result item by item, and the message to send.

    Raises
    ------
    TypeError, ValueError, AttributeError
        As `ClientSide.encode_call`.
    """
    room = min(side.limit, side.line_limit) // 2  # of which a large item may take the rest
    allowed = MOST_ITEMS, min(MOST_BYTES, room)
    side.requests[name]  # raises if the method has gone
    request = {"action": "call", "name": name, "args": list(args), "kwargs": dict(kwargs)}
    try:
        text, buffers = side.features.encode({**request, "credit": list(allowed)})
    except pyon.EncodeError as error:
        error.add_note(f"in the arguments of {name}()")
        raise
    issued, chunks = side.issue(f"stream of {name}()", text, buffers)
    call = StreamCall(issued.number, issued.what, allowed)
    del text, buffers  # the message alone holds what is sent later
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
    except StopIteration as error:  # of no generator: it would pass for the end
        raise GenericRemoteException(f"StopIteration: {error}".removesuffix(": ")) from error


def closed(side: ClientSide, call: StreamCall) -> None:
    """Look at the reply to a stream that was ended; raise what its generator raised when closed.

    What it raised before was that of an item which nobody has asked for.
    """
    reply = call.reply
    if reply is not None and reply.line.endswith(_CLOSING):
        side.result(call)


def too_late(side: ClientSide, call: StreamCall, timeout: float | None) -> TimeoutError:
    """Return the error of a stream whose next item did not come in time."""
    return TimeoutError(f"no item of the {call.what} from {side.peer} within {timeout} s")
