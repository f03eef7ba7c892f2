"""A change: a mod with its number, encoded once, before it takes effect.

The text made here is sent to every subscriber of every publisher; a mod is not encoded again. It
shares nothing with the structure, which may change at any time. Large arrays are kept out of the
text as raw buffers. For subscribers without raw buffers, the whole mod is encoded as text, once per
publisher (see `_log`).
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
    "as_immutable",
    "check_structure",
    "write_head",
    "write_path",
]

MOD_OVERHEAD = 500
"""Bytes of memory of a mod besides its text, so that limits in bytes hold for tiny mods, too."""

SIMPLE_BELOW = 1e300
"""Below this, PYON and Python write numbers alike: there is no infinity, no nan and no integer that
is too long. Most mods have such a number; `repr` saves a third of their time."""

MAX_LEVELS = pyon.MAX_DEPTH - 1
"""Levels of containers that a structure may have: the message around it is one more."""

SHORT_LIST = 100
"""Items up to which a list is checked for being flat: faster than encoding it at its depth."""

_NAMES = frozenset({str})

_HEAD = '{"action":"%s","path":'

_Taker = Callable[[memoryview], object]


class Change:
    """One mod, encoded for its subscribers.

    Attributes
    ----------
    action : str
    path : list
        Path of the container that is changed.
    key : object
        Key or index in the container; None where the action has no key.
    number : int
        Number of the mod among those of its notifier, from 1.
    ends : bool
        Whether this is the last mod of its step.
    in_array : bool
        Whether the container is an array.
    line : bytes
        PYON v2 of the mod, referring to `buffers`.
    buffers : sequence of memoryview
        Memory that is not written to any more.
    raw : RawArray or None
        The array of the only buffer, if it is a usual one.
    line_v1 : bytes or None
        PYON v1 of the mod, if a publisher needs it.
    size : int
        Bytes of memory of the mod.
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
            # A value assigned to a slice is at the level of the container, not of an item.
            level = -1 if type(self.key) is slice and len(fields) > 1 else 0
            text = _write_part(last, self.path, level, buffers.append)
            self.buffers = list(map(as_immutable, buffers))
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
        """Return `line` for a subscriber to a part: without the first `depth` keys of the path."""
        if not depth:
            return self.line
        whole, shorter = (
            _HEAD % self.action + write_path(path) for path in (self.path, self.path[depth:])
        )
        return shorter.encode() + self.line[len(whole) :]

    def mod(self) -> Mod:
        """Return the mod as a subscriber receives it, sharing nothing."""
        decoded: Mod = pyon.decode(self.line, buffers=[bytearray(part) for part in self.buffers])
        return decoded


class Restart(Change):
    """A change of unknown effect: an asynchronous exception (Ctrl-C) interrupted it.

    Subscribers are sent the structure again.
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
    """Return the PYON v2 of a mod up to its last field, the only one that may be large.

    A mod can be assembled as text: its keys are strings, so its PYON is a JSON object.
    """
    fields = ACTIONS[mod["action"]].fields
    head = _HEAD % mod["action"] + path_text
    if len(fields) == 1:
        return f'{head},"{fields[0]}":'
    key = mod[fields[0]]
    key_text = _write_name(key) if type(key) is str else _write_part(key, mod["path"], 0)
    return f'{head},"{fields[0]}":{key_text},"{fields[1]}":'


def write_small(part: Any) -> str | None:
    """Return the PYON v2 of a small value that has a faster encoder; None for all others."""
    kind = type(part)
    if kind in (int, float) and -SIMPLE_BELOW < part < SIMPLE_BELOW:
        return repr(part)
    return small_text(part) if kind in ATOMS else None


def _write_part(part: Any, path: Sequence[Any], level: int, take: _Taker | None = None) -> str:
    """Return the PYON v2 of a key or value of the container at `path`.

    It is encoded at the depth that it has when the whole structure is sent. Otherwise a mod could
    be sent that makes the structure too deep to be sent.
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
        pyon.encode(part, version=2)  # raises a better message, unless the depth is to blame
        raise pyon.EncodeError(
            f"nested too deeply for {place(path)}: a structure may have {MAX_LEVELS} levels"
        ) from None


def _is_flat(items: list[Any], path: Sequence[Any]) -> bool:
    """Return whether a list is flat, and its path short enough for one more level."""
    return len(items) <= SHORT_LIST and len(path) + 2 <= MAX_LEVELS and all_atoms(items)


@functools.lru_cache(maxsize=1024)
def _write_name(name: str) -> str:
    """Return the PYON of a string key. Cached: most structures have few keys, set repeatedly."""
    return pyon.encode(name, version=2)


def write_path(path: list[Any]) -> str:
    """Return the PYON v2 of a path; most consist of names that are cached."""
    if _NAMES.issuperset(map(type, path)):
        return f"[{','.join(map(_write_name, path))}]"
    return pyon.encode(path, version=2)


def as_immutable(buffer: memoryview) -> memoryview:
    """Return the same bytes in immutable memory."""
    return buffer if type(buffer.obj) is bytes else memoryview(bytes(buffer))


def check_structure(structure: Any) -> None:
    """Raise `pyon.EncodeError` if a structure cannot be sent."""
    _write_part(structure, (), -1, lambda buffer: None)
