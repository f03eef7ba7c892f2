"""The calls of one proxy: which one runs, which ones wait, and what became of the others.

Nothing here starts a thread, takes a lock or looks at a clock. `Backlog` decides; the threaded and
the asyncio proxy carry out what it decided, each under its own kind of exclusion. `Changes` keeps
decisions whole: signal handlers and finalisers may call a proxy in the middle of one.
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
    Loss: TypeAlias = tuple[int, str]  # level and text, for Logger.log
    Change: TypeAlias = Callable[[], Loss | None]


class Backlog:
    """At most one running call, and those that wait for it to end.

    Every call that was offered is at any time exactly one of made, waiting and dropped. What is
    made is made in the order in which it was offered.

    Parameters
    ----------
    when_busy : {"drop", "latest", "queue"}
        What becomes of a call while another one runs.
    queue_size : int or None
        How many calls may wait, for "queue" only.
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
        self.lost: list[Call] = []  # dropped; to be freed by the caller, outside of any lock
        # Keyed by label under "latest", so that a newer call finds the one that it replaces.
        self._waiting: dict[Hashable, Call] = {}

    def offer(self, call: Call) -> Loss | None:
        """Take a call in. What is dropped for it, if anything, comes back ready to be logged."""
        if self.closed:
            return self.lose(call, "the background has ended")
        if self.running is None:
            self._run(call)
            return None
        if self.latest:
            return self._replace(call)
        if len(self._waiting) >= self.queue_size:
            return self.lose(call, f"{self.running.label} is still running")
        self._waiting[id(call)] = call
        return None

    def advance(self) -> None:
        """Let the running call go; the one that has waited longest runs now."""
        self.running = None
        if self._waiting:
            self._run(self._waiting.pop(next(iter(self._waiting))))

    def count_failure(self) -> None:
        """Count the call that runs as failed."""
        self.failed += 1

    def close(self) -> None:
        """Accept no more calls."""
        self.closed = True

    def give_up(self, why: str) -> list[Loss]:
        """Forget the running call and drop those that wait."""
        self.running = None
        lost = [self.lose(call, why) for call in self._waiting.values()]
        self._waiting.clear()
        return lost

    def counts(self) -> dict[str, int]:
        """Return how many calls were made, dropped, failed (of those made), and how many wait."""
        return {
            "made": self.made,
            "dropped": self.dropped,
            "failed": self.failed,
            "waiting": len(self._waiting),
        }

    def _run(self, call: Call) -> None:
        self.running = call
        self.made += 1

    def _replace(self, call: Call) -> Loss | None:
        # The older call leaves its place too. Were "on, off, on" to become "on, off" because the
        # newer "on" took the place of the older one, the driver would end in the wrong state.
        older = self._waiting.pop(call.label, None)
        self._waiting[call.label] = call
        if older is None:
            return None
        return self.lose(older, "a newer one takes its place", logging.DEBUG)

    def lose(self, call: Call, why: str, level: int = logging.WARNING) -> Loss:
        """Drop a call that has not been made; return what is to be logged."""
        self.dropped += 1
        self.lost.append(call)
        return level, f"dropped a call of {call.label}: {why} ({self.dropped} dropped so far)"


class Changes:
    """Carries out changes of a backlog one after the other, each of them wholly.

    One that the same thread asks for in the middle of another one is carried out behind it.
    Different threads must exclude each other.
    """

    def __init__(self) -> None:
        self._pending: deque[Change] = deque()
        self._thread: int | None = None  # that is in the middle of a change

    @property
    def interrupted(self) -> bool:
        """Whether the calling thread is in the middle of a change, as a signal handler may be."""
        return self._thread == get_ident()

    def forked(self) -> None:
        """Forget a thread that exists in the parent only, in the child of a fork."""
        if not self.interrupted:
            self._thread = None
            self._pending.clear()

    def carry_out(self, change: Change) -> list[Loss]:
        """Carry out a change, and those that come meanwhile; return what is to be logged."""
        self._pending.append(change)
        losses = []
        # Once more after the inner loop: a change may come between its end and the next line.
        while self._pending and self._thread is None:
            self._thread = get_ident()
            try:
                while self._pending:
                    loss = self._pending.popleft()()
                    if loss is not None:
                        losses.append(loss)
            finally:
                self._thread = None
        return losses
