"""PYON v1, the Python syntax: what evaluating readers of the established stack understand.

Nothing is evaluated here. The reader hands every stretch that is JSON as well to the C scanner of
`json`, which it can do at any offset, and reads the rest itself.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from typing import Any, ClassVar

from ._buffers import Buffers
from ._errors import DecodeError
from ._integers import parse_integer
from ._json import JsonScanner
from ._strings import unescape_bytes, unescape_str
from ._types import MAX_DEPTH, Form, Forms, put_together
from ._writer import CLASS_KEY, QUOTED_CLASS_KEY, Writer, write_int, write_str


def _write_v1_str(x: str) -> str:
    """Write a string; the key of tags so that it is no JSON and no dict is taken for a tag."""
    text = write_str(x)
    return f"'{CLASS_KEY}'" if text == QUOTED_CLASS_KEY else text


class V1Writer(Writer):
    """Writes Python syntax."""

    leaves: ClassVar[dict[type, Callable[[Any], str]]] = {
        type(None): lambda _: "null",
        bool: lambda x: "true" if x else "false",
        int: write_int,
        float: float.__repr__,
        complex: complex.__repr__,
        str: _write_v1_str,
        bytes: bytes.__repr__,
    }
    _json_encoder = json.JSONEncoder(check_circular=False)

    def _encode_json(self, x: Any, types: set[type]) -> str | None:
        text = self._json_encoder.encode(x)
        if float in types and ("NaN" in text or "Infinity" in text):
            return None if str in types else text.replace("NaN", "nan").replace("Infinity", "inf")
        return text

    def _list(self, x: list[Any], depth: int) -> str:
        return f"[{self._joined(x, depth)}]"

    def _tuple(self, x: tuple[Any, ...], depth: int) -> str:
        return f"({self._joined(x, depth)}{', ' if len(x) == 1 else ''})"

    def _set(self, x: set[Any], depth: int) -> str:
        if not x:
            return "{*()}"  # for evaluating readers: they know no name `set`
        if self._pretty:
            return f"{{{', '.join(sorted(self._items(x, depth)))}}}"
        return f"{{{self._joined(x, depth)}}}"

    def _dict(self, x: dict[Any, Any], depth: int) -> str:
        text = self._plain_dict(x, depth)
        if text is not None:
            return text
        in_lines = self._pretty and len(x) > 1
        self._level += in_lines
        entries = [f"{key}: {value}" for key, value in self._entries(x, depth)]
        self._level -= in_lines
        return self._in_lines("{}", entries) if in_lines else f"{{{', '.join(entries)}}}"

    def _slice(self, x: slice, depth: int) -> str:
        parts = self._items((x.start, x.stop, x.step), depth)
        return f"slice({', '.join('None' if part == 'null' else part for part in parts)})"

    def _form(self, form: Form, x: Any, depth: int) -> str:
        arguments = self._take_apart(form, x)
        data = f'b"{self._base64(arguments.pop())}"' if form.raw else ""
        texts = self._arguments(form, arguments, depth)
        return f"{form.name}({', '.join([*texts, data] if form.raw else texts)})"

    containers: ClassVar[dict[type, Callable[[Any, Any, int], str]]] = {
        list: _list,
        tuple: _tuple,
        set: _set,
        dict: _dict,
        slice: _slice,
    }


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is JSON, not v1")


SCANNER = JsonScanner(constant=_refuse_constant)
WHITESPACE = " \t\n\r\f"
SPACE = re.compile(f"[{WHITESPACE}]*")
INT = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?![\w.+-])")
_REAL = (
    r"(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|inf|nan)"
)
NUMBER = re.compile(rf"([+-]?{_REAL})(?:(?:[+-]{_REAL})?(j))?(?![\w.])")
COMPLEX = re.compile(rf"\([+-]?{_REAL}[+-]{_REAL}j\)")
NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
EMPTY_SET = re.compile(r"\{\s*\*\s*\(\s*\)\s*,?\s*\}")
JSON_OBJECT = re.compile(r'\{[ \t\n\r]*(?:"[^"\\]*"[ \t\n\r]*:|\})')
LITERALS = {
    quote: re.compile(rf"{quote}[^{quote}\\]*(?:\\.[^{quote}\\]*)*{quote}", re.DOTALL)
    for quote in "\"'"
}
CONSTANTS = {
    "null": None, "None": None, "true": True, "True": True, "false": False, "False": False,
}  # fmt: skip


class V1Reader:
    """Reads one text.

    Attempts to have JSON's scanner read a container can fail, and what it had read by then is
    wasted. The waste is kept proportional to the text: beyond `_allowance` no more attempts are
    made.
    """

    def __init__(self, text: str, forms: Forms, buffers: Buffers) -> None:
        self._text = text
        self._forms = forms
        self._buffers = buffers
        self._scan = SCANNER.quick()
        self._wasted = 0
        self._allowance = 8 * len(text) + 4096

    def read(self) -> Any:
        """Give the value that the text spells.

        Raises
        ------
        DecodeError
            If it spells none.
        """
        try:
            value, end = self._value(0, 0)
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

    def _error(self, reason: str, position: int) -> DecodeError:
        return DecodeError(reason, self._text, position)

    def _expected(self, what: str, position: int) -> DecodeError:
        return self._error(
            f"expected {what}, not {self._text[position : position + 20]!r}", position
        )

    def _skip(self, i: int) -> int:
        return SPACE.match(self._text, i).end()  # type: ignore[union-attr]

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
        while True:
            i = self._skip(i) if text[i] in WHITESPACE else i
            if text[i] == close:
                return values, i + 1
            value, i = self._value(i, depth)
            values.append(value)
            i = self._comma(i, close)

    def _comma(self, i: int, close: str) -> int:
        """Give the place behind the comma at `i`, or that of the closing bracket there."""
        text = self._text
        if text.startswith(", ", i):
            return i + 2
        i = self._skip(i)
        if text[i] == ",":
            return i + 1
        if text[i] == close:
            return i
        raise self._expected(f"',' or {close!r}", i)

    def _deeper(self, i: int, depth: int) -> int:
        if depth == MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} deep", i)
        return depth + 1

    def _json(self, i: int) -> tuple[Any, int] | None:
        """Have JSON's scanner read the container at `i`; None if it cannot."""
        if self._wasted > self._allowance:
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
        number = COMPLEX.match(self._text, i)
        if number is not None:
            return complex(number[0]), number.end()
        values, end = self._values(i + 1, ")", self._deeper(i, depth))
        if len(values) == 1 and self._before(end - 1) != ",":
            raise self._expected("',' behind the only item of a tuple", end - 1)
        return tuple(values), end

    def _before(self, i: int) -> str:
        """Give the last character before `i` that is no white space."""
        i -= 1
        while self._text[i] in WHITESPACE:
            i -= 1
        return self._text[i]

    def _brace(self, i: int, depth: int) -> tuple[Any, int]:
        if JSON_OBJECT.match(self._text, i) and (read := self._json(i)):
            return read
        empty = EMPTY_SET.match(self._text, i)
        if empty is not None:
            return set(), empty.end()
        depth = self._deeper(i, depth)
        start = self._skip(i + 1)
        if self._text[start] == "}":
            return {}, start + 1
        first, end = self._value(start, depth)
        end = self._skip(end)
        if self._text[end] == ":":
            return self._dict(first, start, end, depth)
        rest, end = self._values(self._comma(end, "}"), "}", depth)
        try:
            return {first, *rest}, end
        except TypeError as error:
            raise self._expected(f"what can be in a set ({error})", i) from None

    def _dict(self, key: Any, start: int, i: int, depth: int) -> tuple[dict[Any, Any], int]:
        """Read a dict of which the first key, from `start` to `i`, was read already."""
        entries: dict[Any, Any] = {}
        while True:
            value, i = self._value(self._colon(i), depth)
            try:
                entries[key] = value
            except TypeError as error:
                raise self._expected(f"what can be a key ({error})", start) from None
            start = self._comma(i, "}")
            if self._text[start] in WHITESPACE:
                start = self._skip(start)
            if self._text[start] == "}":
                return entries, start + 1
            key, i = self._value(start, depth)

    def _colon(self, i: int) -> int:
        if self._text.startswith(": ", i):
            return i + 2
        i = self._skip(i)
        if self._text[i] != ":":
            raise self._expected("':'", i)
        return i + 1

    def _number(self, i: int, depth: int) -> tuple[Any, int]:
        number = INT.match(self._text, i)
        if number is not None:
            try:
                return parse_integer(number[0]), number.end()
            except ValueError as error:
                raise self._error(f"{error}", i) from None
        number = NUMBER.match(self._text, i)
        if number is None:
            raise self._expected("a number", i)
        return (complex if number[2] else float)(number[0]), number.end()

    def _string(self, i: int, depth: int) -> tuple[Any, int]:
        body, end = self._quoted(i)
        if "\\" not in body:
            return body, end
        try:
            return unescape_str(body), end
        except ValueError as error:
            raise self._error(str(error), i) from None

    def _bytes(self, i: int) -> tuple[Any, int]:
        body, end = self._quoted(i + 1)
        try:
            return unescape_bytes(body), end
        except ValueError as error:
            raise self._error(str(error), i) from None

    def _quoted(self, i: int) -> tuple[str, int]:
        """Give what is between the quotation mark at `i` and the one that ends the literal."""
        quote = self._text[i]
        end = self._text.find(quote, i + 1)
        body = self._text[i + 1 : end]
        if end < 0 or "\\" in body:
            literal = LITERALS[quote].match(self._text, i)
            if literal is None:
                raise self._expected("a closing quotation mark", i)
            return literal[0][1:-1], literal.end()
        return body, end + 1

    def _name(self, i: int, depth: int) -> tuple[Any, int]:
        number = NUMBER.match(self._text, i)  # inf, nan
        if number is not None:
            return self._number(i, depth)
        if self._text[i] == "b" and self._text[i + 1] in LITERALS:
            return self._bytes(i)
        end = NAME.match(self._text, i).end()  # type: ignore[union-attr]
        name = self._text[i:end]
        if name in CONSTANTS:
            return CONSTANTS[name], end
        return self._form(name, i, self._skip(end), self._deeper(i, depth))

    def _form(self, name: str, start: int, i: int, depth: int) -> tuple[Any, int]:
        """Read the arguments at `i` of the form whose name is at `start`."""
        form = V1_FORMS.get(name) or self._forms.named(name)
        if form is None:
            raise self._expected("a value or the name of a type", start)
        if self._text[i] != "(":
            raise self._expected(f"'(' behind {name}", i)
        arguments, end = self._values(i + 1, ")", depth)
        try:
            if form.raw and arguments:
                arguments[-1] = self._buffers.data(arguments[-1])
            return put_together(form, arguments), end
        except ValueError as error:
            raise self._error(str(error), start) from error


V1_FORMS = {"set": Form("set", list, set, arity=0)}
"""What is spelled with a name by v1 alone: its sets have a syntax, but not the empty one."""

_Read = Callable[[V1Reader, int, int], tuple[Any, int]]
START: dict[str, _Read] = {
    "[": V1Reader._list,
    "(": V1Reader._parenthesis,
    "{": V1Reader._brace,
    '"': V1Reader._string,
    "'": V1Reader._string,
    **dict.fromkeys("+-.0123456789", V1Reader._number),
    **dict.fromkeys(string.ascii_letters + "_", V1Reader._name),
}
