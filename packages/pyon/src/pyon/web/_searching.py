"""Search of a structure by path, in small steps.

The one idea to keep in mind: the search goes level by level, small parts first. So places near the
top are found even beside very large parts. It stops at a limit, and the result says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyon.web._values import count_of, is_branch, items_of

__all__ = ["Found", "search"]

MOST_FOUND = 200
"""Maximum number of paths in a result: beyond it, the user should type more."""

MOST_VISITED = 200_000
"""Maximum number of places that are visited, which takes about a second."""

STRIDE = 2_000
"""Number of places visited before other tasks run, which takes some milliseconds."""

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Found:
    """The result of a search: paths, and a note if the search was stopped at a limit."""

    paths: list[Path]
    note: str = ""


async def search(root: Any, text: str, spell: Callable[[Path], str]) -> Found:
    """Return the places of a structure whose path contains all words of a text.

    Parameters
    ----------
    root : dict or list
        The structure. It may change during the search; removed parts are not found.
    text : str
        Words separated by spaces. Case is ignored.
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
                        note = f"the first {MOST_FOUND} are shown: type more of the path"
                        return Found(paths, note)
                if is_branch(value):
                    below.append((path, value))
            if visited >= MOST_VISITED:
                note = f"stopped after {visited:,} places: say where, as in name/part"
                return Found(paths, note)
        level = below
    return Found(paths)


def _size(branch: tuple[Path, Any]) -> int:
    return count_of(branch[1])


def _has(spelled: str, words: list[str]) -> bool:
    return all(word in spelled for word in words)
