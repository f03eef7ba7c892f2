"""Defects that are known and not mended yet: noted in the report, no findings. Empty is best.

Each has its test in its package as soon as it is mended, and its line here goes.
"""

from __future__ import annotations

import re

PATTERNS = {
    "asyncio's log, when a subscription is cancelled before its structure has come": re.compile(
        r"_subscriber_connection.*_finish.*CancelledError", re.DOTALL
    ),
    "a TypeError in asyncio's log, where a publisher's hello has values of other types": re.compile(
        r"buffer_updated.*_subscription\.py.*TypeError", re.DOTALL
    ),
    "half a batch, shown to a subscriber with `max_rate`": re.compile(
        r"^(twenty a second|as many as it can): half a batch"
    ),
}
"""Findings that such a defect makes, by what it is."""

HELD_BACK = {
    "a hello of no sense": "a TypeError in asyncio's log",
    "a resumption that nobody asked for": "the subscriber asks for the structure without end",
}
"""Hostile publishers that are not tried, and what they would show."""


def known(text: str) -> str | None:
    """Return which known defect a finding shows; None if it is news."""
    return next((name for name, pattern in PATTERNS.items() if pattern.search(text)), None)
