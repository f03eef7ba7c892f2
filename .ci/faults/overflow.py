"""Buffers of the NATS client library that overflow: it drops messages, and tells nobody.

Those of the readers in this process, which are known from when `watch` was called.
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
    """Know all consumers that are opened from now on."""
    original = Pull.open.__func__  # type: ignore[attr-defined]
    if original.__module__ == __name__:
        return

    async def known(cls: Any, *arguments: Any) -> Pull:
        pull: Pull = await original(cls, *arguments)
        _pulls.add(pull)
        return pull

    Pull.open = classmethod(known)  # type: ignore[assignment, method-assign]


def overflow(rng: Random, seconds: float, report: Report) -> None:
    """Have the buffer of a reader hold one message for a while."""
    pulls = [pull for pull in _pulls if pull._subscription is not None and pull._failure is None]
    if not pulls:
        return
    report.count("injected: buffer of a consumer overflowing")
    queue = rng.choice(pulls)._subscription._pending_queue
    put, until = queue.put_nowait, time.monotonic() + seconds

    def put_or_lose(message: Any) -> None:
        if queue.qsize() and time.monotonic() < until:
            report.count("messages that an overflow has lost")
            raise asyncio.QueueFull
        put(message)

    queue.put_nowait = put_or_lose
