"""Whether the memory of an array may be sent later without a copy.

The one idea to keep in mind: code that can write into the memory of an array has a reference to
that array, or to the array of which it is a view. If each of these has a single reference, no other
code can write into the memory.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from typing import Any

__all__ = ["copy_if_shared"]


def copy_if_shared(chunks: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """Return the result of `framing.frame`, with copies of the raw buffers that may change.

    Use this when the buffers are sent later: a driver may keep writing into an array that it
    returned. Buffers that anything else still refers to are copied. The caller must hold no other
    reference to them, or every buffer is copied.
    """
    if len(chunks) == 1:
        return chunks
    return [
        chunk if isinstance(chunk, bytes) or _is_unshared(chunk) else _copy(chunk)
        for chunk in chunks
    ]


def _is_unshared(buffer: memoryview) -> bool:
    """Return whether no other code can write into a buffer.

    That is the case for bytes, and for memory of a numpy array that has no other reference. Memory
    of other objects may be reachable in other ways.
    """
    if type(buffer.obj) is bytes:
        return True
    import numpy as np

    holder: Any = buffer
    name = "obj"
    while _ONE_HOLDER and _references(holder, name) <= _ONE_HOLDER:
        holder, name = getattr(holder, name), "base"
        if type(holder) is not np.ndarray or weakref.getweakrefcount(holder):
            return False
        if holder.base is None:
            return holder.flags.owndata
    return False


def _references(holder: object, name: str) -> int:
    """Return the number of references to an attribute, including one or two of this function."""
    attribute = getattr(holder, name)
    return sys.getrefcount(attribute)


# Measured with the same function: interpreters differ in how many references it adds.
_ONE_HOLDER = _references(memoryview(bytearray()), "obj") if hasattr(sys, "getrefcount") else 0


def _copy(buffer: memoryview) -> memoryview:
    import numpy as np

    copy = np.empty(len(buffer), np.uint8).data
    copy[:] = buffer
    return copy
