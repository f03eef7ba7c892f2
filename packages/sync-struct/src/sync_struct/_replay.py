"""Replay: a recorded structure at some time, or its steps published again."""

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
        Time with a time zone. None: the end of the recording.

    Raises
    ------
    RecordingError
        The recording begins later, or does not begin with a structure.
    ModError
        A mod does not fit: records are missing.
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
        raise RecordingError("the recording begins after that time, or is empty")
    return structure


async def play(records: Iterable[Record], reflection: Reflection, *, speed: float = 1.0) -> None:
    """Apply recorded steps to a reflection, in time.

    Parameters
    ----------
    reflection : Reflection
        Publishes the structure.
    speed : float, optional
        Factor of the recorded speed; inf: without delays.
    """
    loop = asyncio.get_running_loop()
    first: datetime.datetime | None = None
    begin = loop.time()
    for record in records:
        first = first or record.time
        due = begin + (record.time - first).total_seconds() / speed
        await asyncio.sleep(max(0.0, due - loop.time()))
        reflection.take(record.mods)
