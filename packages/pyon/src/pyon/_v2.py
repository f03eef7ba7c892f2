"""PYON v2, which is JSON: a value that JSON does not have is an object with one key, the tag.

Writer and reader leave to the C code of `json` whatever it can do, which for plain JSON is
everything.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import cache

from ._buffers import NO_BUFFERS, RAW_BUFFER_SIZE, Buffers
from ._errors import DecodeError
from ._json import JsonScanner, json_encoder
from ._types import Form, Forms, check_pairs, load_base64, put_together, read_fraction
from ._writer import CLASS_KEY, STR, Writer, shorten, write_int, write_str

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, ClassVar


NON_FINITE = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


FAST_FROM = 256
"""Characters from which the preparations for msgspec pay."""

FAST_FROM_ITEMS = 32
"""Items from which they pay for the writer."""


@cache
def load_fast() -> ModuleType:
    """Load what knows msgspec, which small values need nothing of."""
    from . import _fast

    return _fast


def _write_v2_float(x: float) -> str:
    text = float.__repr__(x)
    return NON_FINITE.get(text, text)


class V2Writer(Writer):
    """Writes JSON with tags."""

    leaves: ClassVar[dict[type, Callable[[Any], str]]] = {
        type(None): lambda _: "null",
        bool: lambda x: "true" if x else "false",
        int: write_int,
        float: _write_v2_float,
        str: write_str,
    }
    _write_json = staticmethod(json_encoder(",", ":"))

    def __init__(
        self, forms: Forms, pretty: bool, buffer_callback: Callable[[memoryview], object] | None
    ) -> None:
        super().__init__(forms, pretty)
        self._buffer_callback = buffer_callback
        self._buffers = 0
        if not pretty:
            self.comma, self.colon = ",", ":"

    @classmethod
    def _encode_json(cls, x: Any, items: int, floating: list[Collection[Any]]) -> str:
        if items >= FAST_FROM_ITEMS:
            text: str | None = load_fast().encode(x, floating)
            if text is not None:
                return text
        return cls._write_json(x)

    def _tag(self, name: str, arguments: str) -> str:
        return f'{{"{CLASS_KEY}"{self.colon}["{name}"{self.comma}[{arguments}]]}}'

    def _list(self, x: list[Any], depth: int) -> str:
        if not self._pretty or not x:
            return f"[{self._joined(x, depth)}]"
        self._level += 1
        texts = self._items(x, depth)
        self._level -= 1
        return self._in_lines("[]", texts)

    def _tuple(self, x: tuple[Any, ...], depth: int) -> str:
        return self._tag("tuple", f"[{self._joined(x, depth)}]")

    def _set(self, x: set[Any], depth: int) -> str:
        if self._pretty:
            return self._tag("set", f"[{', '.join(sorted(self._items(x, depth)))}]")
        return self._tag("set", f"[{self._joined(x, depth)}]")

    def _dict(self, x: dict[Any, Any], depth: int) -> str:
        text = self._plain_dict(x, depth)
        if text is not None:
            return text
        if STR.issuperset(map(type, x)) and CLASS_KEY not in x:
            return self._object(x, depth)
        return self._tag("dict", self._pairs(x, depth))

    def _object(self, x: dict[str, Any], depth: int) -> str:
        in_lines = self._pretty and bool(x)
        self._level += in_lines
        entries = self._entries(x, depth, self.colon)
        self._level -= in_lines
        return self._in_lines("{}", entries) if in_lines else f"{{{self.comma.join(entries)}}}"

    def _pairs(self, x: dict[Any, Any], depth: int) -> str:
        in_lines = self._pretty and bool(x)
        self._level += in_lines
        entries = [f"[{entry}]" for entry in self._entries(x, depth, self.comma)]
        self._level -= in_lines
        return self._in_lines("[]", entries) if in_lines else f"[{self.comma.join(entries)}]"

    def _bytes(self, x: bytes, depth: int) -> str:
        return self._tag("bytes", self._data(x))

    def _complex(self, x: complex, depth: int) -> str:
        return self._tag("complex", self.comma.join(map(_write_v2_float, (x.real, x.imag))))

    def _data(self, data: bytes | memoryview) -> str:
        """Hand large data to who takes it; spell the number of the buffer, or base64."""
        if self._buffer_callback is None or len(data) < RAW_BUFFER_SIZE:
            return f'"{self._base64(data)}"'
        self._buffer_callback(memoryview(data))
        self._buffers += 1
        return str(self._buffers - 1)

    def _form(self, form: Form, x: Any, depth: int) -> str:
        arguments = self._take_apart(form, x)
        if not form.raw:
            return self._tag(form.name, self.comma.join(self._arguments(form, arguments, depth)))
        *others, data = arguments
        texts = [self._shape(a) if type(a) is tuple else self._write(a, depth) for a in others]
        return self._tag(form.name, self.comma.join([*texts, self._data(data)]))

    def _shape(self, shape: tuple[int, ...]) -> str:
        return f"[{self.comma.join(map(str, shape))}]"

    def _ordered_dict(self, x: OrderedDict[Any, Any], depth: int) -> str:
        return self._tag("OrderedDict", self._pairs(x, depth))

    containers: ClassVar[dict[type, Callable[[Any, Any, int], str]]] = {
        list: _list,
        tuple: _tuple,
        set: _set,
        dict: _dict,
        bytes: _bytes,
        complex: _complex,
        OrderedDict: _ordered_dict,
    }


WHITESPACE = " \t\n\r\f"
SPACE = re.compile(f"[{WHITESPACE}]*")
HIDDEN_LETTERS = ("\\u005", "\\u006", "\\u007")
"""How letters begin that need no escape. With such, the key of a tag does not look like it."""

BRACES = r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}]'
PLAIN = JsonScanner()


class NotJsonError(Exception):
    """A text that is no JSON, and so no v2. Its arguments are the reason and the position."""


class _BadTagError(Exception):
    """A tag of which no value can be made."""


class V2Reader:
    """Reads texts that may hold values of these forms. One object serves many texts and threads."""

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._tagged = JsonScanner(make_hook(forms, NO_BUFFERS))

    def read(self, text: str, buffers: Buffers) -> Any:
        """Give the value that the text spells.

        Raises
        ------
        NotJsonError
            If it is no JSON.
        DecodeError
            If it is JSON with a tag that means nothing.
        """
        if not _may_have_tags(text):
            return _read_plain(text)
        tagged = (
            self._tagged if buffers is NO_BUFFERS else JsonScanner(make_hook(self._forms, buffers))
        )
        try:
            return _scan(tagged, text)
        except _BadTagError as error:
            _scan(PLAIN, text)
            raise DecodeError(
                str(error), text, self._find_bad_tag(text, buffers)
            ) from error.__cause__

    def _find_bad_tag(self, text: str, buffers: Buffers) -> int:
        """Give the place of the first object, in order of their ends, that is a bad tag."""
        read = make_hook(self._forms, buffers.again())
        ends = 0

        def count(x: dict[str, Any]) -> Any:
            nonlocal ends
            ends += 1
            return read(x)

        with contextlib.suppress(_BadTagError):
            _scan(JsonScanner(count), text)
        starts: list[int] = []
        for brace in re.finditer(BRACES, text, re.DOTALL):
            if brace[0] == "{":
                starts.append(brace.start())
            elif brace[0] == "}":
                start = starts.pop()
                ends -= 1
                if not ends:
                    return start
        return 0


def _read_plain(text: str) -> Any:
    if len(text) >= FAST_FROM:
        with contextlib.suppress(ValueError):  # then the standard library knows
            return load_fast().decode(text)
    return _scan(PLAIN, text)


def _may_have_tags(text: str) -> bool:
    if "{" not in text:
        return False
    # To look for a single character first is quicker by far.
    if "_" in text and CLASS_KEY in text:
        return True
    return "\\" in text and "\\u00" in text and any(map(text.__contains__, HIDDEN_LETTERS))


def _scan(scanner: JsonScanner, text: str) -> Any:
    """Read the JSON that is the whole of `text`."""
    start = SPACE.match(text).end() if text[:1] in WHITESPACE else 0  # type: ignore[union-attr]
    try:
        try:
            value, end = scanner.quick()(text, start)
        except (json.JSONDecodeError, _BadTagError):
            raise
        except ValueError:  # a long integer
            value, end = scanner.thorough()(text, start)
    except StopIteration as stop:
        raise NotJsonError("expected a value", stop.value) from None
    except json.JSONDecodeError as error:
        raise NotJsonError(error.msg, error.pos) from None
    except RecursionError:
        raise NotJsonError("nested too deeply", start) from None
    except ValueError as error:
        raise NotJsonError(str(error), start) from None
    if end != len(text):
        end = SPACE.match(text, end).end()  # type: ignore[union-attr]
        if end != len(text):
            raise NotJsonError("expected the end of the text", end)
    return value


def make_hook(forms: Forms, buffers: Buffers) -> Callable[[dict[str, Any]], Any]:
    """Make what turns the tags among JSON's objects into values, and leaves the others alone."""

    def hook(x: dict[str, Any]) -> Any:
        tag: Any = x.get(CLASS_KEY)
        if type(tag) is list:
            try:
                name, arguments = tag
                if type(arguments) is list:
                    return QUICK[name](*arguments)
            except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
                pass  # said below, with the reason, or it is none of the commonest
        elif tag is None and CLASS_KEY not in x:
            return x
        return read_tag(tag)

    def read_tag(tag: Any) -> Any:
        if type(tag) is not list or len(tag) != 2 or type(tag[1]) is not list:
            raise _BadTagError(f'expected ["name", [arguments]] behind {CLASS_KEY!r}')
        name, arguments = tag
        form = V2_FORMS.get(name) if type(name) is str else None
        form = form or forms.named(name)
        if form is None:
            raise _BadTagError(f"no type is called {shorten(name)}")
        try:
            if form.raw and arguments:
                if type(arguments[-1]) is bytes:  # out of another tag
                    raise ValueError("expected base64 as a string, got bytes")
                arguments[-1] = buffers.data(arguments[-1])
            return put_together(form, arguments)
        except ValueError as error:
            raise _BadTagError(str(error)) from error

    return hook


def _read_tuple(items: Any) -> tuple[Any, ...]:
    if type(items) is not list:
        raise ValueError("expected a list")
    return tuple(items)


def _read_set(items: Any) -> set[Any]:
    if type(items) is not list:
        raise ValueError("expected a list")
    return set(items)


def _read_dict(pairs: Any) -> dict[Any, Any]:
    return dict(check_pairs(pairs))


def _read_complex(real: Any, imaginary: Any) -> complex:
    if type(real) not in (int, float) or type(imaginary) not in (int, float):
        raise ValueError("expected two numbers")
    return complex(real, imaginary)


def _read_base64(text: Any) -> bytes:
    if type(text) is not str:
        raise ValueError("perhaps the number of a buffer")
    data: bytes = load_base64().from_base64(text)
    return data


V2_FORMS = {
    form.name: form
    for form in (
        Form("tuple", list, _read_tuple, arity=1),
        Form("set", list, _read_set, arity=1),
        Form("dict", list, _read_dict, arity=1),
        Form("bytes", list, bytes, arity=1, raw=True),
        Form("complex", list, _read_complex, arity=2),
    )
}
"""What is spelled with a name by v2 alone: v1 has a syntax for it."""

QUICK: dict[str, Callable[..., Any]] = {
    "tuple": _read_tuple,
    "set": _read_set,
    "dict": _read_dict,
    "complex": _read_complex,
    "bytes": _read_base64,
    "Fraction": read_fraction,
}
"""The commonest forms, so that they need not go the whole way."""
