"""The errors of pyon: one root, and each also the built-in that a stranger would catch.

Both are built where something went wrong and completed on the way up: an `EncodeError` collects the
path to the offending value, a `DecodeError` the name of the file.
"""

from __future__ import annotations

EXCERPT_WIDTH = 72
"""Characters of the offending line that are shown: it fits into a terminal, however long the line
is."""


LONGEST_PATH = 120
"""Characters of the path to a value that a message shows."""


class PyonError(Exception):
    """Root of everything that pyon raises on its own account."""


class EncodeError(PyonError, TypeError):
    """A value that cannot be written exactly.

    Attributes
    ----------
    path : str
        Where the value is, as subscripts from the outermost object: ``['scan'][3]``; empty if it is
        that object itself.
    reason : str
        What is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._steps: list[str] = []

    @property
    def path(self) -> str:
        """Subscripts that lead to the value."""
        return "".join(reversed(self._steps))

    def within(self, step: str) -> None:
        """Note one more container around the value, on the way out of it."""
        self._steps.append(step)

    def __str__(self) -> str:
        path = self.path
        if len(path) > LONGEST_PATH:
            path = f"{path[: LONGEST_PATH // 2]} ... {path[-LONGEST_PATH // 2 :]}"
        return f"{path}: {self.reason}" if path else self.reason


class DecodeError(PyonError, ValueError):
    """Text that is not PYON.

    Parameters
    ----------
    reason : str
        What was expected and what came.
    text : str
        The whole text.
    position : int
        Offset of the offending character in `text`.

    Attributes
    ----------
    reason, position
        As above.
    lineno, colno : int
        The same place as line and column, both counted from 1.
    line : str
        The line around that place, shortened.
    filename : str or None
        Set by `load_file`.
    """

    def __init__(self, reason: str, text: str = "", position: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position
        self.lineno = text.count("\n", 0, position) + 1
        start = text.rfind("\n", 0, position) + 1
        self.colno = position - start + 1
        self.line, self._caret = _excerpt(text, start, position)
        self.filename: str | None = None

    def __str__(self) -> str:
        where = f"line {self.lineno}, column {self.colno}: {self.reason}"
        if self.filename is None:
            return where
        return f"{self.filename}: {where}\n    {self.line}\n    {' ' * self._caret}^"


def _excerpt(text: str, start: int, position: int) -> tuple[str, int]:
    """Cut the line from `start` down to what is around `position`, and say where that is."""
    first = max(start, position - EXCERPT_WIDTH // 2)
    end = text.find("\n", position, first + EXCERPT_WIDTH)
    line = text[first : end if end >= 0 else first + EXCERPT_WIDTH].rstrip("\r")
    printable = "".join(c if c.isprintable() else "?" for c in line)
    return printable, position - first
