"""How the steps of a notifier are stored in a stream of JetStream: names, headers, manifests.

Pure code; see *Over NATS* in PROTOCOL.md. The one idea to keep in mind: the engine orders and
stores messages without knowing their contents. Every message has its stream id and numbers in a
header, so a reader can check each message by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sync_struct._errors import ProtocolError

__all__ = [
    "LABEL",
    "MESSAGE_ID",
    "Beacon",
    "Label",
    "Manifest",
    "Subjects",
    "count_parts",
    "cut",
    "name_of",
    "part_size",
    "subjects",
]

LABEL = "Sync-Struct"
"""The header with the stream id and numbers of a message."""

MESSAGE_ID = "Nats-Msg-Id"

VERSION = 1

LARGEST_PART = 512 * 2**10
"""Bytes of one message: larger ones delay all others on the same connection to the engine."""

HEADER_ROOM = 1024
"""Bytes reserved for headers, which the engine counts as payload, too."""

_OTHER = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPE = re.compile(r"=([0-9A-F]{2})")
_T = TypeVar("_T", bound=NamedTuple)


class Subjects(NamedTuple):
    """The stream and the subjects of one notifier."""

    stream: str
    """The stream of JetStream that stores the next three subjects."""

    step: str
    part: str
    """Parts of snapshots."""

    manifest: str
    beacon: str
    ask: str
    """The active bridge answers requests on this subject with a beacon."""


def subjects(name: str) -> Subjects:
    """Return the subjects of a notifier."""
    token = _OTHER.sub(lambda found: b"=%02X" % found[0][0], name.encode()).decode() or "="
    kinds = ("step", "part", "manifest", "beacon", "ask")
    return Subjects(f"sync_struct-{token}", *(f"sync_struct.{token}.{kind}" for kind in kinds))


def name_of(stream: str) -> str | None:
    """Return the name of the notifier of a stream of JetStream; None if it has none."""
    prefix, _, escaped = stream.partition("-")
    if prefix != "sync_struct" or not escaped:
        return None
    data = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), escaped).rstrip("=")
    return data.encode("latin-1").decode(errors="replace")


class Label(NamedTuple):
    """The contents of a message, as in the header ``Sync-Struct``."""

    stream: str
    """Stream id of the notifier."""

    first: int
    """Number of the first mod; of a snapshot, equal to `last`."""

    last: int
    """Number of the last mod."""

    part: int = 1
    """Number of this part, from 1."""

    parts: int = 1
    """Number of parts."""

    def __str__(self) -> str:
        return "{} {} {} {} {}".format(*self)

    @classmethod
    def read(cls, headers: Mapping[str, str] | None) -> Label:
        """Return the label in the headers of a message, or raise `ProtocolError`."""
        text = (headers or {}).get(LABEL, "")
        words = text.split(" ")
        try:
            stream, first, last, part, parts = words[0], *map(int, words[1:])
        except ValueError:
            raise ProtocolError(f"expected a label, got {text!r}") from None
        if not (stream and 0 <= first <= last and 1 <= part <= parts):
            raise ProtocolError(f"expected a label, got {text!r}")
        return cls(stream, first, last, part, parts)


class Manifest(NamedTuple):
    """The location of a snapshot; written when the snapshot is complete."""

    stream: str
    """Stream id of the notifier."""

    number: int
    """Number of the last mod in the structure."""

    begin: int
    """Sequence of the first part; no part of another snapshot is between `begin` and `end`."""

    end: int
    """Sequence of the last part."""

    size: int
    """Bytes of all parts."""

    next: int
    """Sequence from which to read the steps after the snapshot."""

    def write(self) -> bytes:
        """Return the encoded manifest."""
        return _write(self)

    @classmethod
    def read(cls, data: bytes) -> Manifest:
        """Return the manifest in a message, or raise `ProtocolError`."""
        manifest = _read(cls, data, "a manifest", stream=str)
        if not 0 < manifest.begin <= manifest.end:
            raise ProtocolError(f"expected a manifest, got {data[:100]!r}")
        return manifest


class Beacon(NamedTuple):
    """The progress of the bridge that writes a stream."""

    stream: str
    """Stream id of the notifier."""

    number: int
    """Number of the last mod that the engine has acknowledged."""

    writer: str
    """Identifies the bridge."""

    interval: float
    """Seconds until the next beacon."""

    live: bool
    """Whether the bridge has written everything that the publisher has sent."""

    def write(self) -> bytes:
        """Return the encoded beacon."""
        return _write(self)

    @classmethod
    def read(cls, data: bytes) -> Beacon:
        """Return the beacon in a message, or raise `ProtocolError`."""
        return _read(cls, data, "a beacon", stream=str, writer=str, interval=float, live=bool)


def _write(fields: NamedTuple) -> bytes:
    text = {"sync_struct": VERSION, **fields._asdict()}
    return json.dumps(text, separators=(",", ":")).encode()


def _read(make: Callable[..., _T], data: bytes, what: str, **kinds: Callable[[Any], object]) -> _T:
    try:
        text = json.loads(data)
        if text.pop("sync_struct") != VERSION:
            raise ValueError
        known = make.__annotations__
        return make(**{key: kinds.get(key, int)(text[key]) for key in known})
    except (ValueError, TypeError, LookupError, AttributeError):
        raise ProtocolError(f"expected {what}, got {data[:100]!r}") from None


def part_size(max_payload: int) -> int:
    """Return the bytes of one part, for an engine whose largest payload is `max_payload`."""
    return max(1, min(LARGEST_PART, max_payload - HEADER_ROOM))


def count_parts(pieces: Sequence[bytes | memoryview], size: int) -> int:
    """Return the number of parts that `cut` yields."""
    return max(1, -(-sum(map(len, pieces)) // size))


def cut(pieces: Sequence[bytes | memoryview], size: int) -> Iterator[bytes]:
    """Return bytes in parts of `size` bytes; the last part may be shorter.

    Examples
    --------
    >>> list(cut([b"abc", b"defg"], 3))
    [b'abc', b'def', b'g']
    """
    if sum(map(len, pieces)) <= size:
        yield b"".join(pieces)
        return
    part = bytearray()
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            taken = rest[: size - len(part)]
            part += taken
            rest = rest[len(taken) :]
            if len(part) == size:
                yield bytes(part)
                part = bytearray()
    if part:
        yield bytes(part)
