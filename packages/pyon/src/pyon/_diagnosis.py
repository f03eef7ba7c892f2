"""Explanations of errors in a text, in terms of what people write by hand.

Loaded with the first invalid text. The result of reading never depends on this module.
"""

from __future__ import annotations

import re

from ._errors import DecodeError
from ._json import WHITESPACE

DOUBLE_IT = r"a literal backslash (as in C:\data) is written twice"

JSON_WORDS = {
    "None": "null", "True": "true", "False": "false",
    "nan": "NaN", "inf": "Infinity", "-inf": "-Infinity",
}  # fmt: skip
NOT_IN_JSON = (
    (r"#", "a comment, which JSON does not have"),
    (r"'", "a single quotation mark: JSON strings have double quotation marks"),
    (r"[()]", "a parenthesis, which JSON does not have"),
    (r"b[\"']", "bytes in Python syntax, which JSON does not have"),
    (r"\+|-?\.|(?<=[0-9])[.xXoObB_]", "a number that is not valid JSON"),
)
"""Patterns of text at the place of an error, and their explanations."""

MAGIC = (
    (b"\x1f\x8b", "data compressed by gzip"),
    (b"PK\x03\x04", "a ZIP archive, perhaps .npz"),
    (b"\x93NUMPY", "an array saved by numpy (.npy)"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"BZh", "data compressed by bzip2"),
    (b"\xfd7zXZ", "data compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "data compressed by zstd"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"SQLite format 3", "an SQLite database"),
)
UTF_8 = "save it as UTF-8 (in PowerShell: Out-File -Encoding utf8)"
SAMPLE = 4096
"""Number of bytes that are examined to detect an encoding."""

BYTE_ORDER_MARK = "\ufeff"
"""Some editors write it before UTF-8. In a file it is not part of the text."""

MARKED = "a byte order mark before the value: read the file with load_file, or as utf-8-sig"


def explain_json(text: str, reason: str, position: int, why: str = "") -> DecodeError:
    """Return the error of a text that is not JSON, with the place of the mistake.

    Parameters
    ----------
    text : str
    reason : str
        The message of the scanner.
    position : int
        The position that the scanner reported.
    why : str, optional
        Beginning of the message: why the text must be JSON.
    """
    if text.startswith(BYTE_ORDER_MARK):
        position, reason = 0, MARKED
    elif "escape" in reason:
        position = text.rfind("\\", 0, position + 1)
        reason = f"invalid escape {text[position : position + 2]!r}; {DOUBLE_IT}"
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
    for pattern, explanation in NOT_IN_JSON:
        if re.compile(pattern).match(text, position):
            return explanation
    return None


def _comma_before_bracket(text: str, position: int) -> int | None:
    """Return the position of such a comma; interpreters report that of the comma or the bracket."""
    if text.startswith((",", "]", "}"), position):
        between = re.compile(rf",[{WHITESPACE}]*[\]}}]")
        start = len(text[:position].rstrip(WHITESPACE)) - 1 if text[position] != "," else position
        if start >= 0 and between.match(text, start):
            return start
    return None


def explain_open_string(text: str, position: int) -> DecodeError:
    """Return the error of a string that begins at `position` and has no end."""
    reason = "a string without a closing quotation mark"
    if "\\" + text[position] in text[position:]:
        reason += f"; {DOUBLE_IT}, also before the closing mark"
    return DecodeError(reason, text, position)


def explain_nothing(text: str) -> DecodeError:
    """Return the error of a text without a value."""
    if not text:
        return DecodeError("the text is empty: expected a value", text, 0)
    content = "comments" if text.strip(WHITESPACE) else "white space"
    return DecodeError(f"only {content}: expected a value", text, len(text))


def explain_beginning(text: str) -> DecodeError | None:
    """Return the error of a text with a recognised beginning that is not PYON; otherwise None."""
    if text.startswith(BYTE_ORDER_MARK):
        return DecodeError(MARKED, text, 0)
    looks = looks_like(text[:SAMPLE].encode("utf-8", "surrogatepass"))
    if looks:
        return DecodeError(f"looks like {looks}", text, 0)
    nuls = len(text) - len(text.lstrip("\0"))
    if nuls:
        begins = "only" if nuls == len(text) else "begins with"
        reason = f"{begins} {nuls} NUL characters, as a file may have after a crash of the system"
        return DecodeError(reason, text, 0)
    return None


def explain_bytes(data: bytes, error: UnicodeDecodeError) -> DecodeError:
    """Return the error of bytes that are not UTF-8."""
    before = data[: error.start].decode(errors="replace")
    looks = looks_like(data)
    reason = f"looks like {looks}" if looks else f"not UTF-8: {error.reason}"
    if not looks and error.reason != "unexpected end of data":
        reason += f"; perhaps Latin-1 or Windows-1252: {UTF_8}"
    return DecodeError(reason, before, len(before))


def looks_like(data: bytes) -> str | None:
    """Return what kind of data bytes look like that are not PYON; None if not recognised."""
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return f"UTF-32: {UTF_8}"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"UTF-16, as PowerShell writes: {UTF_8}"
    sample = data[:SAMPLE]
    if b"\0" in sample and sample.strip(b"\0"):
        for nuls, others in ((sample[1::2], sample[::2]), (sample[::2], sample[1::2])):
            if nuls.count(0) > 0.9 * len(nuls) and others.count(0) < 0.1 * len(others):
                return f"UTF-16 without a byte order mark: {UTF_8}"
    for start, kind in MAGIC:
        if data.startswith(start):
            return kind
    return None
