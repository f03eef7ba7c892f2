"""The state of a subscriber's conversation apart from values: numbers, features, incomplete steps.

The one idea to keep in mind: a number completes a step. Mods before the number are kept here,
within a limit, and are neither applied nor passed to callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, TypeVar

import pyon

from sync_struct._actions import Mod
from sync_struct._errors import ModError, ModsLost, ProtocolError, SubscriptionLost, UnknownNotifier
from sync_struct._protocol import Position
from sync_struct._selection import EVERYTHING, Wish

__all__ = ["CONTROLS", "MOST_PENDING", "Conversation", "take_number"]

_Part = TypeVar("_Part")

MOST_PENDING = 2**18
"""Mods of one incomplete step. A publisher with the usual backlog (32 MiB) sends the structure
instead from some 60,000 mods on. At this limit, an incomplete step takes 150 MB."""


class Conversation(Generic[_Part]):
    """The state of a conversation with a publisher.

    Parameters
    ----------
    wish : Wish
        What the subscriber requests.

    Attributes
    ----------
    number : int or None
        Number of the last mod applied. None while the next structure is awaited (mods are then
        ignored), and with publishers that do not number mods.
    legacy : bool
        Whether the publisher supports only the established protocol.
    live : bool
        Whether the structure has arrived on this connection, or the publisher has resumed.
    absent : bool
        Whether the structure has no such part at present.
    stale : bool
        Whether the publisher has sent that its structure is out of date: see *staleness*.
    features : list of str
        Features that the publisher is going to use.
    pending : list
        Mods of an incomplete step.
    decode_errors : list of pyon.DecodeError
        Values that could not be decoded; an `Undecodable` stands in the place of each.
    """

    def __init__(self, wish: Wish = EVERYTHING) -> None:
        self.number: int | None = None
        self.legacy = False
        self.live = False
        self.absent = False
        self.stale = False
        self.features: list[str] = []
        self.decode_errors: list[pyon.DecodeError] = []
        self._wish = wish
        self._stream = ""
        self._known = 0  # the publisher's last mod at the time of its hello
        self.pending: list[_Part] = []
        self._followed = False  # whether an earlier connection was live

    @property
    def position(self) -> Position | None:
        """The position to resume from after a lost connection."""
        return None if self.number is None else Position(self._stream, self.number)

    @property
    def caught_up(self) -> bool:
        """Whether everything has arrived that the publisher had at the time of its hello.

        The structure may be older; then mods follow that bring it up to date.
        """
        return self.number is None or self.number >= self._known

    def connected(self, legacy: bool) -> None:
        """Begin a new connection; an incomplete step of the last one is void."""
        self.legacy = legacy
        self._known = 0
        self._followed = self._followed or self.live
        self.live = self.stale = False
        self.features = []
        self.pending.clear()

    def take_decode_errors(self) -> list[pyon.DecodeError]:
        """Return `decode_errors` and clear it."""
        errors, self.decode_errors = self.decode_errors, []
        return errors

    def _take_hello(self, hello: Mod) -> None:
        position, resumed = _read_hello(hello)
        if resumed and self.number is None:
            raise ProtocolError(f"the publisher resumed without a request: {hello!r}")
        self.features = hello["features"]
        self._stream = position.stream
        self.stale = hello.get("stale") is True
        known = hello.get("known")
        known = known if type(known) is int else position.number
        self._known = known if self._wish == EVERYTHING else 0
        if self._wish.mods_only:
            lost = self.number is not None and not resumed
            self.number, self.live = self.number if resumed else position.number, True
            if lost:
                raise ModsLost("the mods made while there was no connection are lost")
        elif resumed:
            self.live = True
        else:
            self.number = None

    def _take_gap(self, gap: Mod) -> None:
        self.pending.clear()
        self.number = take_number(gap) or 0
        raise ModsLost("this subscriber was too slow: mods are lost")

    def _take_pong(self, pong: Mod) -> None:
        """Do nothing: any message ends the silence."""

    def _take_stale(self, notice: Mod) -> None:
        self.stale = True

    def _take_live(self, notice: Mod) -> None:
        self.stale = False

    def _take_error(self, message: Mod) -> None:
        _raise_refusal(message)

    def _begin(self, number: int | None) -> bool:
        """Record that the structure has arrived; return whether the subscriber wants it."""
        self.pending.clear()
        self.absent = False
        lost = self.legacy and self._wish.mods_only and (self.live or self._followed)
        self.number = None if self.legacy else number
        self.live = True
        if lost:
            raise ModsLost("mods are lost: an established publisher sent the structure again")
        return not self._wish.mods_only

    def _become_absent(self) -> None:
        """Record that the part is absent: there is no position, and mods are ignored."""
        self.pending.clear()
        self.number = None
        self.live = self.absent = True

    def _complete(self, parts: list[_Part], number: int | None) -> list[_Part]:
        """Return the parts of a complete step, or nothing while its number is awaited."""
        if not self.live or (self.absent and not self.legacy):
            return []  # of a structure that is being requested again
        if number is None and not self.legacy:
            if len(self.pending) + len(parts) > MOST_PENDING:
                self.pending.clear()
                raise ModError(f"expected the end of a step within {MOST_PENDING} mods")
            self.pending += parts
            return []
        if self.pending:
            parts = [*self.pending, *parts]
            self.pending.clear()
        if number is not None:
            self.number = number
        return parts


CONTROLS: Mapping[str, Callable[[Conversation[Any], Mod], None]] = {
    "hello": Conversation._take_hello,
    "gap": Conversation._take_gap,
    "pong": Conversation._take_pong,
    "stale": Conversation._take_stale,
    "live": Conversation._take_live,
    "error": Conversation._take_error,
}
"""The messages without values, and their handlers."""


def take_number(message: Mod) -> int | None:
    """Remove the number from a message and return it; None if it has none.

    Raises
    ------
    ProtocolError
        The number is not an integer.
    """
    number = message.pop("number", None)
    if number is not None and type(number) is not int:
        raise ProtocolError(f"expected an integer as the number of a step, got {number!r}")
    return number


def _read_hello(hello: Mapping[str, Any]) -> tuple[Position, bool]:
    """Return the publisher's position, and whether it resumes at ours."""
    for field, kind in _HELLO.items():
        if type(hello.get(field)) is not kind:
            raise ProtocolError(f"expected a hello with {field!r}, a {kind.__name__}: {hello!r}")
    if not all(type(word) is str for word in hello["features"]):
        raise ProtocolError(f"expected words as features, got {hello!r}")
    return Position(hello["stream"], hello["number"]), hello["resumed"]


_HELLO = {"stream": str, "number": int, "resumed": bool, "features": list}


def _raise_refusal(message: Mapping[str, Any]) -> NoReturn:
    text = str(message.get("message", "the publisher refused without a reason"))
    if message.get("error") == "UnknownNotifier":
        raise UnknownNotifier(text, [str(name) for name in message.get("names", ())])
    if message.get("error") == "SubscriptionLost":
        raise SubscriptionLost(text)
    raise ProtocolError(text)
