"""Subscriber: a replica of a publisher's structure, kept up to date on an event loop.

What a message means is decided by `_replica.Replica`, and what a connection is by
`_subscriber_connection`. Here are the order in which things are told, which protocol is spoken, and
what happens when the connection is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from typing import TYPE_CHECKING, Any, Literal, Self

from pyon import forks
from pyon.asyncio_tasks import settle
from pyon.backoff import Backoff
from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT, Message

from sync_struct._actions import Mod
from sync_struct._callbacks import Callbacks, is_awaitable
from sync_struct._copies import copy_mod
from sync_struct._errors import (
    ModError,
    ModsLost,
    SubscriptionLost,
    SyncStructError,
    UnknownNotifier,
)
from sync_struct._protocol import (
    ABSENT_PARTS,
    GROWING_ARRAYS,
    LEGACY_BANNER,
    RAW_BUFFERS,
    STALENESS,
    Position,
    Request,
    control,
    write_banner,
)
from sync_struct._reaching import FIRST_WAIT, Place, Reaching
from sync_struct._replica import Replica
from sync_struct._selection import Wish
from sync_struct._steps import Step, StepReader
from sync_struct._subscriber_connection import SubscriberConnection

if TYPE_CHECKING:
    import ssl

__all__ = ["State", "Subscriber"]

_logger = logging.getLogger(__name__)

FIRST_MESSAGE_TIMEOUT = 30.0
"""Seconds until a publisher that accepted the connection counts as dead. An old one encodes the
structure for every subscriber anew: fifty that come back at once may wait for 20 s."""

HEARTBEAT = 10.0
"""Seconds of silence after which we ask for a sign of life. A dashboard says so within 20 s when
the cable is out or the publisher hangs; idle subscriptions cost a packet per 10 s."""

LONGEST_WAIT = 10.0
"""Seconds between attempts in the long run: nobody waits longer in front of a dashboard."""

State = Literal["connecting", "live", "absent", "stale", "closed"]
Callback = Callable[[Any], Any]


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
        if position is not None and decode:
            raise TypeError("expected no position: only decode=False has no target to go on from")
        self.state: State = "closed"
        if notify_cb is None:
            callbacks: Iterable[Callback] = ()
        else:
            callbacks = [notify_cb] if callable(notify_cb) else notify_cb
        self.notify_cbs: list[Callback] = list(callbacks)
        self.receive_task: asyncio.Future[Any] | None = None
        self._disconnect_cb = disconnect_cb
        self._state_cb = state_cb
        self._callbacks = Callbacks(notifier_name, on_error)
        self._build = target_builder
        self._heartbeat = heartbeat
        self._limit = limit
        self._line_limit = line_limit
        self._timeout = timeout
        wish = Wish(tuple(path), mods_only, newest=max_rate is not None)
        self._may_be_absent = may_be_absent
        features = frozenset({ABSENT_PARTS, GROWING_ARRAYS, STALENESS})
        if decode if raw_buffers is None else raw_buffers:
            features |= {RAW_BUFFERS}
        self._request = Request(notifier_name, wish, features, max_rate)
        self._guard: contextlib.AbstractContextManager[Any] | None = None
        self._on_step: Callable[[Sequence[Mod]], None] | None = None
        self._replica: Replica | StepReader
        self._decode = decode
        self._position = None if position is None else Position(*position)
        self._replica = self._make_replica()
        self._connection: SubscriberConnection | None = None
        self._reaching = Reaching(notifier_name, self._open)
        self._activity: asyncio.Future[Any] | None = None  # what close() has to end
        self._reconnects = False
        self._before_receive_cb: Callable[[], Any] | None = None
        self._has_begun = asyncio.Event()
        forks.register(self)

    @property
    def target(self) -> Any:
        """What `target_builder` made of the structure, with all mods since."""
        return self._replica.target

    @property
    def absent(self) -> bool:
        """Whether the structure had no such part, as far as the publisher has said."""
        return self._replica.absent

    @property
    def legacy(self) -> bool:
        """Whether the publisher knows the established protocol only: see PROTOCOL.md."""
        return self._replica.legacy

    @property
    def lag(self) -> float:
        """Seconds since the oldest message came that callbacks are at work on or do not know of.

        0.0: they have been told of everything that came. Only coroutine callbacks can lag.
        """
        return 0.0 if self._connection is None else self._connection.lag

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
        self._guard, self._on_step = guard, on_step

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
        self._before_receive_cb = before_receive_cb
        with self._active(self._establish(Place.of(host, port, ssl))) as activity:
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
        self._before_receive_cb = None
        following = self._follow(Place.of(host, port, ssl), Backoff(FIRST_WAIT, longest_wait))
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
        self._has_begun = asyncio.Event()  # of this loop
        live = asyncio.ensure_future(self._has_begun.wait())
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
        if self._connection is None:
            return
        if self._replica.legacy:
            self._connection.fail(SubscriptionLost("left, to be sent the structure anew"))
        else:
            self._connection.send(control("resync"))

    async def close(self) -> None:
        """Disconnect, whatever is going on; the subscriber can be used again afterwards.

        May be called at any time and more than once, also by callbacks. No callback begins after
        it has returned.
        """
        activity, self._activity = self._activity, None
        if activity is not None:
            activity.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.end()
        self._set_state("closed")

    def _make_replica(self) -> Replica | StepReader:
        if not self._decode:
            return StepReader(self._request.wish, self._position)
        if self._build is None:
            raise TypeError("expected a target_builder, got None: only decode=False has no target")
        return Replica(self._build, self._request.wish, guard=self._guard, on_step=self._on_step)

    def forked(self) -> None:
        """See `pyon.forks`: the connection is the parent's, and closed here without a word."""
        _abandoned.append((self._connection, self._activity, self.receive_task))
        self._connection = self._activity = self.receive_task = None
        self.state = "closed"

    @contextlib.contextmanager
    def _active(
        self, coroutine: Coroutine[Any, Any, Any], *, reconnects: bool = False
    ) -> Iterator[asyncio.Future[Any]]:
        """Give the subscriber one thing to do; leave it closed if that fails."""
        if self.state != "closed":
            coroutine.close()
            raise RuntimeError("the subscriber is connected already, or about to be: close it")
        self._reconnects = reconnects
        self._replica = self._make_replica()
        self._set_state("connecting")
        self._activity = activity = asyncio.ensure_future(coroutine)
        try:
            yield activity
        except BaseException as error:
            if self._activity is activity:
                connection, self._connection = self._connection, None
                if connection is not None:
                    connection.drop()
                self._set_state("closed")
            elif isinstance(error, asyncio.CancelledError):  # close() did it
                raise SubscriptionLost("the subscriber was closed") from None
            raise

    # The connection.

    async def _follow(self, place: Place, backoff: Backoff) -> None:
        loop = asyncio.get_running_loop()
        failed = False
        while True:
            began = loop.time()
            try:
                connection = await self._establish(place)
            except Exception as error:
                level = logging.DEBUG if failed else logging.WARNING
                _logger.log(level, "%s: %r; trying again", place, error)
                failed = True
                self._callbacks.report(error)
            else:
                failed = False
                await connection.over
                if loop.time() - began > LONGEST_WAIT:
                    backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _establish(self, place: Place) -> SubscriberConnection:
        """Connect, in whichever protocol, and wait for the structure."""
        connection, legacy = await self._reaching.reach(place)
        if legacy:
            self._connection = connection
            self._replica.connected(legacy=True)
            connection.release()
        await connection.ready
        return connection

    async def _open(self, place: Place, legacy: bool) -> SubscriberConnection:
        """Connect and say a banner: see `Reaching`."""
        if legacy:
            opening = [LEGACY_BANNER, self._request.name.encode()]
        else:
            position = self._replica.position
            opening = [write_banner(self._request._replace(position=position))]
        connection = SubscriberConnection(
            self._receive,
            self._lose,
            self._request.name,
            str(place),
            opening,
            limit=self._limit,
            line_limit=self._line_limit,
        )
        if legacy:
            connection.hold()
        else:
            self._connection = connection
            self._replica.connected(legacy=False)
        try:
            async with asyncio.timeout(self._timeout):
                await place.connect(connection)
                await connection.heard
        except TimeoutError:
            connection.drop()
            raise TimeoutError(f"{place}: no answer in {self._timeout} s") from None
        except BaseException:
            connection.drop()
            raise
        return connection

    def _receive(self, connection: SubscriberConnection, message: Message) -> None:
        """Handle a message of the publisher."""
        if connection is not self._connection:
            return
        if not connection.greeted:
            self._greet(connection)
        replica = self._replica
        number = replica.number
        share = self._on_step is None and not self.notify_cbs
        try:
            mods: Sequence[Any] = replica.receive(message, share=share)
        except ModsLost as error:
            self._report(error)
            mods = []
        except ModError as error:
            self._start_anew(connection, error)
            return
        except BaseException as error:  # of the target builder, if it is none of ours
            connection.fail(_as_exception(error))
            return
        if replica.troubles:
            for trouble in replica.take_troubles():
                self._report(trouble)
        if not mods:  # it may have been the hello
            connection.receiver.raw_buffers = RAW_BUFFERS in replica.features
        ends = bool(mods) or replica.number != number
        self._take(connection, [] if share else mods, ends)

    def _take(self, connection: SubscriberConnection, mods: Sequence[Any], ends: bool) -> None:
        """Tell of what has been applied, and of the state that it leads to."""
        replica = self._replica
        if replica.absent and not self._may_wait(connection):
            part = list(self._request.wish.path)
            connection.fail(UnknownNotifier(f"the structure has no part {part!r}"))
        elif replica.live:
            state: State = "absent" if replica.absent else "live"
            if replica.stale:
                state = "stale"
            if state != self.state:
                self._has_begun.set()
                self._set_state(state)
            self._tell(connection, mods, ends)

    def _may_wait(self, connection: SubscriberConnection) -> bool:
        """Tell whether a part that is absent is to be waited for; once it was there, it is."""
        return self._reconnects or self._may_be_absent or connection.ready.done()

    def _greet(self, connection: SubscriberConnection) -> None:
        """Take note that the publisher answers."""
        connection.greeted = True
        if self._before_receive_cb is not None:
            self._callbacks.fire(self._before_receive_cb)
        if self._heartbeat is not None and not self._replica.legacy:
            connection.watch(self._heartbeat)

    def _start_anew(self, connection: SubscriberConnection, error: ModError) -> None:
        if self._replica.give_up():
            self._report(error)
            self._set_state("stale")
            connection.send(control("resync"))
        else:
            connection.fail(error)

    def _lose(self, connection: SubscriberConnection) -> None:
        """Take note that a connection that was live is gone."""
        if connection is self._connection:
            self._connection = None
            if connection.error is not None:
                self._report(connection.error)
            self._set_state("stale" if self._reconnects else "closed")
            if self._disconnect_cb is not None:
                self._callbacks.fire(self._disconnect_cb)
        settle(connection.over, None)

    # The callbacks.

    def _tell(self, connection: SubscriberConnection, mods: Sequence[Any], ends: bool) -> None:
        """Call the callbacks; from the first coroutine on, in a task while messages wait."""
        calls = self._calls(mods) if mods else iter(())
        for callback, mod in calls:
            result = self._callbacks.call(callback, mod)
            if result is not None and is_awaitable(result):
                connection.hold()
                self._callbacks.spawn(self._tell_slowly(connection, result, calls, ends))
                return
            if connection is not self._connection:
                return
        self._told(connection, ends)

    def _calls(self, mods: Sequence[Any]) -> Iterator[tuple[Callback, Any]]:
        """Return which callback is to be called with what: a mod of its own, or a step."""
        if len(mods) == len(self.notify_cbs) == 1 and self._on_step is None:
            return iter([(self.notify_cbs[0], mods[0])])  # the usual small mod
        return self._all_calls(mods)

    def _all_calls(self, mods: Sequence[Any]) -> Iterator[tuple[Callback, Any]]:
        for mod in mods:
            callbacks = self.notify_cbs
            if len(callbacks) == 1 and self._on_step is None:
                yield callbacks[0], mod
            elif isinstance(mod, Step):
                yield from [(callback, mod) for callback in callbacks]
            else:  # copied before the first of them has it
                yield from [(callback, copy_mod(mod)) for callback in callbacks]

    async def _tell_slowly(
        self,
        connection: SubscriberConnection,
        result: Awaitable[Any],
        calls: Iterator[tuple[Callback, Any]],
        ends: bool,
    ) -> None:
        try:
            await self._callbacks.finish(result)
            for callback, mod in calls:
                if connection is not self._connection:
                    return
                result = self._callbacks.call(callback, mod)
                if is_awaitable(result):
                    await self._callbacks.finish(result)
            self._told(connection, ends)
        finally:
            connection.release()

    def _told(self, connection: SubscriberConnection, ends: bool) -> None:
        if not connection.ready.done():
            connection.ready.set_result(None)
        if ends and self._request.max_rate is not None and not self._replica.legacy:
            connection.send(control("ack"))

    def _report(self, error: Exception) -> None:
        _logger.warning("%s: %s", self._request.name, error)
        self._callbacks.report(error)

    def _set_state(self, state: State) -> None:
        if state == self.state:
            return
        self.state = state
        if self._state_cb is not None:
            self._callbacks.fire(self._state_cb, state)


async def _end_of(connection: SubscriberConnection) -> None:
    await asyncio.wait({connection.over})


def _as_exception(error: BaseException) -> Exception:
    """Return an error that can be reported; what is to end the program is let through."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    if isinstance(error, Exception):
        return error
    wrapped = SyncStructError(f"the target could not be built: {error!r}")
    wrapped.__cause__ = error
    return wrapped
