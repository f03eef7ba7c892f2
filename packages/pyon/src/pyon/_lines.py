"""The walk over a value for pretty texts, sorted texts, or both."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ._errors import EncodeError
from ._on_demand import load_arrays
from ._plain import CLASS_KEY, JSON_CONTAINERS, MANY, STR
from ._spelling import Spelling
from ._types import Form, Forms
from ._writer import Callback, Convert, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class LinesWriter(Writer):
    """Writes one value, item by item.

    Parameters
    ----------
    spelling, forms, buffer_callback, convert
        As for `Writer`.
    pretty : bool
        Whether to break the text into lines.
    sort_keys : bool
    """

    _level = 0

    def __init__(
        self,
        spelling: Spelling,
        forms: Forms,
        buffer_callback: Callback | None,
        convert: Convert,
        pretty: bool,
        sort_keys: bool,
    ) -> None:
        super().__init__(spelling, forms, buffer_callback, convert)
        self._pretty = pretty
        self._sort_keys = sort_keys
        self._may_splice = not sort_keys
        self._notes: list[str] = []

    def _whole(self, x: Any) -> str:
        return super()._whole(x) + self._note()

    def _plain(self, x: list[Any] | dict[Any, Any], depth: int) -> str | None:
        """Write plain JSON in one piece, unless it has containers to sort or break into lines."""
        if len(x) < MANY or any(map(JSON_CONTAINERS.__contains__, map(type, x))):
            return None
        return super()._plain(x, depth)

    def _list(self, x: list[Any], depth: int) -> str:
        if self._pretty and self._spelling.tagged and x:
            return self._in_lines(
                "[]", list(enumerate(x)), lambda item: self._item(item[0], item[1], depth)
            )
        return super()._list(x, depth)

    def _item(self, index: int, x: Any, depth: int) -> str:
        try:
            return self._write(x, depth)
        except EncodeError as error:
            error.within(f"[{index}]")
            raise

    def _set(self, x: set[Any], depth: int) -> str:
        before, behind, empty = self._spelling.around_set
        return before + self._sorted_items(x, depth) + behind if x else empty

    def _sorted_items(self, x: set[Any], depth: int) -> str:
        """Write the items sorted by their texts, so that equal sets have equal texts."""
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
        spelling = self._spelling
        if spelling.tagged and (CLASS_KEY in x or not STR.issuperset(map(type, x))):
            return spelling.form("dict", [self._pairs(x, depth)])
        return self._one_by_one(
            "{}", x, lambda entry: self._entries(entry, depth, spelling.colon)[0]
        )

    def _pairs(self, x: dict[Any, Any], depth: int) -> str:
        comma = self._spelling.comma
        return self._one_by_one("[]", x, lambda entry: f"[{self._entries(entry, depth, comma)[0]}]")

    def _table(self, entries: Iterable[tuple[Any, Any]], depth: int, between: str) -> str | None:
        return None

    def _one_by_one(
        self, brackets: str, x: dict[Any, Any], write: Callable[[list[tuple[Any, Any]]], str]
    ) -> str:
        """Write the entries of a dict one by one, in lines or sorted or both."""
        entries = list(x.items())
        if self._sort_keys and type(x) is dict:
            if set(map(type, x)) in ({str}, {int}):
                entries.sort(key=lambda entry: entry[0])
            else:
                notes, self._notes = self._notes, []
                entries.sort(key=lambda entry: write([entry]))
                self._notes = notes  # the notes of the entries are added when they are written
        if self._pretty and len(x) > (not self._spelling.tagged):
            return self._in_lines(brackets, [[entry] for entry in entries], write)
        inside = self._spelling.comma.join([write([entry]) for entry in entries])
        return brackets[0] + inside + brackets[1]

    def _in_lines(self, brackets: str, parts: list[Any], write: Callable[[Any], str]) -> str:
        """Write each part on its own line, indented by one level more than the brackets."""
        indent = "\n" + "    " * self._level
        self._level += 1
        lines = [brackets[0]]
        for number, part in enumerate(parts, 1):
            text = write(part)
            comma = "," if number < len(parts) else ""
            lines.append(f"{indent}    {text}{comma}{self._note()}")
        self._level -= 1
        return "".join([*lines, indent, brackets[1]])

    def _form(self, form: Form, x: Any, depth: int) -> str:
        text = super()._form(form, x, depth)
        if self._pretty and form.name == "npscalar" and not self._spelling.tagged:
            self._notes += load_arrays().readable(x)
        return text

    def _note(self) -> str:
        """Return a comment with the values of the numpy scalars on the line."""
        if not self._notes:
            return ""
        note = f"  # {', '.join(self._notes)}"
        self._notes.clear()
        return note


LinesWriter.writers = {
    **Writer.writers,
    list: LinesWriter._list,
    set: LinesWriter._set,
    dict: LinesWriter._dict,
}
