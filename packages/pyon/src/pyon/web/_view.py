"""View: the values that one page shows. It takes requests for rows, and returns frames; pure.

The one idea to keep in mind: a page requests the rows that are on its screen. Only these are
examined, and only when something in them has changed. So the cost of a page depends on the size of
its screen, not on the size of the structure.

A frame is one binary message: the length of its text (4 bytes, little-endian), the text (JSON,
padded with spaces), and the buffers of its drawings, each at a multiple of 8 bytes.
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
"""Maximum number of rows that a page may request: a screen has a hundred."""

MOST_PARTS = 2000
"""Maximum number of parts of one branch that are sent: others can be found by the search."""

LARGEST_FRAME = 4 * 2**20
"""Approximate limit of the drawings in a frame, in bytes; the rest is sent in the next frame."""

LONGEST_PATH = 4000
"""Maximum length of a path that is looked up, in characters."""

Path = tuple[Any, ...]


class Spelling(NamedTuple):
    """Functions for paths as text, which are the ids of rows, and for the last key of a path."""

    read: Callable[[str], list[Any]]
    write: Callable[[list[Any]], str]
    name: Callable[[Any], str]


class Want(NamedTuple):
    """The request of a page for one row."""

    path: Path
    opened: bool
    most: int
    width: int


class _Parts(NamedTuple):
    """The parts of a branch: their keys, and their description as it was sent."""

    keys: list[Any]
    description: dict[str, Any]


class Frame(NamedTuple):
    """Changed rows for a page, with the data of their drawings."""

    rows: list[dict[str, Any]]
    buffers: list[bytes]


class View:
    """The values that one page shows.

    Parameters
    ----------
    root : callable
        Returns the values: a dict whose items are the top-level rows.
    spelling : Spelling
        Functions for paths as text.
    """

    def __init__(self, root: Callable[[], Any], spelling: Spelling) -> None:
        self._root = root
        self._spelling = spelling
        self._wants: dict[str, Want] = {}
        self._due: dict[str, None] = {}  # rows to examine, in the order in which they became due
        self._sent: dict[str, dict[str, Any]] = {}
        self._parts: dict[Path, _Parts] = {}  # of open rows, as last sent
        self.changes = Changes()

    def want(self, rows: object) -> None:
        """Set the rows of the page: for each whether it is open, number of parts, width in pixels.

        Raises
        ------
        ValueError
            The request is invalid.
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
        """Return the path of a row; a path that does not exist if the name is invalid."""
        with contextlib.suppress(ValueError, TypeError):
            if len(name) <= LONGEST_PATH:
                path = tuple(self._spelling.read(name))
                hash(path)  # a key that is not hashable is in no dict
                return path
        return (object(),)

    def spell(self, path: Path) -> str:
        """Return a path as text, which is the id of its row."""
        return self._spelling.write([*path])

    def frame(self) -> Frame:
        """Return the rows that have changed since the last frame, up to the limit of a frame."""
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
        """Whether there are more changed rows, for the next frame."""
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
                self._sent.pop(child, None)  # it may never be on the screen

    def _look_up(self, path: Path) -> Any:
        value = self._root()
        for key in path:
            value = part_of(value, key)
        return value

    def _put(
        self, frame: Frame, name: str, row: dict[str, Any], drawings: list[tuple[str, Drawing]]
    ) -> None:
        description = {key: value for key, value in row.items() if key != "new"}
        if not drawings and self._sent.get(name) == description:
            return
        self._sent[name] = description
        sent = {"id": name, **description}
        for kind, drawing in drawings:
            numbers = [len(frame.buffers) + number for number in range(len(drawing.buffers))]
            sent[kind] = {**drawing.facts, "buffers": numbers}
            frame.buffers.extend(drawing.buffers)
        frame.rows.append(sent)

    def _row(self, value: Any, want: Want) -> tuple[dict[str, Any], list[tuple[str, Drawing]]]:
        """Return the description and the drawings of a value."""
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
                row["first"] = isinstance(value, dict)  # the first parts are shown, not the last
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
        """Return the parts of an open branch; ``new`` has the keys that were not sent before.

        Paths are written only if the keys have changed: values of a branch change more often.
        """
        keys = keys_of(value, want.most)
        known = self._parts.get(want.path)
        if known is not None and known.keys == keys:
            return {**known.description, "new": []}
        parts = [self.spell((*want.path, key)) for key in keys]
        sent = set() if known is None else set(known.description["parts"])
        new = [key for key, part in zip(keys, parts, strict=True) if part not in sent]
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
