"""One call: what is to be called with what, and whom its failure is reported to."""

from __future__ import annotations

import contextlib
import logging

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    OnError: TypeAlias = Callable[[BaseException], object]

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

    def release(self) -> None:
        """Drop the target and the arguments; the label stays.

        To be called without any lock: what is freed may have finalisers of users.
        """
        self.method = _released
        self.args, self.kwargs = (), {}

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


def _released() -> None:
    """Stand in for the method of a call that has been made."""
