"""Writes PYON v2, which is JSON: a value that JSON does not have is an object with one key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection

from ._buffers import RAW_BUFFER_SIZE
from ._json import json_encoder
from ._on_demand import load_fast
from ._types import Form, Forms
from ._writer import CLASS_KEY, STR, Writer, write_int, write_str

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar


NON_FINITE = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


FAST_FROM_ITEMS = 32
"""Items from which they pay for the writer."""


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
