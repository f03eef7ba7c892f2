"""Back-off: the waits between attempts to connect. Arithmetic only, without a clock."""

from __future__ import annotations

import random

__all__ = ["Backoff"]

JITTER = 0.5
"""Largest fraction of a wait that is subtracted at random, so that a hundred clients of a restarted
server do not all reconnect at the same moment."""


class Backoff:
    """Waits that double with each attempt, up to a maximum.

    Parameters
    ----------
    first : float
        Seconds before the first new attempt.
    longest : float
        Maximum number of seconds between attempts. If it is less than `first`, every wait has it.
    jitter : float, optional
        Largest fraction of each wait that is subtracted at random, from 0 (none) to 1.

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
        """Return the wait before the next attempt, in seconds."""
        wait, self._wait = self._wait, min(2 * self._wait, self._longest)
        return wait * (1 - self._jitter * random.random())  # noqa: S311

    def reset(self) -> None:
        """Start again with the first wait: an attempt has succeeded."""
        self._wait = self._first
