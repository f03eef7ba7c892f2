"""Questions about a text that its strings and comments answer, without reading the values in it."""

from __future__ import annotations

from collections.abc import Iterator

from ._plain import CLASS_KEY
from ._strings import EscapeError, unescape_str
from ._v1_grammar import NOT_JSON, PART, TAG_FOLLOWS, TOKEN

SNIFF_SIZE = 4096
"""Characters in which is looked for the version of a text that begins like either."""


def is_certainly_v1(text: str) -> bool:
    """Say whether the beginning of `text` has ``(``, ``'`` or ``#`` outside of JSON's strings."""
    return NOT_JSON.match(text, 0, SNIFF_SIZE) is not None


def has_tag(text: str) -> bool:
    """Say whether there is the key of a tag in `text`, spelled as v2 does, with a tag behind it."""
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
    """Give the place of each comment in a v1 text, and the comment."""
    for token in TOKEN.finditer(text):
        if token["comment"]:
            yield token.start(), token["comment"]


def parts(text: str) -> Iterator[tuple[int, str]]:
    """Give the place of each bracket, comma and colon outside of strings and comments."""
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
