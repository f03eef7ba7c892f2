"""Overflow of buffers of the NATS client library, which then drops messages silently.

Applies to the readers in this process that were opened after `watch` was called.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from random import Random
from typing import Any

from sync_struct.nats._pull import Pull

from faults.report import Report

_pulls: weakref.WeakSet[Pull] = weakref.WeakSet()


def watch() -> None:
    """Register all consumers that are opened from now on."""
    original = Pull.open.__func__  # type: ignore[attr-defined]
    if original.__module__ == __name__:
        return

    async def registered(cls: Any, *arguments: Any) -> Pull:
        pull: Pull = await original(cls, *arguments)
        _pulls.add(pull)
        return pull

    Pull.open = classmethod(registered)  # type: ignore[assignment, method-assign]


def overflow(rng: Random, seconds: float, report: Report) -> None:
    """Limit the buffer of a reader to one message for a while."""
    pulls = [pull for pull in _pulls if pull._subscription is not None and pull._failure is None]
    if not pulls:
        return
    report.count("injected: buffer of a consumer overflowing")
    queue = rng.choice(pulls)._subscription._pending_queue
    put, until = queue.put_nowait, time.monotonic() + seconds

    def put_or_lose(message: Any) -> None:
        if queue.qsize() and time.monotonic() < until:
            report.count("messages lost by an overflow")
            raise asyncio.QueueFull
        put(message)

    queue.put_nowait = put_or_lose
