"""The servers on the local network as a table, for the ``pc-rpc`` command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyon.terminal import legible

from pc_rpc._cli_errors import UsageError

if TYPE_CHECKING:
    from pc_rpc.discovery import FoundServer

TITLES = ("NAME", "HOST", "PORT", "TLS", "TARGETS", "DESCRIPTION")

WIDEST = 40
"""Characters of a column, except the last one. Longer texts are cut: anybody may announce them."""


def found(timeout: float | None) -> list[FoundServer]:
    """Return the announced servers.

    Raises
    ------
    UsageError
        The library for discovery is not installed.
    """
    from pc_rpc.discovery import SEARCH, find_servers

    try:
        return find_servers(SEARCH if timeout is None else timeout)
    except ImportError as error:
        raise UsageError(str(error)) from error


def table(servers: Sequence[FoundServer]) -> str:
    """Return a line for each server; "no servers found" if there is none."""
    if not servers:
        return "no servers found"
    rows = [TITLES, *map(_row, servers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES) - 1)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows)


def _row(server: FoundServer) -> tuple[str, ...]:
    described = [] if server.answers else ["(not answering)"]
    described += [legible(server.description)] if server.description else []
    return (
        _cut(legible(server.name)),
        legible(server.host),
        str(server.port),
        "yes" if server.tls else "no",
        _cut(legible(" ".join(server.targets))),
        " ".join(described),
    )


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
