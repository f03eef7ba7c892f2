"""Unescaping of string and bytes literals of v1: the escapes that any v1 writer has used."""

from __future__ import annotations

import codecs
import re
import sys

from ._diagnosis import DOUBLE_IT

STR_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)
BYTES_BODY = re.compile(r"(?:[^\\]++|\\(?:x[0-9a-fA-F]{2}|[abfnrtv\\'\"]))*+")
SIMPLE = dict(zip("abfnrtv\\'\"/", "\a\b\f\n\r\t\v\\'\"/", strict=True))


class EscapeError(ValueError):
    """An invalid escape.

    Attributes
    ----------
    offset : int
        Its position in the body of the literal.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


def unescape_str(body: str) -> str:
    """Return the string of the literal with this body.

    The two surrogates of a character beyond U+FFFF, which writers escape one by one, are joined.

    Raises
    ------
    EscapeError
        If there is an invalid escape.
    """
    text = STR_ESCAPE.sub(_character, body)
    if "\\ud" in body or "\\uD" in body:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


def unescape_bytes(body: str) -> bytes:
    """Return the bytes of the literal with this body.

    Raises
    ------
    EscapeError
        If there is an invalid escape, or a character that is not ASCII.
    """
    if not body.isascii():
        offset = next(i for i, character in enumerate(body) if character > "\x7f")
        raise EscapeError("a non-ASCII character in a bytes literal", offset)
    data = body.encode("ascii")
    if b"\\" not in data:
        return data
    match = BYTES_BODY.match(body)
    end = match.end() if match else 0
    if end != len(body):
        raise _invalid_escape(body[end : end + 2], end)
    decoded: bytes = codecs.escape_decode(data)[0]
    return decoded


def _invalid_escape(escape: str, offset: int) -> EscapeError:
    return EscapeError(f"invalid escape {escape!r}; {DOUBLE_IT}", offset)


def _character(escape: re.Match[str]) -> str:
    simple = escape[4]
    if simple is None:
        code = int(escape[escape.lastindex or 0], 16)
        if code > sys.maxunicode:
            raise EscapeError(f"no character has the code {escape[0]!r}", escape.start())
        return chr(code)
    if simple not in SIMPLE:
        raise _invalid_escape(escape[0], escape.start())
    return SIMPLE[simple]
