"""The walk over a value, which both generations share; they differ in how they spell what it meets.

A generation is a `Spelling`, a table of plain functions; the `Writer` alone recurs, indents, and
knows the way to what cannot be written. Two ideas make it quick. A large part that is plain JSON
(exact types, string keys) goes to a C encoder in one piece, and to find that out takes one sweep
over its containers, not a look at every leaf. And long base64 is never part of a text: a mark
stands in for it, and in the end the text comes out in pieces.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable

from ._errors import EncodeError
from ._on_demand import load_arrays, load_base64
from ._plain import CLASS_KEY, STR, plain_json
from ._refusing import describe, no_form, shorten
from ._spelling import Spelling
from ._types import MAX_DEPTH, Form, Forms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SWEEP_FROM = 9
"""Items from which a container is worth a sweep: below, writing the items one by one costs no
more."""

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

MOST_KEYS = 1000
LONGEST_KEY = 40
"""How many keys, and up to which length, are kept with their spelling: the fields of messages come
again and again. At most some 100 kB."""

Callback = Callable[[memoryview], object]


class Writer:
    """Writes one value.

    Parameters
    ----------
    spelling : Spelling
    forms : Forms
    pretty : bool
    sort_keys : bool
    buffer_callback : callable, optional
        Takes large data; its number stands in the text.
    as_bytes : bool
        Whether pieces of base64 are bytes, as a wire or file takes them.
    """

    _buffers = 0
    _level = 0

    def __init__(
        self,
        spelling: Spelling,
        forms: Forms,
        pretty: bool = False,
        sort_keys: bool = False,
        buffer_callback: Callback | None = None,
        as_bytes: bool = False,
    ) -> None:
        self._spelling = spelling
        self._forms = forms
        self._pretty = pretty
        self._sort_keys = sort_keys
        self._one_by_one = pretty or sort_keys
        self._may_splice = not sort_keys
        self._buffer_callback = buffer_callback
        self._as_bytes = as_bytes
        self._pieces: list[Any] = []
        self._notes: list[str] = []

    def text(self, x: Any) -> str:
        """Give the whole text of `x`; errors as `pieces`."""
        text = self._whole(x)
        return "".join(map(str, self._interleaved(text))) if self._pieces else text

    def pieces(self, x: Any) -> list[str | bytes]:
        """Give the text of `x` as pieces that nobody has joined.

        Raises
        ------
        EncodeError
            If a part of it has no PYON form.
        """
        return self._interleaved(self._whole(x))

    def _whole(self, x: Any) -> str:
        try:
            text = self._write(x, 0)
        except RecursionError:
            raise EncodeError("nested too deeply for what the caller left of the stack") from None
        return text + self._note() if self._notes else text

    def _interleaved(self, text: str) -> list[str | bytes]:
        parts: list[Any] = text.split(MARK) if self._pieces else [text]
        parts[1::2] = [self._pieces[int(number)] for number in parts[1::2]]
        return parts

    def _write(self, x: Any, depth: int) -> str:
        kind = type(x)
        if kind in self._spelling.leaves:
            return self._spelling.leaves[kind](x)
        if depth == MAX_DEPTH and kind not in FLAT:
            raise EncodeError(f"nested more than {MAX_DEPTH} deep, or contains itself")
        if kind in WRITERS:
            return WRITERS[kind](self, x, depth + 1)
        form = self._forms.of(kind)
        if form is None:
            raise EncodeError(no_form(x))
        return self._form(form, x, depth + 1)

    def _items(self, items: Collection[Any], depth: int, one_by_one: bool = False) -> list[str]:
        """Write each of `items`; an error gets to know in which of them it was.

        A table, which begins with a container, is worth a sweep although its rows are few. Its text
        is in one piece, unless its items are needed one by one.
        """
        texts: list[str] = []
        leaves = self._spelling.leaves
        try:
            for x in items:
                kind = type(x)
                if kind in leaves:
                    texts.append(leaves[kind](x))
                elif (
                    kind in CONTAINERS
                    and not (texts or one_by_one or self._one_by_one)
                    and (text := self._plain(list(items), depth))
                ):
                    return [text[1:-1]]
                else:
                    texts.append(self._write(x, depth))
        except EncodeError as error:
            error.within("{...}" if isinstance(items, set) else f"[{len(texts)}]")
            raise
        return texts

    def _joined(self, items: Collection[Any], depth: int) -> str:
        """Write `items` with commas between them."""
        if len(items) >= SWEEP_FROM and self._may_be_plain(items):
            text = self._plain(list(items), depth)
            if text is not None:
                return text[1:-1]
        return self._spelling.comma.join(self._items(items, depth))

    def _may_be_plain(self, items: Collection[Any]) -> bool:
        """Say whether to try: what is written in order or in lines must be flat."""
        return not (self._one_by_one and any(map(CONTAINERS.__contains__, map(type, items))))

    def _list(self, x: list[Any], depth: int) -> str:
        if not x:
            return "[]"
        if self._pretty and self._spelling.tagged:
            return self._in_lines(
                "[]", list(enumerate(x)), lambda item: self._item(item[0], item[1], depth)
            )
        if len(x) >= SWEEP_FROM and self._may_be_plain(x):
            text = self._plain(x, depth)
            if text is not None:
                return text
        return "[" + self._spelling.comma.join(self._items(x, depth)) + "]"

    def _item(self, index: int, x: Any, depth: int) -> str:
        try:
            return self._write(x, depth)
        except EncodeError as error:
            error.within(f"[{index}]")
            raise

    def _tuple(self, x: tuple[Any, ...], depth: int) -> str:
        if len(x) < SWEEP_FROM:
            return self._spelling.sequence(
                "tuple", self._spelling.comma.join(self._items(x, depth)), len(x)
            )
        return self._spelling.sequence("tuple", self._joined(x, depth), len(x))

    def _set(self, x: set[Any], depth: int) -> str:
        inside = self._sorted_items(x, depth) if self._one_by_one else self._joined(x, depth)
        return self._spelling.sequence("set", inside, len(x))

    def _sorted_items(self, x: set[Any], depth: int) -> str:
        """Write the items in the order of their texts, so that equal sets have equal texts."""
        may_splice, self._may_splice = self._may_splice, False
        notes, self._notes = self._notes, []
        written: list[tuple[str, str]] = []
        for item in x:
            text = self._items({item}, depth)[0]
            written.append((text, ", ".join(self._notes)))
            self._notes.clear()
        written.sort()
        self._may_splice = may_splice
        self._notes = notes + [note for _, note in written if note]
        return self._spelling.comma.join([text for text, _ in written])

    def _dict(self, x: dict[Any, Any], depth: int) -> str:
        if not x:
            return "{}"
        if len(x) >= SWEEP_FROM and not self._one_by_one:
            text = self._plain(x, depth)
            if text is not None:
                return text
        if self._spelling.tagged and not x.keys() <= self._spelling.keys.keys() and _is_special(x):
            return self._spelling.form("dict", [self._pairs(x, depth)])
        if self._one_by_one:
            return self._entries(
                "{}", x, lambda entry: self._pair(entry, depth, self._spelling.colon)[0]
            )
        return (
            "{"
            + self._spelling.comma.join(self._pair(x.items(), depth, self._spelling.colon))
            + "}"
        )

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
        if self._one_by_one:
            return self._entries("[]", x, lambda entry: f"[{self._pair(entry, depth, comma)[0]}]")
        return f"[{comma.join([f'[{pair}]' for pair in self._pair(x.items(), depth, comma)])}]"

    def _pair(self, entries: Iterable[tuple[Any, Any]], depth: int, between: str) -> list[str]:
        """Write keys and values; an error gets to know in which of them it was."""
        texts: list[str] = []
        leaves = self._spelling.leaves
        writers = WRITERS if depth < MAX_DEPTH else NONE
        keys = self._spelling.keys if between is self._spelling.colon else NONE
        at_key = True
        try:
            for key, value in entries:
                if key in keys and type(key) is str:
                    start = keys[key]
                else:
                    at_key = True
                    start = self._key(key, depth, between)
                at_key = False
                kind = type(value)
                if kind in leaves:
                    texts.append(start + leaves[kind](value))
                elif (
                    not texts
                    and kind in CONTAINERS
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
        if self._one_by_one or between is not self._spelling.colon:
            return None
        text = self._plain(dict(entries), depth)
        return text and text[1:-1]

    def _key(self, key: Any, depth: int, between: str) -> str:
        """Write a key and what is between it and its value; keep the spelling of a field's name."""
        start = self._write(key, depth) + between
        if (
            type(key) is str
            and len(key) <= LONGEST_KEY
            and len(self._spelling.keys) < MOST_KEYS
            and between is self._spelling.colon
        ):
            self._spelling.keys[key] = start
        return start

    def _entries(
        self, brackets: str, x: dict[Any, Any], write: Callable[[list[tuple[Any, Any]]], str]
    ) -> str:
        """Write the entries of a dict one by one: in lines, or sorted, or both."""
        entries = list(x.items())
        if self._sort_keys and type(x) is dict:
            if set(map(type, x)) in ({str}, {int}):
                entries.sort(key=lambda entry: entry[0])
            else:
                entries.sort(key=lambda entry: write([entry]))
                self._notes.clear()
        if self._pretty and len(x) > (not self._spelling.tagged):
            return self._in_lines(brackets, [[entry] for entry in entries], write)
        inside = self._spelling.comma.join([write([entry]) for entry in entries])
        return brackets[0] + inside + brackets[1]

    def _in_lines(self, brackets: str, parts: list[Any], write: Callable[[Any], str]) -> str:
        """Write each part on a line of its own, one level deeper than the brackets."""
        indent = "\n" + "    " * self._level
        self._level += 1
        lines = [brackets[0]]
        for number, part in enumerate(parts, 1):
            text = write(part)
            comma = "," if number < len(parts) else ""
            lines.append(f"{indent}    {text}{comma}{self._note()}")
        self._level -= 1
        return "".join([*lines, indent, brackets[1]])

    def _note(self) -> str:
        """Give a comment with the numbers that stand on a line as base64."""
        if not self._notes:
            return ""
        note = f"  # {', '.join(self._notes)}"
        self._notes.clear()
        return note

    def _bytes(self, x: bytes, depth: int) -> str:
        return self._spelling.form("bytes", [self._data(x)])

    def _form(self, form: Form, x: Any, depth: int) -> str:
        arguments = self._take_apart(form, x)
        data = [self._data(arguments.pop())] if form.raw else []
        shape = []
        if form.raw and self._spelling.tagged and type(arguments[0]) is tuple:
            shape.append(f"[{self._spelling.comma.join(map(str, arguments.pop(0)))}]")
        try:
            texts = self._items(arguments, depth, one_by_one=True)
        except EncodeError as error:
            error.within(f".{form.name}")
            raise
        if self._pretty and form.name == "npscalar" and not self._spelling.tagged:
            self._notes += load_arrays().readable(x)
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
            base64 = load_base64()
            convert = base64.to_base64_bytes if self._as_bytes else base64.to_base64
            self._pieces.append(convert(data))
            spelled = f"{MARK}{len(self._pieces) - 1}{MARK}"
        return f"{self._spelling.before}{spelled}{self._spelling.behind}"


WRITERS: dict[type, Callable[[Writer, Any, int], str]] = {
    list: Writer._list,
    tuple: Writer._tuple,
    set: Writer._set,
    dict: Writer._dict,
    bytes: Writer._bytes,
    OrderedDict: Writer._ordered_dict,
}
"""What writes values that contain others, or much, by their exact type."""


def _is_special(x: dict[Any, Any]) -> bool:
    """Say whether a dict has keys that JSON objects do not have, or the key of a tag."""
    return CLASS_KEY in x or not STR.issuperset(map(type, x))


NONE: dict[Any, Any] = {}
CONTAINERS: frozenset[type] = frozenset({list, dict})
"""What may stand in lines itself."""
