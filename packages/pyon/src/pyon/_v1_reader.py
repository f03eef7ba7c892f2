"""Reads PYON v1, the Python syntax. Nothing is evaluated.

Every stretch that is JSON as well goes to the C scanner of `json`, which works from any offset; the
rest is read here. Loaded when the first text turns up that is not JSON.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable

from ._buffers import HEADER_SIZE, Buffers
from ._errors import DecodeError
from ._on_demand import load_arrays, load_diagnosis, load_fraction
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
"""What is between the dtype of an array and its base64."""

WASTE = 8
"""Times the length of a text that may be read in vain."""

JSON_START = frozenset('"[{-0123456789tfn')
NUMBERS = frozenset({"inf", "nan", "infj", "nanj"})
CONSTANTS = {
    "null": None, "None": None, "true": True, "True": True, "false": False, "False": False,
}  # fmt: skip


class V1Reader(LiteralReader):
    """Reads one text.

    Attempts to have JSON's scanner read a container can fail, and what it had read by then is
    wasted. The waste is kept proportional to the text: beyond some multiple of its length no more
    attempts are made.

    Parameters
    ----------
    text : str
    forms : Forms
        The types that may be named.
    buffers : Buffers
    not_json : bool
        Whether it is known that the whole text is no JSON.
    """

    _wasted = 0
    _hopeless = -1

    def __init__(self, text: str, forms: Forms, buffers: Buffers, not_json: bool) -> None:
        self._text = text
        self._scan = SCANNER.quick(text)
        self._forms = forms
        self._buffers = buffers
        self._not_json = not_json
        self._layouts: dict[str, Any] = {}

    def read(self) -> Any:
        """Give the value that the text spells.

        Raises
        ------
        DecodeError
            If it spells none.
        """
        text = self._text
        try:
            start = 0 if text[:1] in START else self._skip(0)
            if start == len(text):
                raise load_diagnosis().explain_nothing(text)
            if self._not_json:
                self._hopeless = start  # the container that is the whole text
            value, end = START.get(text[start], V1Reader._value)(self, start, 0)
            if end != len(text):
                end = self._skip(end)
        except IndexError:
            raise self._error("the text ends too early", len(self._text)) from None
        except RecursionError:
            raise self._error(
                "nested too deeply for what the caller left of the stack", 0
            ) from None
        if end != len(self._text):
            raise self._expected("the end of the text", end)
        return value

    def _value(self, i: int, depth: int) -> tuple[Any, int]:
        """Read the value that begins at or behind `i`; give it, and where it ends."""
        read = START.get(self._text[i])
        if read is None:
            i = self._skip(i)
            read = START.get(self._text[i])
            if read is None:
                raise self._expected("a value", i)
        return read(self, i, depth)

    def _values(self, i: int, close: str, depth: int) -> tuple[list[Any], int]:
        """Read values with commas between them from `i` to behind the bracket `close`."""
        text = self._text
        values: list[Any] = []
        i = self._skip(i) if text[i] in BLANKS else i
        while text[i] != close:
            value, i = START.get(text[i], V1Reader._value)(self, i, depth)
            values.append(value)
            i = self._comma(i, close)
        return values, i + 1

    def _comma(self, i: int, close: str) -> int:
        """Give the place of the next item behind a comma, or that of the closing bracket."""
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
        return self._error(f"nested more than {MAX_DEPTH} deep", i)

    def _json(self, i: int) -> tuple[Any, int] | None:
        """Have JSON's scanner read the container at `i`; None if it cannot."""
        if i == self._hopeless or self._wasted > WASTE * (len(self._text) + 512):
            return None
        try:
            value, end = self._scan(self._text, i)
        except StopIteration as stop:
            self._wasted += 16 + stop.value - i
        except json.JSONDecodeError as error:  # to make it, all lines before were counted
            self._wasted += 64 + error.pos - i + error.pos // 16
        except (ValueError, RecursionError):  # a long integer, NaN, or too deep: nobody knows where
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
        """Read a tuple, or a complex number with gaps in it, item by item."""
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
        raise self._expected(f"','{' behind the only item of a tuple' if only else ' or )'}", end)

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
            raise self._expected(f"what can be in a set ({error})", i) from None

    def _entries(
        self,
        entries: dict[Any, Any],
        i: int,
        depth: int,
        entry: re.Match[str] | None = None,
    ) -> tuple[dict[Any, Any], int]:
        """Read the entries of a dict from `i` to behind its bracket; the first may be matched."""
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
        """Read what is behind a key that stood at `start`; give the place of the next one."""
        if self._text[i] != ":":
            raise self._expected("':'", i)
        i += 2 if self._text[i + 1] == " " else 1
        value, i = START.get(self._text[i], V1Reader._value)(self, i, depth)
        try:
            entries[key] = value
        except TypeError as error:
            raise self._expected(f"what can be a key ({error})", start) from None
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
        """Read a fraction the quick way, if it is spelled as pyon does and short."""
        match = FRACTION.match(self._text, i)
        if match is None or depth == MAX_DEPTH:
            return self._name(i, depth)
        return load_fraction()(int(match[1]), int(match[2])), match.end()

    def _array(self, i: int, depth: int) -> tuple[Any, int]:
        """Read an array the quick way, if it is spelled as pyon does and without a fault."""
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
        called = self._text[i : i + 1] == "("
        form = (V1_FORMS.get(name) or self._forms.named(name)) if called else None
        if form is None:
            raise self._expected("a value, or the name of a type and '('", start)
        arguments, end = self._values(i + 1, ")", depth)
        try:
            if form.raw and arguments:
                arguments[-1] = self._buffers.data(arguments[-1])
            return put_together(form, arguments), end
        except ValueError as error:
            raise self._error(str(error), start) from error


def _read_layout(header: str) -> Any:
    """Read what pyon writes before the base64 of an array, and nothing else."""
    match = ARRAY_HEADER.fullmatch(header)
    if match is None:
        raise ValueError("not the way in which pyon spells an array")
    shape = [int(n) for n in match[1].split(",") if n.strip()]
    return load_arrays().layout(shape, match[2])


V1_FORMS = {"set": Form("set", list, set, arity=0)}
"""What is spelled with a name by v1 alone: its sets have a syntax, but not the empty one."""

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
