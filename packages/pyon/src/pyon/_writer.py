"""The walk over a value, common to both generations.

A generation is a `Spelling`, a table. Three ideas make writing fast. Small plain values, which are
most of the values that programs send, are written without a `Writer` (`_small`). A large part that
is plain JSON is written by a C encoder in one piece, and one scan of its containers in C finds out
whether it is (`_plain`). And long base64 is never part of a text: a mark takes its place, and the
result is a text in pieces. All other values are written item by item in this module, where the path
to a value is known if it must be refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator

from ._errors import EncodeError
from ._on_demand import load_base64
from ._plain import CLASS_KEY, JSON_CONTAINERS, MANY, STR, plain_json
from ._refusing import describe, no_form, shorten
from ._spelling import Spelling
from ._types import MAX_DEPTH, Form, Forms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

SPLICE_SIZE = 4096
"""Minimum length, in characters, of base64 that becomes a separate piece. Below, copying it a few
times is faster."""

MARK = "\xff"
"""Encloses the number of a piece in a text. PYON text is ASCII, so it cannot contain the mark."""

RAW_BUFFER_SIZE = 4096
"""Minimum size, in bytes, of data that is passed to a `buffer_callback`. To encode, frame, receive
and decode an array takes the same time with base64 and with a raw buffer at 2.4 kB, or at 9 kB with
SIMD base64 (``benchmarks/raw_buffers.py``). Between these sizes the difference is at most some ten
microseconds."""

FLAT: frozenset[type] = frozenset({bytes, complex})
"""Types that do not count as a nesting level in either generation."""

Callback = Callable[[memoryview], object]
Convert = Callable[["bytes | memoryview"], "Any"]
Write = Callable[["Any", "Any", int], str]


def base64_text(data: bytes | memoryview) -> str:
    """Return the base64 of long data as a string."""
    return load_base64().to_base64(data)  # type: ignore[no-any-return]


def base64_bytes(data: bytes | memoryview) -> bytes:
    """Return the base64 of long data as bytes, for a wire."""
    return load_base64().to_base64_bytes(data)  # type: ignore[no-any-return]


def base64_chunks(data: bytes | memoryview) -> Iterator[bytes]:
    """Yield the base64 of long data in chunks, for a file: each is converted when it is written."""
    return load_base64().base64_chunks(data)  # type: ignore[no-any-return]


class Writer:
    """Writes one value, on one line.

    Parameters
    ----------
    spelling : Spelling
    forms : Forms
    buffer_callback : callable, optional
        Called with large data, whose number is written in the text.
    convert : callable
        Converts long data to a piece of the text.
    """

    writers: ClassVar[dict[type, Write]]
    """Functions that write containers and bytes, by exact type."""

    _buffers = 0
    _may_splice = True
    _pieces: list[Any] | None = None

    def __init__(
        self,
        spelling: Spelling,
        forms: Forms,
        buffer_callback: Callback | None = None,
        convert: Convert = base64_text,
    ) -> None:
        self._spelling = spelling
        self._forms = forms
        self._buffer_callback = buffer_callback
        self._convert = convert

    def text(self, x: Any) -> str:
        """Return the whole text of `x`; raises as `pieces` does."""
        text = self._whole(x)
        return "".join(map(str, self._interleaved(text))) if self._pieces else text

    def pieces(self, x: Any) -> list[Any]:
        """Return the text of `x` in pieces: strings, and results of `convert`.

        Raises
        ------
        EncodeError
            If a part of it has no PYON form.
        """
        text = self._whole(x)
        return self._interleaved(text) if self._pieces else [text]

    def _whole(self, x: Any) -> str:
        try:
            return self._write(x, 0)
        except RecursionError:
            raise EncodeError("nested too deeply for the rest of the stack") from None

    def _interleaved(self, text: str) -> list[Any]:
        parts: list[Any] = text.split(MARK)
        pieces = self._pieces or []
        parts[1::2] = [pieces[int(number)] for number in parts[1::2]]
        return parts

    def _write(self, x: Any, depth: int) -> str:
        kind = type(x)
        if kind in self._spelling.leaves:
            return self._spelling.leaves[kind](x)
        if depth == MAX_DEPTH and kind not in FLAT:
            raise EncodeError(f"nested more than {MAX_DEPTH} levels deep, or contains itself")
        if kind in self.writers:
            return self.writers[kind](self, x, depth + 1)
        form = self._forms.of(kind)
        if form is None:
            raise EncodeError(no_form(x))
        return self._form(form, x, depth + 1)

    def _items(self, items: Collection[Any], depth: int) -> list[str]:
        """Return the text of each item; the index is added to the path of an error."""
        texts: list[str] = []
        leaves = self._spelling.leaves
        try:
            for x in items:
                kind = type(x)
                texts.append(leaves[kind](x) if kind in leaves else self._write(x, depth))
        except EncodeError as error:
            error.within("{...}" if isinstance(items, set) else f"[{len(texts)}]")
            raise
        return texts

    def _list(self, x: list[Any], depth: int) -> str:
        if len(x) >= MANY or (x and type(x[0]) in JSON_CONTAINERS):
            text = self._plain(x, depth)
            if text is not None:
                return text
        return f"[{self._spelling.comma.join(self._items(x, depth))}]"

    def _tuple(self, x: tuple[Any, ...], depth: int) -> str:
        before, behind, behind_one = self._spelling.around_tuple
        inside = None
        if len(x) >= MANY or (x and type(x[0]) in JSON_CONTAINERS):
            inside = self._plain(list(x), depth)
        if inside is None:
            inside = self._spelling.comma.join(self._items(x, depth))
        else:
            inside = inside[1:-1]
        return before + inside + (behind if len(x) != 1 else behind_one)

    def _set(self, x: set[Any], depth: int) -> str:
        before, behind, empty = self._spelling.around_set
        text = self._plain(list(x), depth) if len(x) >= MANY else None
        inside = text[1:-1] if text else self._spelling.comma.join(self._items(x, depth))
        return before + inside + behind if x else empty

    def _dict(self, x: dict[Any, Any], depth: int) -> str:
        spelling = self._spelling
        if len(x) >= MANY:
            text = self._plain(x, depth)
            if text is not None:
                return text
        if spelling.tagged and (CLASS_KEY in x or not STR.issuperset(map(type, x))):
            return spelling.form("dict", [self._pairs(x, depth)])
        return f"{{{spelling.comma.join(self._entries(x.items(), depth, spelling.colon))}}}"

    def _plain(self, x: list[Any] | dict[Any, Any], depth: int) -> str | None:
        return plain_json(x, MAX_DEPTH + 1 - depth, self._spelling.json)

    def _ordered_dict(self, x: OrderedDict[Any, Any], depth: int) -> str:
        if not self._spelling.tagged:
            form = self._forms.of(OrderedDict)
            assert form is not None
            return self._form(form, x, depth)
        return self._spelling.form("OrderedDict", [self._pairs(x, depth)])

    def _pairs(self, x: dict[Any, Any], depth: int) -> str:
        """Return the text of a dict as a list of pairs."""
        comma = self._spelling.comma
        return f"[{comma.join([f'[{pair}]' for pair in self._entries(x.items(), depth, comma)])}]"

    def _entries(self, entries: Iterable[tuple[Any, Any]], depth: int, between: str) -> list[str]:
        """Return the texts of keys with values; the key is added to the path of an error."""
        texts: list[str] = []
        leaves = self._spelling.leaves
        writers = self.writers if depth < MAX_DEPTH else NONE
        keys = self._spelling.keys if between is self._spelling.colon else None
        at_key = True
        try:
            for key, value in entries:
                at_key = True
                if keys is not None and type(key) is str:
                    start = keys[key]
                else:
                    start = self._write(key, depth) + between
                at_key = False
                kind = type(value)
                if kind in leaves:
                    texts.append(start + leaves[kind](value))
                elif (
                    not texts
                    and kind in JSON_CONTAINERS
                    and (text := self._table(entries, depth, between))
                ):
                    return [text]
                elif kind in writers:
                    texts.append(start + writers[kind](self, value, depth + 1))
                else:
                    texts.append(start + self._write(value, depth))
        except EncodeError as error:
            error.within(f"<key {shorten(key)}>" if at_key else f"[{shorten(key)}]")
            raise
        return texts

    def _table(self, entries: Iterable[tuple[Any, Any]], depth: int, between: str) -> str | None:
        """Return the text of a dict whose first value is a container, if it is plain JSON."""
        if between is not self._spelling.colon:
            return None
        text = self._plain(dict(entries), depth)
        return text and text[1:-1]

    def _bytes(self, x: bytes, depth: int) -> str:
        return self._spelling.form("bytes", [self._data(x)])

    def _form(self, form: Form, x: Any, depth: int) -> str:
        arguments = self._take_apart(form, x)
        data = [self._data(arguments.pop())] if form.raw else []
        shape = []
        if form.raw and self._spelling.tagged and type(arguments[0]) is tuple:
            shape.append(f"[{self._spelling.comma.join(map(str, arguments.pop(0)))}]")
        try:
            texts = self._items(arguments, depth)
        except EncodeError as error:
            error.within(f".{form.name}")
            raise
        return self._spelling.form(form.name, shape + texts + data)

    def _take_apart(self, form: Form, x: Any) -> list[Any]:
        if not form.raw:
            return list(form.take_apart(x))
        try:
            return list(form.take_apart(x))
        except ValueError as error:
            raise EncodeError(f"{describe(x)}: {error}") from error

    def _data(self, data: bytes | memoryview) -> str:
        """Return base64, or the mark of a piece, or the number of a buffer."""
        if self._buffer_callback is not None and len(data) >= RAW_BUFFER_SIZE:
            self._buffer_callback(memoryview(data))
            self._buffers += 1
            return str(self._buffers - 1)
        spelled: Any
        if len(data) * 4 // 3 < SPLICE_SIZE or not self._may_splice:
            spelled = load_base64().to_base64(data)
        else:
            if not self._pieces:
                self._pieces = []
            self._pieces.append(self._convert(data))
            spelled = f"{MARK}{len(self._pieces) - 1}{MARK}"
        return f"{self._spelling.before}{spelled}{self._spelling.behind}"


Writer.writers = {
    list: Writer._list,
    tuple: Writer._tuple,
    set: Writer._set,
    dict: Writer._dict,
    bytes: Writer._bytes,
    OrderedDict: Writer._ordered_dict,
}

NONE: dict[Any, Any] = {}
