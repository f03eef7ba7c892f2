"""Steps as text: the messages of a publisher with their numbers, not decoded.

For recorders, relays and gateways, which need not know the types in a structure. The one idea to
keep in mind: every message of our protocol begins with its action and ends with its number, so both
are read without parsing the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import pyon
from pyon.framing import Message

from sync_struct._actions import Mod
from sync_struct._conversation import CONTROLS, Conversation
from sync_struct._errors import ProtocolError
from sync_struct._protocol import Position, shorten
from sync_struct._replica import Replica, check_size
from sync_struct._selection import EVERYTHING, Wish

__all__ = ["Step", "StepReader"]

_ACTION = re.compile(rb'\s*\{\s*(?:"buffers":\[[0-9,]*\],)?"action"\s*:\s*"([a-z_]+)"')
_NUMBER = re.compile(rb',"number":([0-9]{1,18})\}\s*\Z')


class Step(NamedTuple):
    """One step of a structure, as a publisher sent it."""

    action: str
    """``"init"``: the whole structure. ``"mods"``: changes. ``"absent"``: there is no such part."""

    lines: tuple[bytes, ...]
    """The messages, in PYON without line ends. In our protocol, the last one has the number."""

    stream: str
    """Stream id, which distinguishes these numbers from those of other structures. Empty if
    `number` is None."""

    number: int | None
    """Number of the last mod. None: the publisher supports only the established protocol."""

    buffers: tuple[tuple[memoryview, ...], ...] = ()
    """The raw buffers of each line; empty if no line has any."""

    @property
    def frames(self) -> list[bytes | memoryview]:
        """The bytes as received, with line ends and raw buffers, in pieces."""
        pieces: list[bytes | memoryview] = []
        for line, buffers in zip_longest(self.lines, self.buffers, fillvalue=()):
            pieces += [b"%b\n" % bytes(line), *buffers]
        return pieces

    def mods(self) -> list[Mod]:
        """Return the mods, decoded. They belong to the caller.

        Raises
        ------
        pyon.DecodeError
            A value is of an unknown type.
        """
        mods: list[Mod] = []
        for line, buffers in zip_longest(self.lines, self.buffers, fillvalue=()):
            mod = pyon.decode(bytes(line), buffers=buffers)
            mod.pop("number", None)
            mod.pop("buffers", None)
            mods += mod["mods"] if mod["action"] == "mods" else [mod]
        return mods


_Raw = tuple[bytes, tuple[memoryview, ...]]


class StepReader(Conversation[_Raw]):
    """The counterpart of `Replica` for a subscriber that does not decode."""

    target: Any = None
    fits = False

    def __init__(self, wish: Wish = EVERYTHING, position: Position | None = None) -> None:
        super().__init__(wish)
        if position is not None:
            self._stream, self.number = position
        self._part: Replica | None = None  # selects the part if the publisher sends everything

    def connected(self, legacy: bool) -> None:
        """See `Conversation`."""
        super().connected(legacy)
        self._part = None
        if legacy and self._wish.path:
            self._part = Replica(lambda structure: structure, self._wish)
            self._part.connected(legacy)

    def receive(self, message: Message, *, share: bool = False) -> list[Step]:
        """Return the step that a message completes, as a list; see `Replica.receive`."""
        check_size(message)
        if self._part is not None:
            return self._cut(self._part, message)
        line = bytes(message.line)
        action, number = _head(line)
        if action in CONTROLS:
            CONTROLS[action](self, pyon.decode(line))
            return []
        raw = (line, tuple(message.buffers))
        if action == "init":
            return [self._step(action, [raw], number)] if self._begin(number) else []
        if action == "absent":
            self._become_absent()
            return [self._step(action, [raw], number)]
        whole = self._complete([raw], number)
        return [self._step("mods", whole, self.number)] if whole else []

    def _step(self, action: str, raw: Sequence[_Raw], number: int | None) -> Step:
        lines, buffers = zip(*raw, strict=True)
        stream = "" if self.legacy else self._stream
        return Step(action, lines, stream, number, buffers if any(buffers) else ())

    def _cut(self, part: Replica, message: Message) -> list[Step]:
        mods = part.receive(message)
        self.live, self.absent = part.live, part.absent
        return [
            Step(
                mod["action"] if mod["action"] in ("init", "absent") else "mods",
                (pyon.encode(mod, version=2).encode(),),
                "",
                None,
            )
            for mod in mods
        ]

    def own(self, step: Step) -> Step:
        """Return the step itself: it is immutable."""
        return step

    def give_up(self) -> bool:
        """Ignore mods until the structure arrives; return whether to request it."""
        self.live = False
        self.number = None
        return not self.legacy


def _head(line: bytes) -> tuple[str, int | None]:
    """Return the action of a message, and its number if it has one."""
    found = _ACTION.match(line)
    if found is None:
        raise ProtocolError(f"expected a mod, got {shorten(line)}")
    number = _NUMBER.search(line[-40:])
    return found[1].decode(), None if number is None else int(number[1])
