"""Changed places of a structure since the last frame of a page; bounded."""

from __future__ import annotations

from typing import Any

__all__ = ["Changes"]

MOST_PLACES = 4000
"""Maximum number of changed places that are recorded. Beyond it, everything counts as changed."""

Path = tuple[Any, ...]


class Changes:
    """The places that have changed."""

    def __init__(self) -> None:
        self._replaced: set[Path] = set()  # places that changed with all their parts
        self._above: set[Path] = set()  # places above these
        self._everything = False

    def __bool__(self) -> bool:
        return self._everything or bool(self._replaced)

    def clear(self) -> None:
        """Forget all changes."""
        self._replaced.clear()
        self._above.clear()
        self._everything = False

    def note(self, path: Path) -> None:
        """Record that the value at a place has changed, with all its parts."""
        if self._everything or path in self._replaced:
            return
        if len(self._replaced) >= MOST_PLACES:
            self._everything = True
            return
        self._replaced.add(path)
        self._above.update(path[:length] for length in range(len(path)))

    def concern(self, path: Path) -> bool:
        """Return whether a place, or a part of it, has changed."""
        return (
            self._everything
            or path in self._above
            or any(path[:length] in self._replaced for length in range(len(path) + 1))
        )
