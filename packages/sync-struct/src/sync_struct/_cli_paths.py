"""Paths on the command line. Every key of every structure can be written."""

from __future__ import annotations

import re
from typing import Any

import pyon

__all__ = ["PATH_HELP", "format_path", "parse_path"]

PATH_HELP = (
    "path of a part: keys and indices, as in a/0/b. Quote a string that looks like another key: "
    "'\"123\"', '\"a/b\"', '\"\"'. Write other keys as PYON after an equals sign: "
    "'=(1, 2)', '=None', '=1.5'. Put a slash before a path that begins with a minus sign: /-1/x"
)

_SEGMENT = re.compile(
    r"""
      (?P<text> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' ) (?=/|\Z)
    | = (?P<value> (?: "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [^/"'] )+ )
    | (?P<index> -?[0-9]+ ) (?=/|\Z)
    | (?P<plain> [^/="'][^/]* )
    """,
    re.VERBOSE,
)


def parse_path(text: str) -> list[Any]:
    """Return the keys and indices of a path on the command line.

    Raises
    ------
    ValueError
        The path is malformed.

    Examples
    --------
    >>> parse_path('a/0/-1/"123"/"a/b"/=(1, "x/y")')
    ['a', 0, -1, '123', 'a/b', (1, 'x/y')]
    """
    keys, at = [], 0
    while at < len(text):
        if text[at] == "/":  # as in /a//b/
            at += 1
            continue
        found = _SEGMENT.match(text, at)
        if found is None:
            raise ValueError(f"the path {text!r} is malformed from {text[at:]!r} on")
        keys.append(_key(found))
        at = found.end()
    return keys


def _key(found: re.Match[str]) -> Any:
    if found["plain"] is not None:
        return found["plain"]
    if found["index"] is not None:
        return int(found["index"])
    try:
        return pyon.decode(found["text"] if found["text"] is not None else found["value"])
    except pyon.DecodeError as error:
        raise ValueError(f"expected a key as PYON, got {found[0]!r}: {error}") from None


def format_path(keys: list[Any]) -> str:
    """Return keys and indices as a path on the command line.

    Examples
    --------
    >>> format_path(["a", 0, "123", (1, 2)])
    'a/0/"123"/=(1, 2)'
    """
    return "/".join(map(_segment, keys))


def _segment(key: Any) -> str:
    if isinstance(key, str):
        plain = _SEGMENT.fullmatch(key)
        return key if plain is not None and plain["plain"] is not None else pyon.encode(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    return "=" + pyon.encode(key)
