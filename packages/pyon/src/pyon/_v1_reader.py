"""Reads PYON v1, the Python syntax. Nothing is evaluated.

Parts of the text that are also JSON are read by the C scanner of `json`, which works from any
offset; the rest is read here. Loaded with the first text that is not JSON.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable

from ._buffers import HEADER_SIZE, Buffers
from ._errors import DecodeError
from ._on_demand import load_arrays, load_diagnosis, load_fraction
from ._refusing import no_type
from ._strings import EscapeError, unescape_bytes
from ._types import MAX_DEPTH, Form, Forms, put_together
from ._v1_grammar import (
    ARRAY_HEADER,
    BLANKS,
    COMPLEX,
    EMPTY_SET,
    ENTRY,
    FLAT_SET,
    FLAT_START,
    FLAT_TUPLE,
    FRACTION,
    LITERALS,
    NAME,
)
from ._v1_literals import SCANNER, LiteralReader, complex_number
from ._v1_small import flat_items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


DATA = '", b"'
"""The text between the dtype of an array and its base64."""

WASTE = 8
"""Maximum length of text that is scanned in vain, as a multiple of the length of the whole text."""

JSON_START = frozenset('"[{-0123456789tfn')
NUMBERS = frozenset({"inf", "nan", "infj", "nanj"})
CONSTANTS = {
    "null": None, "None": None, "true": True, "True": True, "false": False, "False": False,
}  # fmt: skip


class V1Reader(LiteralReader):
    """Reads one text.

    An attempt to read a container with the JSON scanner can fail, and the characters that were
    scanned until then are wasted. The waste is limited to a multiple of the length of the text;
    beyond it no more attempts are made.

    Parameters
    ----------
    text : str
    forms : Forms
        The types that may occur.
    buffers : Buffers
    not_json : bool
        Whether it is known that the whole text is not JSON.
    """

    _wasted = 0
    _not_json_at = -1

    def __init__(self, text: str, forms: Forms, buffers: Buffers, not_json: bool) -> None:
        self._text = text
        self._scan = SCANNER.quick(text)
        self._forms = forms
        self._buffers = buffers
        self._not_json = not_json
        self._layouts: dict[str, Any] = {}

    def read(self) -> Any:
        """Return the value of the text.

        Raises
        ------
        DecodeError
            If the text is not v1.
        """
        text = self._text
        try:
            start = 0 if text[:1] in START else self._skip(0)
            if start == len(text):
                raise load_diagnosis().explain_nothing(text)
            if self._not_json:
                self._not_json_at = start  # the outermost container
            value, end = START.get(text[start], V1Reader._value)(self, start, 0)
            if end != len(text):
                end = self._skip(end)
        except IndexError:
            raise self._error("unexpected end of the text", len(self._text)) from None
        except RecursionError:
            raise self._error("nested too deeply for the rest of the stack", 0) from None
        if end != len(self._text):
            raise self._expected("the end of the text", end)
        return value

    def _value(self, i: int, depth: int) -> tuple[Any, int]:
        """Read the value at `i` or behind a gap there; return it and the position of its end."""
        read = START.get(self._text[i])
        if read is None:
            i = self._skip(i)
            read = START.get(self._text[i])
            if read is None:
                raise self._expected("a value", i)
        return read(self, i, depth)

    def _values(self, i: int, close: str, depth: int) -> tuple[list[Any], int]:
        """Read comma-separated values from `i` to the closing bracket `close`, inclusive."""
        text = self._text
        values: list[Any] = []
        i = self._skip(i) if text[i] in BLANKS else i
        while text[i] != close:
            value, i = START.get(text[i], V1Reader._value)(self, i, depth)
            values.append(value)
            i = self._comma(i, close)
        return values, i + 1

    def _comma(self, i: int, close: str) -> int:
        """Return the position of the next item behind a comma, or of the closing bracket."""
        text = self._text
        if text[i] in BLANKS:
            i = self._skip(i)
        if text[i] == ",":
            i += 2 if text[i + 1] == " " else 1
            return self._skip(i) if text[i] in BLANKS else i
        if text[i] == close:
            return i
        raise self._expected(f"',' or {close!r}", i)

    def _deeper(self, i: int, depth: int) -> int:
        if depth == MAX_DEPTH:
            raise self._too_deep(i)
        return depth + 1

    def _too_deep(self, i: int) -> DecodeError:
        return self._error(f"nested more than {MAX_DEPTH} levels deep", i)

    def _json(self, i: int) -> tuple[Any, int] | None:
        """Read the container at `i` with the JSON scanner; None if that is not possible."""
        if i == self._not_json_at or self._wasted > WASTE * (len(self._text) + 512):
            return None
        try:
            value, end = self._scan(self._text, i)
        except StopIteration as stop:
            self._wasted += 16 + stop.value - i
        except json.JSONDecodeError as error:  # its constructor counts all lines before
            self._wasted += 64 + error.pos - i + error.pos // 16
        except (ValueError, RecursionError):  # a long integer, NaN, or too deep: place unknown
            self._wasted += 64 + len(self._text) - i
        else:
            return value, end
        return None

    def _list(self, i: int, depth: int) -> tuple[Any, int]:
        return self._json(i) or self._values(i + 1, "]", self._deeper(i, depth))

    def _parenthesis(self, i: int, depth: int) -> tuple[Any, int]:
        text = self._text
        if depth == MAX_DEPTH and (number := COMPLEX.match(text, i)):
            return complex_number(number), number.end()
        if depth == MAX_DEPTH:
            raise self._too_deep(i)
        depth += 1
        if text[i + 1] in FLAT_START:
            if flat := FLAT_TUPLE.match(text, i):
                try:
                    return tuple(flat_items(self._scan, flat[1], 1)), flat.end()
                except (StopIteration, ValueError):
                    pass
            if number := COMPLEX.match(text, i):
                return complex_number(number), number.end()
        return self._tuple(i, depth)

    def _tuple(self, i: int, depth: int) -> tuple[Any, int]:
        """Read a tuple item by item, or a complex number with gaps."""
        text = self._text
        start = self._skip(i + 1)
        if text[start] == ")":
            return (), start + 1
        first, end = self._value(start, depth)
        end = self._skip(end)
        if text[end] == ",":
            rest, end = self._values(end + 1, ")", depth)
            return (first, *rest), end
        if number := COMPLEX.match(text, i):
            return complex_number(number), number.end()
        only = text[end] == ")"
        raise self._expected(f"','{' after the only item of a tuple' if only else ' or )'}", end)

    def _brace(self, i: int, depth: int) -> tuple[Any, int]:
        text = self._text
        entry = ENTRY.match(text, i + 1)
        if entry is not None:
            if text[entry.end() - 1] in JSON_START and (read := self._json(i)):
                return read
            if depth == MAX_DEPTH:
                raise self._too_deep(i)
            return self._entries({}, i + 1, depth + 1, entry)
        depth = self._deeper(i, depth)
        start = self._skip(i + 1)
        if text[start] == "}":
            return {}, start + 1
        if flat := FLAT_SET.match(text, i):
            try:
                return set(flat_items(self._scan, flat[1], 0)), flat.end()
            except (StopIteration, ValueError):
                pass
        if text[start] == "*" and (empty := EMPTY_SET.match(text, i)):
            return set(), empty.end()
        first, end = self._value(start, depth)
        end = self._skip(end)
        if text[end] == ":":
            entries: dict[Any, Any] = {}
            return self._entries(entries, self._entry(entries, first, start, depth, end), depth)
        rest, end = self._values(self._comma(end, "}"), "}", depth)
        try:
            return {first, *rest}, end
        except TypeError as error:
            raise self._expected(f"hashable items of a set ({error})", i) from None

    def _entries(
        self,
        entries: dict[Any, Any],
        i: int,
        depth: int,
        entry: re.Match[str] | None = None,
    ) -> tuple[dict[Any, Any], int]:
        """Read the entries of a dict from `i` to its closing bracket, inclusive.

        `entry` is the match of the first one, if there is one already.
        """
        text, start_of, otherwise = self._text, START.get, V1Reader._value
        while text[i] != "}":
            entry = entry or ENTRY.match(text, i)
            if entry is None:
                key, end = start_of(text[i], otherwise)(self, i, depth)
                i = self._entry(
                    entries, key, i, depth, end if text[end] == ":" else self._skip(end)
                )
                continue
            key, value = entry.groups()
            i = entry.end()
            entry = None
            if value is None:
                i -= 1
                value, i = start_of(text[i], otherwise)(self, i, depth)
            entries[key] = value
            i = i + 2 if text[i : i + 3] == ', "' else self._comma(i, "}")
        return entries, i + 1

    def _entry(self, entries: dict[Any, Any], key: Any, start: int, depth: int, i: int) -> int:
        """Read the value of the key at `start`; return the position of the next key."""
        if self._text[i] != ":":
            raise self._expected("':'", i)
        i += 2 if self._text[i + 1] == " " else 1
        value, i = START.get(self._text[i], V1Reader._value)(self, i, depth)
        try:
            entries[key] = value
        except TypeError as error:
            raise self._expected(f"a hashable key ({error})", start) from None
        return self._comma(i, "}")

    def _name(self, i: int, depth: int) -> tuple[Any, int]:
        end = NAME.match(self._text, i).end()  # type: ignore[union-attr]
        name = self._text[i:end]
        if name in CONSTANTS:
            return CONSTANTS[name], end
        if name in NUMBERS:
            return self._number(i, depth)
        return self._form(name, i, self._skip(end), self._deeper(i, depth))

    def _bytes(self, i: int, depth: int) -> tuple[Any, int]:
        if self._text[i + 1] not in LITERALS:
            return self._name(i, depth)
        body, end = self._quoted(i + 1)
        try:
            return unescape_bytes(body), end
        except EscapeError as error:
            raise self._error(str(error), i + 2 + error.offset) from None

    def _fraction(self, i: int, depth: int) -> tuple[Any, int]:
        """Read a short fraction in the spelling of pyon fast, and others as a general form."""
        match = FRACTION.match(self._text, i)
        if match is None or depth == MAX_DEPTH:
            return self._name(i, depth)
        return load_fraction()(int(match[1]), int(match[2])), match.end()

    def _array(self, i: int, depth: int) -> tuple[Any, int]:
        """Read a valid array in the spelling of pyon fast, and others as a general form."""
        text = self._text
        if not text.startswith("nparray(", i):
            return self._name(i, depth)
        start = text.find(DATA, i, i + HEADER_SIZE) + len(DATA)
        end = text.find('"', start)
        if start < len(DATA) or not text.startswith(")", end + 1):
            return self._name(i, depth)
        header = text[i : start - len(DATA)]
        layout = self._layouts.get(header)
        try:
            if layout is None:
                layout = self._layouts[header] = _read_layout(header)
            return layout.fill_base64(text[start:end]), end + 2
        except ValueError:
            return self._name(i, depth)

    def _form(self, name: str, start: int, i: int, depth: int) -> tuple[Any, int]:
        """Read the arguments at `i` of the form whose name is at `start`."""
        if self._text[i : i + 1] != "(":
            raise self._expected("a value, or the name of a type and '('", start)
        form = V1_FORMS.get(name) or self._forms.named(name)
        if form is None:
            raise self._error(no_type(name), start)
        arguments, end = self._values(i + 1, ")", depth)
        try:
            if form.raw and arguments:
                arguments[-1] = self._buffers.data(arguments[-1])
            return put_together(form, arguments), end
        except ValueError as error:
            raise self._error(str(error), start) from error


def _read_layout(header: str) -> Any:
    """Read the text that pyon writes before the base64 of an array; ValueError for others."""
    match = ARRAY_HEADER.fullmatch(header)
    if match is None:
        raise ValueError("not the spelling of pyon")
    shape = [int(n) for n in match[1].split(",") if n.strip()]
    return load_arrays().layout(shape, match[2])


V1_FORMS = {"set": Form("set", list, set, arity=0)}
"""Forms of v1 only: the empty set has no syntax of its own in Python."""

_Read = Callable[[V1Reader, int, int], "tuple[Any, int]"]
START: dict[str, _Read] = {
    "[": V1Reader._list,
    "(": V1Reader._parenthesis,
    "{": V1Reader._brace,
    '"': V1Reader._string,
    "'": V1Reader._string,
    **dict.fromkeys("+-.0123456789", V1Reader._number),
    **dict.fromkeys(string.ascii_letters + "_", V1Reader._name),
    "b": V1Reader._bytes,
    "n": V1Reader._array,
    "F": V1Reader._fraction,
}
