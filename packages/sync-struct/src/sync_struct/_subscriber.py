"""Subscriber: a replica of a publisher's structure, kept up to date on an event loop.

What is made of the messages is in `_subscription`, how the publisher is reached in `_reaching`.
This is what users hold: how it begins, how it ends, and that it does one thing at a time.
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
"""Seconds until a publisher that accepted the connection counts as dead. An old one encodes the
structure for every subscriber anew: fifty that come back at once may wait for 20 s."""

HEARTBEAT = 10.0
"""Seconds of silence after which we ask for a sign of life. A dashboard says so within 20 s when
the cable is out or the publisher hangs; idle subscriptions cost a packet per 10 s."""

_abandoned: list[object] = []
"""What belongs to the parent of a fork: never closed nor collected here, which would be told."""


class Subscriber:
    """An asyncio-based client to connect to a `Publisher`.

    `connect` follows the publisher until the connection ends; `run` does not give up, and neither
    does ``async with subscriber.following(host, port)``. All methods are to be called on the loop,
    and all callbacks are called there, one at a time and in the order of the mods.

    Parameters
    ----------
    notifier_name : str
        Name of the notifier to subscribe to.
    target_builder : callable
        Called with the structure whenever it comes anew; returns the target to apply mods to. Can
        be the identity.
    notify_cb : callable or list of callables, optional
        Called with every mod after it has been applied, also with ``{"action": "init", ...}``.
        A coroutine function is awaited before the next one is called and before the next mod is
        applied. Mods that arrive together (a batch) are all applied first.
    disconnect_cb : callable, optional
        Called without arguments when the connection is lost for external causes.
    path : sequence, optional
        Subscribe only to the part of the structure that these keys and indices lead to. It is the
        structure, then, and paths of mods begin there. When the part vanishes, callbacks are told
        ``{"action": "absent"}``, and when it is there again, an init. A publisher of the
        established protocol sends everything, and it is cut here.
    may_be_absent : bool, optional
        Whether `connect` returns if there is no such part yet, instead of raising. `run` does not
        ask: it waits for the part.
    mods_only : bool, optional
        Take no structure, and have no target: only mods, from now on.
    max_rate : float, optional
        Updates per second, at most. Values that are overtaken meanwhile are left out; the last one
        always comes. ``math.inf``: as many as we can take. None: every mod.
    state_cb : callable, optional
        Called with the new state whenever it changes: see `state`.
    on_error : callable, optional
        Called with every exception that does not reach anybody otherwise: of callbacks, of mods
        that do not fit, of attempts to connect in `run`. All of them are logged, too.
    raw_buffers : bool, optional
        Whether arrays may travel as they are instead of as text. By default if `decode` is true.
    limit : int, optional
        Bytes of the largest message to take.
    line_limit : int, optional
        Bytes of the text of the largest message. Arrays do not count, unless they travel as text.
    timeout : float or None, optional
        Seconds to wait for the connection, and for the publisher's first message. None: for ever.
    heartbeat : float or None, optional
        Seconds of silence after which the publisher is asked for a sign of life; after twice that
        the connection counts as lost. None: never. Publishers of the established protocol are not
        asked.
    decode : bool, optional
        Whether to make values of what comes. If not, there is no target (`target_builder` may be
        None), and `notify_cb` is called with each `Step`, as text: for recorders and gateways,
        which need not know all types.
    position : tuple of str and int, optional
        `Step.stream` and `Step.number` of the last step that another subscriber was told of, with
        the same `path`: go on from there, if the publisher still can. Only with ``decode=False``.

    Attributes
    ----------
    target : object
        What `target_builder` made of the structure, with all mods since. None before.
    notify_cbs : list of callables
        The callbacks; may be changed at any time, which counts from the next mod on.
    receive_task : asyncio.Task or None
        After `connect`: done when the subscription has ended, for whatever reason. To cancel it
        ends the subscription, as a loss of the connection does.
    state : {"connecting", "live", "absent", "stale", "closed"}
        ``"live"``: the target is what the publisher has sent; see `lag`. ``"absent"``: the
        connection stands, and the structure has no such part; the target is None.
        ``"stale"``: the connection is lost, or the structure is awaited anew, or the publisher is a
        relay that has lost its own publisher.
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
        self._activity: asyncio.Future[Any] | None = None  # what close() has to end
        forks.register(self)

    @property
    def state(self) -> State:
        """How up to date the target is."""
        return self._subscription.state

    @property
    def notify_cbs(self) -> list[Callback]:
        """The callbacks; may be changed at any time, which counts from the next mod on."""
        return self._subscription.notify_cbs

    @notify_cbs.setter
    def notify_cbs(self, callbacks: list[Callback]) -> None:
        self._subscription.notify_cbs = callbacks

    @property
    def target(self) -> Any:
        """What `target_builder` made of the structure, with all mods since."""
        return self._subscription.replica.target

    @property
    def absent(self) -> bool:
        """Whether the structure had no such part, as far as the publisher has said."""
        return self._subscription.replica.absent

    @property
    def legacy(self) -> bool:
        """Whether the publisher knows the established protocol only: see PROTOCOL.md."""
        return self._subscription.replica.legacy

    @property
    def lag(self) -> float:
        """Seconds since the oldest message came that callbacks are at work on or do not know of.

        0.0: they have been told of everything that came. Only coroutine callbacks can lag.
        """
        return 0.0 if self._subscription.connection is None else self._subscription.connection.lag

    def _observe(
        self,
        guard: contextlib.AbstractContextManager[Any],
        on_step: Callable[[Sequence[Mod]], None] | None = None,
    ) -> None:
        """Have others look on: the one hook of mirrors and relays, set before the first connection.

        Parameters
        ----------
        guard : context manager
            Entered while the target changes: a lock. No callback and no builder is called in it.
        on_step : callable, optional
            Called with the mods that have been applied, before `guard` is left again. The mods are
            for whoever wants them, and to be read only.
        """
        self._subscription.guard, self._subscription.on_step = guard, on_step

    # To begin and to end.

    async def connect(
        self,
        host: str,
        port: int | None = None,
        before_receive_cb: Callable[[], Any] | None = None,
        *,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """Connect, and return when the structure has come and the callbacks have been told of it.

        Parameters
        ----------
        host, port
            Of the publisher. Or an address instead of both, as in ``nats://host/name``; without a
            name it is that of the subscriber.
        before_receive_cb : callable, optional
            Called without arguments before the first message of the publisher is handled.
        ssl : ssl.SSLContext, optional
            Speak TLS with this context; see `pyon.tcp.client_context`.

        Raises
        ------
        UnknownNotifier
            There is no such notifier; the error names those that there are.
        OSError
            The connection cannot be made (`TimeoutError` included), or is lost again.
        RuntimeError
            The subscriber is connected already.
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
        """Follow the publisher until `close` is called, whatever happens to the connection.

        After a loss the publisher is asked for the mods that were missed; if it does not have them
        any more, or is another one, the structure comes anew.

        Parameters
        ----------
        host, port, ssl
            As for `connect`.
        longest_wait : float, optional
            Seconds between attempts to connect, at most.
        """
        self._subscription.before_receive_cb = None
        following = self._reaching.follow(Place.of(host, port, ssl), longest_wait)
        with (
            contextlib.suppress(SubscriptionLost),  # by close(): the only way that it ends
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
        """Return a context in which `run` is at work, and the structure has come or is absent."""
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
        """Ask the publisher to send the structure anew; callbacks are told of it as of any other.

        What comes before it counts all the same. A publisher of the established protocol cannot be
        asked: the connection to it is ended, so that `run` makes another one.
        """
        if self._subscription.connection is None:
            return
        if self._subscription.replica.legacy:
            self._subscription.connection.fail(
                SubscriptionLost("left, to be sent the structure anew")
            )
        else:
            self._subscription.connection.send(control("resync"))

    async def close(self) -> None:
        """Disconnect, whatever is going on; the subscriber can be used again afterwards.

        May be called at any time and more than once, also by callbacks. No callback begins after
        it has returned.
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
            raise TypeError("expected no position: only decode=False has no target to go on from")
        if self._build is None:
            raise TypeError("expected a target_builder, got None: only decode=False has no target")
        return Replica(self._build, ours.request.wish, guard=ours.guard, on_step=ours.on_step)

    def forked(self) -> None:
        """See `pyon.forks`: the connection is the parent's, and closed here without a word."""
        _abandoned.append((self._subscription.connection, self._activity, self.receive_task))
        self._subscription.connection = self._activity = self.receive_task = None
        self._subscription.state = "closed"

    @contextlib.contextmanager
    def _active(
        self, coroutine: Coroutine[Any, Any, Any], *, reconnects: bool = False
    ) -> Iterator[asyncio.Future[Any]]:
        """Give the subscriber one thing to do; leave it closed if that fails."""
        if self.state != "closed":
            coroutine.close()
            raise RuntimeError("the subscriber is connected already, or about to be: close it")
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
            elif isinstance(error, asyncio.CancelledError):  # close() did it
                raise SubscriptionLost("the subscriber was closed") from None
            raise


def _listed(notify_cb: Callback | Iterable[Callback] | None) -> list[Callback]:
    if notify_cb is None:
        return []
    return [notify_cb] if callable(notify_cb) else list(notify_cb)


async def _end_of(connection: SubscriberConnection) -> None:
    await asyncio.wait({connection.over})
