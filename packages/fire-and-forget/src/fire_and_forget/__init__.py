"""Slow, non-critical calls in the background.

`FFProxy` stands in for an object: its methods return at once and run in a worker thread, one at a
time. `AsyncioFFProxy` does the same with coroutine methods on an event loop. It is imported on
first use, so that importing this package does not import asyncio.
"""

from __future__ import annotations

from fire_and_forget._threaded import EXIT_TIMEOUT, FFProxy

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from fire_and_forget._asyncio import AsyncioFFProxy

__all__ = ["EXIT_TIMEOUT", "AsyncioFFProxy", "FFProxy"]

__version__ = "1.0.0"


def __getattr__(name: str) -> object:
    if name != "AsyncioFFProxy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fire_and_forget._asyncio import AsyncioFFProxy

    return AsyncioFFProxy
