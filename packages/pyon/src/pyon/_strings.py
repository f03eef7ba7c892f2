"""String and bytes literals in Python syntax, undone: the escapes that writers of v1 ever used."""

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
    """An escape that PYON does not have.

    Attributes
    ----------
    offset : int
        Where it is in the body of the literal.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


def unescape_str(body: str) -> str:
    """Give the string that the literal with this body stands for.

    The halves of a character beyond the BMP, which JSON-like writers escape one by one, are joined.

    Raises
    ------
    EscapeError
        If there is an escape that PYON does not have.
    """
    text = STR_ESCAPE.sub(_character, body)
    if "\\ud" in body or "\\uD" in body:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


def unescape_bytes(body: str) -> bytes:
    """Give the bytes that the literal with this body stands for.

    Raises
    ------
    EscapeError
        As `unescape_str`, and where there is a character that is not ASCII.
    """
    if not body.isascii():
        offset = next(i for i, character in enumerate(body) if character > "\x7f")
        raise EscapeError("a character in a bytes literal that is not ASCII", offset)
    data = body.encode("ascii")
    if b"\\" not in data:
        return data
    match = BYTES_BODY.match(body)
    end = match.end() if match else 0
    if end != len(body):
        raise _no_such_escape(body[end : end + 2], end)
    decoded: bytes = codecs.escape_decode(data)[0]
    return decoded


def _no_such_escape(escape: str, offset: int) -> EscapeError:
    return EscapeError(f"no such escape: {escape!r}; {DOUBLE_IT}", offset)


def _character(escape: re.Match[str]) -> str:
    simple = escape[4]
    if simple is None:
        code = int(escape[escape.lastindex or 0], 16)
        if code > sys.maxunicode:
            raise EscapeError(f"no such character: {escape[0]!r}", escape.start())
        return chr(code)
    if simple not in SIMPLE:
        raise _no_such_escape(escape[0], escape.start())
    return SIMPLE[simple]
