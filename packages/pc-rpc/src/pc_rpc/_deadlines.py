"""Time-outs as points in time, on the clock of `time.monotonic`: for all steps of one call."""

from __future__ import annotations

import time

LONGEST = 1e6
"""Seconds, eleven days, beyond which a time-out is none: some systems cannot wait for longer."""

RECHECK = 0.05
"""Seconds after which a thread that waits looks around. Somebody else may have read its reply: a
signal handler or finaliser that ran on the same thread. Or nobody reads, because the leader is held
up by one; or a peer takes nothing until it has been read from. All of this is rare."""

LONGEST_RECHECK = 1.6
"""What `RECHECK` grows to, twofold each time, for a thread that no signal handler interrupts: so
threads that wait for long cost nothing to those that work."""


def deadline_of(timeout: float | None, began: float | None = None) -> float | None:
    """Return the time that a time-out ends at which began then, or now; None if it has none."""
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
