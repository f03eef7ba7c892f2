"""Mirror: a replica for scripts and notebooks, kept up to date by a thread of its own.

`_replication` has the thread's work; this is the object that users hold. The one idea to keep in
mind: every value returned is read-only or belongs to the caller, and readers never wait for
callbacks.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, ItemsView, Iterator, KeysView, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, NoReturn, Self

from sync_struct._actions import Mod
from sync_struct._addresses import name_in
from sync_struct._copies import copy_of
from sync_struct._errors import SubscriptionLost
from sync_struct._loop_thread import LoopThread
from sync_struct._own_loop import refuse_own_loop
from sync_struct._reaching import Place
from sync_struct._replication import First, Replication
from sync_struct._subscriber import FIRST_MESSAGE_TIMEOUT, HEARTBEAT, Subscriber
from sync_struct._subscription import State
from sync_struct._updates import Condition, Updates, follow

if TYPE_CHECKING:
    import ssl

__all__ = ["Mirror", "mirror"]


class Mirror:
    """A live replica of a published structure, as returned by `mirror`. For any thread.

    It is read like the list or dict that it mirrors. Values taken from it are read-only and do not
    change; `read` returns a copy that belongs to the caller. A mirror cannot be changed: the
    structure belongs to its publisher.

    Attributes
    ----------
    state : {"connecting", "live", "absent", "stale", "closed"}
        Whether the replica is up to date: see `Subscriber`.
    """

    __slots__ = ("__weakref__", "_replication", "_thread")
    __hash__ = None  # type: ignore[assignment]  # compares by value, and changes

    def __init__(self, replication: Replication, thread: LoopThread) -> None:
        self._replication = replication
        self._thread = thread

    # Reading.

    @property
    def _view(self) -> Replication:
        self._thread.check()
        return self._replication

    @property
    def read(self) -> Any:
        """A copy of the structure as it is now; it belongs to the caller."""
        return self._view.copy()

    def copy(self) -> Any:
        """Return `read`."""
        return self._view.copy()

    @property
    def state(self) -> State:
        """Whether the replica is up to date: see `Subscriber`."""
        return self._replication.subscriber.state if self._thread.here else "closed"

    @property
    def legacy(self) -> bool:
        """Whether the publisher supports only the established protocol: see `Subscriber`."""
        return self._replication.subscriber.legacy

    @property
    def lag(self) -> float:
        """Seconds by which coroutine callbacks lag: see `Subscriber`."""
        return self._replication.subscriber.lag

    @property
    def lock(self) -> threading.Condition:
        """Hold it (``with mirror.lock:``) to keep the replica unchanged; see `raw_view`.

        Meanwhile, other threads cannot read the mirror, and updates wait.
        """
        return self._view.changed

    @property
    def raw_view(self) -> Any:
        """The replica itself, not a copy. Only read it, and only while holding `lock`."""
        return self._view.target

    def __getitem__(self, key: Any) -> Any:
        return self._view.part(key)

    def __len__(self) -> int:
        view = self._view
        with view.changed:
            return len(view.target)

    def __bool__(self) -> bool:
        return bool(self._view.snapshot())

    def __contains__(self, item: object) -> bool:
        return item in self._view.snapshot()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._view.snapshot())

    def __reversed__(self) -> Iterator[Any]:
        backwards: Iterator[Any] = reversed(self._view.snapshot())
        return backwards

    def __eq__(self, other: object) -> Any:
        mine = self._view.snapshot()
        return mine == (other._view.snapshot() if isinstance(other, Mirror) else other)

    def __or__(self, other: Any) -> Any:
        return self.read | other

    def __ror__(self, other: Any) -> Any:
        return other | self.read

    def __add__(self, other: Any) -> Any:
        return self.read + other

    def __radd__(self, other: Any) -> Any:
        return other + self.read

    def __repr__(self) -> str:
        if not self._thread.here:
            return f"<{self._thread.name}, made in another process>"
        return f"<Mirror, {self.state}: {self._view.snapshot()!r}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        numpy = sys.modules["numpy"]  # the caller
        return numpy.array(self._view.copy(), dtype=dtype)

    def __copy__(self) -> Any:
        return self._view.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._view.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return copy_of, (self._view.copy(),)

    def get(self, key: Any, default: Any = None) -> Any:
        """As on a dict."""
        return self._view.snapshot().get(key, default)

    def keys(self) -> KeysView[Any]:
        """As on a dict, at the time of the call; so are `values` and `items`."""
        keys: KeysView[Any] = self._as_dict().keys()
        return keys

    def values(self) -> ValuesView[Any]:
        """As on a dict."""
        values: ValuesView[Any] = self._as_dict().values()
        return values

    def items(self) -> ItemsView[Any, Any]:
        """As on a dict."""
        items: ItemsView[Any, Any] = self._as_dict().items()
        return items

    def _as_dict(self) -> Any:
        return self._view.snapshot()

    def index(self, x: Any, *bounds: int) -> int:
        """As on a list."""
        found: int = self._view.snapshot().index(x, *bounds)
        return found

    def count(self, x: Any) -> int:
        """As on a list."""
        number: int = self._view.snapshot().count(x)
        return number

    # Mutators, all of which raise.

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            "a mirror is read-only: only its publisher changes the structure; `read` gives a copy"
        )

    __setitem__ = __delitem__ = __iadd__ = __imul__ = __ior__ = _refuse
    append = extend = insert = pop = remove = sort = reverse = clear = _refuse
    update = setdefault = popitem = _refuse

    # Waiting.

    def wait(
        self, condition: Callable[[Any], Any] | None = None, timeout: float | None = None
    ) -> None:
        """Wait until a condition is true of the structure as it is now or after any later step.

        Parameters
        ----------
        condition : callable, optional
            Called in this thread with a copy of the structure, as it is now and then as it is after
            each step, until it returns a true value. A `LookupError`, `TypeError`,
            `AttributeError`, `ValueError` or `ArithmeticError` means that it is not true yet: a
            missing key, for example, or a None in a comparison. By default, wait for the next step.
        timeout : float, optional
            Seconds. None: for ever.

        Raises
        ------
        TimeoutError
            The condition has not become true within `timeout`.
        SubscriptionLost
            The mirror has been closed.
        ModsLost
            Evaluating the condition takes much longer than the time between steps.
        RuntimeError
            It was called by a callback of this mirror, and would wait for itself.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._refuse_own_thread()
        steps, structure = self._view.join()
        waiting = Condition(condition)
        while not waiting.holds(structure):
            try:
                mods = steps.next(deadline)
            except TimeoutError:
                raise TimeoutError(f"not true within {timeout} s{waiting.reason}") from None
            if mods is None:
                raise steps.ended or SubscriptionLost("the mirror has been closed")
            structure = follow(structure, mods)

    def updates(self, timeout: float | None = None) -> Updates:
        """Return an iterator over the structure: one item after each step from now on.

        The items are read-only and do not change. The iterator ends when the mirror is closed. It
        raises `ModsLost` when it lags by some 64 MiB of steps, and can be used again.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for each item before `TimeoutError` is raised. None: for ever.

        Examples
        --------
        ::

            for lab in mirrored.updates():
                print(lab["temperature"])
        """
        self._refuse_own_thread()
        return Updates(self._view.join, timeout)

    def _refuse_own_thread(self) -> None:
        if self._thread.is_current:
            raise RuntimeError("a callback cannot wait for its own mirror: it would never return")

    # Closing.

    def close(self) -> None:
        """End the thread. May be called again; the last structure can still be read.

        No callback is called after it has returned. It waits up to 5 s for a running callback.
        """
        self._thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        thread = getattr(self, "_thread", None)
        if thread is not None and thread.alive and not thread.stopping:
            thread.stop(wait=False)
            warnings.warn(f"unclosed {thread.name}", ResourceWarning, source=self, stacklevel=2)


def mirror(
    host: str,
    port: int | None = None,
    notifier_name: str | None = None,
    notify_cb: Callable[[Mod], Any] | None = None,
    *,
    path: Sequence[Any] = (),
    max_rate: float | None = None,
    state_cb: Callable[[State], Any] | None = None,
    on_error: Callable[[Exception], Any] | None = None,
    ssl: ssl.SSLContext | None = None,
    timeout: float | None = FIRST_MESSAGE_TIMEOUT,
    heartbeat: float | None = HEARTBEAT,
    may_be_absent: bool = False,
) -> Mirror:
    """Mirror a published structure in a background thread, until the mirror is closed.

    Parameters
    ----------
    host, port, notifier_name
        The publisher and the notifier to mirror. Or an address instead of all three, as in
        ``nats://host/name``.
    notify_cb, state_cb, on_error : callable, optional
        As for `Subscriber`. They are called in the background thread; readers do not wait for them.
    path, max_rate, timeout, heartbeat
        As for `Subscriber`.
    ssl : ssl.SSLContext, optional
        Speak TLS with this context.
    may_be_absent : bool, optional
        Whether to return a mirror if the part does not exist yet, instead of raising. `read` is
        then None until the part is created: see `Mirror.wait`.

    Returns
    -------
    Mirror
        The mirror, which has received the structure, and reconnects when the connection is lost.
        Close it, or use it in a ``with`` statement.

    Raises
    ------
    UnknownNotifier, OSError
        The first attempt to connect failed.
    RuntimeError
        The running event loop is that of the publisher: it would wait for itself.
    """
    place = Place.of(host, port, ssl)
    if notifier_name is None and not (notifier_name := name_in(host)):
        raise TypeError(f"expected the name of a notifier: {place} has none")
    refuse_own_loop(host, place.port)
    replication = Replication()
    first = First(replication, state_cb, on_error)
    replication.subscriber = subscriber = Subscriber(
        notifier_name,
        _as_it_is,
        notify_cb,
        path=path,
        max_rate=max_rate,
        state_cb=first.take_state,
        on_error=first.take_error,
        timeout=timeout,
        heartbeat=heartbeat,
    )
    subscriber._observe(replication.changed, replication.take_step)
    thread = LoopThread(f"mirror of {notifier_name} at {place}")
    thread.start(lambda: replication.follow(host, port, ssl))
    _wait(first, thread, may_be_absent)
    return Mirror(replication, thread)


def _wait(first: First, thread: LoopThread, may_be_absent: bool) -> None:
    """Wait for the first structure; end the thread if that fails."""
    try:
        first.wait(may_be_absent=may_be_absent)
    except BaseException:
        thread.stop()
        raise


def _as_it_is(structure: Any) -> Any:
    return structure
