"""Raw arrays: writing and reading mods with an array, without the codec.

The one idea to keep in mind: the text of a mod that sets an array has only its shape and dtype. A
camera sends the same text with every frame, so both ends cache its meaning. Unusual arrays
(strided, with padding, of objects) are left to the codec.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, NamedTuple

import pyon
from pyon import wire

__all__ = ["RawArray", "Setting", "copy_raw", "read_setting"]

ROOM = 256
"""Bytes before the copy of an array, for the line, so that both are one buffer for the socket."""

MOST_KEPT = 256
"""Texts that are cached: 100 kB. A publisher has few cameras."""

_ROOM = bytes(ROOM)

_SIMPLE = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
"""Types without padding bytes, as in `numpy.dtype.str`."""


class RawArray:
    """A copy of an array, with room for a line before it.

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
        """Write a line before the array; return both as one buffer, None if the line is too long.

        It must be the same line for all subscribers: the buffer may be in use.
        """
        begin = ROOM - len(line)
        if begin < 0:
            return None
        self._memory[begin:ROOM] = line
        return memoryview(self._memory)[begin:]

    def array(self) -> Any:
        """Return the array in this memory. It must not be changed."""
        return sys.modules["numpy"].ndarray(self._shape, self._dtype, self.buffer)


def copy_raw(array: Any) -> RawArray | None:
    """Return the copy of an array that is to be sent as a raw buffer.

    None: the array is unusual, or so small that it is sent as text.
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
    """A mod that sets an item to an array, whose memory is a raw buffer."""

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
    """Return the meaning of a mod with one raw buffer; None: it is not a usual `Setting`."""
    np = sys.modules["numpy"]  # imported already: raw buffers are received into numpy arrays
    memory = np.empty(size, np.uint8)
    try:
        mod = wire.decode(text, version=2, buffers=[memory.data])
        value, keys = mod["value"], [*mod["path"], mod["key"]]
    except (pyon.DecodeError, ImportError, TypeError, LookupError):
        return None  # the general path raises the error
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
