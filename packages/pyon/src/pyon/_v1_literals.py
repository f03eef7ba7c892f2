"""Reads the literals of PYON v1: numbers and strings."""

from __future__ import annotations

import re
from collections.abc import Callable

from ._errors import DecodeError
from ._integers import parse_integer, parse_radix_integer
from ._json import JsonScanner, Scan
from ._on_demand import load_diagnosis
from ._strings import EscapeError, unescape_str
from ._v1_grammar import BEHIND_NUMBER, GAP, INT, LITERALS, NUMBER, RADIX_INT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is JSON, not v1")


SCANNER = JsonScanner(constant=_refuse_constant)


class LiteralReader:
    """Reads literals of one text, and creates its errors.

    The methods take the position of a literal and, like those for containers, the depth. They
    return the value and the position of its end.
    """

    _text: str
    _scan: Scan

    def _error(self, reason: str, position: int) -> DecodeError:
        return DecodeError(reason, self._text, position)

    def _expected(self, what: str, position: int) -> DecodeError:
        if position < 2 and (odd := load_diagnosis().explain_beginning(self._text)):
            return odd  # type: ignore[no-any-return]
        return self._error(
            f"expected {what}, not {self._text[position : position + 20]!r}", position
        )

    def _skip(self, i: int) -> int:
        return GAP.match(self._text, i).end()  # type: ignore[union-attr]

    def _number(self, i: int, depth: int) -> tuple[Any, int]:
        try:
            value, end = self._scan(self._text, i)
        except (StopIteration, ValueError):  # not a JSON number, or a long integer
            pass
        else:
            if self._text[end : end + 1] in BEHIND_NUMBER:
                return value, end
        number = INT.match(self._text, i)
        if number is not None:
            return self._integer(number)
        number = NUMBER.match(self._text, i)
        if number is None and (number := RADIX_INT.match(self._text, i)):
            return self._integer(number, parse_radix_integer)
        if number is None:
            raise self._expected("a number", i)
        return (complex if number[2] else float)(number[0]), number.end()

    def _integer(
        self, number: re.Match[str], parse: Callable[[str], int] = parse_integer
    ) -> tuple[int, int]:
        try:
            return parse(number[0]), number.end()
        except ValueError as error:
            raise self._error(str(error), number.start()) from None

    def _string(self, i: int, depth: int) -> tuple[Any, int]:
        text = self._text
        end = text.find(text[i], i + 1)
        body = text[i + 1 : end]
        if "\\" not in body and end > 0:
            return body, end + 1
        body, end = self._quoted(i)
        try:
            return unescape_str(body), end
        except EscapeError as error:
            raise self._error(str(error), i + 1 + error.offset) from None

    def _quoted(self, i: int) -> tuple[str, int]:
        """Return the text between the quotation mark at `i` and the closing one, and the end."""
        text = self._text
        quote = text[i]
        end = text.find(quote, i + 1)
        body = text[i + 1 : end]
        if end < 0 or "\\" in body:
            literal = LITERALS[quote].match(text, i)
            if literal is None:
                raise load_diagnosis().explain_open_string(text, i)
            return literal[0][1:-1], literal.end()
        return body, end + 1


def complex_number(number: re.Match[str]) -> complex:
    """Return the number that `COMPLEX` has matched."""
    try:
        return complex(number[0])
    except ValueError:  # there are gaps in it
        return complex("".join(number.groups()))
