"""How long to wait between attempts to connect: arithmetic only, without a clock."""

from __future__ import annotations

import random

__all__ = ["Backoff"]

JITTER = 0.5
"""Largest part of a wait that chance takes off, so that a hundred clients of one server that was
restarted do not all come back in the same moment."""


class Backoff:
    """Waits that double with each attempt, up to a longest one.

    Parameters
    ----------
    first : float
        Seconds before the first new attempt.
    longest : float
        Seconds between attempts in the long run. If it is less than `first`, it is used at once.
    jitter : float, optional
        Largest part of each wait that chance takes off, from 0 (none) to 1.

    Examples
    --------
    >>> backoff = Backoff(5.0, 40.0, jitter=0)
    >>> [backoff.next() for _ in range(5)]
    [5.0, 10.0, 20.0, 40.0, 40.0]
    >>> backoff.reset(); backoff.next()
    5.0
    """

    def __init__(self, first: float, longest: float, *, jitter: float = JITTER) -> None:
        if not (first >= 0 and longest >= 0 and 0 <= jitter <= 1):
            raise ValueError(
                "expected waits of at least 0 s and a jitter between 0 and 1, got "
                f"first={first!r}, longest={longest!r}, jitter={jitter!r}"
            )
        self._first = min(first, longest)
        self._longest = longest
        self._jitter = jitter
        self._wait = self._first

    def next(self) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        wait, self._wait = self._wait, min(2 * self._wait, self._longest)
        return wait * (1 - self._jitter * random.random())  # noqa: S311

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self._wait = self._first
