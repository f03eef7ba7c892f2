"""Search of a structure by path, a little at a time.

The one idea to keep in mind: it goes level by level, small parts first, so what is near the top is
found however large something beside it is; and it ends at a bound and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyon.web._values import count_of, is_branch, items_of

__all__ = ["Found", "search"]

MOST_FOUND = 200
"""Paths that are told: more are no help, a longer word is."""

MOST_VISITED = 200_000
"""Places that are looked at: about a second."""

STRIDE = 2_000
"""Places that are looked at before others have their turn: some milliseconds."""

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Found:
    """What a search has found: paths, and what was left out, in words ("" if nothing)."""

    paths: list[Path]
    note: str = ""


async def search(root: Any, text: str, spell: Callable[[Path], str]) -> Found:
    """Return the places of a structure whose path has all words of a text in it.

    Parameters
    ----------
    root : dict or list
        What is searched. It may change meanwhile: what is gone is not found.
    text : str
        Words with spaces between them. Upper and lower case are the same.
    spell : callable
        Returns a path as text.
    """
    words = text.lower().split()
    paths: list[Path] = []
    level: list[tuple[Path, Any]] = [((), root)] if words else []
    visited = 0
    while level:
        below: list[tuple[Path, Any]] = []
        for place, container in sorted(level, key=_size):
            for key, value in items_of(container, MOST_VISITED - visited):
                visited += 1
                if visited % STRIDE == 0:
                    await asyncio.sleep(0)
                path = (*place, key)
                if _has(spell(path).lower(), words):
                    paths.append(path)
                    if len(paths) >= MOST_FOUND:
                        note = f"the first {MOST_FOUND} are shown: say more of the path"
                        return Found(paths, note)
                if is_branch(value):
                    below.append((path, value))
            if visited >= MOST_VISITED:
                return Found(paths, f"ended after {visited:,} places: say where, as in name/part")
        level = below
    return Found(paths)


def _size(branch: tuple[Path, Any]) -> int:
    return count_of(branch[1])


def _has(spelled: str, words: list[str]) -> bool:
    return all(word in spelled for word in words)
