"""The spelling of one generation: the table that the writer uses."""

from __future__ import annotations

from collections.abc import Callable

from ._errors import EncodeError
from ._integers import digits_are_limited
from ._plain import CLASS_KEY, Encode
from ._small import small_writers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MOST_KEYS = 1000
LONGEST_KEY = 40
"""Maximum number and length of keys whose spelling is cached, because the keys of messages recur.
The cache takes at most some 100 kB."""


class Keys(dict[str, str]):
    """A cache of the spelling of keys, each with the colon behind it.

    A missing key is spelled when it is looked up. The key of a tag raises KeyError where a dict
    with that key is written as a form. Only exact strings may be looked up, not objects that equal
    them.
    """

    def __init__(self, write: Callable[[str], str], colon: str, tagged: bool) -> None:
        self._write = write
        self._colon = colon
        self._tagged = tagged

    def __missing__(self, key: str) -> str:
        if self._tagged and key == CLASS_KEY:
            raise KeyError(key)
        start = self._write(key) + self._colon
        if len(key) <= LONGEST_KEY and len(self) < MOST_KEYS:
            self[key] = start
        return start


class Spelling:
    """The spelling of one generation, for texts on one line or for pretty texts.

    Parameters
    ----------
    leaves : dict
        Functions that return the whole text of a value, by exact type.
    comma, colon : str
        The separators between items, and behind a key.
    around_tuple : tuple of str
        The text before the items of a tuple, behind the items, and behind a single item.
    around_set : tuple of str
        The text before the items of a set, behind the items, and the text of the empty set.
    form : callable
        Returns the text of a form, given its name and the texts of its arguments.
    quotes : str
        The text before and behind base64, separated by a space.
    json : callable
        Returns the text of plain JSON: see `plain_json`.
    tagged : bool
        Whether a dict with keys that are not strings is a form with a list of pairs, and whether
        lists are broken into lines in pretty texts. If not, a dict of one item stays on its line.
    """

    def __init__(
        self,
        leaves: dict[type, Callable[[Any], str]],
        comma: str,
        colon: str,
        around_tuple: tuple[str, str, str],
        around_set: tuple[str, str, str],
        form: Callable[[str, list[str]], str],
        quotes: str,
        json: Encode,
        tagged: bool,
    ) -> None:
        self.leaves = leaves
        self.comma = comma
        self.colon = colon
        self.around_tuple = around_tuple
        self.around_set = around_set
        self.form = form
        self.before, self.behind = quotes.split()
        self.json = json
        self.tagged = tagged
        self.keys = Keys(leaves[str], colon, tagged)
        self.small = small_writers(self)

    def small_text(self, x: Any) -> str | None:
        """Return the text of a plain value on one line; None if it is not plain or is refused.

        In that case a `Writer` returns the text, or raises the error with its path.
        """
        write = self.small.get(type(x))
        if write is None or not digits_are_limited():
            return None  # without a limit, the text of a long integer could take half a minute
        try:
            return write(x)
        except (KeyError, ValueError, EncodeError, RecursionError):
            return None
