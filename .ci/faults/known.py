"""Known defects that are not fixed yet: the report has a note instead of a finding.

A fix removes the entry here, and adds a test to the package.
"""

from __future__ import annotations

import re

PATTERNS: dict[str, re.Pattern[str]] = {
    "asyncio ends a TLS transport twice whose peer goes while its buffer is written": re.compile(
        r"in the log of a server \(.*TLS\).*_SelectorSocketTransport\._call_connection_lost\(",
        re.DOTALL,
    ),
}
"""Descriptions of defects, and the findings that they cause."""

HELD_BACK: dict[str, str] = {}
"""Hostile publishers that are not tried, and the reasons."""


def known(text: str) -> str | None:
    """Return the known defect that caused a finding; None if it is a new one."""
    return next((name for name, pattern in PATTERNS.items() if pattern.search(text)), None)
