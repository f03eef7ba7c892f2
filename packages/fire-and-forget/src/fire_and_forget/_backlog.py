"""The calls of one proxy: the running call, the waiting calls, and which calls are dropped.

Nothing here starts a thread, acquires a lock or reads a clock. `Backlog` decides; the threaded and
the asyncio proxy carry out its decisions, each with its own kind of mutual exclusion. `Changes`
makes each decision atomic: signal handlers and finalisers may call a proxy in the middle of one.
"""

from __future__ import annotations

import logging
from collections import deque
from threading import get_ident

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Literal, TypeAlias

    from fire_and_forget._call import Call

    WhenBusy: TypeAlias = Literal["drop", "latest", "queue"]
    LogEntry: TypeAlias = tuple[int, str]  # level and text, for Logger.log
    Change: TypeAlias = Callable[[], LogEntry | None]


class Backlog:
    """At most one running call, and the calls that wait for it to end.

    At any time, each offered call is exactly one of made, waiting and dropped. Calls are made in
    the order in which they were offered.

    Parameters
    ----------
    when_busy : {"drop", "latest", "queue"}
        The treatment of a call that is offered while another one runs.
    queue_size : int or None
        The number of calls that may wait, for "queue" only.
    """

    def __init__(self, when_busy: WhenBusy, queue_size: int | None) -> None:
        if when_busy not in ("drop", "latest", "queue"):
            raise ValueError(f"when_busy must be 'drop', 'latest' or 'queue', not {when_busy!r}")
        if (when_busy == "queue") != (queue_size is not None):
            raise ValueError("queue_size goes with when_busy='queue', and is needed there")
        if queue_size is not None and queue_size < 1:
            raise ValueError(f"queue_size must be at least 1, not {queue_size!r}")
        self.latest = when_busy == "latest"
        self.queue_size = queue_size or 0
        self.running: Call | None = None
        self.closed = False
        self.made = 0
        self.dropped = 0
        self.failed = 0
        self.dropped_calls: list[Call] = []  # to be freed by the caller, outside of any lock
        # Keyed by label with "latest", so that a newer call finds the one that it replaces.
        self._waiting: dict[Hashable, Call] = {}

    def offer(self, call: Call) -> LogEntry | None:
        """Accept or drop a call; return the log entry of a dropped call, if there is one."""
        if self.closed:
            return self.drop(call, "the background has ended")
        if self.running is None:
            self._run(call)
            return None
        if self.latest:
            return self._replace(call)
        if len(self._waiting) >= self.queue_size:
            return self.drop(call, f"{self.running.label} is still running")
        self._waiting[id(call)] = call
        return None

    def advance(self) -> None:
        """Remove the running call; the call that has waited longest becomes the running one."""
        self.running = None
        if self._waiting:
            self._run(self._waiting.pop(next(iter(self._waiting))))

    def count_failure(self) -> None:
        """Count the running call as failed."""
        self.failed += 1

    def close(self) -> None:
        """Accept no more calls."""
        self.closed = True

    def drop_all(self, reason: str) -> list[LogEntry]:
        """Remove the running call and drop the waiting ones; return their log entries."""
        self.running = None
        entries = [self.drop(call, reason) for call in self._waiting.values()]
        self._waiting.clear()
        return entries

    def counts(self) -> dict[str, int]:
        """Return the numbers of calls made, dropped, failed (of those made), and waiting."""
        return {
            "made": self.made,
            "dropped": self.dropped,
            "failed": self.failed,
            "waiting": len(self._waiting),
        }

    def _run(self, call: Call) -> None:
        self.running = call
        self.made += 1

    def _replace(self, call: Call) -> LogEntry | None:
        # The newer call goes to the end. If it took the place of the older one, "on, off, on" would
        # become "on, off", and the driver would end in the wrong state.
        older = self._waiting.pop(call.label, None)
        self._waiting[call.label] = call
        if older is None:
            return None
        return self.drop(older, "a newer one takes its place", logging.DEBUG)

    def drop(self, call: Call, reason: str, level: int = logging.WARNING) -> LogEntry:
        """Drop a call that has not been made; return its log entry."""
        self.dropped += 1
        self.dropped_calls.append(call)
        return level, f"dropped a call of {call.label}: {reason} ({self.dropped} dropped so far)"


class Changes:
    """Carries out changes of a backlog atomically, one after the other.

    A change that the same thread requests in the middle of another one is carried out after it.
    Different threads must exclude each other.
    """

    def __init__(self) -> None:
        self._pending: deque[Change] = deque()
        self._thread: int | None = None  # the thread that is carrying out changes

    @property
    def interrupted(self) -> bool:
        """Whether the calling thread interrupted a change, as a signal handler may."""
        return self._thread == get_ident()

    def forked(self) -> None:
        """In the child of a fork, remove the changes of a thread that exists in the parent only."""
        if not self.interrupted:
            self._thread = None
            self._pending.clear()

    def carry_out(self, change: Change) -> list[LogEntry]:
        """Carry out a change, and those requested meanwhile; return the log entries."""
        self._pending.append(change)
        entries = []
        # Repeated, because a change may be requested after the end of the inner loop.
        while self._pending and self._thread is None:
            self._thread = get_ident()
            try:
                while self._pending:
                    entry = self._pending.popleft()()
                    if entry is not None:
                        entries.append(entry)
            finally:
                self._thread = None
        return entries
