"""Arguments of a call as people type them: PYON values, in a shell or at a prompt.

The one idea to keep in mind: nothing typed is ever evaluated. A word is a PYON value or, as
``name=value``, a keyword argument.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

import pyon

_OPENING, _CLOSING = "([{", ")]}"


def split_words(line: str) -> list[str]:
    """Cut a line at white space, except within strings and brackets.

    Examples
    --------
    >>> split_words('move [1, 2] "two words" name={"a": (1, 2)}')
    ['move', '[1, 2]', '"two words"', 'name={"a": (1, 2)}']
    """
    words, word, quote, depth = [], "", "", 0
    characters = iter(line)
    for character in characters:
        if not quote and not depth and character.isspace():
            words.append(word)
            word = ""
            continue
        word += character
        if quote:
            if character == "\\":
                word += next(characters, "")
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth = max(0, depth - 1)
    return [word for word in [*words, word] if word]


def parse_arguments(words: Iterable[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and keyword arguments that words stand for.

    Raises
    ------
    ValueError
        A word is no PYON value, or comes too late.

    Examples
    --------
    >>> parse_arguments(["1", '"x"', "ramp=true"])
    ([1, 'x'], {'ramp': True})
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            kwargs[unicodedata.normalize("NFKC", name)] = _value(value)  # as Python reads names
        elif kwargs:
            raise ValueError(f"the positional argument {word!r} comes behind a keyword argument")
        else:
            args.append(_value(word))
    return args, kwargs


def _value(text: str) -> Any:
    try:
        return pyon.decode(text)
    except pyon.DecodeError as error:
        hint = f"; a string needs quotes: '\"{text}\"'" if text.isidentifier() else ""
        raise ValueError(f"expected a PYON value, got {text!r}: {error}{hint}") from error
