"""What has changed since a page was last told, as places; bounded."""

from __future__ import annotations

from typing import Any

__all__ = ["Changes"]

MOST_PLACES = 4000
"""Places that are kept apart; beyond that everything counts as changed."""

Path = tuple[Any, ...]


class Changes:
    """The places that have changed."""

    def __init__(self) -> None:
        self._replaced: set[Path] = set()  # everything there
        self._above: set[Path] = set()  # on the way to them
        self._everything = False

    def __bool__(self) -> bool:
        return self._everything or bool(self._replaced)

    def clear(self) -> None:
        """Forget all."""
        self._replaced.clear()
        self._above.clear()
        self._everything = False

    def note(self, path: Path) -> None:
        """Note that what is at a place is another one now, with all that is in it."""
        if self._everything or path in self._replaced:
            return
        if len(self._replaced) >= MOST_PLACES:
            self._everything = True
            return
        self._replaced.add(path)
        self._above.update(path[:length] for length in range(len(path)))

    def concern(self, path: Path) -> bool:
        """Tell whether a place, or something in it, has changed."""
        return (
            self._everything
            or path in self._above
            or any(path[:length] in self._replaced for length in range(len(path) + 1))
        )
