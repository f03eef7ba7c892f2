"""Leases as text, for the ``pc-rpc`` command.

The one idea to keep in mind: the leases are in the greeting of the server, before a target is
selected, so that listing them makes no instance of a target.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_SHOWN = 1e9
"""Seconds, thirty years: a longer duration is an error of the server, and may overflow a clock."""


def described(lease: Mapping[str, Any]) -> str:
    """Return the purpose, the holder and the beginning of a lease as text."""
    seconds = lease.get("seconds")
    since = ""
    if isinstance(seconds, (int, float)) and 0 <= seconds < LONGEST_SHOWN:
        began = time.localtime(time.time() - seconds)
        since = f" since {time.strftime('%H:%M:%S', began)} ({seconds:.0f} s)"
    client, peer = lease.get("client"), lease.get("peer")
    who = f"{client} ({peer})" if client else peer
    return f"leased for {lease.get('purpose')!r} by {who}{since}"


def targets_with_leases(targets: Iterable[str], leases: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of targets, each with its lease, if there is one."""
    found = {str(lease.get("target")): f"  ({described(lease)})" for lease in leases}
    return [name + found.get(name, "") for name in targets]


def shown_leases(leases: Iterable[Mapping[str, Any]]) -> str:
    """Return a line for each lease; a sentence if there is none."""
    lines = [f"{lease.get('target')}: {described(lease)}" for lease in leases]
    return "\n".join(lines) or "no leases"
