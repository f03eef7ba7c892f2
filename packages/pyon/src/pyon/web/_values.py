"""The description of a value for a page: its kind, a line of text, and its parts.

The one idea to keep in mind: describing a value takes a short time and yields a short text, for
values of any size. The text says what is left out. A string stays text: the page never interprets
it as HTML.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LONGEST_LINE",
    "LONGEST_TEXT",
    "count_of",
    "is_branch",
    "items_of",
    "keys_of",
    "kind_of",
    "line_of",
    "number_of",
    "part_of",
    "text_of",
]

LONGEST_LINE = 120
"""Maximum length of the line of a value, in characters: no screen shows more beside a tree."""

LONGEST_TEXT = 20_000
"""Maximum length of an opened text, in characters: some hundred lines, which a browser shows
fast."""

SHORT = 8
"""Maximum number of items of a container whose line shows their values."""

MOST_BITS = 10_000
"""Maximum size, in bits, of an integer that is shown in digits: `str` takes quadratic time, and
refuses more than 4300 digits."""

PLOTTED = "biufc"
"""Kinds of numpy types that are drawn."""


def kind_of(value: Any) -> str:
    """Return the kind of a value: number, text, line, image, branch or other."""
    if isinstance(value, (bool, int, float, complex, np.number, np.bool_)):
        return "number"
    if isinstance(value, (str, bytes)):
        return "text"
    if isinstance(value, np.ndarray):
        return _kind_of_array(value)
    if isinstance(value, list) and len(value) > SHORT and _are_numbers(value):
        return "line"
    if isinstance(value, (dict, list, tuple)) or _has_fields(value):
        return "branch"
    return "other"


def _kind_of_array(array: NDArray[Any]) -> str:
    if array.ndim == 0:
        return kind_of(array[()])
    if array.dtype.kind in PLOTTED and array.size:
        if array.ndim == 1:
            return "line"
        if array.ndim == 2:
            return "image"
    return "branch"


def _are_numbers(values: list[Any]) -> bool:
    return set(map(type, values[-SAMPLE:])) <= {int, float, bool}


SAMPLE = 100_000
"""Number of items at the end of a list that are checked and drawn, which takes milliseconds."""


def _has_fields(value: Any) -> bool:
    return isinstance(value, np.void) and value.dtype.names is not None


def is_branch(value: Any) -> bool:
    """Return whether a value has parts, which a tree shows below it."""
    return kind_of(value) == "branch" and not (isinstance(value, np.ndarray) and value.ndim == 0)


# Parts of a value.


def count_of(value: Any) -> int:
    """Return the number of parts of a branch."""
    names = value.dtype.names if isinstance(value, (np.ndarray, np.void)) else None
    return len(value) if names is None else len(names)


def keys_of(value: Any, most: int) -> list[Any]:
    """Return keys of a branch: the first ones of a dict, the last (newest) ones of a list.

    Parameters
    ----------
    value : object
        A branch.
    most : int
        Maximum number of keys.
    """
    if isinstance(value, dict):
        return list(itertools.islice(value, most))
    if isinstance(value, (np.ndarray, np.void)) and value.dtype.names is not None:
        return list(value.dtype.names[:most])
    return list(range(len(value)))[-most:] if most else []


def items_of(value: Any, most: int) -> Iterable[tuple[Any, Any]]:
    """Return a copy of the items of a branch: keys and parts."""
    if isinstance(value, dict):
        return list(itertools.islice(value.items(), most))
    if isinstance(value, (list, tuple)):
        return list(enumerate(value[:most]))
    return [(key, part_of(value, key)) for key in keys_of(value, min(most, 1000))]


def part_of(value: Any, key: Any) -> Any:
    """Return a part of a branch.

    Raises
    ------
    LookupError
        There is no such part.
    """
    if isinstance(value, dict):
        try:
            return value[key]
        except TypeError as error:
            raise LookupError(key) from error
    if isinstance(value, (np.ndarray, np.void)) and value.dtype.names is not None:
        if not (isinstance(key, str) and key in value.dtype.names):
            raise LookupError(key)
        return value[key]
    if not isinstance(value, (list, tuple, np.ndarray)) or type(key) is not int or key < 0:
        raise LookupError(key)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        raise LookupError(key)
    return value[key]


# Values as text.


def number_of(value: Any) -> float | None:
    """Return a scalar as a finite float, for its history; None for other values."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def line_of(value: Any) -> str:
    """Return a value as one line."""
    if isinstance(value, np.ndarray) and value.ndim:
        shape = " x ".join(f"{length:,}" for length in value.shape)
        fields = "" if value.dtype.names is None else " of records"
        return f"{'' if fields else f'{value.dtype} '}{shape}{fields}"
    if isinstance(value, np.ndarray):
        value = value[()]
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return _line_of_container(value)
    return _shortened(_written(value))


def _line_of_container(value: Any) -> str:
    if isinstance(value, (list, tuple)) and 0 < len(value) <= SHORT and all(map(_is_simple, value)):
        text = ", ".join(_shortened(_written(item), 24) for item in value)
        if len(text) <= LONGEST_LINE // 2:
            opening, closing = "[]" if isinstance(value, list) else "()"
            return f"{opening}{text}{closing}"
    return f"{type(value).__name__} of {len(value):,}"


def _is_simple(value: Any) -> bool:
    return isinstance(value, (bool, int, float, complex, str, type(None)))


def _written(value: Any) -> str:
    """Return the `repr` of a value that is not a container; long values are cut first."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"integer of {value.bit_length():,} bits"
    if isinstance(value, str):
        return repr(value[: LONGEST_LINE + 1])
    if isinstance(value, bytes):
        head = value[:16].hex(" ")
        return f"{len(value):,} bytes: {head}{' ...' if len(value) > 16 else ''}"
    if isinstance(value, np.generic):
        return str(value)
    try:
        return repr(value)
    except Exception:  # repr of a registered type is users' code
        return f"<{type(value).__name__}>"


def _shortened(text: str, most: int = LONGEST_LINE) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def text_of(value: str | bytes) -> dict[str, Any]:
    """Return the text of a long value, and a note about what is left out."""
    if isinstance(value, bytes):
        most = LONGEST_TEXT // 4
        shown, left = value[:most].hex(" ", 4), len(value) - most
    else:
        shown, left = value[:LONGEST_TEXT], len(value) - LONGEST_TEXT
    # Lone surrogates cannot be sent as UTF-8.
    shown = shown.encode("utf-8", "backslashreplace").decode()
    unit = "bytes" if isinstance(value, bytes) else "characters"
    return {"text": shown, "note": f"{left:,} more {unit}" if left > 0 else ""}
