"""Arguments of a call as typed in a shell or at a prompt: PYON values.

The one idea to keep in mind: nothing typed is ever evaluated. A word is a PYON value or, as
``name=value``, a keyword argument.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import pyon

_OPENING, _CLOSING = "([{", ")]}"


def split_words(line: str) -> list[str]:
    """Split a line at white space, except within strings and brackets.

    Examples
    --------
    >>> split_words('move [1, 2] "two words" name={"a": (1, 2)}')
    ['move', '[1, 2]', '"two words"', 'name={"a": (1, 2)}']
    """
    return [word for word in _cut(line, str.isspace)[0] if word]


def split_call(line: str) -> list[str]:
    """Return the words of a line, which may have the syntax of a call in Python.

    Raises
    ------
    ValueError
        The line begins like a call in Python, but is not one.

    Examples
    --------
    >>> split_call("set_power 0.5 ramp=true") == split_call("set_power(0.5, ramp=true)")
    True
    >>> split_call("idn()"), split_call("idn")
    (['idn'], ['idn'])
    """
    words = split_words(line)
    name, bracket, rest = (words or [""])[0].partition("(")
    if not (bracket and all(map(str.isidentifier, name.split(".")))):
        return words
    if len(words) > 1 or not rest.endswith(")"):
        raise ValueError(f"expected METHOD(ARGUMENT, NAME=ARGUMENT), got {line.strip()!r}")
    arguments = [word.strip() for word in _cut(rest[:-1], ",".__eq__)[0]]
    if not arguments[-1]:  # no arguments, or a trailing comma
        arguments.pop()
    return [name, *arguments]


def is_open(text: str) -> bool:
    """Return whether a string or a bracket is still open at the end of the text.

    Examples
    --------
    >>> is_open("move [1,"), is_open('say "two'), is_open("move [1, 2]")
    (True, True, False)
    """
    return _cut(text, str.isspace)[1]


def _cut(text: str, separates: Callable[[str], bool]) -> tuple[list[str], bool]:
    """Split a text at separators outside of strings and brackets; return whether one is open."""
    pieces, piece, quote, depth = [], "", "", 0
    characters = iter(text)
    for character in characters:
        if not quote and not depth and separates(character):
            pieces.append(piece)
            piece = ""
            continue
        piece += character
        if quote:
            if character == "\\":
                piece += next(characters, "")
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth = max(0, depth - 1)
    return [*pieces, piece], bool(quote or depth)


def parse_arguments(words: Iterable[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and keyword arguments of a list of words.

    Raises
    ------
    ValueError
        A word is not a PYON value, or a positional argument is behind a keyword argument.

    Examples
    --------
    >>> parse_arguments(["1", '"x"', "ramp=true"])
    ([1, 'x'], {'ramp': True})
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.rstrip()
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
        raise ValueError(f"expected a PYON value, got {text!r}: {error}{_hint(text)}") from error


def _hint(text: str) -> str:
    r"""Return how to write a text that looks like a string without its quotes, else "".

    Examples
    --------
    >>> _hint("2024-05-01T12:00"), _hint("[1, 2")
    ('; a string needs quotes: \'"2024-05-01T12:00"\'', '')
    """
    if not text or set(text) & set("\"'()[]{}=,\\") or not text.isprintable():
        return ""
    return f"; a string needs quotes: '\"{text}\"'"
