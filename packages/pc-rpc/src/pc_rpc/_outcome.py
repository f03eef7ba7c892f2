"""The result or exception of a function, with one owner.

The one idea to keep in mind: an array can be sent without a copy only while nothing else refers to
it. From the return of the method until the encoder takes the result, only an `Outcome` refers to
it. Functions that need the result get the outcome, and keep no reference to the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pc_rpc._failures import Failure


class Outcome:
    """The result or exception of a function.

    Attributes
    ----------
    result : object
        The result; None after an exception.
    error : BaseException or None
        The exception, of any class, until it is described.
    failure : Failure or None
        The description of the exception, which replaces it.
    """

    __slots__ = ("error", "failure", "result")

    def __init__(self, result: Any = None) -> None:
        self.result = result
        self.error: BaseException | None = None
        self.failure: Failure | None = None

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

    def explain(self, describe: Callable[[BaseException], Failure]) -> None:
        """Replace an exception by its description; see `describe`."""
        if self.error is not None:
            self.failure = describe(self.error)
            self.error = None  # last: freeing the exception may run users' code

    @property
    def awaitable(self) -> bool:
        """Whether the result must be awaited."""
        return hasattr(type(self.result), "__await__")

    async def settle(self) -> None:
        """Await the result, and replace it by that of the awaitable."""
        try:
            self.result = await self.take()
        except BaseException as error:
            self.error = error

    def dismiss(self) -> None:
        """Close the result, a coroutine that never began."""
        getattr(self.take(), "close", _nothing)()


def _nothing() -> None:
    """Do nothing."""
