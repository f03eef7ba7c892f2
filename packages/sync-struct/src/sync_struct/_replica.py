"""Replica: a subscriber's copy of a structure, and the effect of each message on it. Pure code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pyon
from pyon.framing import Message
from pyon.wire import decode

from sync_struct._actions import Mod, walk
from sync_struct._conversation import CONTROLS, Conversation, take_number
from sync_struct._copies import copy_mod, copy_of, unshared
from sync_struct._errors import ModError, ProtocolError
from sync_struct._kinds import is_array, is_record
from sync_struct._mods import applied
from sync_struct._protocol import shorten
from sync_struct._selection import EVERYTHING, Touch, Wish, touch
from sync_struct._undecodable import decode_around

__all__ = ["Replica", "check_size"]


class Replica(Conversation[Mod]):
    """A subscriber's copy of a structure.

    Parameters
    ----------
    build : callable
        Makes the target from a received structure.
    wish : Wish
        What the subscriber requests.
    guard : context manager, optional
        Entered only while the target is changed or replaced: not while a message is decoded or
        `build` runs.
    on_step : callable, optional
        Called with the mods that have been applied, before `guard` is left.

    Attributes
    ----------
    target : object
        The last result of `build`, with all mods since applied. None before the first structure
        and while the part is absent.
    fits : bool
        Whether a mod has been applied since the last structure.
    """

    def __init__(
        self,
        build: Callable[[Any], Any],
        wish: Wish = EVERYTHING,
        *,
        guard: contextlib.AbstractContextManager[Any] | None = None,
        on_step: Callable[[Sequence[Mod]], None] | None = None,
    ) -> None:
        super().__init__(wish)
        self.target: Any = None
        self._build = build
        self._guard = guard
        self._on_step = on_step
        self._whole: Any = None  # the whole structure, if the part has to be selected here
        self.fits = True

    def receive(self, message: Message, *, share: bool = False) -> list[Mod]:
        """Apply a message of the publisher; return the mods to pass to callbacks, in order.

        Parameters
        ----------
        share : bool, optional
            Let the mods share values with the target: for callers that do not pass them on.

        Raises
        ------
        ModError
            A mod does not fit the target: the structure is needed again (see `give_up`).
        ModsLost
            A subscriber without a target has missed mods; the next ones can be received.
        UnknownNotifier, SubscriptionLost, ProtocolError
            The conversation is over.
        """
        if message.oversize:
            check_size(message)
        try:
            text = message.take_text()
            try:
                if self.legacy:
                    mod = pyon.decode(text, buffers=message.buffers)
                else:
                    mod = decode(text, version=2, buffers=message.buffers)
            except (pyon.DecodeError, ImportError) as error:
                mod = self._decode_around(text, message, error)
            action = mod["action"]
            control = CONTROLS.get(action)
        except (pyon.DecodeError, ImportError, TypeError, LookupError) as error:
            got = shorten(bytes(message.line))
            raise ProtocolError(f"expected a mod, got {got}: {error}") from error
        if control is not None:
            control(self, mod)
            return []
        number = take_number(mod)
        if message.buffers:
            mod.pop("buffers", None)
        if action == "init":
            return self._receive_init(mod, number, share)
        if action == "absent":
            return self._receive_absent()
        mods = mod.get("mods") if action == "mods" else [mod]
        if not isinstance(mods, list):
            raise ProtocolError(f"expected a list of mods, got {shorten(bytes(message.line))}")
        return self._receive_mods(self._complete(mods, number), share)

    def _decode_around(
        self, text: str | bytes, message: Message, error: pyon.DecodeError | ImportError
    ) -> Any:
        repaired = decode_around(text, message.buffers, error)
        self.decode_errors += repaired.errors()
        return repaired.message

    def _receive_init(self, mod: Mod, number: int | None, share: bool) -> list[Mod]:
        if "struct" not in mod:
            raise ProtocolError("expected a structure, got an init without one")
        self.fits = False
        if not self._begin(number):
            return []
        if self.legacy and self._wish.path:
            self._whole = mod["struct"]
            return self._start_part(share)
        return self._start(mod, share)

    def _receive_absent(self) -> list[Mod]:
        self._become_absent()
        return self._replace(None, {"action": "absent"})

    def _start(self, init: Mod, share: bool) -> list[Mod]:
        structure = init["struct"]
        return self._replace(self._build(structure if share else copy_of(structure)), init)

    def _receive_mods(self, mods: list[Mod], share: bool) -> list[Mod]:
        if self.legacy and self._wish.path:
            return self._cut(mods, share)
        if mods and not self._wish.mods_only:
            self._apply(mods, share)
        return mods

    def _apply(self, mods: list[Mod], share: bool) -> None:
        mine = mods if share else list(map(unshared, mods))
        if self._guard is None:
            self._change(mine)
            return
        with self._guard:
            self._change(mine)
            if self._on_step is not None:
                self._on_step(mods)

    def _change(self, mods: list[Mod]) -> None:
        for mod in mods:
            try:
                self.target = applied(self.target, mod)
            except ModError:
                raise
            except Exception as error:  # a target made by the user can raise anything
                raise ModError(f"the target failed on {mod['action']}: {error!r}") from error
            self.fits = True

    def _replace(self, target: Any, mod: Mod) -> list[Mod]:
        """Replace the target; return the mods to pass to callbacks."""
        with contextlib.nullcontext() if self._guard is None else self._guard:
            self.target = target
            if self._on_step is not None:
                self._on_step([mod])
        return [mod]

    def _cut(self, mods: list[Mod], share: bool) -> list[Mod]:
        """Select the mods of the part, as our publishers do for such a subscriber."""
        part, selected = self._wish.path, []
        for mod in mods:
            in_array = False
            if not self._wish.mods_only:
                self._whole = applied(self._whole, copy_mod(mod))
                changed = walk(self._whole, mod["path"])
                in_array = is_array(changed) or is_record(changed)
            how = touch(mod["action"], mod["path"], mod.get("key", mod.get("i")), part, in_array)
            if how is Touch.REPLACED:
                selected += [] if self._wish.mods_only else self._start_part(share)
            elif how is Touch.INSIDE and not self.absent:
                mod["path"] = mod["path"][len(part) :]
                if not self._wish.mods_only:
                    self._apply([mod], share)
                selected.append(mod)
        return selected

    def _start_part(self, share: bool) -> list[Mod]:
        """Replace the target by the part of the whole structure, or by its absence."""
        try:
            part = copy_of(walk(self._whole, self._wish.path))
        except (LookupError, TypeError, ValueError, OverflowError):  # the last two from arrays
            return self._receive_absent()
        self.absent = False
        return self._start({"action": "init", "struct": part}, share)

    def own(self, mod: Mod) -> Mod:
        """Return a copy of a mod for one callback."""
        return copy_mod(mod)

    def give_up(self) -> bool:
        """Ignore mods until the structure arrives; return whether to request it.

        If no mod has fitted since the last structure, another one would not help.
        """
        self.live = False
        self.number = None
        return self.fits and not self.legacy


def check_size(message: Message) -> None:
    """Raise `ProtocolError` if a message was larger than the limit."""
    if message.oversize:
        raise ProtocolError(
            f"a message of {message.oversize} bytes is beyond the limit of {message.limit} bytes"
        )
