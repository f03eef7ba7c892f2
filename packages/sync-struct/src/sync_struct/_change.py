"""A change that was made: a mod with its number, encoded once, before it took effect.

The text made here is what goes to every subscriber, of every publisher: nobody encodes a mod again.
A large array in it stays out of the text as a buffer; only for peers that cannot take raw buffers
is the mod brought into text altogether, once per publisher (see `_stream`).
"""

from __future__ import annotations

from typing import Any

import pyon

from sync_struct._mods import Mod

__all__ = ["Change", "encode"]


class Change:
    """One mod on its way to the subscribers.

    Attributes
    ----------
    action : str
    path : list
        The container that is changed.
    key : object
        What is changed in it; None where the action has no key.
    number : int
        Counts the mods of one notifier, from 1.
    ends : bool
        False if more mods follow that belong together with this one.
    line : bytes
        PYON v2 of the mod, referring to `buffers`.
    buffers : list of memoryview
        Memory that nobody writes to.
    line_v1 : bytes or None
        PYON v1 of the mod, if a publisher asked for it.
    """

    __slots__ = ("action", "buffers", "ends", "key", "line", "line_v1", "number", "path")

    def __init__(self, mod: Mod, with_v1: bool) -> None:
        self.action: str = mod["action"]
        self.path: list[Any] = mod["path"]
        self.key: Any = mod.get("key", mod.get("i"))
        self.number = 0
        self.ends = False
        self.line, self.buffers = encode(mod)
        self.line_v1 = pyon.encode(mod, version=1).encode() if with_v1 else None

    def mod(self) -> Mod:
        """Return the mod as a subscriber receives it: nothing in it is shared with anybody."""
        decoded: Mod = pyon.decode(self.line, buffers=[bytearray(part) for part in self.buffers])
        return decoded


def encode(message: Mod) -> tuple[bytes, list[memoryview]]:
    """Return the PYON v2 of a message and the raw buffers that it refers to."""
    buffers: list[memoryview] = []
    return pyon.encode(message, version=2, buffer_callback=buffers.append).encode(), buffers
