"""A change that was made: a mod with its number, encoded once, before it took effect.

The text made here is what goes to every subscriber, of every publisher: nobody encodes a mod again.
Nothing in it is shared with the structure, which may change at any time.
A large array in it stays out of the text as a buffer; only for peers that cannot take raw buffers
is the mod brought into text altogether, once per publisher (see `_log`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pyon
from pyon.framing import frame_size
from pyon.wire import small_text

from sync_struct._actions import ACTIONS, Mod, place
from sync_struct._kinds import ATOMS, all_atoms, is_array
from sync_struct._raw_arrays import RawArray, copy_raw

__all__ = [
    "MAX_LEVELS",
    "Change",
    "Restart",
    "check_structure",
    "fixed",
    "write_head",
    "write_path",
]

MOD_OVERHEAD = 500
"""Bytes of memory of a mod besides its text, so that bounds in bytes hold for tiny ones too."""

EXACT = 1e300
"""Numbers below this are spelled by PYON as by Python: no infinity, no nan, no endless integer. It
is most mods, and saves a third of the time that they take."""

MAX_LEVELS = pyon.MAX_DEPTH - 1
"""Levels of containers that a structure may have: the message that it is sent in is one more."""

SHORT = 100
"""Items up to which a list is looked through to find that it is flat: it costs less than to write
it at its depth."""

_NAMES = frozenset({str})

_HEAD = '{"action":"%s","path":'

_Taker = Callable[[memoryview], object]


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
    in_array : bool
        Whether the container is an array.
    line : bytes
        PYON v2 of the mod, referring to `buffers`.
    buffers : sequence of memoryview
        Memory that nobody writes to.
    raw : RawArray or None
        What the only buffer is of, if it is a usual array.
    line_v1 : bytes or None
        PYON v1 of the mod, if a publisher asked for it.
    size : int
        Bytes of memory that the mod takes.
    """

    __slots__ = (
        "action",
        "buffers",
        "ends",
        "in_array",
        "key",
        "line",
        "line_v1",
        "number",
        "path",
        "raw",
        "size",
    )

    def __init__(self, mod: Mod, with_v1: bool = False, head: str | None = None) -> None:
        self.action: str = mod["action"]
        self.path: list[Any] = mod["path"]
        self.number = 0
        self.ends = False
        self.in_array = False
        fields = ACTIONS[self.action].fields
        self.key: Any = None if self.action == "append" else mod[fields[0]]
        if head is None:
            head = write_head(mod, write_path(self.path))
        last = mod[fields[-1]]
        text = write_small(last)
        self.buffers: Sequence[memoryview] = ()
        self.raw: RawArray | None = None
        if text is None:
            self.raw = raw = copy_raw(last) if is_array(last) else None
            if raw is not None:
                text, self.buffers = raw.text, (raw.buffer,)
        if text is None:
            buffers: list[memoryview] = []
            # What is assigned to a slice takes the place of the container, not of an item.
            level = -1 if type(self.key) is slice and len(fields) > 1 else 0
            text = _write_part(last, self.path, level, buffers.append)
            self.buffers = list(map(fixed, buffers))
        self.line = f"{head}{text}}}".encode()
        self.line_v1 = pyon.encode(mod, version=1).encode() if with_v1 else None
        self.size = MOD_OVERHEAD + len(self.line)
        if self.buffers:
            self.size += frame_size(self.buffers)

    @property
    def grows(self) -> bool:
        """Whether rows are appended to an array."""
        return self.in_array and self.action == "append"

    def below(self, depth: int) -> bytes:
        """Return `line` for those who know a part only: without the first keys of the path."""
        if not depth:
            return self.line
        whole, shorter = (
            _HEAD % self.action + write_path(path) for path in (self.path, self.path[depth:])
        )
        return shorter.encode() + self.line[len(whole) :]

    def mod(self) -> Mod:
        """Return the mod as a subscriber receives it: nothing in it is shared with anybody."""
        decoded: Mod = pyon.decode(self.line, buffers=[bytearray(part) for part in self.buffers])
        return decoded


class Restart(Change):
    """A change of unknown effect: an exception from outside (Ctrl-C) came while it was made.

    Subscribers are sent the structure anew.
    """

    def __init__(self, structure: Any) -> None:
        init = pyon.encode({"action": "init", "struct": structure}, version=2).encode()
        self.action = "init"
        self.path, self.key = [], None
        self.number = 0
        self.ends = False
        self.in_array = False
        self.line, self.line_v1, self.buffers, self.raw = init, None, (), None
        self.size = MOD_OVERHEAD + len(init)


def write_head(mod: Mod, path_text: str) -> str:
    """Return the PYON v2 of a mod up to its last field, which alone may be large.

    A mod is put together from its parts: a dict of keys that are strings is what JSON says.
    """
    fields = ACTIONS[mod["action"]].fields
    head = _HEAD % mod["action"] + path_text
    if len(fields) == 1:
        return f'{head},"{fields[0]}":'
    key = mod[fields[0]]
    key_text = _write_name(key) if type(key) is str else _write_part(key, mod["path"], 0)
    return f'{head},"{fields[0]}":{key_text},"{fields[1]}":'


def write_small(part: Any) -> str | None:
    """Return the PYON v2 of a value that is written fastest alone; None for all others."""
    kind = type(part)
    if kind in (int, float) and -EXACT < part < EXACT:
        return repr(part)
    return small_text(part) if kind in ATOMS else None


def _write_part(part: Any, path: Sequence[Any], level: int, take: _Taker | None = None) -> str:
    """Return the PYON v2 of a key or value that belongs to the container at `path`.

    It is written at the depth that it is going to have in a structure on its way to a subscriber,
    or the mod would be sent, and the structure with it could not be.
    """
    small = write_small(part)
    if small is not None:
        return small
    kind = type(part)
    if kind in ATOMS or is_array(part) or (kind is list and _is_flat(part, path)):
        return pyon.encode(part, version=2, buffer_callback=take)
    levels = 1 + len(path) + 1 + level  # the message, and the containers from the root on
    wrapped = part
    for _ in range(levels):
        wrapped = [wrapped]
    try:
        return pyon.encode(wrapped, version=2, buffer_callback=take)[levels:-levels]
    except pyon.EncodeError:
        pyon.encode(part, version=2)  # says better what is wrong, and where
        raise pyon.EncodeError(
            f"nested too deeply for {place(path)}: a structure may have {MAX_LEVELS} levels"
        ) from None


def _is_flat(items: list[Any], path: Sequence[Any]) -> bool:
    """Tell whether a list has one level, at a place where there is room for it."""
    return len(items) <= SHORT and len(path) + 2 <= MAX_LEVELS and all_atoms(items)


@functools.lru_cache(maxsize=1024)
def _write_name(name: str) -> str:
    """Return the PYON of a key that is a string: most structures have few, set again and again."""
    return pyon.encode(name, version=2)


def write_path(path: list[Any]) -> str:
    """Return the PYON v2 of a path: most consist of names that come again and again."""
    if _NAMES.issuperset(map(type, path)):
        return f"[{','.join(map(_write_name, path))}]"
    return pyon.encode(path, version=2)


def fixed(buffer: memoryview) -> memoryview:
    """Return the same bytes in memory that nobody writes to."""
    return buffer if type(buffer.obj) is bytes else memoryview(bytes(buffer))


def check_structure(structure: Any) -> None:
    """Raise `pyon.EncodeError` if a structure cannot be sent."""
    _write_part(structure, (), -1, lambda buffer: None)
