"""What is wrong with a text that cannot be read, in the words of who wrote it by hand.

Loaded with the first such text. Reading itself never depends on what is said here.
"""

from __future__ import annotations

import re

from ._errors import DecodeError
from ._json import WHITESPACE

DOUBLE_IT = r"a backslash that is meant (as in C:\data) is written twice"

JSON_WORDS = {
    "None": "null", "True": "true", "False": "false",
    "nan": "NaN", "inf": "Infinity", "-inf": "-Infinity",
}  # fmt: skip
NOT_IN_JSON = (
    (r"#", "a comment, which JSON does not have"),
    (r"'", "a single quotation mark: strings in JSON have double ones"),
    (r"[()]", "a parenthesis, which JSON does not have"),
    (r"b[\"']", "bytes in Python syntax, which JSON does not have"),
    (r"\+|-?\.|(?<=[0-9])[.xXoObB_]", "a number that JSON spells otherwise"),
)
"""What may be at the place of an error, and how to say so."""

MAGIC = (
    (b"\x1f\x8b", "compressed by gzip"),
    (b"PK\x03\x04", "a ZIP archive, perhaps .npz"),
    (b"\x93NUMPY", "an array saved by numpy (.npy)"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"SQLite format 3", "an SQLite database"),
)
UTF_8 = "save it as UTF-8 (in PowerShell: Out-File -Encoding utf8)"
SAMPLE = 4096
"""Bytes that are looked at to tell an encoding."""


BYTE_ORDER_MARK = "\ufeff"
"""What some editors write before UTF-8. In a file it is no part of the text."""

MARKED = "a byte order mark before the value: read the file with load_file, or as utf-8-sig"


def explain_json(text: str, reason: str, position: int, why: str = "") -> DecodeError:
    """Give the error of a text that is no JSON: where the slip is, and what JSON has instead.

    Parameters
    ----------
    text : str
    reason : str
        What the scanner said.
    position : int
        Where it said so.
    why : str, optional
        What to say first: why the text has to be JSON.
    """
    if text.startswith(BYTE_ORDER_MARK):
        position, reason = 0, MARKED
    elif "escape" in reason:
        position = text.rfind("\\", 0, position + 1)
        reason = f"no such escape: {text[position : position + 2]!r}; {DOUBLE_IT}"
    elif (comma := _comma_before_bracket(text, position)) is not None:
        position = comma
        reason = "a comma before the closing bracket, which JSON does not have"
    else:
        reason = _other_spelling(text, position) or reason
    return DecodeError(why + reason, text, position)


def _other_spelling(text: str, position: int) -> str | None:
    for word, instead in JSON_WORDS.items():
        if text.startswith(word, position):
            return f"{word}, which JSON spells {instead}"
    for pattern, said in NOT_IN_JSON:
        if re.compile(pattern).match(text, position):
            return said
    return None


def _comma_before_bracket(text: str, position: int) -> int | None:
    """Give the place of such a comma; interpreters report the comma itself or the bracket."""
    if text.startswith((",", "]", "}"), position):
        between = re.compile(rf",[{WHITESPACE}]*[\]}}]")
        start = len(text[:position].rstrip(WHITESPACE)) - 1 if text[position] != "," else position
        if start >= 0 and between.match(text, start):
            return start
    return None


def explain_open_string(text: str, position: int) -> DecodeError:
    """Give the error of a string that begins at `position` and has no end."""
    reason = "a string without a closing quotation mark"
    if "\\" + text[position] in text[position:]:
        reason += f"; {DOUBLE_IT}, also before the closing mark"
    return DecodeError(reason, text, position)


def explain_nothing(text: str) -> DecodeError:
    """Give the error of a text without a value."""
    if not text:
        return DecodeError("the text is empty: expected a value", text, 0)
    said = "comments" if text.strip(WHITESPACE) else "white space"
    return DecodeError(f"nothing but {said}: expected a value", text, len(text))


def explain_beginning(text: str) -> DecodeError | None:
    """Give the error of a text that begins as no PYON does, if it looks like something known."""
    if text.startswith(BYTE_ORDER_MARK):
        return DecodeError(MARKED, text, 0)
    looks = looks_like(text[:SAMPLE].encode("utf-8", "surrogatepass"))
    if looks:
        return DecodeError(f"looks like {looks}", text, 0)
    nuls = len(text) - len(text.lstrip("\0"))
    if nuls:
        begins = "nothing but" if nuls == len(text) else "begins with"
        reason = f"{begins} {nuls} NUL characters, as a crash of the machine leaves a file"
        return DecodeError(reason, text, 0)
    return None


def explain_bytes(data: bytes, error: UnicodeDecodeError) -> DecodeError:
    """Give the error of bytes that are not UTF-8."""
    before = data[: error.start].decode(errors="replace")
    looks = looks_like(data)
    reason = f"looks like {looks}" if looks else f"not UTF-8: {error.reason}"
    if not looks and error.reason != "unexpected end of data":
        reason += f"; perhaps Latin-1 or Windows-1252: {UTF_8}"
    return DecodeError(reason, before, len(before))


def looks_like(data: bytes) -> str | None:
    """Say what bytes look like that are not PYON; None if like nothing that is known."""
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return f"UTF-32: {UTF_8}"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"UTF-16, as PowerShell writes: {UTF_8}"
    sample = data[:SAMPLE]
    if b"\0" in sample and sample.strip(b"\0"):
        for nuls, others in ((sample[1::2], sample[::2]), (sample[::2], sample[1::2])):
            if nuls.count(0) > 0.9 * len(nuls) and others.count(0) < 0.1 * len(others):
                return f"UTF-16 without a byte order mark: {UTF_8}"
    for start, said in MAGIC:
        if data.startswith(start):
            return said
    return None
