"""The client's end of the conversation as pure code: handshake, requests, replies, the end.

No socket, no thread, no clock, no event loop: `ClientSide` takes messages and returns messages to
send. PROTOCOL.md is the normative description.

The one idea to keep in mind: everything that is sent is a `Call`, the two steps of the handshake
included, and is pending until its reply arrives. A call that was given up stays pending, so that
its reply is recognised, by its position or by its id, and dropped. No other call gets it.

Each change of the pending calls is one operation of a built-in container. So a front end with
threads needs no lock for them, and may be interrupted anywhere.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import pyon
from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT, Message, Receiver, frame
from pyon.wire import Pieces, around

from pc_rpc._call import Call, Requests
from pc_rpc._errors import (
    ConnectionLost,
    GenericRemoteException,
    ProtocolError,
    rebuild_exception,
)
from pc_rpc._greeting import choose, read_greeting, read_methods
from pc_rpc._protocol import (
    BANNER,
    HANDSHAKE_LIMIT,
    LEASE_WAITS,
    PYON_V2,
    AutoTarget,
    Chunks,
    Features,
    _beyond,
    _decode,
    _number,
    _size,
    cancellation,
)
from pc_rpc._stream_call import StreamCall, has_items
from pc_rpc._unreachable import is_refusal

GREETING = "greeting"
SELECTION = "selection of a target"

_FAILED = re.compile(rb'\{(?:"buffers":\[[0-9,]*\],)?(?:"id":[0-9]{1,18},)?"status": ?"failed"')
"""The beginning of the reply to a call that raised, for a reply that cannot be decoded."""


class ClientSide:
    """The client's end of one connection.

    To send a request, a front end gets the call and its message from `greet`, `select`,
    `encode_call` or `encode_action`, passes the call to `expect`, then sends the message. It passes
    each message that arrives to `receive`, and wakes the waiter of the call that is returned, which
    gets the `result`. When the connection ends, it calls `lost` and wakes the waiters of the calls
    that are returned, which raise `error_for`. All methods may be called from any thread, `receive`
    from one at a time.

    Parameters
    ----------
    peer : str
        Address of the server, for messages.
    limit : int, optional
        Maximum size of a message in bytes, in both directions.
    line_limit : int, optional
        Maximum size of the line of a reply in bytes.
    tls : bool, optional
        The connection speaks TLS: for hints only.
    again : str, optional
        How to connect again, as the end of an error message.
    wait_for_leases : bool, optional
        Calls wait while another connection has a lease on the target.

    Attributes
    ----------
    targets, description, leases : list of str, str or None, list of dict
        The content of the greeting.
    selected_target : str or None
        The target, None until one is selected.
    methods, streams : frozenset of str
        Names of its methods, and of those that return streams; empty until one is selected.
    reason : BaseException or None
        Why the connection is lost, None while it is not.
    blocks : dict of int to str
        Purposes of the leases whose blocks have not ended, by their numbers.
    """

    def __init__(
        self,
        peer: str = "the server",
        *,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REPLY_LINE_LIMIT,
        tls: bool = False,
        again: str = "make a new client to connect again",
        wait_for_leases: bool = False,
    ) -> None:
        self.peer = peer
        self.limit = limit
        self.line_limit = line_limit
        self.targets: list[str] = []
        self.description: str | None = None
        self.leases: list[dict[str, Any]] = []
        self.selected_target: str | None = None
        self.methods: frozenset[str] = frozenset()
        self.streams: frozenset[str] = frozenset()
        self.features = Features()
        self.reason: BaseException | None = None
        self.blocks: dict[int | None, str] = {}
        self._again = again
        self._unwanted = set() if wait_for_leases else {LEASE_WAITS}
        self._tls = tls
        self.requests = Requests()
        self._offered: list[str] | None = None
        self.numbers = itertools.count(1)
        self._in_order: deque[Call] = deque()
        self.by_number: dict[int, Call] = {}

    @property
    def label(self) -> str:
        """Target and server, for messages."""
        target = self.selected_target
        return self.peer if target is None else f"{target!r} at {self.peer}"

    # Handshake.

    @property
    def greeted(self) -> bool:
        """Whether the greeting of the server has arrived."""
        return self._offered is not None

    def greet(self) -> tuple[Call, Chunks]:
        """Return the first step of the handshake, and the message to send: see `encode_call`."""
        return Call(0, GREETING, step=True), frame(BANNER)

    def select(self, target_name: str | AutoTarget | type[AutoTarget]) -> tuple[Call, Chunks]:
        """Return the step that selects a target and the common features, and the message to send.

        Raises
        ------
        IncompatibleServer
            There is no such target.
        ValueError
            `AutoTarget`, and the server does not have exactly one; or a target is selected already.
        """
        if self.selected_target is not None:
            raise ValueError(f"the target {self.selected_target!r} has been selected already")
        self.selected_target = name = choose(target_name, self.targets)
        offered = self._offered or []
        words = [word for word in offered if word not in self._unwanted]
        words = words if PYON_V2 in offered else []
        self.features = Features(words)
        call = Call(0, SELECTION, step=True)
        return call, frame(" ".join([name, *words]))

    def come_after(self, before: ClientSide) -> bool:
        """Take the place of a lost connection; return whether the methods have changed."""
        gone = self.requests.gone
        for name in {*before.methods, *before.requests.gone} - self.methods:
            gone[name] = (
                f"no remote method {name!r} in {self.label} any more: the server had it before the "
                "connection was made again"
            )
        return (before.methods, before.streams) != (self.methods, self.streams)

    def configure(self, receiver: Receiver) -> None:
        """Set the limits of a receiver. To be called after each step of the handshake."""
        selected = self.selected_target is not None
        receiver.limit = self.limit if selected else HANDSHAKE_LIMIT
        receiver.line_limit = self.line_limit if selected else None
        receiver.raw_buffers = self.features.raw_buffers

    def takes(self, size: int) -> bool:
        """Return whether a reply of that many bytes is within the limits."""
        return size <= min(self.limit, self.line_limit)

    # Requests.

    def encode_call(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Call, Chunks]:
        """Return a call of a method, and the message to send after `expect`.

        Raises
        ------
        TypeError
            An argument cannot be encoded. The state is unchanged.
        ValueError
            The message would be beyond the limit. The state is unchanged.
        AttributeError
            Only the connection before this one had such a method: see `come_after`.
        """
        features = self.features
        # Our own servers accept a list, too, which is decoded in half the time.
        values = list(args) if features.request_ids else tuple(args)
        head = self.requests[name]
        try:
            if kwargs or features.version == 1:
                text, buffers = features.encode(
                    {"action": "call", "name": name, "args": values, "kwargs": dict(kwargs)}
                )
            else:  # the same, in a fifth of the time
                text, buffers = features.encode(values)
                text = around(f"{{{head[1:]}", text, ',"kwargs":{}}')
        except pyon.EncodeError as error:
            error.add_note(f"in the arguments of {name}()")
            raise
        return self.issue(f"call of {name}()", text, buffers)

    def encode_action(
        self, action: str, fields: Mapping[str, Any] | None = None
    ) -> tuple[Call, Chunks]:
        """Return a request other than a call of a method, and the message to send.

        Raises
        ------
        RuntimeError
            No target has been selected yet.
        """
        if self.selected_target is None:
            raise RuntimeError("no target has been selected yet: see select_rpc_target")
        return self.issue(action, *self.features.encode({"action": action, **(fields or {})}))

    def issue(self, what: str, text: Pieces, buffers: list[memoryview]) -> tuple[Call, Chunks]:
        """Return a request, and the message to send, from an encoded text without an id."""
        call = Call(next(self.numbers), what)
        if self.features.request_ids:
            text[0] = f'{{"id":{call.number},{text[0][1:]}'
        chunks = frame(text, buffers)
        if (size := _size(chunks)) > self.limit:
            raise _beyond(f"the {what}", size, self.limit)
        return call, chunks

    def expect(self, call: Call) -> None:
        """Note that a request is about to be sent. To be called in the order on the wire."""
        call.sent = True
        if self.features.request_ids and not call.step:
            if call.number:
                self.by_number[call.number] = call
        else:
            self._in_order.append(call)

    def abandon(self, call: Call) -> Chunks:
        """Note that a call is given up; return the request to cancel it, empty if not needed."""
        call.abandoned = True
        if isinstance(call, StreamCall):
            call.forget()
        elif call.reply is not None:
            return []
        if call.number not in self.by_number:
            return []
        return cancellation(call.number)

    # Replies.

    def receive(self, message: Message) -> Call | None:
        """Return the call that a message replies to, with the reply; None if it was given up.

        Raises
        ------
        ProtocolError
            It replies to no pending call: the connection cannot be used any more.
        """
        call: Call | None = None
        if self._in_order:
            call = self._in_order.popleft()
        elif (number := _number(message.line)) is not None:
            call = self.by_number.get(number)
            if not isinstance(call, StreamCall) or not has_items(message):
                self.by_number.pop(number, None)
            elif call.abandoned:
                return None
            elif call.overrun:
                raise ProtocolError(f"the server sent more of the {call.what} than it may")
        if call is None:
            raise ProtocolError(f"the server sent a reply to no request: {message.line!r:.100}")
        if call.abandoned and not isinstance(call, StreamCall):
            return None
        call.reply = message
        return call

    def result(self, call: Call) -> Any:
        """Return the result of the method, or raise its exception.

        For a step of the handshake: read the answer of the server, and return None.
        """
        message, call.reply = call.reply, None
        assert message is not None
        if call.step:
            self._finish(call, message)
            return None
        if message.oversize:
            raise _beyond(f"the reply to the {call.what}", message.oversize, message.limit)
        try:
            reply = _decode(message, self.features.version)
            status = reply["status"]
            if status == "ok":
                return reply["ret"]
            if status == "failed":
                raised = rebuild_exception(reply["exception"])
            elif status == "stopped":
                raised = self._stopped(call, begun=reply["begun"] is not False)
            else:
                raise ValueError(f"unknown status {status!r:.100}")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise unreadable(call, message.line, error) from error
        try:
            raise raised
        finally:
            del raised  # its traceback refers to this frame, and that to the connection

    def _stopped(self, call: Call, *, begun: bool) -> ConnectionLost:
        state = "may have been executed" if begun else "was not executed"
        return ConnectionLost(
            f"connection to {self.peer} lost: the server stopped; the {call.what} {state}",
            sent=begun,
        )

    def _finish(self, call: Call, message: Message) -> None:
        if message.oversize:
            raise ProtocolError(f"{self.peer} sent a line of {message.oversize} bytes")
        line = bytes(message.line)
        if call.what is GREETING:
            said = read_greeting(line, self.peer)
            self.targets, self.description, self._offered, self.leases = said
        else:
            target = self.selected_target if self.features.target_errors else None
            self.methods, self.streams = read_methods(line, self.peer, target)

    # The end.

    def lost(self, reason: BaseException) -> list[Call]:
        """Note that the connection is lost; return the calls that were pending.

        The first reason is kept. Calls that were given up are not returned, except streams: their
        end may still be waited for.
        """
        if self.reason is None:
            self.reason = reason
        pending = [*self._in_order, *self.by_number.values()]
        self._in_order.clear()
        self.by_number.clear()
        return [call for call in pending if not call.abandoned or isinstance(call, StreamCall)]

    def closed_by_peer(self, pending: int) -> EOFError:
        """Return the reason for `lost` if the server closed the connection.

        Parameters
        ----------
        pending : int
            Bytes received of an incomplete message.
        """
        where = " in the middle of a reply" if pending and self.greeted else ""
        return EOFError(f"closed by the server{where}")

    def error_for(self, call: Call | None = None) -> ConnectionLost:
        """Return the error of a call whose connection is lost.

        Parameters
        ----------
        call : Call or None, optional
            The call; None: the error is not about a request.
        """
        reason = self.reason
        text = f"connection to {self.peer} lost: {str(reason) or type(reason).__name__}"
        sent = call is not None and call.sent and not call.step
        if call is None or call.step:
            text += self._hint()
        else:
            state = "may have been executed" if sent else "was not sent"
            text += f"; the {call.what} {state}"
        error = ConnectionLost(f"{text}; {self._again}" if self.greeted else text, sent=sent)
        error.__cause__ = reason
        return error

    def _hint(self) -> str:
        """Return the probable reason why the server closed the connection without an answer."""
        if is_refusal(self.reason):
            return ": the server refused this client's certificate"
        by_server = isinstance(self.reason, (EOFError, ConnectionError))
        if self.greeted or not by_server or isinstance(self.reason, ConnectionLost):
            return ""
        if self._tls:
            return " before its greeting: it may have refused this client's certificate"
        return " before its greeting: the port may speak TLS, or be that of something else"

    def too_late(self, call: Call, timeout: float | None) -> TimeoutError:
        """Return the error of a call that timed out."""
        if call.step:
            return TimeoutError(f"{self.peer} did not answer within the time-out of {timeout} s")
        return TimeoutError(f"no reply to the {call.what} from {self.peer} within {timeout} s")


def unreadable(call: Call, line: bytes | bytearray, error: Exception) -> Exception:
    """Return the error of a call whose reply cannot be decoded."""
    if isinstance(error, (pyon.DecodeError, RecursionError)) and _FAILED.match(line):
        return GenericRemoteException(
            f"the {call.what} raised what cannot be read here ({error}): {line!r:.200}"
        )
    return ProtocolError(f"expected a reply to the {call.what}, got {line!r:.100}: {error}")
