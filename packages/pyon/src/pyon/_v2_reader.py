"""Reads PYON v2, which is JSON: an object with the key `__jsonclass__` is a tag.

A text without tags is read by the C code of `json`, or by msgspec where `pyon[fast]` is installed.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable

from ._buffers import NO_BUFFERS, Buffers
from ._errors import DecodeError
from ._json import SPACE, WHITESPACE, JsonScanner
from ._on_demand import load_base64, load_fast
from ._plain import CLASS_KEY
from ._refusing import no_type
from ._types import Form, Forms, check_pairs, put_together, read_fraction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


FAST_FROM = 256
"""Minimum length of a text, in characters, that is read by msgspec: below, `json` is faster."""


HIDDEN_LETTERS = ("\\u005", "\\u006", "\\u007")
"""Beginnings of escapes of letters, which may hide the key of a tag."""

BRACES = r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}]'
PLAIN = JsonScanner()


class NotJsonError(Exception):
    """The text is not JSON, and so not v2.

    Attributes
    ----------
    reason : str
    position : int
        Offset in the text.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


class _BadTagError(Exception):
    """A tag from which no value can be built."""


class V2Reader:
    """Reads texts with values of these forms. One object serves many texts and threads."""

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._tagged = JsonScanner(make_hook(forms, NO_BUFFERS))

    def read(self, text: str, buffers: Buffers) -> Any:
        """Return the value of the text.

        Raises
        ------
        NotJsonError
            If the text is not JSON.
        DecodeError
            If the text is JSON with an invalid tag.
        """
        if not may_have_tags(text):
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
        """Return the position of the invalid tag that ends first."""
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


def find_json_error(text: str) -> NotJsonError:
    """Return the error of a text that is not JSON."""
    try:
        _scan(PLAIN, text)
    except NotJsonError as error:
        return error.with_traceback(None)
    raise AssertionError("the text is JSON")


def _read_plain(text: str) -> Any:
    if len(text) >= FAST_FROM:
        with contextlib.suppress(ValueError):  # then `json` reads it, or reports the error
            return load_fast().decode(text)
    return _scan(PLAIN, text)


def may_have_tags(text: str) -> bool:
    """Return whether `text` may contain the key of a tag: fast, with false positives only."""
    if "{" not in text:
        return False
    # Searching for a single character first is much faster.
    if "_" in text and CLASS_KEY in text:
        return True
    return "\\" in text and "\\u00" in text and any(map(text.__contains__, HIDDEN_LETTERS))


def _scan(scanner: JsonScanner, text: str) -> Any:
    """Read a text that as a whole is JSON."""
    start = SPACE.match(text).end() if text[:1] in WHITESPACE else 0  # type: ignore[union-attr]
    try:
        try:
            value, end = scanner.quick(text)(text, start)
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
    """Return an object hook that builds the values of tags, and returns other objects unchanged."""

    def hook(x: dict[str, Any]) -> Any:
        tag: Any = x.get(CLASS_KEY)
        if type(tag) is list:
            try:
                name, arguments = tag
                if type(arguments) is list:
                    return QUICK[name](*arguments)
            except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
                pass  # not one of the quick forms, or invalid: see below
        elif tag is None and CLASS_KEY not in x:
            return x
        return read_tag(tag)

    def read_tag(tag: Any) -> Any:
        if type(tag) is not list or len(tag) != 2 or type(tag[1]) is not list:
            raise _BadTagError(f'expected ["name", [arguments]] after {CLASS_KEY!r}')
        name, arguments = tag
        form = V2_FORMS.get(name) if type(name) is str else None
        form = form or forms.named(name)
        if form is None:
            raise _BadTagError(no_type(name))
        try:
            if form.raw and arguments:
                if type(arguments[-1]) is bytes:  # the value of an inner tag
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
        raise ValueError("not base64: perhaps the number of a buffer")
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
"""Forms of v2 only: v1 has its own syntax for these types."""

QUICK: dict[str, Callable[..., Any]] = {
    "tuple": _read_tuple,
    "set": _read_set,
    "dict": _read_dict,
    "complex": _read_complex,
    "bytes": _read_base64,
    "Fraction": read_fraction,
}
"""Fast functions for the most common forms, without the general steps."""
