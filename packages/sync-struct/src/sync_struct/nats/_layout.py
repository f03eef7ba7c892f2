"""How the steps of a notifier lie in a stream of JetStream: names, headers, manifests. Pure code.

See *Over NATS* in PROTOCOL.md. The one idea to keep in mind: the engine orders and keeps messages,
and knows nothing of what is in them. Every message says which numbers of which stream id it has, so
that a reader needs to trust nobody.
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
"""The header that says what a message carries."""

MESSAGE_ID = "Nats-Msg-Id"

VERSION = 1

LARGEST_PART = 512 * 2**10
"""Bytes of one message: large ones make everybody wait who shares a connection of the engine."""

HEADER_ROOM = 1024
"""Bytes that the engine counts as payload, too, and that are left for headers."""

_OTHER = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPE = re.compile(r"=([0-9A-F]{2})")
_T = TypeVar("_T", bound=NamedTuple)


class Subjects(NamedTuple):
    """Where what belongs to one notifier goes."""

    stream: str
    """The stream of JetStream that keeps the next three."""

    step: str
    part: str
    """Of a snapshot."""

    manifest: str
    beacon: str
    ask: str
    """A request there is answered with a beacon by the bridge that is at work."""


def subjects(name: str) -> Subjects:
    """Return the subjects of a notifier."""
    token = _OTHER.sub(lambda found: b"=%02X" % found[0][0], name.encode()).decode() or "="
    kinds = ("step", "part", "manifest", "beacon", "ask")
    return Subjects(f"sync_struct-{token}", *(f"sync_struct.{token}.{kind}" for kind in kinds))


def name_of(stream: str) -> str | None:
    """Return the notifier that a stream of JetStream is for; None if it is for none."""
    prefix, _, escaped = stream.partition("-")
    if prefix != "sync_struct" or not escaped:
        return None
    data = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), escaped).rstrip("=")
    return data.encode("latin-1").decode(errors="replace")


class Label(NamedTuple):
    """What a message carries: the header ``Sync-Struct``."""

    stream: str
    """The stream id of the notifier."""

    first: int
    """Number of the first mod. Of a snapshot: like `last`."""

    last: int
    part: int = 1
    parts: int = 1

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
    """Says where a snapshot is, once it is whole."""

    stream: str
    number: int
    """The structure is as it was after this mod."""

    begin: int
    """Sequence of its first part; no part of another one is between this and `end`."""

    end: int
    """Sequence of its last part."""

    size: int
    """Bytes of all parts."""

    next: int
    """Sequence from which on the steps behind it are to be read."""

    def write(self) -> bytes:
        """Return the manifest as it travels."""
        return _write(self)

    @classmethod
    def read(cls, data: bytes) -> Manifest:
        """Return a manifest that has come, or raise `ProtocolError`."""
        manifest = _read(cls, data, "a manifest", stream=str)
        if not 0 < manifest.begin <= manifest.end:
            raise ProtocolError(f"expected a manifest, got {data[:100]!r}")
        return manifest


class Beacon(NamedTuple):
    """Says how far the stream is, by the bridge that writes it."""

    stream: str
    number: int
    """Of the last mod that the engine has acknowledged."""

    writer: str
    """Tells one bridge from all others."""

    interval: float
    """Seconds until the next one."""

    live: bool
    """Whether the bridge itself has all that the publisher has sent."""

    def write(self) -> bytes:
        """Return the beacon as it travels."""
        return _write(self)

    @classmethod
    def read(cls, data: bytes) -> Beacon:
        """Return a beacon that has come, or raise `ProtocolError`."""
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
    """Return how many bytes of ours go into one message, where the engine takes `max_payload`."""
    return max(1, min(LARGEST_PART, max_payload - HEADER_ROOM))


def count_parts(pieces: Sequence[bytes | memoryview], size: int) -> int:
    """Return into how many parts `cut` cuts."""
    return max(1, -(-sum(map(len, pieces)) // size))


def cut(pieces: Sequence[bytes | memoryview], size: int) -> Iterator[bytes]:
    """Return bytes in parts of `size`, the last one maybe less.

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
