"""Subscriber: a replica of a publisher's structure, kept up to date on an event loop.

`_subscription` handles the messages, and `_reaching` connects to the publisher. This is the object
that users hold: it starts and ends the subscription, and does one thing at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from pyon import forks
from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT

from sync_struct._callbacks import Callbacks
from sync_struct._errors import SubscriptionLost
from sync_struct._protocol import (
    ABSENT_PARTS,
    GROWING_ARRAYS,
    RAW_BUFFERS,
    STALENESS,
    Position,
    Request,
    control,
)
from sync_struct._reaching import LONGEST_WAIT, Limits, Place, Reaching
from sync_struct._replica import Replica
from sync_struct._selection import Wish
from sync_struct._steps import StepReader
from sync_struct._subscription import Callback, State, Subscription

if TYPE_CHECKING:
    import ssl

    from sync_struct._actions import Mod
    from sync_struct._subscriber_connection import SubscriberConnection

__all__ = ["Subscriber"]

FIRST_MESSAGE_TIMEOUT = 30.0
"""Seconds until a publisher that accepted the connection counts as dead. An old publisher encodes
the structure for each subscriber: fifty that reconnect at once may wait for 20 s."""

HEARTBEAT = 10.0
"""Seconds of silence after which a ping is sent. A dashboard shows within 20 s that a cable is
unplugged or the publisher hangs; an idle subscription costs a packet per 10 s."""

_abandoned: list[object] = []
"""Objects of the parent of a fork, kept for ever: collecting a transport that was not closed warns,
and closing it would affect the parent."""


class Subscriber:
    """An asyncio-based client to connect to a `Publisher`.

    `connect` follows the publisher until the connection ends; `run` and ``async with
    subscriber.following(host, port)`` reconnect. All methods must be called on the event loop.
    Callbacks are called there, one at a time and in the order of the mods.

    Parameters
    ----------
    notifier_name : str
        Name of the notifier to subscribe to.
    target_builder : callable
        Called with every structure that is received; returns the target to apply mods to. It may
        return its argument.
    notify_cb : callable or list of callables, optional
        Called with every mod after it has been applied, also with ``{"action": "init", ...}``.
        A coroutine function is awaited before the next callback is called and before the next mod
        is applied. Mods that arrive together (a batch) are all applied first.
    disconnect_cb : callable, optional
        Called without arguments when the connection is lost, but not by `close`.
    path : sequence, optional
        Subscribe only to the part of the structure at this path of keys and indices. Paths of mods
        begin at the part. When the part is removed, callbacks receive ``{"action": "absent"}``;
        when it exists again, an init. A publisher of the established protocol sends the whole
        structure, and the part is selected here.
    may_be_absent : bool, optional
        Whether `connect` returns if the part does not exist yet, instead of raising. `run` always
        waits for the part.
    mods_only : bool, optional
        Receive no structure and have no target: only mods, from now on.
    max_rate : float, optional
        Maximum number of updates per second. Superseded values are left out; the last one always
        arrives. ``math.inf``: as many as this subscriber can handle. None: every mod.
    state_cb : callable, optional
        Called with the new state whenever it changes: see `state`.
    on_error : callable, optional
        Called with every exception that is not raised to a caller: by callbacks, by mods that do
        not fit, by attempts to connect in `run`. All of them are logged, too.
    raw_buffers : bool, optional
        Whether arrays may be sent as raw bytes instead of text. By default if `decode` is true.
    limit : int, optional
        Bytes of the largest message to accept.
    line_limit : int, optional
        Bytes of the largest text of a message to accept. Arrays count only if sent as text.
    timeout : float or None, optional
        Seconds to wait for the connection and for the publisher's first message. None: for ever.
    heartbeat : float or None, optional
        Seconds of silence after which the publisher is sent a ping; after twice that time the
        connection counts as lost. None: never. The established protocol has no ping.
    decode : bool, optional
        Whether to decode messages. If not, there is no target (`target_builder` may be None), and
        `notify_cb` is called with each `Step`, as text: for recorders and gateways, which need not
        know all types.
    position : tuple of str and int, optional
        `Step.stream` and `Step.number` of the last step that another subscriber with the same
        `path` has received: resume there, if the publisher can. Only with ``decode=False``.

    Attributes
    ----------
    target : object
        The result of `target_builder`, with all mods since applied. None before the structure
        has arrived.
    notify_cbs : list of callables
        The callbacks. May be changed at any time; the change takes effect with the next mod.
    receive_task : asyncio.Task or None
        After `connect`: done when the subscription has ended, for any reason. Cancelling it ends
        the subscription in the same way as a lost connection.
    state : {"connecting", "live", "absent", "stale", "closed"}
        ``"live"``: the target has everything that the publisher has sent; see `lag`. ``"absent"``:
        the structure has no such part, and the target is None. ``"stale"``: the connection is lost,
        or the structure is being requested again, or the publisher is a relay that has lost its
        origin.
    """

    def __init__(
        self,
        notifier_name: str,
        target_builder: Callable[[Any], Any] | None,
        notify_cb: Callback | Iterable[Callback] | None = None,
        disconnect_cb: Callable[[], Any] | None = None,
        *,
        path: Sequence[Any] = (),
        mods_only: bool = False,
        max_rate: float | None = None,
        state_cb: Callable[[State], Any] | None = None,
        on_error: Callable[[Exception], Any] | None = None,
        raw_buffers: bool | None = None,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REPLY_LINE_LIMIT,
        timeout: float | None = FIRST_MESSAGE_TIMEOUT,
        heartbeat: float | None = HEARTBEAT,
        decode: bool = True,
        may_be_absent: bool = False,
        position: tuple[str, int] | None = None,
    ) -> None:
        features = {ABSENT_PARTS, GROWING_ARRAYS, STALENESS}
        if decode if raw_buffers is None else raw_buffers:
            features.add(RAW_BUFFERS)
        wish = Wish(tuple(path), mods_only, newest=max_rate is not None)
        request = Request(notifier_name, wish, frozenset(features), max_rate)
        callbacks = Callbacks(notifier_name, on_error)
        self._subscription = Subscription(
            request, callbacks, may_be_absent=may_be_absent, heartbeat=heartbeat
        )
        self._subscription.disconnect_cb, self._subscription.state_cb = disconnect_cb, state_cb
        self.notify_cbs = _listed(notify_cb)
        self.receive_task: asyncio.Future[Any] | None = None
        self._build, self._decode = target_builder, decode
        self._position = None if position is None else Position(*position)
        self._subscription.replica = self._make_replica()
        self._reaching = Reaching(self._subscription, Limits(timeout, limit, line_limit))
        self._activity: asyncio.Future[Any] | None = None  # cancelled by close()
        forks.register(self)

    @property
    def state(self) -> State:
        """How up to date the target is."""
        return self._subscription.state

    @property
    def notify_cbs(self) -> list[Callback]:
        """The callbacks. May be changed at any time; takes effect with the next mod."""
        return self._subscription.notify_cbs

    @notify_cbs.setter
    def notify_cbs(self, callbacks: list[Callback]) -> None:
        self._subscription.notify_cbs = callbacks

    @property
    def target(self) -> Any:
        """The result of `target_builder`, with all mods since applied."""
        return self._subscription.replica.target

    @property
    def absent(self) -> bool:
        """Whether the structure has no such part, according to the publisher's last message."""
        return self._subscription.replica.absent

    @property
    def legacy(self) -> bool:
        """Whether the publisher supports only the established protocol: see PROTOCOL.md."""
        return self._subscription.replica.legacy

    @property
    def lag(self) -> float:
        """Seconds since the arrival of the oldest message that callbacks have not finished.

        0.0 if they have finished all. Only coroutine callbacks can lag.
        """
        return 0.0 if self._subscription.connection is None else self._subscription.connection.lag

    def _observe(
        self,
        guard: contextlib.AbstractContextManager[Any],
        on_step: Callable[[Sequence[Mod]], None] | None = None,
    ) -> None:
        """Observe changes of the target: for mirrors and relays, before the first connection.

        Parameters
        ----------
        guard : context manager
            Entered while the target changes, like a lock. Callbacks and `target_builder` are called
            outside.
        on_step : callable, optional
            Called with the mods that have been applied, before `guard` is left. It may keep the
            mods, but must not change them.
        """
        self._subscription.guard, self._subscription.on_step = guard, on_step

    # Connecting and closing.

    async def connect(
        self,
        host: str,
        port: int | None = None,
        before_receive_cb: Callable[[], Any] | None = None,
        *,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """Connect, and return when the structure has arrived and callbacks have been called.

        Parameters
        ----------
        host, port
            Host and port of the publisher, or an address instead of both, as in
            ``nats://host/name``; the default name is that of the subscriber.
        before_receive_cb : callable, optional
            Called without arguments before the first message of the publisher is handled.
        ssl : ssl.SSLContext, optional
            Speak TLS with this context; see `pyon.tcp.client_context`.

        Raises
        ------
        UnknownNotifier
            There is no such notifier, or no such part; the error has the names of all notifiers.
        OSError
            The connection cannot be made (`TimeoutError` included), or is lost again.
        RuntimeError
            The subscriber is connected or connecting already.
        """
        self._subscription.before_receive_cb = before_receive_cb
        with self._active(self._reaching.establish(Place.of(host, port, ssl))) as activity:
            connection = await activity
        self.receive_task = task = asyncio.ensure_future(_end_of(connection))
        task.add_done_callback(lambda task: connection.drop() if task.cancelled() else None)

    async def run(
        self,
        host: str,
        port: int | None = None,
        *,
        ssl: ssl.SSLContext | None = None,
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        """Follow the publisher until `close` is called; reconnect when the connection is lost.

        After a loss, the missed mods are requested. If the publisher does not have them any more,
        or has been restarted, it sends the structure again.

        Parameters
        ----------
        host, port, ssl
            As for `connect`.
        longest_wait : float, optional
            Longest wait between attempts to connect, in seconds.
        """
        self._subscription.before_receive_cb = None
        following = self._reaching.follow(Place.of(host, port, ssl), longest_wait)
        with (
            contextlib.suppress(SubscriptionLost),  # raised after close(), the only way to end
            self._active(following, reconnects=True) as activity,
        ):
            self.receive_task = activity
            await activity

    @contextlib.asynccontextmanager
    async def following(
        self,
        host: str,
        port: int | None = None,
        *,
        ssl: ssl.SSLContext | None = None,
        longest_wait: float = LONGEST_WAIT,
    ) -> AsyncIterator[Self]:
        """Return a context in which `run` follows the publisher.

        It is entered when the structure has arrived, or its part is known to be absent.
        """
        running = asyncio.ensure_future(self.run(host, port, ssl=ssl, longest_wait=longest_wait))
        self._subscription.has_begun = asyncio.Event()  # of this loop
        live = asyncio.ensure_future(self._subscription.has_begun.wait())
        try:
            await asyncio.wait({running, live}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running  # it raises if the subscriber is connected already
            yield self
        finally:
            live.cancel()
            if not running.done():
                await self.close()
            await running

    def resync(self) -> None:
        """Ask the publisher to send the structure again; callbacks receive it as usual.

        Mods that arrive before it are handled as usual, too. The established protocol cannot
        express this request: the connection is closed, and `run` makes another one.
        """
        if self._subscription.connection is None:
            return
        if self._subscription.replica.legacy:
            self._subscription.connection.fail(
                SubscriptionLost("closed to request the structure again")
            )
        else:
            self._subscription.connection.send(control("resync"))

    async def close(self) -> None:
        """Disconnect; the subscriber can be used again afterwards.

        May be called at any time and more than once, also by callbacks. No callback is called
        after it has returned.
        """
        activity, self._activity = self._activity, None
        if activity is not None:
            activity.cancel()
        connection, self._subscription.connection = self._subscription.connection, None
        if connection is not None:
            await connection.end()
        self._subscription.set_state("closed")

    def _make_replica(self) -> Replica | StepReader:
        ours = self._subscription
        if not self._decode:
            return StepReader(ours.request.wish, self._position)
        if self._position is not None:
            raise TypeError("expected no position: it can be given only with decode=False")
        if self._build is None:
            raise TypeError("expected a target_builder, got None: only decode=False needs none")
        return Replica(self._build, ours.request.wish, guard=ours.guard, on_step=ours.on_step)

    def forked(self) -> None:
        """See `pyon.forks`: the connection belongs to the parent and is not closed here."""
        _abandoned.append((self._subscription.connection, self._activity, self.receive_task))
        self._subscription.connection = self._activity = self.receive_task = None
        self._subscription.state = "closed"

    @contextlib.contextmanager
    def _active(
        self, coroutine: Coroutine[Any, Any, Any], *, reconnects: bool = False
    ) -> Iterator[asyncio.Future[Any]]:
        """Run a coroutine as the subscriber's only activity; close the subscriber if it fails."""
        if self.state != "closed":
            coroutine.close()
            raise RuntimeError("the subscriber is connected or connecting already: close it first")
        self._subscription.reconnects = reconnects
        self._subscription.replica = self._make_replica()
        self._subscription.set_state("connecting")
        self._activity = activity = asyncio.ensure_future(coroutine)
        try:
            yield activity
        except BaseException as error:
            if self._activity is activity:
                connection, self._subscription.connection = self._subscription.connection, None
                if connection is not None:
                    connection.drop()
                self._subscription.set_state("closed")
            elif isinstance(error, asyncio.CancelledError):  # cancelled by close()
                raise SubscriptionLost("the subscriber was closed") from None
            raise


def _listed(notify_cb: Callback | Iterable[Callback] | None) -> list[Callback]:
    if notify_cb is None:
        return []
    return [notify_cb] if callable(notify_cb) else list(notify_cb)


async def _end_of(connection: SubscriberConnection) -> None:
    await asyncio.wait({connection.over})
