"""What both ends of the conversation agree on, and the server's end, as pure code.

No socket, no thread, no clock, no event loop: `ServerSide` takes messages and returns what is to be
sent, like its counterpart in `_client_side`. PROTOCOL.md is the normative description.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyon
<<<<<<< HEAD
from pyon.framing import DEFAULT_LIMIT, Message, copy_if_shared, frame, frame_size
=======
from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT, Message, copy_if_shared, frame, frame_size
from pyon.wire import Pieces, around, decode, encode_pieces
>>>>>>> 4d38ee6 (pyon, pc-rpc: never join a large array in text form to the reply around it)

from pc_rpc._errors import ProtocolError
from pc_rpc._failures import Failure, describe, plainer, text_of
from pc_rpc._outcome import Outcome

BANNER = b"ARTIQ pc_rpc"

PYON_V2 = "pyon_v2"
RAW_BUFFERS = "raw_buffers"
REQUEST_IDS = "request_ids"
EXCEPTION_DETAILS = "exception_details"
TARGET_ERRORS = "target_errors"
STOP_NOTICES = "stop_notices"
FEATURES = (
    PYON_V2, RAW_BUFFERS, REQUEST_IDS, EXCEPTION_DETAILS, TARGET_ERRORS, STOP_NOTICES,
)  # fmt: skip
"""What both of our ends can do, as offered in the greeting. All but the first need the first."""

HANDSHAKE_LIMIT = 2**20
"""Bytes of a line of the handshake at the client: thousands of targets or methods."""

SELECTION_LIMIT = 4096
"""Bytes of a line of the handshake at the server: a target's name and some feature words."""

ID_END = 10**18
"""Ids are smaller: they fit into any language's whole numbers."""

_ID = re.compile(rb'\{(?:"buffers":\[[0-9,]*\],)?"id":([0-9]{1,18})[,}]')
"""The id, which comes first so that it is found without parsing the line."""

_read_json = json.JSONDecoder(strict=False).decode
_write_json = json.JSONEncoder(separators=(",", ":")).encode

Chunks = Sequence[bytes | memoryview]


class AutoTarget:
    """Use this as a target name to select the only target that the server has."""


class Features:
    """What one connection was agreed to be able to do."""

    __slots__ = (
        "exception_details", "raw_buffers", "request_ids", "stop_notices", "target_errors",
        "version",
    )  # fmt: skip

    def __init__(self, selected: Iterable[str] = ()) -> None:
        words = set(selected)
        self.version = 2 if PYON_V2 in words else 1
        self.raw_buffers = RAW_BUFFERS in words
        self.request_ids = REQUEST_IDS in words
        self.exception_details = EXCEPTION_DETAILS in words
        self.target_errors = TARGET_ERRORS in words
        self.stop_notices = STOP_NOTICES in words

    def encode(self, value: Any) -> tuple[Pieces, list[memoryview]]:
        """Return the text of a value in this connection's generation, and what goes beside it."""
        buffers: list[memoryview] = []
        if self.raw_buffers:
            text = encode_pieces(value, version=2, buffer_callback=buffers.append)
        else:
            text = encode_pieces(value, version=self.version)
        return text, buffers


def _decode(message: Message, version: int) -> Any:
    """Return the value; the memory of the raw buffers is its arrays' alone from now on."""
    if not message.buffers:
        return decode(message.take_text(), version=version)
    value = decode(message.take_text(), version=version, buffers=message.buffers)
    with contextlib.suppress(BufferError):  # somebody looks at one: it will be copied, if need be
        for buffer in message.buffers:
            buffer.release()
    return value


def _size(chunks: Chunks) -> int:
    """Return the size that counts against the limit: without the LF."""
    return frame_size(chunks) - 1


def _number(head: bytes | bytearray) -> int | None:
    """Return the id that a line begins with."""
    match = _ID.match(head)
    return None if match is None else int(match[1])


def _beyond(what: str, size: int, limit: int) -> ValueError:
    return ValueError(f"{what} has {size} bytes, beyond the limit of {limit} bytes for a message")


<<<<<<< HEAD
=======
# The client's end.


class Call:
    """A request from the moment that its reply is owed.

    Attributes
    ----------
    number : int
        Its id; where ids were not negotiated, only a serial number.
    what : str
        What was asked, for messages to people.
    abandoned : bool
        Nobody waits for the reply any more.
    reply : Message or None
        The reply, once it came.
    waiter : object
        Whatever the front end needs to wake the one who waits.
    """

    __slots__ = ("abandoned", "number", "reply", "waiter", "what")

    def __init__(self, number: int, what: str) -> None:
        self.number = number
        self.what = what
        self.abandoned = False
        self.reply: Message | None = None
        self.waiter: Any = None


class ClientSide:
    """The client's end of one connection.

    `encode_call`, `encode_action` and `result` may be called from any thread; the others keep the
    account of what is owed and are for one at a time.

    Parameters
    ----------
    limit : int, optional
        Bytes that one message may have, in both directions.

    Attributes
    ----------
    peer : str
        What messages to people call the server.
    """

    def __init__(self, *, limit: int = DEFAULT_LIMIT, line_limit: int = REPLY_LINE_LIMIT) -> None:
        self.limit = limit
        self.line_limit = line_limit
        self.peer = "the server"
        self.targets: list[str] = []
        self.description: str | None = None
        self.selected_target: str | None = None
        self.methods: frozenset[str] = frozenset()
        self.features = Features()
        self._offered: list[str] = []
        self._numbers = itertools.count(1)
        self._in_order: deque[Call] = deque()
        self._by_number: dict[int, Call] = {}

    # Handshake.

    def read_greeting(self, line: bytes) -> None:
        """Take in the first line of the server: who it is and what it can do."""
        try:
            greeting = _read_json(line.decode())
            targets, description = greeting["targets"], greeting["description"]
            offered = greeting.get("features") or []
            if not all(isinstance(x, list) for x in (targets, offered)):
                raise TypeError("not lists")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ProtocolError(_no_greeting(line)) from error
        self.targets, self.description = [str(name) for name in targets], description
        self._offered = [word for word in FEATURES if word in offered]

    def select(self, target_name: str | AutoTarget | type[AutoTarget]) -> bytes:
        """Return the line that selects a target, and all the features that both ends have.

        Raises
        ------
        IncompatibleServer
            There is no such target.
        ValueError
            `AutoTarget`, and the server does not have exactly one.
        """
        available = " ".join(sorted(self.targets)) or "none"
        if self.selected_target is not None:
            raise ValueError(f"the target {self.selected_target!r} has been selected already")
        if isinstance(target_name, AutoTarget) or (
            isinstance(target_name, type) and issubclass(target_name, AutoTarget)
        ):
            if len(self.targets) != 1:
                raise ValueError(
                    f"AutoTarget needs a server with one target, this one has: {available}"
                )
            target_name = self.targets[0]
        if target_name not in self.targets:
            raise IncompatibleServer(
                f"expected the target {target_name!r}, the server has: {available}"
            )
        self.selected_target = target_name
        words = self._offered if PYON_V2 in self._offered else []
        self.features = Features(words)
        return " ".join([target_name, *words]).encode()

    def read_methods(self, line: bytes) -> None:
        """Take in the last line of the handshake: the names of the methods.

        Raises what the server says if it has no such target after all: it could not be made.
        """
        try:
            names = pyon.decode(line)
        except pyon.DecodeError as error:
            raise ProtocolError(f"expected the set of method names, got {line!r:.100}") from error
        if self.features.target_errors and isinstance(names, dict) and "exception" in names:
            raised = rebuild_exception(names["exception"])
            BaseException.add_note(raised, f"{self.peer} cannot make {self.selected_target!r}")
            raise raised
        if not isinstance(names, (set, dict, list)):  # v1 spells the empty set like an empty dict
            raise ProtocolError(f"expected the set of method names, got {line!r:.100}")
        self.methods = frozenset(str(name) for name in names)

    # Requests.

    def encode_call(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Call, Chunks]:
        """Return a call of a method, and the message to send: after `owe`, and all of it.

        Raises
        ------
        TypeError
            An argument cannot be encoded: nothing has happened.
        ValueError
            The message would be beyond the limit: nothing has happened.
        """
        features = self.features
        # Our own servers take a list as well, which is read twice as fast.
        values = list(args) if features.request_ids else tuple(args)
        try:
            if kwargs or features.version == 1:
                text, buffers = features.encode(
                    {"action": "call", "name": name, "args": values, "kwargs": dict(kwargs)}
                )
            else:  # the same, in a fifth of the time
                text, buffers = features.encode(values)
                quoted = f'"{name}"' if name.isidentifier() and name.isascii() else json.dumps(name)
                text = around(f'{{"action":"call","name":{quoted},"args":', text, ',"kwargs":{}}')
        except pyon.EncodeError as error:
            error.add_note(f"in the arguments of {name}()")
            raise
        return self._issue(f"call of {name}()", text, buffers)

    def encode_action(self, action: str) -> tuple[Call, Chunks]:
        """Return a request that is no call of a method, and the message to send.

        Raises
        ------
        RuntimeError
            No target has been selected yet: nothing can be asked for.
        """
        if self.selected_target is None:
            raise RuntimeError("no target has been selected yet: see select_rpc_target")
        return self._issue(action, *self.features.encode({"action": action}))

    def _issue(self, what: str, text: Pieces, buffers: list[memoryview]) -> tuple[Call, Chunks]:
        call = Call(next(self._numbers), what)
        if self.features.request_ids:
            text[0] = f'{{"id":{call.number},{text[0][1:]}'
        chunks = frame(text, buffers)
        if (size := _size(chunks)) > self.limit:
            raise _beyond(f"the {what}", size, self.limit)
        return call, chunks

    def owe(self, call: Call) -> None:
        """Note that the request is going out: the order of these calls is the order on the wire."""
        if self.features.request_ids:
            self._by_number[call.number] = call
        else:
            self._in_order.append(call)

    def abandon(self, call: Call) -> Chunks:
        """Note that nobody waits for the reply any more; return what should be sent, if anything.

        That is a request to cancel the call, which has no reply of its own.
        """
        call.abandoned = True
        if call.number not in self._by_number or call.reply is not None:
            return []
        return frame(f'{{"action":"cancel","request":{call.number}}}')

    # Replies.

    def match(self, message: Message) -> Call | None:
        """Find the call that a message replies to, and keep it there; None if it was given up.

        Raises
        ------
        ProtocolError
            It replies to nothing that was asked: the connection is of no use any more.
        """
        call: Call | None
        if self.features.request_ids:
            number = _number(message.line)
            call = None if number is None else self._by_number.pop(number, None)
        else:
            call = self._in_order.popleft() if self._in_order else None
        if call is None:
            raise ProtocolError(f"the server sent a reply to no request: {message.line!r:.100}")
        if call.abandoned:
            return None
        call.reply = message
        return call

    def result(self, call: Call) -> Any:
        """Return what the method returned, or raise what it raised."""
        message, call.reply = call.reply, None
        assert message is not None
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
                raise ValueError(f"unknown status {status!r}")
        except (ValueError, TypeError, KeyError) as error:
            what = f"expected a reply to the {call.what}, got {message.line!r:.100}"
            raise ProtocolError(f"{what}: {error}") from error
        raise raised

    def _stopped(self, call: Call, *, begun: bool) -> ConnectionLost:
        state = "may have been executed" if begun else "was not executed"
        return ConnectionLost(
            f"connection to {self.peer} lost: the server stopped; the {call.what} {state}",
            sent=begun,
        )

    def end(self) -> list[Call]:
        """Return all calls that will never be replied to, because the connection is gone."""
        owed = [*self._in_order, *self._by_number.values()]
        self._in_order.clear()
        self._by_number.clear()
        return [call for call in owed if not call.abandoned]


def lost(peer: str, reason: object, *, sent: bool, what: str = "") -> ConnectionLost:
    """Return the error of a request whose connection is gone."""
    reason = str(reason) or type(reason).__name__
    if not what:
        return ConnectionLost(f"connection to {peer} lost: {reason}", sent=sent)
    state = "may have been executed" if sent else "was not sent"
    return ConnectionLost(f"connection to {peer} lost: {reason}; the {what} {state}", sent=sent)


def _no_greeting(line: bytes) -> str:
    hint = " (does it speak TLS?)" if line[:1] in {b"\x15", b"\x16"} else ""
    return f"expected the greeting of an RPC server, got {line!r:.100}{hint}"


>>>>>>> 4d38ee6 (pyon, pc-rpc: never join a large array in text form to the reply around it)
# The server's end.


class Request(NamedTuple):
    """A request as it came in.

    Attributes
    ----------
    number : int or None
        Its id, to be repeated in the reply, on connections that negotiated ids.
    action : str
        What is asked for.
    content : dict
        The whole of it.
    size : int
        Bytes, raw buffers included.
    error : Exception or None
        Why it cannot be served, if so.
    """

    number: int | None
    action: str
    content: dict[str, Any]
    size: int
    error: Exception | None = None


class ServerSide:
    """The server's end of one connection.

    Parameters
    ----------
    targets : iterable of str
        Names of the targets.
    description : str or None
        What the server tells people about itself.
    limit : int, optional
        Bytes that one message may have, in both directions.
    """

    __slots__ = ("_description", "_targets", "features", "limit")

    def __init__(
        self, targets: Iterable[str], description: str | None, *, limit: int = DEFAULT_LIMIT
    ) -> None:
        self._targets = sorted(targets)
        self._description = description
        self.limit = limit
        self.features = Features()

    def greeting(self) -> str:
        """Return the first line of the server."""
        greeting = {
            "targets": self._targets,
            "description": self._description,
            "features": list(FEATURES),
        }
        return _write_json(greeting)

    def read_selection(self, line: bytes) -> str:
        """Take in the line that selects a target and features; return the target's name.

        Raises
        ------
        ProtocolError
            There is no such target or feature: the connection is to be closed.
        """
        name, *words = line.decode(errors="replace").split(" ")
        if name not in self._targets:
            raise ProtocolError(f"unknown target {name!r:.100}")
        unknown = set(words) - set(FEATURES)
        if unknown or (words and PYON_V2 not in words):
            raise ProtocolError(f"unsupported features {' '.join(words)!r:.100}")
        self.features = Features(words)
        return name

    def read_request(self, message: Message) -> Request:
        """Take in a request.

        Raises
        ------
        ProtocolError
            It cannot be read, nor be replied to: the connection is to be closed.
        """
        ids = self.features.request_ids
        if message.oversize:
            return self._oversize(message)
        size = len(message.line)
        if message.buffers:
            size += sum(map(len, message.buffers))
        try:
            content = _decode(message, self.features.version)
        except pyon.DecodeError as error:
            raise ProtocolError(f"undecodable request {message.line!r:.100}: {error}") from error
        if type(content) is not dict:
            raise ProtocolError(f"expected a request, got {message.line!r:.100}")
        number = content.get("id") if ids else None
        if number is not None and not (type(number) is int and 0 <= number < ID_END):
            raise ProtocolError(
                f"expected a request with a number as its id, got {message.line!r:.100}"
            )
        action = content.get("action")
        if type(action) is str:
            return Request(number, action, content, size)
        wrong = (
            ValueError(f"Unknown action: a {type(action).__name__}")
            if "action" in content
            else KeyError("action")
        )
        return Request(number, "", content, size, wrong)

    def _oversize(self, message: Message) -> Request:
        number = _number(message.line) if self.features.request_ids else None
        if self.features.request_ids and number is None:
            raise ProtocolError(f"a message of {message.oversize} bytes without an id")
        error = _beyond("the request", message.oversize, message.limit)
        return Request(number, "", {}, message.oversize, error)

    def confirm(self, number: int | None, text: str = "null") -> Chunks:
        """Return the reply with a result that is encoded already."""
        chunks = frame(self._ok(number, [text]))
        if (size := _size(chunks)) > self.limit:
            return self.refusal(number, _beyond("the reply", size, self.limit))
        return chunks

    def reply(self, number: int | None, outcome: Outcome) -> Chunks:
        """Return the reply that hands over a result, or the error that it cannot be handed over.

        The result is taken out of the outcome, its only owner: what nothing else refers to is sent
        without a copy.
        """
        try:
            text, buffers = self.features.encode(outcome.take())
            chunks = copy_if_shared(frame(self._ok(number, text), buffers))
        except BaseException as error:  # registered forms are not ours: they may raise anything
            kind = TypeError if issubclass(type(error), TypeError) else RuntimeError
            return self.refusal(number, kind(f"the result cannot be encoded: {text_of(error)}"))
        if (size := _size(chunks)) > self.limit:
            return self.refusal(number, _beyond("the reply", size, self.limit))
        return chunks

    def _ok(self, number: int | None, text: Pieces) -> Pieces:
        if self.features.version == 1:
            return around('{"status": "ok", "ret": ', text, "}")
        if number is None:
            return around('{"status":"ok","ret":', text, "}")
        return around(f'{{"id":{number},"status":"ok","ret":', text, "}")

    def refusal(self, number: int | None, error: Exception) -> Chunks:
        """Return the reply to a request that cannot be served, with an error of our own."""
        return self.failure(number, describe(error, details=self.features.exception_details))

    def failure(self, number: int | None, failure: Failure) -> Chunks:
        """Return the reply that hands over an exception."""
        try:
            text = self._failed(failure.pack)
        except Exception:  # a number that is too long, for one: its caller gets a reply
            text = self._failed(plainer(failure).pack)
        return frame(text if number is None else _head(number) + text[1:])

    def no_target(self, failure: Failure) -> Chunks:
        """Return what takes the place of the names of the methods; nothing to old clients."""
        if not self.features.target_errors:
            return []
        chunks = self.failure(None, failure)
        return chunks if _size(chunks) <= HANDSHAKE_LIMIT else self.failure(None, plainer(failure))

    def stopped(self, number: int | None, *, begun: bool) -> Chunks:
        """Return the reply to a call that the end of the server cuts off; nothing to old clients.

        Parameters
        ----------
        number : int or None
            Id of the request.
        begun : bool
            Whether the method has been called, so that it may have done what it does.
        """
        if not self.features.stop_notices:
            return []
        return frame(f'{_head(number)}"status":"stopped","begun":{"true" if begun else "false"}}}')

    def _failed(self, pack: dict[str, Any]) -> str:
        return pyon.encode({"status": "failed", "exception": pack}, version=self.features.version)


def _head(number: int | None) -> str:
    return "{" if number is None else f'{{"id":{number},'


def arguments(content: dict[str, Any]) -> tuple[str, Sequence[Any], dict[str, Any]]:
    """Take name, positional and keyword arguments of a call out of a request.

    The request does not refer to them any more. Raises what is wrong with them.
    """
    name, args, kwargs = content.pop("name"), content.pop("args"), content.pop("kwargs")
    if not (isinstance(name, str) and isinstance(args, (tuple, list)) and isinstance(kwargs, dict)):
        raise TypeError("expected a name, a list of arguments and a dict of keyword arguments")
    return name, args, kwargs
