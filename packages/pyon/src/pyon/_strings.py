"""String and bytes literals in Python syntax, undone: the escapes that writers of v1 ever used."""

from __future__ import annotations

import codecs
import re
import sys

STR_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)
BYTES_BODY = re.compile(r"(?:[^\\]++|\\(?:x[0-9a-fA-F]{2}|[abfnrtv\\'\"]))*+")
SIMPLE = dict(zip("abfnrtv\\'\"/", "\a\b\f\n\r\t\v\\'\"/", strict=True))


def unescape_str(body: str) -> str:
    """Give the string that the literal with this body stands for.

    The halves of a character beyond the BMP, which JSON-like writers escape one by one, are joined.

    Raises
    ------
    ValueError
        If there is an escape that PYON does not have.
    """
    text = STR_ESCAPE.sub(_character, body)
    if "\\ud" in body or "\\uD" in body:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


def unescape_bytes(body: str) -> bytes:
    """Give the bytes that the literal with this body stands for; errors as `unescape_str`."""
    if not body.isascii():
        raise ValueError("a character in a bytes literal that is not ASCII")
    data = body.encode("ascii")
    if b"\\" not in data:
        return data
    if not BYTES_BODY.fullmatch(body):
        raise ValueError("an escape in a bytes literal that PYON does not have")
    decoded: bytes = codecs.escape_decode(data)[0]
    return decoded


def _character(escape: re.Match[str]) -> str:
    simple = escape[4]
    if simple is None:
        code = int(escape[escape.lastindex or 0], 16)
        if code > sys.maxunicode:
            raise ValueError(f"no such character: {escape[0]!r}")
        return chr(code)
    if simple not in SIMPLE:
        raise ValueError(f"no such escape: {escape[0]!r}")
    return SIMPLE[simple]
