"""Mirror: a replica for scripts and notebooks, kept up to date by a thread of its own.

What the thread does is in `_replication`; this is what users hold. The one rule: what comes out is
read-only or the caller's own, and nobody waits for anybody's callbacks.
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
from sync_struct._read_only import read_only
from sync_struct._replication import First, Replication
from sync_struct._subscriber import FIRST_MESSAGE_TIMEOUT, HEARTBEAT, Subscriber
from sync_struct._subscription import State
from sync_struct._updates import Condition, Steps, Updates, follow

if TYPE_CHECKING:
    import ssl

__all__ = ["Mirror", "mirror"]


class Mirror:
    """A live replica of a published structure; see `mirror`, which makes it. For any thread.

    It reads like the list or dict that it mirrors. What comes out of it is read-only and stays as
    it is; `read` gives a copy that is the caller's own. It cannot be changed from here: the
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

    # To read.

    @property
    def _view(self) -> Replication:
        self._thread.check()
        return self._replication

    @property
    def read(self) -> Any:
        """A copy of the structure as it is now; it is the caller's own."""
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
        """Whether the publisher knows the established protocol only: see `Subscriber`."""
        return self._replication.subscriber.legacy

    @property
    def lag(self) -> float:
        """Seconds by which coroutine callbacks are behind: see `Subscriber`."""
        return self._replication.subscriber.lag

    @property
    def lock(self) -> threading.Condition:
        """While it is held (``with view.lock:``) the replica stands still; see `raw_view`.

        Nobody else can read meanwhile, and updates wait.
        """
        return self._view.changed

    @property
    def raw_view(self) -> Any:
        """The replica itself, no copy: to be read only, with `lock` held."""
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
        numpy = sys.modules["numpy"]  # it is who asks
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
        """As on a dict: of one moment, like `items` and `values`."""
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

    # What a mirror does not do.

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            "a mirror is read-only: the structure is changed by its publisher; `read` gives a copy"
        )

    __setitem__ = __delitem__ = __iadd__ = __imul__ = __ior__ = _refuse
    append = extend = insert = pop = remove = sort = reverse = clear = _refuse
    update = setdefault = popitem = _refuse

    # To wait.

    def wait(
        self, condition: Callable[[Any], Any] | None = None, timeout: float | None = None
    ) -> None:
        """Wait until something is true of the structure, or has been after one step.

        Parameters
        ----------
        condition : callable, optional
            Called in this thread with a structure of its own, as it is now and as it was after each
            step, until it returns true. While it raises one of `NOT_YET` (a key that is not there,
            a None that is compared), it is not true yet. By default, the next step is waited for.
        timeout : float, optional
            Seconds. None: for ever.

        Raises
        ------
        TimeoutError
            It has not become true in that time.
        SubscriptionLost
            The mirror has been closed, so that it never will.
        ModsLost
            The condition takes longer than the steps take to come, by far.
        RuntimeError
            A callback of this mirror has called this: it would wait for itself.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        steps, structure = self._join()
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
        """Return an iterator over what the structure becomes: one item for each step from now on.

        The items are read-only, like all that a mirror gives, and stay as they are. The iterator
        ends when the mirror is closed.

        Parameters
        ----------
        timeout : float, optional
            Seconds that each item may take to come, else `TimeoutError`. None: for ever.

        Examples
        --------
        ::

            for lab in mirrored.updates():
                print(lab["temperature"])
        """
        steps, structure = self._join()
        return Updates(steps, read_only(structure), timeout)

    def _join(self) -> tuple[Steps, Any]:
        if self._thread.is_current:
            raise RuntimeError("a callback cannot wait for its own mirror: it would for ever")
        return self._view.join()

    # The end.

    def close(self) -> None:
        """End the thread. May be called again; what was mirrored last can still be read.

        No callback begins after it has returned; one that is running is waited for, 5 s at most.
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
        What to mirror. Or an address instead of all three, as in ``nats://host/name``.
    notify_cb, state_cb, on_error : callable, optional
        As for `Subscriber`; they are called in the background thread, and nobody waits for them.
    path, max_rate, timeout, heartbeat
        As for `Subscriber`.
    ssl : ssl.SSLContext, optional
        Speak TLS with this context.
    may_be_absent : bool, optional
        Whether to return a mirror if there is no such part yet, instead of raising. It reads as
        None until the part is made: see `Mirror.wait`.

    Returns
    -------
    Mirror
        To be closed, or used in a ``with`` statement. It has the structure already. From then on it
        reconnects by itself whenever the connection is lost.

    Raises
    ------
    UnknownNotifier, OSError
        The first attempt failed.
    RuntimeError
        This event loop publishes on that port: it would wait here for itself.
    """
    place = Place.of(host, port, ssl)
    if notifier_name is None and not (notifier_name := name_in(host)):
        raise TypeError(f"expected the name of a notifier, too: there is none in {place}")
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
    """Wait for the first structure; end the thread if there will be none."""
    try:
        first.wait(may_be_absent=may_be_absent)
    except BaseException:
        thread.stop()
        raise


def _as_it_is(structure: Any) -> Any:
    return structure
