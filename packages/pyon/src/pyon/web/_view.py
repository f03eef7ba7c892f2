"""View: what one page sees of values. It takes what the page wants, and gives frames; pure.

The one idea to keep in mind: a page says which rows are on its screen, and only these are looked
at, and only when something in them has changed. So what a page costs follows from its screen, not
from the size of what it shows.

A frame is one binary message: the length of its text (4 bytes, little-endian), the text (JSON, with
spaces behind it), and the buffers of its drawings, each at a multiple of 8 bytes.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pyon.web._changes import Changes
from pyon.web._plots import Drawing, image, line, spark
from pyon.web._values import (
    count_of,
    keys_of,
    kind_of,
    line_of,
    number_of,
    part_of,
    text_of,
)

__all__ = ["Frame", "Spelling", "View", "pack"]

MOST_ROWS = 2000
"""Rows that a page may want at a time: a screen has a hundred."""

MOST_PARTS = 2000
"""Parts of one branch that a page is told: what is beyond them is found by the search."""

LARGEST_FRAME = 4 * 2**20
"""Bytes of drawings in a frame, about; what is left comes in the next one."""

LONGEST_PATH = 4000
"""Characters of a path that is looked up."""

Path = tuple[Any, ...]


class Spelling(NamedTuple):
    """How paths are written, which is what a page calls a row, and the last key of one."""

    read: Callable[[str], list[Any]]
    write: Callable[[list[Any]], str]
    name: Callable[[Any], str]


class Want(NamedTuple):
    """What a page wants of a row."""

    path: Path
    opened: bool
    most: int
    width: int


class _Parts(NamedTuple):
    """The parts of a branch, by key, and as a page was told of them."""

    keys: list[Any]
    told: dict[str, Any]


class Frame(NamedTuple):
    """What a page is sent: rows that have changed, with the data of their drawings."""

    rows: list[dict[str, Any]]
    buffers: list[bytes]


class View:
    """What one page sees.

    Parameters
    ----------
    root : callable
        Returns the values that there are: a dict whose items are the uppermost rows.
    spelling : Spelling
        How paths are written.
    """

    def __init__(self, root: Callable[[], Any], spelling: Spelling) -> None:
        self._root = root
        self._spelling = spelling
        self._wants: dict[str, Want] = {}
        self._due: dict[str, None] = {}  # rows to look at, who waits longest first
        self._sent: dict[str, dict[str, Any]] = {}
        self._parts: dict[Path, _Parts] = {}  # of rows that are open, as last told
        self.changes = Changes()

    def want(self, rows: object) -> None:
        """Take what a page wants: for each row whether it is open, how many parts, how wide.

        Raises
        ------
        ValueError
            It cannot be understood.
        """
        if not isinstance(rows, Mapping) or len(rows) > MOST_ROWS:
            raise ValueError(f"expected at most {MOST_ROWS} rows")
        wants = {name: self._read(name, given) for name, given in rows.items()}
        for name in {*self._wants} - {*wants}:
            self._due.pop(name, None)
            self._sent.pop(name, None)
            self._parts.pop(self._wants[name].path, None)
        for name, want in wants.items():
            if self._wants.get(name) != want:
                self._due[name] = None
        self._wants = wants

    def _read(self, name: str, given: object) -> Want:
        known = self._wants.get(name)
        match given:
            case [bool(opened), int(most), int(width)]:
                path = known.path if known is not None else self._path(name)
                return Want(path, opened, max(0, min(most, MOST_PARTS)), width)
        raise ValueError("expected for each row: open, number of parts, width")

    def _path(self, name: str) -> Path:
        """Return the place that a row stands for; that of nothing, if it cannot be understood."""
        with contextlib.suppress(ValueError, TypeError):
            if len(name) <= LONGEST_PATH:
                path = tuple(self._spelling.read(name))
                hash(path)  # a key that has none is in no dict
                return path
        return (object(),)

    def spell(self, path: Path) -> str:
        """Return a path as the page writes it."""
        return self._spelling.write([*path])

    def frame(self) -> Frame:
        """Return what has changed on the screen since the last frame, or the first part of it."""
        self._due.update(
            (name, None) for name, want in self._wants.items() if self.changes.concern(want.path)
        )
        self.changes.clear()
        frame = Frame([], [])
        size = 0
        while self._due and size < LARGEST_FRAME:
            name = next(iter(self._due))
            del self._due[name]
            before = len(frame.buffers)
            self._add(frame, name, self._wants[name])
            size += sum(map(len, frame.buffers[before:]))
        return frame

    @property
    def has_more(self) -> bool:
        """Whether the last frame left something to the next one."""
        return bool(self._due)

    def _add(self, frame: Frame, name: str, want: Want) -> None:
        try:
            value = self._look_up(want.path)
        except LookupError:
            self._put(frame, name, {"kind": "absent", "line": "not there"}, [])
            return
        row, drawings = self._row(value, want)
        self._put(frame, name, row, drawings)
        for key in row.pop("new", ()):
            path = (*want.path, key)
            child = self.spell(path)
            if child not in self._wants:
                inner, drawn = self._row(value=part_of(value, key), want=Want(path, False, 0, 0))
                self._put(frame, child, inner, drawn)
                self._sent.pop(child, None)  # it is not on the screen yet, maybe never

    def _look_up(self, path: Path) -> Any:
        value = self._root()
        for key in path:
            value = part_of(value, key)
        return value

    def _put(
        self, frame: Frame, name: str, row: dict[str, Any], drawings: list[tuple[str, Drawing]]
    ) -> None:
        told = {key: value for key, value in row.items() if key != "new"}
        if not drawings and self._sent.get(name) == told:
            return
        self._sent[name] = told
        sent = {"id": name, **told}
        for kind, drawing in drawings:
            numbers = [len(frame.buffers) + number for number in range(len(drawing.buffers))]
            sent[kind] = {**drawing.facts, "buffers": numbers}
            frame.buffers.extend(drawing.buffers)
        frame.rows.append(sent)

    def _row(self, value: Any, want: Want) -> tuple[dict[str, Any], list[tuple[str, Drawing]]]:
        """Return what is told of a value, and what is drawn of it."""
        kind = kind_of(value)
        if not (want.opened and kind == "branch"):
            self._parts.pop(want.path, None)
        row: dict[str, Any] = {"kind": kind, "line": line_of(value)}
        drawings: list[tuple[str, Drawing]] = []
        if kind == "number":
            row["number"] = number_of(value)
        elif kind == "branch":
            row["count"] = count_of(value)
            if want.opened:
                row |= self._parts_of(value, want)
                row["first"] = isinstance(value, dict)  # which ones are shown
        elif kind == "text":
            row["long"] = len(value) > 60 or (isinstance(value, str) and "\n" in value)
            if want.opened:
                row |= text_of(value)
        elif kind == "line":
            drawings.append(("spark", spark(value)))
            if want.opened:
                drawings.append(("plot", line(value, want.width)))
        elif kind == "image" and want.opened:
            drawings.append(("plot", image(value, want.width)))
        return row, drawings

    def _parts_of(self, value: Any, want: Want) -> dict[str, Any]:
        """Return which parts an open branch shows; ``new`` are those that were not told before.

        They are spelled only if they are others than last time: a number in it changes more often.
        """
        keys = keys_of(value, want.most)
        known = self._parts.get(want.path)
        if known is not None and known.keys == keys:
            return {**known.told, "new": []}
        parts = [self.spell((*want.path, key)) for key in keys]
        told = set() if known is None else set(known.told["parts"])
        new = [key for key, part in zip(keys, parts, strict=True) if part not in told]
        names = [self._spelling.name(key) for key in keys]
        self._parts[want.path] = _Parts(keys, {"parts": parts, "names": names})
        return {"parts": parts, "names": names, "new": new}


def pack(header: Mapping[str, Any], buffers: list[bytes]) -> bytes:
    """Return a frame as one message."""
    sizes = [len(buffer) for buffer in buffers]
    text = json.dumps({**header, "sizes": sizes}, separators=(",", ":")).encode()
    text += b" " * (-(4 + len(text)) % 8)
    pieces = [struct.pack("<I", len(text)), text]
    for buffer in buffers:
        pieces += [buffer, b"\0" * (-len(buffer) % 8)]
    return b"".join(pieces)
