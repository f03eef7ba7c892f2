"""The calls of one proxy: which one runs, which ones wait, and what became of the others.

Nothing here starts a thread, takes a lock or looks at a clock. `Backlog` decides; the threaded and
the asyncio proxy carry out what it decided, each under its own kind of exclusion.
"""

from __future__ import annotations

import contextlib
import logging

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, Literal, TypeAlias

    WhenBusy: TypeAlias = Literal["drop", "latest", "queue"]
    OnError: TypeAlias = Callable[[BaseException], object]
    Loss: TypeAlias = tuple[int, str]  # level and text, for Logger.log

logger = logging.getLogger("fire_and_forget")


class Call:
    """A method of the target together with the arguments that it is to get."""

    __slots__ = ("args", "kwargs", "label", "method", "on_error")

    def __init__(
        self,
        label: str,
        method: Callable[..., Any],
        on_error: OnError | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.label = label
        self.method = method
        self.on_error = on_error
        self.args = args
        self.kwargs = kwargs

    def __call__(self) -> Any:
        return self.method(*self.args, **self.kwargs)

    def report_failure(self, error: BaseException) -> None:
        """Hand an exception of the target to the application or, failing that, to the log."""
        if self.on_error is None:
            logger.warning("%s failed in the background", self.label, exc_info=error)
            return
        with contextlib.suppress(Exception):  # a class may have forbidden it: a frozen dataclass
            error.add_note(f"raised in the background by {self.label}")
        try:
            self.on_error(error)
        except KeyboardInterrupt:
            raise
        except BaseException:
            logger.warning("on_error failed for %s", self.label, exc_info=True)


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
        # Keyed by label under "latest", so that a newer call finds the one that it replaces.
        self._waiting: dict[Hashable, Call] = {}

    def offer(self, call: Call) -> Loss | None:
        """Take a call in. What is dropped for it, if anything, comes back ready to be logged."""
        if self.closed:
            return self._lose(call, "the background has ended")
        if self.running is None:
            self._run(call)
            return None
        if self.latest:
            return self._replace(call)
        if len(self._waiting) >= self.queue_size:
            return self._lose(call, f"{self.running.label} is still running")
        self._waiting[id(call)] = call
        return None

    def advance(self) -> None:
        """Let the running call go; the one that has waited longest runs now."""
        self.running = None
        if self._waiting:
            self._run(self._waiting.pop(next(iter(self._waiting))))

    def give_up(self, why: str) -> list[Loss]:
        """Forget the running call and drop those that wait."""
        self.running = None
        lost = [self._lose(call, why) for call in self._waiting.values()]
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
        return self._lose(older, "a newer one takes its place", logging.DEBUG)

    def _lose(self, call: Call, why: str, level: int = logging.WARNING) -> Loss:
        self.dropped += 1
        return level, f"dropped a call of {call.label}: {why} ({self.dropped} dropped so far)"


class Proxy:
    """What both proxies share: calls on it become calls on the target, made later."""

    # Slots, so that assigning an attribute of the target to the proxy is an error, not a no-op.
    __slots__ = ("__weakref__", "_backlog", "_on_error", "_target")

    def __init__(
        self,
        target: Any,
        when_busy: WhenBusy,
        queue_size: int | None,
        on_error: OnError | None,
    ) -> None:
        self._target = target
        self._backlog = Backlog(when_busy, queue_size)
        self._on_error = on_error

    def _submit(self, call: Call) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Callable[..., None]:
        # Underscored names are asked for by copy, pickle, notebooks and the like, never by users.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        method = getattr(self._target, name)
        if not callable(method):
            raise AttributeError(
                f"{type(self).__name__} forwards calls only, and {name!r} of the "
                f"{type(self._target).__name__} is of type {type(method).__name__}"
            )
        return self._background(f"{type(self._target).__name__}.{name}", method)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Call the target itself in the background."""
        if not callable(self._target):
            raise TypeError(f"{type(self._target).__name__!r} object is not callable")
        label = getattr(self._target, "__qualname__", type(self._target).__name__)
        self._background(label, self._target)(*args, **kwargs)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(n for n in dir(self._target) if n[:1] != "_")})

    def _background(self, label: str, method: Callable[..., Any]) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            self._submit(Call(label, method, self._on_error, args, kwargs))

        # Not functools.wraps: some RPC proxies answer any attribute, __name__ included, with
        # another proxy.
        call.__name__ = call.__qualname__ = label
        call.__doc__ = method.__doc__
        call.__wrapped__ = method  # type: ignore[attr-defined]  # signatures are found through it
        return call
