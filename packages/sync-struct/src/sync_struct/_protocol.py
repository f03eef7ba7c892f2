"""The conversation of publisher and subscriber, as text and state: see PROTOCOL.md.

Pure code. A `Request` is what a subscriber says first, in one of two ways: the established
banner, or ours, which knows options. A `Replica` is what a subscriber has, and what each message
makes of it.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import pyon
from pyon.framing import Message

from sync_struct._errors import (
    ModError,
    ModsLost,
    ProtocolError,
    SubscriptionLost,
    UnknownNotifier,
)
from sync_struct._mods import Mod, process_mod, walk
from sync_struct._selection import EVERYTHING, Touch, Wish, touch
from sync_struct._values import ATOMS, is_array, own

__all__ = [
    "ABSENT_PARTS",
    "BANNER_LIMIT",
    "LEGACY_BANNER",
    "RAW_BUFFERS",
    "Position",
    "Replica",
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

ABSENT_PARTS = "absent_parts"
"""That a part is not there is a state of the subscription, and no error."""

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


def _raise_refusal(message: Mapping[str, Any]) -> NoReturn:
    text = str(message.get("message", "the publisher refused without a reason"))
    if message.get("error") == "UnknownNotifier":
        raise UnknownNotifier(text, [str(name) for name in message.get("names", ())])
    if message.get("error") == "SubscriptionLost":
        raise SubscriptionLost(text)
    raise ProtocolError(text)


class Replica:
    """What a subscriber has of a structure.

    Parameters
    ----------
    build : callable
        Makes the target of a received structure.
    wish : Wish
        What was asked for.

    Attributes
    ----------
    target : object
        What `build` returned last, with all mods since applied to it. None in the beginning.
    number : int or None
        The last mod. None: the next structure has to be waited for, until then nothing applies; or
        the publisher counts none.
    legacy : bool
        Whether the publisher knows the established protocol only.
    live : bool
        Whether the target is as good as the connection: false until the structure has come.
    features : list of str
        What the publisher is going to make use of.
    tells : bool
        Whether the mods that `receive` returns are handed to anybody: then they share nothing with
        the target, which later mods change.
    """

    def __init__(self, build: Callable[[Any], Any], wish: Wish = EVERYTHING) -> None:
        self.target: Any = None
        self.number: int | None = None
        self.legacy = False
        self.live = False
        self.features: list[str] = []
        self.tells = True
        self._build = build
        self._wish = wish
        self._whole: Any = None  # of a publisher that knows no paths: what the part is cut from
        self._stream = ""
        self._group: list[Mod] = []  # mods that belong together and are not yet complete
        self._fits = True  # whether a mod has been applied since the last structure

    @property
    def position(self) -> Position | None:
        """Where to go on, after the connection is lost."""
        return None if self.number is None else Position(self._stream, self.number)

    def connected(self, legacy: bool) -> None:
        """Begin a new conversation; what was half received in the last one is void."""
        self.legacy = legacy
        self.live = False
        self.features = []
        self._group.clear()

    def receive(self, message: Message) -> list[Mod]:
        """Apply a message of the publisher and return the mods to be told of, in order.

        Raises
        ------
        ModError
            A mod does not fit the target: it has to be built anew (see `give_up`).
        ModsLost
            A subscriber without a target has missed mods; it goes on with the next ones.
        UnknownNotifier, SubscriptionLost, ProtocolError
            The conversation is over.
        """
        line, buffers, oversize = message
        if oversize:
            raise ProtocolError(f"a message of {oversize} bytes is beyond the limit")
        try:
            mod = pyon.decode(line, buffers=buffers)
            handler = _HANDLERS.get(mod["action"])
        except (pyon.DecodeError, TypeError, LookupError) as error:
            raise ProtocolError(f"expected a mod, got {shorten(line)}") from error
        if handler is not None:
            return handler(self, mod)
        return self._receive_group([mod], mod.pop("number", None))

    def _receive_hello(self, hello: Mod) -> list[Mod]:
        try:
            position = Position(hello["stream"], hello["number"])
            resumed, self.features = hello["resumed"], hello["features"]
        except LookupError as error:
            raise ProtocolError(f"expected a hello with {error}, got {hello!r}") from None
        self._stream = position.stream
        if self._wish.mods_only:
            lost = self.number is not None and not resumed
            self.number, self.live = self.number if resumed else position.number, True
            if lost:
                raise ModsLost("the mods made while there was no connection are lost")
        elif resumed:
            self.live = True
        else:
            self.number = None
        return []

    def _receive_init(self, mod: Mod) -> list[Mod]:
        number = mod.pop("number", None)
        if "struct" not in mod:
            raise ProtocolError("expected a structure, got an init without one")
        self._group.clear()
        self._fits = False
        self.number = None if self.legacy else number
        if self.legacy and self._wish.path:
            self._whole = mod["struct"]
            mod = self._cut_structure()
        return self._start(mod)

    def _start(self, init: Mod) -> list[Mod]:
        self.live = True
        if self._wish.mods_only:
            return []
        told = own(init) if self.tells else init
        self.target = self._build(init["struct"])
        return [told]

    def _receive_gap(self, gap: Mod) -> list[Mod]:
        self._group.clear()
        self.number = gap.get("number", 0)
        raise ModsLost("this subscriber was too slow: mods are lost")

    def _receive_pong(self, pong: Mod) -> list[Mod]:
        return []

    def _receive_error(self, message: Mod) -> list[Mod]:
        _raise_refusal(message)

    def _receive_mods(self, message: Mod) -> list[Mod]:
        return self._receive_group(message["mods"], message.get("number"))

    def _receive_group(self, mods: list[Mod], number: int | None) -> list[Mod]:
        """Apply mods that belong together, or wait for the rest of them: the last has a number."""
        if not self.live:
            return []  # meant for the target that was given up
        if number is None and not self.legacy:
            self._group += mods
            return []
        if self._group:
            mods = [*self._group, *mods]
            self._group.clear()
        if self.legacy and self._wish.path:
            return self._cut(mods[0])
        for mod in mods:
            self._apply(mod)
        if number is not None:
            self.number = number
        return mods

    def _cut(self, mod: Mod) -> list[Mod]:
        """Do what our publishers do for a subscriber that wants only a part."""
        part = self._wish.path
        if not self._wish.mods_only:
            process_mod(self._whole, copy.deepcopy(mod))
        in_array = not self._wish.mods_only and is_array(walk(self._whole, mod["path"]))
        how = touch(mod["action"], mod["path"], mod.get("key", mod.get("i")), part, in_array)
        if how is Touch.REPLACED:
            return self._start(self._cut_structure())
        if how is Touch.OUTSIDE:
            return []
        mod = {**mod, "path": mod["path"][len(part) :]}
        self._apply(mod)
        return [mod]

    def _cut_structure(self) -> Mod:
        part = self._wish.path
        try:
            return {"action": "init", "struct": copy.deepcopy(walk(self._whole, part))}
        except (LookupError, TypeError):
            raise UnknownNotifier(f"the structure has no part {list(part)!r}") from None

    def _apply(self, mod: Mod) -> None:
        if self._wish.mods_only:
            return
        try:
            process_mod(self.target, self._apart(mod))
            self._fits = True
        except ModError:
            raise
        except Exception as error:  # a target of the user's own making can raise anything
            raise ModError(f"the target failed on {mod['action']}: {error!r}") from error

    def _apart(self, mod: Mod) -> Mod:
        """Return a mod for the target, so that what is told stays as it is; most share nothing."""
        for field in ("value", "x"):
            if field in mod and self.tells and type(mod[field]) not in ATOMS:
                return {**mod, field: own(mod[field])}
        return mod

    def give_up(self) -> bool:
        """Disregard mods until the structure comes; tell whether it makes sense to ask for it.

        It does not if not one mod has fit since it came last: the next one would not fit either.
        """
        self.live = False
        self.number = None
        return self._fits and not self.legacy


_HANDLERS: dict[str, Callable[[Replica, Mod], list[Mod]]] = {
    "mods": Replica._receive_mods,
    "hello": Replica._receive_hello,
    "init": Replica._receive_init,
    "gap": Replica._receive_gap,
    "pong": Replica._receive_pong,
    "error": Replica._receive_error,
}
