"""What a subscriber knows of its publisher, apart from the values: numbers, features, groups.

The one idea to keep in mind: a step is complete with the number at its end. What comes before the
number is kept here, bounded, and neither applied nor told of.
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
"""Mods of one step that is not yet complete. A publisher with the usual backlog (32 MiB) sends the
structure instead, from some 60,000 mods on; with these, a step without an end takes 150 MB."""


class Conversation(Generic[_Part]):
    """The state of a conversation with a publisher.

    Parameters
    ----------
    wish : Wish
        What was asked for.

    Attributes
    ----------
    number : int or None
        Number of the last mod taken. None while the next structure is awaited (mods are then
        ignored), and with publishers that do not number mods.
    legacy : bool
        Whether the publisher knows the established protocol only.
    live : bool
        Whether what came is as good as the connection: false until the structure has come.
    absent : bool
        Whether the structure has no such part as was asked for, at present.
    stale : bool
        Whether the publisher has said that what it publishes is out of date: see *staleness*.
    features : list of str
        What the publisher is going to make use of.
    pending : list
        What has come of a step that is not yet complete.
    troubles : list of pyon.DecodeError
        Values that could not be decoded; an `Undecodable` stands in the place of each.
    """

    def __init__(self, wish: Wish = EVERYTHING) -> None:
        self.number: int | None = None
        self.legacy = False
        self.live = False
        self.absent = False
        self.stale = False
        self.features: list[str] = []
        self.troubles: list[pyon.DecodeError] = []
        self._wish = wish
        self._stream = ""
        self._known = 0  # the last mod that the publisher had when it greeted us
        self.pending: list[_Part] = []
        self._followed = False  # whether there has been a connection before this one

    @property
    def position(self) -> Position | None:
        """Where to go on, after the connection is lost."""
        return None if self.number is None else Position(self._stream, self.number)

    @property
    def caught_up(self) -> bool:
        """Whether all has come that the publisher had in the beginning.

        The structure may be older than that: mods follow that bring it there.
        """
        return self.number is None or self.number >= self._known

    def connected(self, legacy: bool) -> None:
        """Begin a new connection; what was half received on the last one is void."""
        self.legacy = legacy
        self._known = 0
        self._followed = self._followed or self.live
        self.live = self.stale = False
        self.features = []
        self.pending.clear()

    def take_troubles(self) -> list[pyon.DecodeError]:
        """Return what has been noted in `troubles`, once."""
        troubles, self.troubles = self.troubles, []
        return troubles

    def _take_hello(self, hello: Mod) -> None:
        position, resumed = _read_hello(hello)
        if resumed and self.number is None:
            raise ProtocolError(f"got a resumption that nobody asked for: {hello!r}")
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
        """Nothing to do: that something came is what counts."""

    def _take_stale(self, notice: Mod) -> None:
        self.stale = True

    def _take_live(self, notice: Mod) -> None:
        self.stale = False

    def _take_error(self, message: Mod) -> None:
        _raise_refusal(message)

    def _begin(self, number: int | None) -> bool:
        """Take note that the structure has come; tell whether it is wanted."""
        self.pending.clear()
        self.absent = False
        lost = self.legacy and self._wish.mods_only and (self.live or self._followed)
        self.number = None if self.legacy else number
        self.live = True
        if lost:
            raise ModsLost("mods are lost: a publisher of the established protocol began anew")
        return not self._wish.mods_only

    def _vanish(self) -> None:
        """Take note that the part is absent: there is nothing to go on from, nor to apply to."""
        self.pending.clear()
        self.number = None
        self.live = self.absent = True

    def _complete(self, parts: list[_Part], number: int | None) -> list[_Part]:
        """Return the parts of a complete step, or nothing while its number is awaited."""
        if not self.live or (self.absent and not self.legacy):
            return []  # meant for a structure that was given up
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
"""The messages that carry no values, and what each does."""


def take_number(message: Mod) -> int | None:
    """Take the number off a message; None if it has none.

    Raises
    ------
    ProtocolError
        It is no number.
    """
    number = message.pop("number", None)
    if number is not None and type(number) is not int:
        raise ProtocolError(f"expected an integer as the number of a step, got {number!r}")
    return number


def _read_hello(hello: Mapping[str, Any]) -> tuple[Position, bool]:
    """Return where the publisher is, and whether it goes on where we were."""
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
