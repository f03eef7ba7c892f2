"""Views: a structure as a tree in a terminal, with recent changes highlighted.

It needs rich, of the extra ``sync-struct[watch]``; only `watch` imports this module.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from rich.tree import Tree

from sync_struct._actions import Mod
from sync_struct._kinds import is_array

__all__ = ["View", "describe_array", "image", "sparkline"]

HIGHLIGHT_TIME = 2.0
"""Seconds that a change is highlighted: long enough to look at it."""

MOST_ITEMS = (50, 30, 20, 12, 8, 5, 3, 2)
"""Numbers of items shown per container: the first with which the tree fits into the window. The
number of items left out is shown; of a list, the oldest are left out."""

BARS = "▁▂▃▄▅▆▇█"
SHADES = " ░▒▓█"
WIDTH, HEIGHT = 40, 8  # characters of a sparkline or image


class View:
    """Draws a structure.

    Parameters
    ----------
    title : str
        The line above the tree.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.target: Any = None
        self.state = "connecting"
        self.trouble = ""  # the last error, until the state is live
        self._changed: dict[str, float] = {}  # time of the last change, by path as text

    def note(self, mod: Mod) -> None:
        """Highlight the change of a mod."""
        if mod["action"] != "init":
            key = mod.get("key", mod.get("i"))
            self._changed[repr(mod["path"])] = time.monotonic()
            self._changed[repr([*mod["path"], key])] = time.monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the structure, at most as tall as the window."""
        now = time.monotonic()
        self._changed = {
            path: when for path, when in self._changed.items() if now - when < HIGHLIGHT_TIME
        }
        color = {"live": "green", "stale": "red"}.get(self.state, "yellow")
        head = Text.assemble(self.title, "  ", (self.state, color), "  ", (self.trouble, "red"))
        head.rstrip()
        yield head
        if self.target is not None:  # else no structure has arrived yet
            yield self._tree(console, options)

    def _tree(self, console: Console, options: ConsoleOptions) -> Tree:
        height = options.height or console.size.height
        for most in MOST_ITEMS:
            tree = Tree(self._label("", self.target, []), guide_style="dim")
            self._grow(tree, self.target, [], most)
            if len(console.render_lines(tree, options.update(height=None))) < height - 1:
                break
        return tree

    def _grow(self, tree: Tree, value: Any, path: list[Any], most: int) -> None:
        items = list(_items(value))
        shown, left_out = self._choose(items, value, path, most)
        if left_out and isinstance(value, list):
            tree.add(Text(f"... {left_out} earlier", style="dim"))
        for key, item in shown:
            place = [*path, key]
            branch = tree.add(self._label(f"{key!r}: ", item, place))
            self._grow(branch, item, place, most)
        if left_out and not isinstance(value, list):
            tree.add(Text(f"... {left_out} more: name one as PATH to see it", style="dim"))

    def _choose(
        self, items: list[tuple[Any, Any]], value: Any, path: list[Any], most: int
    ) -> tuple[list[tuple[Any, Any]], int]:
        """Return the items to show, and the number of those left out.

        Shown are the last items of a list, which are the newest; of a dict, those that have changed
        recently, then the first ones.
        """
        left_out = len(items) - most
        if left_out <= 0:
            return items, 0
        if isinstance(value, list):
            return items[-most:], left_out
        changed = [item for item in items if repr([*path, item[0]]) in self._changed][-most:]
        keys = {repr(key) for key, _ in changed}
        for key, _ in items:
            if len(keys) < most:
                keys.add(repr(key))
        return [item for item in items if repr(item[0]) in keys], left_out

    def _label(self, name: str, value: Any, path: list[Any]) -> Text:
        style = "bold yellow" if path and repr(path) in self._changed else ""
        return Text.assemble((name, "cyan"), (_summary(value), style))


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _summary(value: Any) -> str:
    if is_array(value):
        return describe_array(value)
    if isinstance(value, (dict, list)):
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 2 * WIDTH else f"{text[: 2 * WIDTH]}..."


def describe_array(array: Any) -> str:
    """Return type and shape of an array, and a plot of its values if they are numbers."""
    shape = " x ".join(map(str, array.shape)) or "no dimension"
    head = f"{array.dtype} {shape}"
    if array.dtype.kind not in "biuf" or not array.size:
        return head
    if array.ndim == 1:
        return f"{head}  {sparkline(array)}"
    if array.ndim == 2:
        return f"{head}\n{image(array)}"
    return head if array.ndim else f"{head}  {array[()]!r}"


def sparkline(array: Any) -> str:
    """Return the values of a one-dimensional array as bars; if there are many, every nth."""
    step = -(-len(array) // WIDTH)
    return "".join(BARS[level] for level in _levels(array[::step], len(BARS)))


def image(array: Any) -> str:
    """Return the values of a two-dimensional array as shades; if there are many, every nth."""
    part = array[:: -(-array.shape[0] // HEIGHT), :: -(-array.shape[1] // WIDTH)]
    shades = iter([SHADES[level] for level in _levels(part.ravel(), len(SHADES))])
    return "\n".join("".join(next(shades) for _ in row) for row in part)


def _levels(values: Any, number: int) -> list[int]:
    """Return each value as one of `number` levels between the smallest and largest value."""
    finite = [float(value) for value in values if value == value and abs(value) != float("inf")]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    half = high / 2 - low / 2  # the whole difference may overflow
    return [
        round((min(max(float(value), low), high) / 2 - low / 2) / half * (number - 1))
        if half and value == value
        else 0
        for value in values
    ]
