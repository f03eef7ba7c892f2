"""Properties of a text that follow from its strings and comments, without reading its values."""

from __future__ import annotations

from collections.abc import Iterator

from ._plain import CLASS_KEY
from ._strings import EscapeError, unescape_str
from ._v1_grammar import NOT_JSON, PART, TAG_FOLLOWS, TOKEN

SNIFF_SIZE = 4096
"""Number of characters at the beginning that are searched to detect the version."""


def is_certainly_v1(text: str) -> bool:
    """Return whether the beginning of `text` has ``(``, ``'`` or ``#`` outside of JSON strings."""
    return NOT_JSON.match(text, 0, SNIFF_SIZE) is not None


def has_tag(text: str) -> bool:
    """Return whether `text` has the key of a tag, spelled as in v2, followed by a bracket."""
    for token in TOKEN.finditer(text):
        literal = token["string"]
        if (
            literal
            and literal[0] == '"'
            and token.start() == token.start("string")
            and _is_class_key(literal[1:-1])
            and TAG_FOLLOWS.match(text, token.end())
        ):
            return True
    return False


def comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield the position of each comment in a v1 text, and the comment."""
    for token in TOKEN.finditer(text):
        if token["comment"]:
            yield token.start(), token["comment"]


def parts(text: str) -> Iterator[tuple[int, str]]:
    """Yield each bracket, comma and colon outside of strings and comments, with its position."""
    done = 0
    for token in TOKEN.finditer(text):
        yield from _parts_between(text, done, token.start())
        done = token.end()
    yield from _parts_between(text, done, len(text))


def _parts_between(text: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    return ((part.start(), part[0]) for part in PART.finditer(text, start, end))


def _is_class_key(body: str) -> bool:
    if "\\" not in body:
        return body == CLASS_KEY
    try:
        return unescape_str(body) == CLASS_KEY
    except EscapeError:
        return False
