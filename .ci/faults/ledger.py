"""The outcome of each call at its caller, and how often the driver executed it.

The driver counts in a file that both ends map, and that survives the server. Each call has its own
number, so that outcomes are compared call by call and not as sums.
"""

from __future__ import annotations

import itertools
import mmap
from collections import Counter
from pathlib import Path

import numpy as np

CAPACITY = 4_000_000
"""Largest number of calls of one round."""

ANSWERED, NOT_EXECUTED, UNKNOWN, UNTOLD = 1, 2, 3, 0
NAMES = {
    ANSWERED: "answered",
    NOT_EXECUTED: "not sent, or refused",
    UNKNOWN: "may have been executed",
    UNTOLD: "without an outcome",
}


def map_counts(path: str | Path) -> mmap.mmap:
    """Map the counts of the driver, one byte for each call."""
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), CAPACITY)


class Ledger:
    """The calls of one round.

    Parameters
    ----------
    path : Path
        File of the driver's counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "wb") as file:
            file.truncate(CAPACITY)
        self._outcomes = bytearray(CAPACITY)
        self._numbers = itertools.count()

    def number(self) -> int:
        """Return the number of the next call."""
        return next(self._numbers)

    def record(self, number: int, outcome: int) -> None:
        """Record the outcome of a call at its caller."""
        self._outcomes[number] = outcome

    def check(self) -> tuple[Counter[str], list[str]]:
        """Return sums, and each call whose outcome contradicts the count of the driver."""
        made = next(self._numbers)
        outcomes = np.frombuffer(self._outcomes, np.uint8, made)
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
        for outcome, agrees in expected.items():
            these = outcomes == outcome
            sums[f"calls {NAMES[outcome]}"] = int(these.sum())
            disagreements += [
                f"call {number}, {NAMES[outcome]}, was executed {executed[number]} times"
                for number in np.flatnonzero(these & ~agrees)
            ]
        return sums, disagreements
