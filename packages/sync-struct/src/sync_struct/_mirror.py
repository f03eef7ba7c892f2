"""Mirror: a replica for scripts and notebooks, kept up to date by a thread of its own.

The thread runs a `Subscriber` on an event loop. The one rule: the replica changes only while the
thread holds the lock, so who holds it sees a structure that stands still.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from pyon.framing import Message

from sync_struct._errors import SubscriptionLost, SyncStructError
from sync_struct._link import Link
from sync_struct._mods import Mod
from sync_struct._subscriber import FIRST_MESSAGE_TIMEOUT, State, Subscriber

if TYPE_CHECKING:
    import ssl

__all__ = ["Mirror", "mirror"]


class Mirror:
    """A live replica of a published structure; see `mirror`, which makes it. For any thread.

    What is read from it is a copy, that stays as it is.
    """

    def __init__(self, subscriber: _LockedSubscriber, changed: threading.Condition) -> None:
        self._subscriber = subscriber
        self._changed = changed
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: Exception | None = None

    # The replica.

    @property
    def read(self) -> Any:
        """A copy of the structure as it is now."""
        with self._changed:
            return copy.deepcopy(self._subscriber.target)

    @property
    def state(self) -> State:
        """Whether the replica is up to date: see `Subscriber`."""
        return self._subscriber.state

    @property
    def lock(self) -> threading.Condition:
        """While it is held (``with view.lock:``) the replica stands still; see `raw_view`."""
        return self._changed

    @property
    def raw_view(self) -> Any:
        """The replica itself, no copy: to be read only, with `lock` held."""
        return self._subscriber.target

    def __getitem__(self, key: Any) -> Any:
        with self._changed:
            return copy.deepcopy(self._subscriber.target[key])

    def __contains__(self, key: object) -> bool:
        with self._changed:
            return key in self._subscriber.target

    def __len__(self) -> int:
        with self._changed:
            return len(self._subscriber.target)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.read)

    def __repr__(self) -> str:
        return f"<Mirror, {self.state}: {self.read!r}>"

    def wait(
        self, condition: Callable[[Any], Any] | None = None, timeout: float | None = None
    ) -> None:
        """Wait until something is true of the structure.

        Parameters
        ----------
        condition : callable, optional
            Called with the structure, now and after each update, until it returns true. By
            default, the next update is waited for.
        timeout : float, optional
            Seconds. None: for ever.

        Raises
        ------
        TimeoutError
            It has not become true in that time.
        SubscriptionLost
            The mirror has been closed, so that it never will.
        """
        with self._changed:
            updates = self._subscriber.updates

            def done() -> Any:
                if condition is None:
                    return self._subscriber.updates != updates
                return condition(self._subscriber.target)

            if not self._changed.wait_for(lambda: done() or self.state == "closed", timeout):
                raise TimeoutError(f"it has not become true in {timeout} s")
            if not done():
                raise SubscriptionLost("the mirror has been closed")

    # The thread.

    def _start(self, host: str, port: int, ssl: ssl.SSLContext | None) -> None:
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._follow(host, port, ssl)),
            name=f"mirror of {host} port {port}",
            daemon=True,
        )
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._subscriber.updates or self._failure)
        if not self._subscriber.updates and self._failure is not None:
            self.close()
            raise self._failure

    async def _follow(self, host: str, port: int, ssl: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            await self._subscriber.run(host, port, ssl=ssl)
        finally:
            self._fail(SyncStructError("the mirror has ended"))

    def _fail(self, error: Exception) -> None:
        """Take note of why there is no structure, for who waits for the first one."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread. May be called again; what was mirrored last can still be read."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None and thread.is_alive():
            closing = self._subscriber.close()
            asyncio.run_coroutine_threadsafe(closing, self._loop)
            if thread is not threading.current_thread():  # not by a callback
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _LockedSubscriber(Subscriber):
    """A subscriber whose replica changes only under a lock."""

    def __init__(self, changed: threading.Condition, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.updates = 0
        self._changed = changed

    def _receive(self, link: Link, message: Message) -> None:
        with self._changed:
            super()._receive(link, message)

    def _tell(self, link: Link, mods: list[Mod], ends: bool) -> None:
        if mods:
            self.updates += 1
            self._changed.notify_all()
        super()._tell(link, mods, ends)

    def _set_state(self, state: State) -> None:
        with self._changed:
            super()._set_state(state)
            self._changed.notify_all()


def mirror(
    host: str,
    port: int,
    notifier_name: str,
    notify_cb: Callable[[Mod], Any] | None = None,
    *,
    path: Sequence[Any] = (),
    max_rate: float | None = None,
    ssl: ssl.SSLContext | None = None,
    timeout: float | None = FIRST_MESSAGE_TIMEOUT,
) -> Mirror:
    """Mirror a published structure in a background thread, until the mirror is closed.

    Parameters
    ----------
    host, port, notifier_name
        What to mirror.
    notify_cb : callable, optional
        Called with every mod, in the background thread.
    path, max_rate, timeout
        As for `Subscriber`.
    ssl : ssl.SSLContext, optional
        Speak TLS with this context.

    Returns
    -------
    Mirror
        To be closed, or used in a ``with`` statement. It has the structure already. From then on it
        reconnects by itself whenever the connection is lost.

    Raises
    ------
    UnknownNotifier, OSError
        The first attempt failed.
    """
    view: Mirror
    changed = threading.Condition(threading.RLock())
    subscriber = _LockedSubscriber(
        changed,
        notifier_name,
        _as_it_is,
        notify_cb,
        path=path,
        max_rate=max_rate,
        timeout=timeout,
        on_error=lambda error: view._fail(error),
    )
    view = Mirror(subscriber, changed)
    view._start(host, port, ssl)
    return view


def _as_it_is(structure: Any) -> Any:
    return structure
