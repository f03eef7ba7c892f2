"""Base64 between memory and text, with SIMD instructions where `pyon[fast]` is installed.

The text is the same either way, and so is what is refused: anything but the alphabet of RFC 4648,
padded.
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
"""Characters that are decoded at a time into given memory: their bytes stay in the cache."""


FILE_CHUNK = 3 * 2**17
"""Bytes that are encoded at a time on their way to a file: so the memory for their base64 is used
again and again, and need not be made. A multiple of three, so that only the last has padding."""


class Base64:
    """Base64 text that was not decoded yet, because what it fills is known later."""

    def __init__(self, text: str | memoryview) -> None:
        self.text = text


def to_base64(data: bytes | memoryview) -> str:
    """Give the base64 text of `data`, without line breaks."""
    if pybase64 is not None:
        text: str = pybase64.b64encode_as_string(data)
        return text
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def to_base64_bytes(data: bytes | memoryview) -> bytes:
    """Give the base64 of `data` as a wire or file takes it."""
    if pybase64 is not None:
        text: bytes = pybase64.b64encode(data)
        return text
    return binascii.b2a_base64(data, newline=False)


def base64_chunks(data: bytes | memoryview) -> Iterator[bytes]:
    """Give the base64 of `data` bit by bit, while it is written to a file."""
    view = memoryview(data)
    for start in range(0, len(view), FILE_CHUNK):
        yield to_base64_bytes(view[start : start + FILE_CHUNK])


def from_base64(text: str | bytes | memoryview) -> bytes:
    """Give the bytes that `text` stands for.

    Raises
    ------
    ValueError
        If it is not base64, to the letter.
    """
    if len(text) % 4:
        raise ValueError(f"base64 of {len(text)} characters, which is no multiple of 4")
    if pybase64 is not None:
        data: bytes = pybase64.b64decode(text, validate=True)
        return data
    data = binascii.a2b_base64(text, strict_mode=True)
    if len(text) != (len(data) + 2) // 3 * 4:  # it lets padding pass behind what is complete
        raise ValueError("base64 with more padding than it needs")
    return data


def decoded_size(text: str | bytes | memoryview) -> int:
    """Give the number of bytes that base64 of this length stands for."""
    end = text[-2:]
    padding = end.count("=") if isinstance(end, str) else bytes(end).count(b"=")
    return len(text) // 4 * 3 - padding


def decode_into(text: str | memoryview, memory: memoryview) -> None:
    """Put the bytes that `text` stands for into `memory`, which has as many.

    Raises
    ------
    ValueError
        If it is not base64, to the letter.
    """
    done = 0
    for start in range(0, len(text), CHUNK):
        data = from_base64(text[start : start + CHUNK])
        memory[done : done + len(data)] = data
        done += len(data)
    if done != len(memory):
        raise ValueError("base64 with padding in the middle")
