"""Deadlines: time-outs as points in time of `time.monotonic`, for all steps of one call."""

from __future__ import annotations

import time

LONGEST = 1e6
"""Seconds, eleven days. A longer time-out is no limit: some systems cannot wait for longer."""

RECHECK = 0.05
"""Seconds after which a waiting thread checks the state again. A signal handler or finaliser on the
same thread may have read its reply; or one blocks the leader, so that no thread reads; or the peer
does not read before its own messages are read. All of this is rare."""

LONGEST_RECHECK = 1.6
"""The longest such interval, to which `RECHECK` doubles in threads that no signal handler
interrupts: threads that wait for long take no processor time from the others."""


def deadline_of(timeout: float | None, began: float | None = None) -> float | None:
    """Return the deadline of a time-out that began then, or now; None if there is no limit."""
    if timeout is None or timeout > LONGEST:
        return None
    return (time.monotonic() if began is None else began) + timeout


def remaining(deadline: float | None) -> float | None:
    """Return the seconds until a deadline, None if there is none.

    Raises
    ------
    TimeoutError
        It has passed.
    """
    if deadline is None:
        return None
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def within(deadline: float | None, longest: float) -> float:
    """Return the seconds until a deadline, but at most `longest`.

    Raises
    ------
    TimeoutError
        The deadline has passed.
    """
    seconds = remaining(deadline)
    return longest if seconds is None or seconds > longest else seconds
