"""The protocol that both ends share, and the server's half of the conversation, as pure code.

No socket, no thread, no clock, no event loop: `ServerSide` takes received messages and returns the
bytes to send, like its counterpart in `_client_side`. PROTOCOL.md is the normative description.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyon
from pyon.framing import DEFAULT_LIMIT, Message, copy_if_shared, frame, frame_size
from pyon.wire import Pieces, around, decode, encode_pieces

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
LEASES = "leases"
LEASE_WAITS = "lease_waits"
STREAMS = "streams"
FEATURES = (
    PYON_V2, RAW_BUFFERS, REQUEST_IDS, EXCEPTION_DETAILS, TARGET_ERRORS, STOP_NOTICES, LEASES,
    LEASE_WAITS, STREAMS,
)  # fmt: skip
"""The features of both of our ends, as offered in the greeting. All others need the first."""

HANDSHAKE_LIMIT = 2**20
"""Maximum size of a line of the handshake at the client, in bytes: thousands of targets or
methods."""

SELECTION_LIMIT = 4096
"""Maximum size of a line of the handshake at the server, in bytes: a target's name and some
features."""

ID_END = 10**18
"""Upper bound of ids (exclusive): they fit into the 64-bit integers of any language."""

_ID = re.compile(rb'\{(?:"buffers":\[[0-9,]*\],)?"id":([0-9]{1,18})[,}]')
"""The id, which comes first so that it is found without parsing the line."""

CLOSING = '"closing":true}'
"""End of the reply to a stream whose generator raised an exception when it was closed."""

RETURNED = ',"status":"ok","ret":'
"""The text after the id in the reply to a call that returned."""

_read_json = json.JSONDecoder(strict=False).decode
_write_json = json.JSONEncoder(separators=(",", ":")).encode

Chunks = Sequence[bytes | memoryview]


class AutoTarget:
    """Use this as a target name to select the only target that the server has."""


class Features:
    """The features that were negotiated for one connection."""

    __slots__ = (
        "exception_details", "lease_waits", "leases", "raw_buffers", "request_ids", "stop_notices",
        "streams",
        "target_errors", "version",
    )  # fmt: skip

    def __init__(self, selected: Iterable[str] = ()) -> None:
        words = set(selected)
        self.version = 2 if PYON_V2 in words else 1
        self.raw_buffers = RAW_BUFFERS in words
        self.request_ids = REQUEST_IDS in words
        self.exception_details = EXCEPTION_DETAILS in words
        self.target_errors = TARGET_ERRORS in words
        self.stop_notices = STOP_NOTICES in words
        self.leases = LEASES in words and self.request_ids
        self.lease_waits = LEASE_WAITS in words and self.request_ids
        self.streams = STREAMS in words and self.request_ids

    def encode(self, value: Any) -> tuple[Pieces, list[memoryview]]:
        """Return the text of a value in this connection's generation, and its raw buffers."""
        buffers: list[memoryview] = []
        if self.raw_buffers:
            text = encode_pieces(value, version=2, buffer_callback=buffers.append)
        else:
            text = encode_pieces(value, version=self.version)
        return text, buffers


def _decode(message: Message, version: int) -> Any:
    """Return the value of a message. Afterwards only its arrays refer to the raw buffers."""
    if not message.buffers:
        return decode(message.take_text(), version=version)
    value = decode(message.take_text(), version=version, buffers=message.buffers)
    with contextlib.suppress(BufferError):  # an array still uses it: it is copied when needed
        for buffer in message.buffers:
            buffer.release()
    return value


def _size(chunks: Chunks) -> int:
    """Return the size that the limit applies to, in bytes: without the LF."""
    return (len(chunks[0]) if len(chunks) == 1 else frame_size(chunks)) - 1


def _number(head: bytes | bytearray) -> int | None:
    """Return the id at the beginning of a line; None if there is none."""
    match = _ID.match(head)
    return None if match is None else int(match[1])


def cancellation(number: int) -> Chunks:
    """Return the request to cancel a call, by its id. The request has no reply."""
    return frame(f'{{"action":"cancel","request":{number}}}')


def _beyond(what: str, size: int, limit: int) -> ValueError:
    return ValueError(f"{what} has {size} bytes, beyond the limit of {limit} bytes for a message")


# The server's half.


class Request(NamedTuple):
    """A received request.

    Attributes
    ----------
    number : int or None
        Its id, to be repeated in the reply; None on connections without ids.
    action : str
        The action; empty if the request cannot be served.
    content : dict
        The decoded request.
    size : int
        Size in bytes, raw buffers included.
    error : Exception or None
        Why the request cannot be served; None if it can.
    """

    number: int | None
    action: str
    content: dict[str, Any]
    size: int
    error: Exception | None = None


class ServerSide:
    """The server's half of the conversation on one connection.

    Parameters
    ----------
    targets : iterable of str
        Names of the targets.
    description : str or None
        Description of the server, for people.
    limit : int, optional
        Maximum size of a message, in bytes, in both directions.
    """

    __slots__ = ("_description", "_targets", "features", "limit")

    def __init__(
        self, targets: Iterable[str], description: str | None, *, limit: int = DEFAULT_LIMIT
    ) -> None:
        self._targets = sorted(targets)
        self._description = description
        self.limit = limit
        self.features = Features()

    def greeting(self, leases: Sequence[dict[str, Any]] = ()) -> str:
        """Return the first line of the server; `leases` are those that are currently taken."""
        line = _greeting(tuple(self._targets), self._description)
        return f'{line[:-1]},"leases":{_write_json(leases)}}}' if leases else line

    def read_selection(self, line: bytes) -> str:
        """Read the line that selects a target and features; return the target's name.

        Raises
        ------
        ProtocolError
            There is no such target or feature: the connection must be closed.
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
        """Read a request.

        Raises
        ------
        ProtocolError
            It can neither be read nor replied to: the connection must be closed.
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
        """Return the reply with an encoded result."""
        chunks = frame(self._ok(number, [text]))
        if (size := _size(chunks)) > self.limit:
            return self.refusal(number, _beyond("the reply", size, self.limit))
        return chunks

    def reply(self, number: int | None, outcome: Outcome) -> Chunks:
        """Return the reply with the result of an outcome, or an error if it cannot be encoded.

        The result is taken out of the outcome, its only owner, so that arrays without other
        references are sent without a copy.
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
        """Return the reply to a request that cannot be served, with an error of the server's."""
        return self.failure(number, describe(error, details=self.features.exception_details))

    def failure(self, number: int | None, failure: Failure, *, closing: bool = False) -> Chunks:
        """Return the reply with an exception; `closing`: raised by a generator that was closed."""
        try:
            text = self._failed(failure.pack)
        except Exception:  # cannot be encoded (a huge int, for example), but must be replied to
            text = self._failed(plainer(failure).pack)
        if closing:
            text = f"{text[:-1]},{CLOSING}"
        return frame(text if number is None else _head(number) + text[1:])

    def no_target(self, failure: Failure) -> Chunks:
        """Return the failure that replaces the names of the methods; nothing for old clients."""
        if not self.features.target_errors:
            return []
        chunks = self.failure(None, failure)
        return chunks if _size(chunks) <= HANDSHAKE_LIMIT else self.failure(None, plainer(failure))

    def stopped(self, number: int | None, *, begun: bool) -> Chunks:
        """Return the reply to a call that the end of the server cuts off; nothing for old clients.

        Parameters
        ----------
        number : int or None
            Id of the request.
        begun : bool
            Whether the method has been called, so that it may have been executed.
        """
        if not self.features.stop_notices:
            return []
        return frame(f'{_head(number)}"status":"stopped","begun":{"true" if begun else "false"}}}')

    def _failed(self, pack: dict[str, Any]) -> str:
        return pyon.encode({"status": "failed", "exception": pack}, version=self.features.version)


@functools.lru_cache(maxsize=8)
def _greeting(targets: tuple[str, ...], description: str | None) -> str:
    """Return a greeting without leases, which is the same for all clients of a server."""
    return _write_json({"targets": targets, "description": description, "features": list(FEATURES)})


def _head(number: int | None) -> str:
    return "{" if number is None else f'{{"id":{number},'


def credit_of(content: dict[str, Any]) -> tuple[int, int]:
    """Return the items and bytes of credit in a request; raise `ValueError` if it is invalid."""
    credit = content.get("credit")
    if isinstance(credit, (list, tuple)) and len(credit) == 2:
        items, size = credit
        if type(items) is type(size) is int and 0 <= items < ID_END and 0 <= size < ID_END:
            return items, size
    raise ValueError(f"expected the credit as numbers of items and of bytes, got {credit!r:.100}")


def arguments(content: dict[str, Any]) -> tuple[str, Sequence[Any], dict[str, Any]]:
    """Take name, positional and keyword arguments of a call out of a request.

    Afterwards the request does not refer to them.

    Raises
    ------
    KeyError, TypeError
        One of them is missing, or has the wrong type.
    """
    name, args, kwargs = content.pop("name"), content.pop("args"), content.pop("kwargs")
    if not (isinstance(name, str) and isinstance(args, (tuple, list)) and isinstance(kwargs, dict)):
        raise TypeError("expected a name, a list of arguments and a dict of keyword arguments")
    return name, args, kwargs
