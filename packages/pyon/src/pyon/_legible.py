"""Output of `pyon show`: values as readable text, arrays summarised."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from typing import Any

from ._unregistered import OpenCodec, Unregistered

HIGHLIGHT = re.compile(
    r"""(?P<string>b?"[^"\\]*(?:\\.[^"\\]*)*"|b?'[^'\\]*(?:\\.[^'\\]*)*')
      | (?P<word>\b[A-Za-z_]\w*\b)
      | (?P<number>[-+]?\b[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?j?)""",
    re.VERBOSE,
)
COLOURS = {"string": "32", "word": "35", "number": "36"}

SMALL = 8
"""Maximum number of items of an array that is shown completely: they fit on a line."""

ESCAPES = re.compile(r"\\\\|((?:\\u[0-9a-f]{4})+)")


class _Array:
    """The summary of an array: shape, dtype and range, or items and dtype if it is small."""

    def __init__(self, x: Any) -> None:
        self.shown: tuple[Any, ...] = (_items(x), str(x.dtype))
        if not 0 < x.size <= SMALL or x.dtype.fields:
            self.shown = (x.shape, str(x.dtype), *_range(x))


class _Scalar:
    """The readable form of a numpy scalar: value and dtype."""

    def __init__(self, x: Any) -> None:
        self.shown = (_text(x) if x.dtype.fields else _items(x), str(x.dtype))


def legible(x: Any, codec: OpenCodec) -> str:
    """Return a pretty text of a value for people.

    Parameters
    ----------
    x
        The result of `for_people`.
    codec : OpenCodec
        The codec that read the value.
    """
    codec.forms.spell(_Array, "array", lambda x: x.shown)
    codec.forms.spell(_Scalar, "scalar", lambda x: x.shown)
    return _unescape(codec.encode(x, pretty=True))


def coloured(text: str) -> str:
    """Return the text with the escape sequences of terminal colours."""
    return HIGHLIGHT.sub(lambda m: f"\x1b[{COLOURS[m.lastgroup or 'word']}m{m[0]}\x1b[0m", text)


def for_people(x: Any) -> Any:
    """Replace arrays and numpy scalars, also in keys, by their readable forms."""
    if type(x).__module__ == "numpy":
        return _shown_of_numpy(x)
    if type(x) in (dict, OrderedDict):
        return type(x)((for_people(key), for_people(value)) for key, value in x.items())
    if type(x) in (list, tuple, set):
        return type(x)(map(for_people, x))
    if type(x) is slice:
        return slice(*map(for_people, (x.start, x.stop, x.step)))
    if isinstance(x, Unregistered):
        return type(x)(*map(for_people, x.arguments))
    return x


def _shown_of_numpy(x: Any) -> Any:
    if type(x).__name__ == "ndarray":
        return _Array(x)
    # A long double has no Python equivalent: its item is a long double again.
    return _Scalar(x) if x.dtype.char not in "gG" else str(x)


def _items(x: Any) -> Any:
    """Return the items of an array or scalar as Python values, and dates as text."""
    try:
        return (x.astype(str) if x.dtype.kind in "mM" or x.dtype.char in "gG" else x).tolist()
    except (ValueError, OverflowError, SystemError):  # numpy cannot format it
        return "?"


def _text(x: Any) -> str:
    try:
        return str(x)
    except (ValueError, SystemError):  # invalid characters
        return "?"


def _range(x: Any) -> tuple[Any, ...]:
    """Return minimum and maximum, ignoring NaN."""
    if not x.size or x.dtype.kind not in "iufmM":
        return ()
    import numpy as np

    return tuple(_items(ufunc.reduce(x, axis=None)) for ufunc in (np.fmin, np.fmax))


def _unescape(text: str) -> str:
    """Replace the escapes of printable characters by the characters."""

    def character(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        plain = str(json.loads(f'"{match[0]}"'))
        return plain if plain.isprintable() else match[0]

    return ESCAPES.sub(character, text)
