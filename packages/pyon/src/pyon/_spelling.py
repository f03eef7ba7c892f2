"""How a generation spells things: the table that the writer looks into."""

from __future__ import annotations

from collections.abc import Callable, Collection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Spelling:
    """How a generation spells things, for texts on one line or for pretty ones.

    Parameters
    ----------
    leaves : dict
        Functions that give the whole text of a value, by exact type.
    comma, colon : str
        What is between items, and behind a key.
    sequence : callable
        Gives the text of a tuple or set from its name, the text of its items, and their number.
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
        sequence: Callable[[str, str, int], str],
        form: Callable[[str, list[str]], str],
        quotes: str,
        json: Callable[[Any, int, list[Collection[Any]]], str],
        tagged: bool,
    ) -> None:
        self.leaves = leaves
        self.comma = comma
        self.colon = colon
        self.sequence = sequence
        self.form = form
        self.before, self.behind = quotes.split()
        self.json = json
        self.tagged = tagged
        self.keys: dict[str, str] = {}
