"""One call: method and arguments, and the reporting of its failure."""

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
    """A method of the target, and the arguments to call it with."""

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
        """Release the references to the target and the arguments; keep the label.

        To be called without a lock: finalisers of users may run.
        """
        self.method = _released
        self.args, self.kwargs = (), {}

    def report_failure(self, error: BaseException) -> None:
        """Pass an exception of the target to `on_error`; log it if there is none."""
        if self.on_error is None:
            logger.warning("%s failed in the background", self.label, exc_info=error)
            return
        with contextlib.suppress(Exception):  # a class may refuse notes, as frozen dataclasses do
            error.add_note(f"raised in the background by {self.label}")
        try:
            self.on_error(error)
        except KeyboardInterrupt:
            raise
        except BaseException:
            logger.warning("on_error failed for %s", self.label, exc_info=True)


def _released() -> None:
    """The method of a call that has been released."""
