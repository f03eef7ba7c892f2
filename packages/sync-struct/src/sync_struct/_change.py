"""A change that was made: a mod with its number, encoded once, before it took effect.

The text made here is what goes to every subscriber, of every publisher: nobody encodes a mod again.
A large array in it stays out of the text as a buffer; only for peers that cannot take raw buffers
is the mod brought into text altogether, once per publisher (see `_stream`).
"""

from __future__ import annotations

import functools
from typing import Any

import pyon

from sync_struct._mods import ACTIONS, Mod

__all__ = ["Change", "encode"]

MOD_OVERHEAD = 500
"""Bytes of memory of a mod besides its text, so that bounds in bytes hold for tiny ones too."""


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
    size : int
        Bytes of memory that the mod takes.
    """

    __slots__ = (
        "action",
        "buffers",
        "ends",
        "key",
        "line",
        "line_v1",
        "number",
        "path",
        "size",
    )

    def __init__(self, mod: Mod, with_v1: bool = False, path_text: str | None = None) -> None:
        self.action: str = mod["action"]
        self.path: list[Any] = mod["path"]
        self.key: Any = mod.get("key", mod.get("i"))
        self.number = 0
        self.ends = False
        self.buffers: list[memoryview] = []
        self.line = _write(mod, path_text, self.buffers).encode()
        self.line_v1 = pyon.encode(mod, version=1).encode() if with_v1 else None
        self.size = MOD_OVERHEAD + len(self.line)
        if self.buffers:
            self.size += sum(map(len, self.buffers))

    def mod(self) -> Mod:
        """Return the mod as a subscriber receives it: nothing in it is shared with anybody."""
        decoded: Mod = pyon.decode(self.line, buffers=[bytearray(part) for part in self.buffers])
        return decoded


def _write(mod: Mod, path_text: str | None, buffers: list[memoryview]) -> str:
    """Return the PYON v2 of a mod, put together from that of its parts.

    A dict of keys that are strings is what JSON says; the parts of a typical mod are scalars, which
    the codec writes five times faster than the whole. Only the last field may be large.
    """
    action = mod["action"]
    fields = ACTIONS[action].fields
    if path_text is None:
        path_text = pyon.encode(mod["path"], version=2)
    text = f'{{"action":"{action}","path":{path_text}'
    if len(fields) == 2:
        key = mod[fields[0]]
        key_text = _write_name(key) if type(key) is str else pyon.encode(key, version=2)
        text = f'{text},"{fields[0]}":{key_text}'
    value = pyon.encode(mod[fields[-1]], version=2, buffer_callback=buffers.append)
    return f'{text},"{fields[-1]}":{value}}}'


@functools.lru_cache(maxsize=1024)
def _write_name(name: str) -> str:
    """Return the PYON of a key that is a string: most structures have few, set again and again."""
    return pyon.encode(name, version=2)


def encode(message: Mod) -> tuple[bytes, list[memoryview]]:
    """Return the PYON v2 of a message and the raw buffers that it refers to."""
    buffers: list[memoryview] = []
    return pyon.encode(message, version=2, buffer_callback=buffers.append).encode(), buffers
