"""The walk over a value, which both generations share; they differ in how they spell what it meets.

A generation is a `Spelling`, a table. Three ideas make writing quick. Small plain values, which are
most of what programs send each other, are written before a `Writer` is made (`_small`). A large
part that is plain JSON goes to a C encoder in one piece, and to find that out takes one sweep over
its containers, not a look at every leaf (`_plain`). And long base64 is never part of a text: a mark
stands in for it, and in the end the text comes out in pieces. Everything else is written item by
item, here, where also the way to what cannot be written is known.
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
"""Characters of base64 from which it is a piece of its own; below, copying it a few times costs
less."""

MARK = "\xff"
"""Surrounds the number of a piece in a text. PYON text is ASCII, so it cannot hold the mark."""

RAW_BUFFER_SIZE = 4096
"""Bytes from which data is handed over as a buffer, if the caller can take buffers. To encode,
frame, receive and decode an array costs as much either way at 2.4 kB, or with SIMD base64 at 9 kB
(``benchmarks/raw_buffers.py``); in between, and so here, the two differ by some ten microseconds
at most."""

FLAT: frozenset[type] = frozenset({bytes, complex})
"""What is no level of nesting in either generation."""

Callback = Callable[[memoryview], object]
Convert = Callable[["bytes | memoryview"], "Any"]
Write = Callable[["Any", "Any", int], str]


def base64_text(data: bytes | memoryview) -> str:
    """Give long data as it stands in a string."""
    return load_base64().to_base64(data)  # type: ignore[no-any-return]


def base64_bytes(data: bytes | memoryview) -> bytes:
    """Give long data as a wire takes it."""
    return load_base64().to_base64_bytes(data)  # type: ignore[no-any-return]


def base64_chunks(data: bytes | memoryview) -> Iterator[bytes]:
    """Give long data as a file takes it: it is converted when it is written."""
    return load_base64().base64_chunks(data)  # type: ignore[no-any-return]


class Writer:
    """Writes one value, on one line.

    Parameters
    ----------
    spelling : Spelling
    forms : Forms
    buffer_callback : callable, optional
        Takes large data; its number stands in the text.
    convert : callable
        Gives the piece of a text that long data is.
    """

    writers: ClassVar[dict[type, Write]]
    """What writes values that contain others, or much, by their exact type."""

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
        """Give the whole text of `x`; errors as `pieces`."""
        text = self._whole(x)
        return "".join(map(str, self._interleaved(text))) if self._pieces else text

    def pieces(self, x: Any) -> list[Any]:
        """Give the text of `x` as pieces that nobody has joined: strings, and what `convert` gave.

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
            raise EncodeError("nested too deeply for what the caller left of the stack") from None

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
            raise EncodeError(f"nested more than {MAX_DEPTH} deep, or contains itself")
        if kind in self.writers:
            return self.writers[kind](self, x, depth + 1)
        form = self._forms.of(kind)
        if form is None:
            raise EncodeError(no_form(x))
        return self._form(form, x, depth + 1)

    def _items(self, items: Collection[Any], depth: int) -> list[str]:
        """Write each of `items`; an error gets to know in which of them it was."""
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
        """Write a dict as a list of pairs."""
        comma = self._spelling.comma
        return f"[{comma.join([f'[{pair}]' for pair in self._entries(x.items(), depth, comma)])}]"

    def _entries(self, entries: Iterable[tuple[Any, Any]], depth: int, between: str) -> list[str]:
        """Write keys and values; an error gets to know in which of them it was."""
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
        """Write a dict that begins with a container in one piece, if it is plain and may be."""
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
        """Spell data as base64, as the mark of a piece, or as the number of a buffer."""
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
