"""Writes PYON v1, the Python syntax that evaluating readers of the established stack understand."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ._json import json_encoder
from ._types import Form
from ._writer import CLASS_KEY, QUOTED_CLASS_KEY, Writer, write_int, write_str

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar


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
    _write_json = staticmethod(json_encoder(", ", ": "))

    @classmethod
    def _encode_json(cls, x: Any, items: int, floating: list[Collection[Any]]) -> str:
        text = cls._write_json(x)
        if floating and ("NaN" in text or "Infinity" in text):
            if '"' in text:  # there, the words may be in a string
                raise ValueError("what is a float?")
            return text.replace("NaN", "nan").replace("Infinity", "inf")
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
        entries = self._entries(x, depth, ": ")
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
