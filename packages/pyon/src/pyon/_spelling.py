"""How a generation spells things: the table that the writer looks into."""

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
"""How many keys, and up to which length, are kept with their spelling: the fields of messages come
again and again. At most some 100 kB."""


class Keys(dict[str, str]):
    """How keys are spelled, with the colon behind them, by key.

    To look one up spells it. KeyError for the key of a tag where dicts with it are forms. Keys that
    only equal strings must not be looked up.
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
    """How a generation spells things, for texts on one line or for pretty ones.

    Parameters
    ----------
    leaves : dict
        Functions that give the whole text of a value, by exact type.
    comma, colon : str
        What is between items, and behind a key.
    around_tuple : tuple of str
        What is before the items of a tuple, behind them, and behind the only one.
    around_set : tuple of str
        What is before the items of a set, behind them, and in place of all where there is none.
    form : callable
        Gives the text of a form from its name and the texts of its arguments.
    quotes : str
        What is before and behind base64: two strings with a blank between them.
    json : callable
        Gives the text of plain JSON: see `plain_json`.
    tagged : bool
        Whether dicts with other keys than strings are forms with a list of pairs, and lists stand
        in lines if pretty. If not, a dict of one item stays on its line.
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
        """Write a plain value on one line; None if it is not plain, or has no exact text.

        Then a `Writer` gives the text, or says what is wrong and where.
        """
        write = self.small.get(type(x))
        if write is None or not digits_are_limited():
            return None  # without a limit, the text of a long integer could take half a minute
        try:
            return write(x)
        except (KeyError, ValueError, EncodeError, RecursionError):
            return None
