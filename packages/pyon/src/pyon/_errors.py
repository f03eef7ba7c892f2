"""The errors of pyon: one root class; each error is also a built-in exception.

The errors are raised at the place of the problem and completed by the callers: an `EncodeError`
collects the path to the offending value, a `DecodeError` gets the name of the file.
"""

from __future__ import annotations

EXCERPT_WIDTH = 72
"""Maximum number of characters of the offending line in a message, so that it fits a terminal."""


LONGEST_PATH = 120
"""Maximum number of characters of the path to a value in a message."""


class PyonError(Exception):
    """Base class of the errors of pyon."""


class EncodeError(PyonError, TypeError):
    """A value that cannot be written exactly.

    Attributes
    ----------
    path : str
        The path to the value, as subscripts of the outermost object: ``['scan'][3]``; empty for
        that object itself.
    reason : str
        Why the value cannot be written.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._steps: list[str] = []

    @property
    def path(self) -> str:
        """The path to the value, as subscripts of the outermost object."""
        return "".join(reversed(self._steps))

    def within(self, step: str) -> None:
        """Add the step of one more enclosing container to the path."""
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
        What was expected and what was found.
    text : str
        The whole text.
    position : int
        Offset of the offending character in `text`.

    Attributes
    ----------
    reason, position
        As above.
    lineno, colno : int
        Line and column of the offending character, both counted from 1.
    line : str
        The part of this line around the character.
    filename : str or None
        The name of the file, set by `load_file`.
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
    """Return the part of the line from `start` that is around `position`, and its offset there."""
    first = max(start, position - EXCERPT_WIDTH // 2)
    end = text.find("\n", position, first + EXCERPT_WIDTH)
    line = text[first : end if end >= 0 else first + EXCERPT_WIDTH].rstrip("\r")
    printable = "".join(c if c.isprintable() else "?" for c in line)
    return printable, position - first
