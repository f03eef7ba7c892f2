"""JSON for both generations: the C code of `json`, with the limits of PYON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json import encoder
from json.encoder import encode_basestring_ascii

from ._errors import EncodeError
from ._integers import SAFE_BOUND, SAFE_DIGITS, digits_are_limited, integer_text, parse_integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WHITESPACE = " \t\n\r\f"
SPACE = re.compile(f"[{WHITESPACE}]*")
"""White space that is allowed around a JSON text, and between the tokens of v1."""

SPLIT_PAIR = "[\ud800-\udbff][\udc00-\udfff]"
"""A high surrogate followed by a low one: their escapes would be read as one character."""

LEAST_SAFE = -SAFE_BOUND
"""A constant, because a negation takes as long as writing a small integer."""

Scan = Callable[[str, int], "tuple[Any, int]"]


class JsonScanner:
    """Reads JSON from any offset of a text.

    Parameters
    ----------
    hook : callable, optional
        Returns the value of a JSON object, given as a dict.
    constant : callable, optional
        Returns the value of ``NaN``, ``Infinity`` and ``-Infinity``.
    """

    def __init__(
        self,
        hook: Callable[[dict[str, Any]], Any] | None = None,
        constant: Callable[[str], Any] | None = None,
    ) -> None:
        self._options: dict[str, Any] = {"object_hook": hook, "parse_constant": constant}
        self._quick = self._make()

    def _make(self, **options: Any) -> Scan:
        scan: Scan = json.JSONDecoder(strict=False, **self._options, **options).scan_once  # type: ignore[attr-defined]
        return scan

    def quick(self, text: str = "") -> Scan:
        """Return a scanner for `text` that may raise a plain ValueError at a long integer."""
        short = len(text) <= SAFE_DIGITS
        return self._quick if short or digits_are_limited() else self.thorough()

    def thorough(self) -> Scan:
        """Return a slower scanner that reads all integers that PYON allows."""
        return self._make(parse_int=parse_integer)


def json_encoder(comma: str, colon: str) -> Callable[[Any], str]:
    """Return a function that writes plain JSON without cycles on one line.

    `JSONEncoder` creates an encoder for each value, which takes as long as encoding a small value.
    """
    make: Any = encoder.c_make_encoder  # type: ignore[attr-defined]
    if make is None:  # an interpreter without the C code
        return json.JSONEncoder(check_circular=False, separators=(comma, colon)).encode
    write = make(None, None, encode_basestring_ascii, None, colon, comma, False, False, True)
    return lambda x: "".join(write(x, 0))


def write_str(x: str) -> str:
    """Write a string as JSON does, in ASCII."""
    text: str = encode_basestring_ascii(x)
    if "\\ud" in text and re.search(SPLIT_PAIR, x):
        raise EncodeError(
            "a string with a high surrogate before a low one, which would be read as one character"
        )
    return text


def write_int(x: int) -> str:
    """Write an integer of any size in decimal."""
    if LEAST_SAFE < x < SAFE_BOUND:
        return repr(x)
    try:
        return integer_text(x)
    except ValueError as error:
        raise EncodeError(str(error)) from None
