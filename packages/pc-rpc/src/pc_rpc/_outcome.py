"""What a function returned or raised, with one owner.

The one idea to keep in mind: an array can be sent without a copy only while nothing else refers to
it. An `Outcome` is the only thing that holds a result, from the return of the method until the
encoder takes it. A function that needs the result is handed the outcome, and keeps no name
for what is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pc_rpc._failures import Failure


class Outcome:
    """What a function returned or raised: any exception is a result like others.

    Attributes
    ----------
    result : object
        None after an exception.
    error : BaseException or None
        What it raised, until that is described.
    failure : Failure or None
        The description of it, which is what goes on.
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
        """Put the description of an exception in its place; see `describe`."""
        if self.error is not None:
            self.failure = describe(self.error)
            self.error = None  # only now: what that frees may run code of users

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
