"""The conversation of publisher and subscriber, as text and state: see PROTOCOL.md.

Pure code. A `Request` is what a subscriber says first, in one of two ways: the established
banner, or ours, which knows options. What the messages behind it make of a subscriber's structure
is in `_replica`.
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
"""Bytes of a line that a subscriber sends: a name and a path. A stranger gets no more memory."""

PROTOCOL_VERSION = 1

RAW_BUFFERS = "raw_buffers"
"""Large arrays travel as they are, outside the text."""

GROWING_ARRAYS = "growing_arrays"
"""An append to an array brings new rows."""

ABSENT_PARTS = "absent_parts"
"""That a part is not there is a state of the subscription, and no error."""

STALENESS = "staleness"
"""A publisher that follows another one, which is away, says so: what it has may be out of date."""

Line = bytes


class Position(NamedTuple):
    """Where a subscriber is: after which mod of which structure."""

    stream: str
    number: int


class Request(NamedTuple):
    """What a subscriber asks for."""

    name: str
    """Of the notifier."""

    wish: Wish = EVERYTHING
    """What of it; `Wish.newest` goes with `max_rate`."""

    features: frozenset[str] = frozenset()
    """What the subscriber is able to."""

    max_rate: float | None = None
    """Updates per second that it wants at most; inf: as many as it can take. None: every mod."""

    position: Position | None = None
    """Where it wants to go on."""


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
    """Return what a subscriber asks for with a line in our own protocol.

    Raises
    ------
    ProtocolError
        It is nothing of the kind.
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
    """Tell whether a key may be part of the path of a subscription."""
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
    """Return a line of a stranger in a form that is fit for a log."""
    return repr(line[:60]) + ("..." if len(line) > 60 else "")


def control(action: str, **fields: Any) -> Line:
    """Return a message that is no mod."""
    return pyon.encode({"action": action, **fields}, version=2).encode()


def refusal(error: Exception) -> Line:
    """Return the message that tells a subscriber of an error; the end of the conversation."""
    kind = type(error).__name__
    names = list(error.names) if isinstance(error, UnknownNotifier) else []
    return control("error", error=kind, message=str(error), names=names)
