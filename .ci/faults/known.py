"""Defects that are known and not mended yet: noted in the report, no findings. Empty is best.

Each has its test in its package as soon as it is mended, and its line here goes.
"""

from __future__ import annotations

import re

PATTERNS: dict[str, re.Pattern[str]] = {
    "asyncio ends a TLS transport twice whose peer goes while its buffer is written": re.compile(
        r"in the log of a server \(.*TLS\).*_SelectorSocketTransport\._call_connection_lost\(",
        re.DOTALL,
    ),
}
"""Findings that such a defect makes, by what it is."""

HELD_BACK: dict[str, str] = {}
"""Hostile publishers that are not tried, and what they would show."""


def known(text: str) -> str | None:
    """Return which known defect a finding shows; None if it is news."""
    return next((name for name, pattern in PATTERNS.items() if pattern.search(text)), None)
