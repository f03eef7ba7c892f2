"""What a function returned or raised, with one owner.

The one idea to keep in mind: an array can be sent without a copy only while nothing else refers to
it. An `Outcome` is the only thing that holds a result, from the return of the method until the
encoder takes it. Whoever needs the result is handed the outcome, and keeps no name for what is in
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Outcome:
    """What a function returned or raised: any exception is a result like others.

    Attributes
    ----------
    result : object
        None after an exception.
    error : BaseException or None
        None, if it returned.
    """

    __slots__ = ("error", "result")

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None

    def take(self) -> Any:
        """Return the result and drop our reference to it, so that it can be sent without a copy."""
        result, self.result = self.result, None
        return result

    def run(self, function: Callable[[], Any]) -> None:
        """Call a function."""
        try:
            self.result = function()
        except BaseException as error:
            self.error = error

    @property
    def awaitable(self) -> bool:
        """Whether the function returned something that must be awaited."""
        return hasattr(type(self.result), "__await__")

    async def settle(self) -> None:
        """Await what the function returned, and put its result in its place."""
        try:
            self.result = await self.take()
        except BaseException as error:
            self.error = error

    def dismiss(self) -> None:
        """Close what the function returned, a coroutine that never began."""
        getattr(self.take(), "close", _nothing)()


def _nothing() -> None:
    """Do nothing."""
