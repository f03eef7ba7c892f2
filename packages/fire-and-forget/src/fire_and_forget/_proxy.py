"""The base of both proxies: calls of a proxy become later calls of its target."""

from __future__ import annotations

from fire_and_forget._backlog import Backlog, Changes
from fire_and_forget._call import Call

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fire_and_forget._backlog import WhenBusy
    from fire_and_forget._call import OnError


class Proxy:
    """An object whose calls become calls of the target; derived classes run them."""

    # Slots: assigning an attribute of the target through the proxy raises AttributeError.
    __slots__ = ("__weakref__", "_backlog", "_changes", "_on_error", "_target")

    def __init__(
        self,
        target: Any,
        when_busy: WhenBusy,
        queue_size: int | None,
        on_error: OnError | None,
    ) -> None:
        self._target = target
        self._backlog = Backlog(when_busy, queue_size)
        self._changes = Changes()
        self._on_error = on_error

    def _submit(self, call: Call) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Callable[..., None]:
        # copy, pickle, notebooks and others look up underscored names; users do not.
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
        label = getattr(self._target, "__qualname__", None)
        if not isinstance(label, str):  # some RPC proxies return a proxy for every name
            label = type(self._target).__name__
        self._background(label, self._target)(*args, **kwargs)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(n for n in dir(self._target) if n[:1] != "_")})

    def _background(self, label: str, method: Callable[..., Any]) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            self._submit(Call(label, method, self._on_error, args, kwargs))

        # Not functools.wraps: see __call__.
        call.__name__ = call.__qualname__ = label
        call.__doc__ = method.__doc__
        call.__wrapped__ = method  # type: ignore[attr-defined]  # for inspect.signature
        return call
