"""What was told of each call, and how often each was executed.

The driver counts in a file that both ends map: it survives the server. Each call has a number of
its own, so that what was told is compared call by call and not in sums.
"""

from __future__ import annotations

import itertools
import mmap
from collections import Counter
from pathlib import Path

import numpy as np

CAPACITY = 4_000_000
"""Calls of one round: more than are made within its budget."""

ANSWERED, NOT_EXECUTED, UNKNOWN, UNTOLD = 1, 2, 3, 0
NAMES = {
    ANSWERED: "answered",
    NOT_EXECUTED: "not sent, or refused",
    UNKNOWN: "may have been executed",
    UNTOLD: "untold",
}


def map_counts(path: str | Path) -> mmap.mmap:
    """Return the counts, one byte for each call, as the driver changes them."""
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), CAPACITY)


class Ledger:
    """The calls of one round.

    Parameters
    ----------
    path : Path
        Where the driver counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "wb") as file:
            file.truncate(CAPACITY)
        self._told = bytearray(CAPACITY)
        self._numbers = itertools.count()

    def number(self) -> int:
        """Return the number of the next call."""
        return next(self._numbers)

    def tell(self, number: int, outcome: int) -> None:
        """Note what the caller was told."""
        self._told[number] = outcome

    def check(self) -> tuple[Counter[str], list[str]]:
        """Return sums, and each call of which something else is true than was told."""
        made = next(self._numbers)
        told = np.frombuffer(self._told, np.uint8, made)
        with map_counts(self.path) as counts:
            executed = np.frombuffer(counts, np.uint8, made).copy()
        expected = {
            ANSWERED: executed == 1,
            NOT_EXECUTED: executed == 0,
            UNKNOWN: executed <= 1,
            UNTOLD: executed < 0,
        }
        sums = Counter({"calls made": made, "calls executed": int(executed.sum())})
        disagreements = []
        for outcome, as_told in expected.items():
            these = told == outcome
            sums[f"calls {NAMES[outcome]}"] = int(these.sum())
            disagreements += [
                f"call {number}, told to be {NAMES[outcome]}, was executed {executed[number]} times"
                for number in np.flatnonzero(these & ~as_told)
            ]
        return sums, disagreements
