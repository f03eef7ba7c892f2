"""Replay: a recorded structure as it was at some time, or published again as it became."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sync_struct._mods import applied
from sync_struct._recording import Record, RecordingError

if TYPE_CHECKING:
    from sync_struct._relay import Reflection

__all__ = ["play", "state_at"]


def state_at(records: Iterable[Record], until: datetime.datetime | None = None) -> Any:
    """Return the structure as it was at a time.

    Parameters
    ----------
    until : datetime, optional
        With a time zone. None: as it is at the end.

    Raises
    ------
    RecordingError
        It had not begun then.
    ModError
        The records do not fit each other: some are missing.
    """
    structure, begun = None, False
    for record in records:
        if until is not None and record.time > until:
            break
        for mod in record.mods:
            if mod["action"] in ("init", "absent"):
                structure, begun = mod.get("struct"), True
            elif not begun:
                raise RecordingError("expected the structure first, got a mod")
            else:
                structure = applied(structure, mod)
    if not begun:
        raise RecordingError("there is nothing recorded until then")
    return structure


async def play(records: Iterable[Record], reflection: Reflection, *, speed: float = 1.0) -> None:
    """Make what was recorded happen again, step by step.

    Parameters
    ----------
    reflection : Reflection
        To what it happens.
    speed : float, optional
        How many times faster than it was recorded; inf: as fast as subscribers are sent it.
    """
    loop = asyncio.get_running_loop()
    first: datetime.datetime | None = None
    begin = loop.time()
    for record in records:
        first = first or record.time
        due = begin + (record.time - first).total_seconds() / speed
        await asyncio.sleep(max(0.0, due - loop.time()))
        reflection.take(record.mods)
