"""Base64 between memory and text, with SIMD instructions where `pyon[fast]` is installed.

With and without it, the text is the same, and the same texts are refused: all but the alphabet of
RFC 4648 with exact padding.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

pybase64: Any
try:
    import pybase64
except ImportError:
    pybase64 = None


CHUNK = 2**18
"""Characters that are decoded at a time into existing memory, so that their bytes stay in the
cache."""


FILE_CHUNK = 3 * 2**17
"""Bytes that are encoded at a time for a file, so that the memory for their base64 is reused. A
multiple of three, so that only the last chunk has padding."""


class Base64:
    """Base64 text that is decoded later, directly into the memory of its array."""

    def __init__(self, text: str | memoryview) -> None:
        self.text = text


def to_base64(data: bytes | memoryview) -> str:
    """Return the base64 text of `data`, without line breaks."""
    if pybase64 is not None:
        text: str = pybase64.b64encode_as_string(data)
        return text
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def to_base64_bytes(data: bytes | memoryview) -> bytes:
    """Return the base64 of `data` as bytes, for a wire or file."""
    if pybase64 is not None:
        text: bytes = pybase64.b64encode(data)
        return text
    return binascii.b2a_base64(data, newline=False)


def base64_chunks(data: bytes | memoryview) -> Iterator[bytes]:
    """Yield the base64 of `data` in chunks, each encoded when it is needed."""
    view = memoryview(data)
    for start in range(0, len(view), FILE_CHUNK):
        yield to_base64_bytes(view[start : start + FILE_CHUNK])


def from_base64(text: str | bytes | memoryview) -> bytes:
    """Return the bytes that `text` encodes.

    Raises
    ------
    ValueError
        If it is not strictly valid base64.
    """
    if len(text) % 4:
        raise ValueError(f"base64 of {len(text)} characters, which is not a multiple of 4")
    if pybase64 is not None:
        data: bytes = pybase64.b64decode(text, validate=True)
        return data
    data = binascii.a2b_base64(text, strict_mode=True)
    if len(text) != (len(data) + 2) // 3 * 4:  # binascii accepts redundant padding
        raise ValueError("base64 with more padding than it needs")
    return data


def decoded_size(text: str | bytes | memoryview) -> int:
    """Return the number of bytes that base64 of this length and padding encodes."""
    end = text[-2:]
    padding = end.count("=") if isinstance(end, str) else bytes(end).count(b"=")
    return len(text) // 4 * 3 - padding


def decode_into(text: str | memoryview, memory: memoryview) -> None:
    """Decode `text` into `memory`, which must have the exact size.

    Raises
    ------
    ValueError
        If it is not strictly valid base64.
    """
    done = 0
    for start in range(0, len(text), CHUNK):
        data = from_base64(text[start : start + CHUNK])
        memory[done : done + len(data)] = data
        done += len(data)
    if done != len(memory):
        raise ValueError("base64 with padding in the middle")
