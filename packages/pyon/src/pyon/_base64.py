"""Base64 between memory and text, with SIMD instructions where `pyon[fast]` is installed.

The text is the same either way, and so is what is refused: anything but the alphabet of RFC 4648,
padded.
"""

from __future__ import annotations

import binascii
from typing import Any

pybase64: Any
try:
    import pybase64
except ImportError:
    pybase64 = None


LARGE = 2**20
"""Characters from which the bytes go into memory that an array can take over without a copy."""


def to_base64(data: bytes | memoryview) -> str:
    """Give the base64 text of `data`, without line breaks."""
    if pybase64 is not None:
        text: str = pybase64.b64encode_as_string(data)
        return text
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def from_base64(text: str | bytes | memoryview) -> bytes | bytearray:
    """Give the bytes that `text` stands for.

    Raises
    ------
    ValueError
        If it is not base64, to the letter.
    """
    if len(text) % 4:
        raise ValueError(f"base64 of {len(text)} characters, which is no multiple of 4")
    if pybase64 is not None:
        decode = pybase64.b64decode_as_bytearray if len(text) >= LARGE else pybase64.b64decode
        data: bytes | bytearray = decode(text, validate=True)
        return data
    return binascii.a2b_base64(text, strict_mode=True)
