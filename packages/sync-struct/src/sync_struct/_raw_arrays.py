"""Raw arrays: how the usual array of a mod is written and read, without a walk over the text.

The one idea to keep in mind: the text of a mod that sets an array tells its shape and type only. A
camera's is the same for every frame, so both ends keep what it means. Where anything is unusual
(strides, types with padding, objects), there is nothing here for it, and the codec does it.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, NamedTuple

import pyon
from pyon import wire

__all__ = ["RawArray", "Setting", "copy_raw", "read_setting"]

ROOM = 256
"""Bytes in front of the copy of an array, for the line, so that one piece goes to each socket."""

MOST_KEPT = 256
"""Texts that are kept: 100 kB. A publisher has few cameras."""

_ROOM = bytes(ROOM)

_SIMPLE = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
"""Types, as in `numpy.dtype.str`, of which every byte means something."""


class RawArray:
    """A copy of an array, behind room for a line.

    Attributes
    ----------
    text : str
        PYON v2 of the array, which refers to raw buffer 0.
    buffer : memoryview
        The bytes of the array.
    """

    __slots__ = ("_dtype", "_memory", "_shape", "buffer", "text")

    def __init__(self, array: Any, text: str) -> None:
        self.text = text
        self._dtype, self._shape = array.dtype, array.shape
        self._memory = bytearray().join((_ROOM, array))
        self.buffer = memoryview(self._memory)[ROOM:]

    def with_line(self, line: bytes | memoryview) -> memoryview | None:
        """Write a line into the room; return both together, None if it is too long.

        It has to be the same line for all subscribers: it may be on its way to some.
        """
        begin = ROOM - len(line)
        if begin < 0:
            return None
        self._memory[begin:ROOM] = line
        return memoryview(self._memory)[begin:]

    def array(self) -> Any:
        """Return the array, in this memory: to be read only."""
        return sys.modules["numpy"].ndarray(self._shape, self._dtype, self.buffer)


def copy_raw(array: Any) -> RawArray | None:
    """Return the copy of an array that is to travel raw.

    None: it is no usual array, or so small that it travels as text.
    """
    if type(array) is not sys.modules["numpy"].ndarray or not array.flags.c_contiguous:
        return None
    text = _text_of(array.dtype, array.shape)
    return None if text is None else RawArray(array, text)


@functools.lru_cache(maxsize=MOST_KEPT)
def _text_of(dtype: Any, shape: tuple[int, ...]) -> str | None:
    if dtype.str[1:] not in _SIMPLE:
        return None
    buffers: list[memoryview] = []
    like = sys.modules["numpy"].empty(shape, dtype)
    text = pyon.encode(like, version=2, buffer_callback=buffers.append)
    return text if len(buffers) == 1 and len(buffers[0]) == like.nbytes else None


class Setting(NamedTuple):
    """A mod that sets an item to an array; the array's memory comes beside it."""

    path: tuple[Any, ...]
    key: Any
    dtype: Any
    shape: tuple[int, ...]

    def mod(self, buffer: memoryview) -> dict[str, Any]:
        """Return the mod with the array in this memory."""
        value = sys.modules["numpy"].ndarray(self.shape, self.dtype, buffer)
        return {"action": "setitem", "path": list(self.path), "key": self.key, "value": value}


@functools.lru_cache(maxsize=MOST_KEPT)
def read_setting(text: bytes, size: int) -> Setting | None:
    """Return what a mod means that comes with one raw buffer; None: it is no usual `Setting`."""
    np = sys.modules["numpy"]  # the buffer came in memory of its
    memory = np.empty(size, np.uint8)
    try:
        mod = wire.decode(text, version=2, buffers=[memory.data])
        value, keys = mod["value"], [*mod["path"], mod["key"]]
    except (pyon.DecodeError, ImportError, TypeError, LookupError):
        return None  # the general road says what is wrong
    usual = (
        mod.keys() == {"action", "path", "key", "value"}
        and mod["action"] == "setitem"
        and type(mod["path"]) is list
        and {str, int}.issuperset(map(type, keys))
        and type(value) is np.ndarray
        and value.dtype.str[1:] in _SIMPLE
        and value.nbytes == size
        and np.may_share_memory(value, memory)
    )
    return Setting(tuple(keys[:-1]), keys[-1], value.dtype, value.shape) if usual else None
