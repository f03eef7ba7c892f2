"""The walk over a value, which both generations share; they differ in how they spell what it meets.

Two ideas make it quick. A value that is plain JSON (exact types, string keys), or a large part that
is, goes to the C encoder of `json` in one piece, and to find that out takes one sweep over its
containers, not a look at every leaf. And long base64 is never part of the text while that is put
together: a mark stands in for it until the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from json.encoder import encode_basestring_ascii

from ._errors import EncodeError
from ._integers import SAFE_BOUND, digits_are_limited, integer_text
from ._on_demand import load_base64
from ._types import MAX_DEPTH, Form, Forms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

SWEEP_FROM = 9
"""Items from which a container is worth a sweep: below, writing the items one by one costs no
more."""

SPLICE_SIZE = 4096
"""Characters of base64 from which it is set in at the end; below, copying it a few times costs
less."""

MARK = "\xff"
"""Surrounds the number of a base64 text to be set in. PYON text is ASCII, so it cannot hold the
mark."""

JSON_LEAVES: frozenset[type] = frozenset({type(None), bool, int, float, str})
FLAT: frozenset[type] = frozenset({bytes, complex})
JSON_TYPES = JSON_LEAVES | {list, dict}
CLASS_KEY = "__jsonclass__"
STR: frozenset[type] = frozenset({str})
QUOTED_CLASS_KEY = f'"{CLASS_KEY}"'
SPLIT_PAIR = "[\ud800-\udbff][\udc00-\udfff]"

Callback = Callable[[memoryview], object]


class Writer:
    """Writes one value. A generation supplies the spellings."""

    comma = ", "
    colon = ": "
    leaves: ClassVar[dict[type, Callable[[Any], str]]]
    containers: ClassVar[dict[type, Callable[[Any, Any, int], str]]]

    def __init__(self, forms: Forms, pretty: bool) -> None:
        self._forms = forms
        self._pretty = pretty
        self._level = 0
        self._spliced: list[str] = []

    def text(self, x: Any) -> str:
        """Give the whole text of `x`.

        Raises
        ------
        EncodeError
            If a part of it has no PYON form.
        """
        try:
            text = self._write(x, 0)
        except RecursionError:
            raise EncodeError("nested too deeply for what the caller left of the stack") from None
        if not self._spliced:
            return text
        parts = text.split(MARK)
        parts[1::2] = [self._spliced[int(number)] for number in parts[1::2]]
        return "".join(parts)

    def _write(self, x: Any, depth: int) -> str:
        kind = type(x)
        leaf = self.leaves.get(kind)
        if leaf is not None:
            return leaf(x)
        if depth == MAX_DEPTH and kind not in FLAT:
            raise EncodeError(f"nested more than {MAX_DEPTH} deep, or contains itself")
        container = self.containers.get(kind)
        if container is not None:
            return container(self, x, depth + 1)
        form = self._forms.of(kind)
        if form is None:
            raise EncodeError(_no_form(x))
        return self._form(form, x, depth + 1)

    def _items(self, items: Iterable[Any], depth: int) -> list[str]:
        """Write each of `items`; an error gets to know in which of them it was."""
        texts: list[str] = []
        leaves = self.leaves
        try:
            for x in items:
                leaf = leaves.get(type(x))
                texts.append(self._write(x, depth) if leaf is None else leaf(x))
        except EncodeError as error:
            error.within(_step(items, len(texts)))
            raise
        return texts

    @classmethod
    def plain(cls, x: Any, room: int = MAX_DEPTH) -> str | None:
        """Write what is plain JSON, at most `room` levels deep, on one line; None for all else."""
        leaf = cls.leaves.get(type(x))
        if leaf is not None:
            return leaf(x)
        found = _sweep(x, room)
        if found is None or not digits_are_limited():
            return None
        items, floating = found
        try:
            text = cls._encode_json(x, items, floating)
        except (ValueError, RecursionError):  # a long integer; little left of the stack
            return None
        if ("\\" in text and "\\ud" in text) or ("_" in text and QUOTED_CLASS_KEY in text):
            return None  # to be looked at one by one: surrogates, and the key that has a meaning
        return text

    @classmethod
    def _encode_json(cls, x: Any, items: int, floating: list[Collection[Any]]) -> str:
        """Write plain JSON, of which the sweep told this; ValueError if not sure to be exact."""
        raise NotImplementedError

    def _joined(self, items: Collection[Any], depth: int) -> str:
        """Write `items` with commas between them."""
        if len(items) >= SWEEP_FROM and self._may_be_plain(items, depth):
            text = self.plain(list(items), MAX_DEPTH + 1 - depth)
            if text is not None:
                return text[1:-1]
        return self.comma.join(self._items(items, depth))

    def _plain_dict(self, x: dict[Any, Any], depth: int) -> str | None:
        """Write a large dict that is plain JSON through and through; None if it is not."""
        if len(x) >= SWEEP_FROM and self._may_be_plain(x, depth):
            return self.plain(x, MAX_DEPTH + 1 - depth)
        return None

    def _may_be_plain(self, x: object, depth: int) -> bool:
        """Say whether to try; at the first level, the codec has done so."""
        return not self._pretty and (depth > 1 or type(x) not in JSON_TYPES)

    def _form(self, form: Form, x: Any, depth: int) -> str:
        raise NotImplementedError

    def _arguments(self, form: Form, arguments: list[Any], depth: int) -> list[str]:
        try:
            return self._items(arguments, depth)
        except EncodeError as error:
            error.within(f".{form.name}")
            raise

    def _take_apart(self, form: Form, x: Any) -> list[Any]:
        if not form.raw:
            return list(form.take_apart(x))
        try:
            return list(form.take_apart(x))
        except ValueError as error:
            raise EncodeError(f"{_describe(x)}: {error}") from error

    def _base64(self, data: bytes | memoryview) -> str:
        """Give base64 of `data`, or a mark in its place."""
        text: str = load_base64().to_base64(data)
        if len(text) < SPLICE_SIZE or self._pretty:
            return text
        self._spliced.append(text)
        return f"{MARK}{len(self._spliced) - 1}{MARK}"

    def _entries(self, x: dict[Any, Any], depth: int, between: str) -> list[str]:
        """Write keys and values of a dict; if pretty, then sorted, unless their order matters."""
        sort = self._pretty and type(x) is dict
        by_key = sort and set(map(type, x)) in ({str}, {int})
        entries = sorted(x.items(), key=lambda item: item[0]) if by_key else x.items()
        texts = self._pairs_of(entries, depth, between)
        return sorted(texts) if sort and not by_key else texts

    def _pairs_of(self, entries: Iterable[tuple[Any, Any]], depth: int, between: str) -> list[str]:
        texts: list[str] = []
        leaves = self.leaves
        key_text = None
        try:
            for key, value in entries:
                key_text = None
                leaf = leaves.get(type(key))
                key_text = self._write(key, depth) if leaf is None else leaf(key)
                leaf = leaves.get(type(value))
                value_text = self._write(value, depth) if leaf is None else leaf(value)
                texts.append(key_text + between + value_text)
        except EncodeError as error:
            error.within(f"<key {shorten(key)}>" if key_text is None else f"[{shorten(key)}]")
            raise
        return texts

    def _in_lines(self, brackets: str, texts: list[str]) -> str:
        """Set each of `texts` on a line of its own, one level deeper than the brackets."""
        indent = "\n" + "    " * self._level
        return (
            brackets[0] + ",".join(f"{indent}    {text}" for text in texts) + indent + brackets[1]
        )


def _sweep(x: Any, room: int) -> tuple[int, list[Collection[Any]]] | None:
    """Say what is in `x` if it is plain JSON, at most `room` levels deep; or else None.

    Goes level by level, and through a large container, or many of them, in C.

    Returns
    -------
    int
        How many items there are in its containers.
    list of collections
        Those in which there are floats.
    """
    items = 0
    floating: list[Collection[Any]] = []
    level = [x]
    while level:
        room -= 1
        if room < 0:
            return None
        if len(level) >= SWEEP_FROM:
            values = _merged(level)
            if values is None:
                return None
            level = [values]
        below: list[Any] = []
        for container in level:
            kind = type(container)
            if kind is dict:
                for key in container:
                    if type(key) is not str:
                        return None
                values = container.values()
            elif kind is list:
                values = container
            else:
                return None
            items += len(container)
            if len(container) >= SWEEP_FROM:
                if not _sort_out(values, below, floating):
                    return None
                continue
            for value in values:
                kind = type(value)
                if kind is list or kind is dict:
                    below.append(value)
                elif kind not in JSON_LEAVES:
                    return None
                elif kind is float:
                    floating.append((value,))
        level = below
    return items, floating


def _merged(containers: list[Any]) -> list[Any] | None:
    """Give what is in all of these dicts and lists together; None if a key is no string."""
    # Repetitions are dropped: of containers that contain themselves there would be more and more.
    containers = list(dict(zip(map(id, containers), containers, strict=True)).values())
    dicts = [x for x in containers if type(x) is dict]
    if not STR.issuperset(map(type, chain.from_iterable(dicts))):
        return None
    lists = [x for x in containers if type(x) is list] if len(dicts) < len(containers) else []
    return [*chain.from_iterable(map(dict.values, dicts)), *chain.from_iterable(lists)]


def _sort_out(values: Collection[Any], below: list[Any], floating: list[Collection[Any]]) -> bool:
    """Add what is in `values` to the lists, if they are plain JSON."""
    types = set(map(type, values))
    if not types <= JSON_TYPES:
        return False
    if float in types:
        floating.append(values)
    for kind in (dict, list):
        if kind in types:
            below += values if len(types) == 1 else [x for x in values if type(x) is kind]
    return True


def write_str(x: str) -> str:
    """Write a string as JSON does, in ASCII."""
    text: str = encode_basestring_ascii(x)
    if "\\ud" in text and re.search(SPLIT_PAIR, x):
        raise EncodeError(
            "a string that holds the two halves of a surrogate pair, which would be joined"
        )
    return text


def write_int(x: int) -> str:
    """Write an integer of any size in decimal."""
    if -SAFE_BOUND < x < SAFE_BOUND:
        return int.__repr__(x)
    try:
        return integer_text(x)
    except ValueError as error:
        raise EncodeError(str(error)) from None


def _step(items: Iterable[Any], index: int) -> str:
    """Spell the way from a container to the item of this index."""
    return "{...}" if isinstance(items, set) else f"[{index}]"


def _describe(x: object) -> str:
    return f"{type(x).__qualname__} {shorten(x)}"


def shorten(x: object) -> str:
    """Give a short `repr` of anything, on one line."""
    from reprlib import Repr

    try:
        return " ".join(Repr().repr(x).split())
    except Exception as error:  # repr is the user's code; the error to report is another one
        return f"<its repr raised {type(error).__name__}>"


def _no_form(x: object) -> str:
    for base in type(x).__mro__[1:]:
        if base in JSON_TYPES | {tuple, set, bytes, complex}:
            return f"{_describe(x)} is no exact {base.__name__}: convert it, or register its type"
    return f"{_describe(x)} has no PYON form: convert it, or register its type"
