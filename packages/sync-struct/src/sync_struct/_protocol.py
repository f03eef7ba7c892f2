"""The first messages of publisher and subscriber: see PROTOCOL.md.

Pure code. A `Request` is what a subscriber sends first, as the established banner or as ours, which
has options. `_replica` handles the messages after it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pyon

from sync_struct._errors import ProtocolError, UnknownNotifier
from sync_struct._selection import EVERYTHING, Wish

__all__ = [
    "ABSENT_PARTS",
    "BANNER_LIMIT",
    "GROWING_ARRAYS",
    "LEGACY_BANNER",
    "RAW_BUFFERS",
    "STALENESS",
    "Position",
    "Request",
    "control",
    "read_banner",
    "refusal",
    "shorten",
    "write_banner",
]

LEGACY_BANNER = b"ARTIQ sync_struct"

BANNER_LIMIT = 64 * 2**10
"""Bytes of a line that a subscriber sends: a name and a path. It bounds the memory for clients that
are not identified yet."""

PROTOCOL_VERSION = 1

RAW_BUFFERS = "raw_buffers"
"""Feature: large arrays are sent as bytes, outside the text."""

GROWING_ARRAYS = "growing_arrays"
"""Feature: an append to an array sends only the new rows."""

ABSENT_PARTS = "absent_parts"
"""Feature: a missing part is a state of the subscription, not an error."""

STALENESS = "staleness"
"""Feature: a publisher tells that its structure may be out of date, because it follows another
publisher that cannot be reached."""

Line = bytes


class Position(NamedTuple):
    """The position of a subscriber."""

    stream: str
    """Stream id of the notifier."""

    number: int
    """Number of the last mod that the subscriber has."""


class Request(NamedTuple):
    """The request of a subscriber."""

    name: str
    """Name of the notifier."""

    wish: Wish = EVERYTHING
    """The requested mods; `Wish.newest` is set if `max_rate` is."""

    features: frozenset[str] = frozenset()
    """Features that the subscriber supports."""

    max_rate: float | None = None
    """Maximum number of updates per second; inf: as many as it acknowledges. None: every mod."""

    position: Position | None = None
    """Position to resume from."""


def write_banner(request: Request) -> Line:
    """Return the first line of a subscriber, in our own protocol."""
    banner: dict[str, Any] = {"sync_struct": PROTOCOL_VERSION, "notifier": request.name}
    if request.features:
        banner["features"] = sorted(request.features)
    if request.wish.path:
        banner["path"] = list(request.wish.path)
    if request.wish.mods_only:
        banner["mods_only"] = True
    if request.max_rate is not None:
        banner["max_rate"] = float(request.max_rate)
    if request.position is not None:
        banner["resume"] = list(request.position)
    return pyon.encode(banner, version=2).encode()


def read_banner(line: Line) -> Request:
    """Return the request in the first line of a subscriber, in our own protocol.

    Raises
    ------
    ProtocolError
        The line is not a valid banner.
    """
    try:
        banner = pyon.decode(line)
    except pyon.DecodeError:
        banner = None
    version = banner.get("sync_struct") if isinstance(banner, dict) else None
    if type(version) is not int or version != PROTOCOL_VERSION:
        raise ProtocolError(f"expected the banner of a subscriber, got {shorten(line)}")
    asked: dict[str, Any] = {**_DEFAULTS, **banner}
    for key, fits in _FITS.items():
        if key not in asked or not fits(asked[key]):
            raise ProtocolError(f"{key!r} does not fit in the banner {shorten(line)}")
    max_rate = asked["max_rate"]
    return Request(
        asked["notifier"],
        Wish(tuple(asked["path"]), asked["mods_only"], newest=max_rate is not None),
        frozenset(asked["features"]),
        max_rate,
        Position(*asked["resume"]) if asked["resume"] is not None else None,
    )


def _is_step(key: Any) -> bool:
    """Return whether a key may be part of the path of a subscription."""
    if isinstance(key, tuple):
        return all(map(_is_step, key))
    return key is None or isinstance(key, (str, int, float, bytes))


def _is_position(x: Any) -> bool:
    return isinstance(x, list) and [type(item) for item in x] == [str, int] and x[1] >= 0


def _is_rate(x: Any) -> bool:
    return isinstance(x, (int, float)) and (0 < x <= sys.float_info.max or x == math.inf)


_DEFAULTS = {"features": [], "path": [], "mods_only": False, "max_rate": None, "resume": None}

_FITS: dict[str, Callable[[Any], bool]] = {
    "notifier": lambda x: isinstance(x, str),
    "features": lambda x: isinstance(x, list) and all(isinstance(word, str) for word in x),
    "path": lambda x: isinstance(x, list) and all(map(_is_step, x)),
    "mods_only": lambda x: isinstance(x, bool),
    "max_rate": lambda x: x is None or _is_rate(x),
    "resume": lambda x: x is None or _is_position(x),
}


def shorten(line: Line) -> str:
    """Return the beginning of a received line, escaped for a log."""
    return repr(line[:60]) + ("..." if len(line) > 60 else "")


def control(action: str, **fields: Any) -> Line:
    """Return a message other than a mod."""
    return pyon.encode({"action": action, **fields}, version=2).encode()


def refusal(error: Exception) -> Line:
    """Return the message that reports an error to a subscriber and ends the conversation."""
    kind = type(error).__name__
    names = list(error.names) if isinstance(error, UnknownNotifier) else []
    return control("error", error=kind, message=str(error), names=names)
