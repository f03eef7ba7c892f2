"""Subscriber: a replica of a publisher's structure, kept up to date on an event loop.

What a message means is decided by `_protocol.Replica`, and what a connection is by `_link.Link`.
Here are the order in which things are told, and what happens when the connection is lost.
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

from pyon.framing import DEFAULT_LIMIT, Message

from sync_struct._callbacks import Callbacks, is_awaitable
from sync_struct._errors import ModError, ModsLost, SubscriptionLost
from sync_struct._link import LONGEST_WAIT, Backoff, Link, settle
from sync_struct._mods import Mod
from sync_struct._protocol import (
    LEGACY_BANNER,
    RAW_BUFFERS,
    Replica,
    Request,
    control,
    write_banner,
)
from sync_struct._selection import Wish
from sync_struct._values import own

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

State = Literal["connecting", "live", "stale", "closed"]
Callback = Callable[[Mod], Any]


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
        structure, then, and paths of mods begin there. A publisher of the established protocol
        sends everything, and it is cut here.
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
        Whether arrays may travel as they are instead of as text.
    limit : int, optional
        Bytes of the largest message to take.
    timeout : float or None, optional
        Seconds to wait for the connection, and for the publisher's first message. None: for ever.
    heartbeat : float or None, optional
        Seconds of silence after which the publisher is asked for a sign of life; after twice that
        the connection counts as lost. None: never. Publishers of the established protocol are not
        asked.

    Attributes
    ----------
    target : object
        What `target_builder` made of the structure, with all mods since. None before.
    notify_cbs : list of callables
        The callbacks; may be changed at any time, which counts from the next mod on.
    receive_task : asyncio.Task or None
        After `connect`: done when the subscription has ended, for whatever reason.
    state : {"connecting", "live", "stale", "closed"}
        ``"live"``: the target is what the publisher has. ``"stale"``: it was, and the connection is
        lost, or the structure is awaited anew.
    """

    def __init__(
        self,
        notifier_name: str,
        target_builder: Callable[[Any], Any],
        notify_cb: Callback | Iterable[Callback] | None = None,
        disconnect_cb: Callable[[], Any] | None = None,
        *,
        path: Sequence[Any] = (),
        mods_only: bool = False,
        max_rate: float | None = None,
        state_cb: Callable[[State], Any] | None = None,
        on_error: Callable[[Exception], Any] | None = None,
        raw_buffers: bool = True,
        limit: int = DEFAULT_LIMIT,
        timeout: float | None = FIRST_MESSAGE_TIMEOUT,
        heartbeat: float | None = HEARTBEAT,
    ) -> None:
        self.state: State = "closed"
        if notify_cb is None:
            callbacks: Iterable[Callback] = ()
        else:
            callbacks = [notify_cb] if callable(notify_cb) else notify_cb
        self.notify_cbs = list(callbacks)
        self.receive_task: asyncio.Task[None] | None = None
        self._disconnect_cb = disconnect_cb
        self._state_cb = state_cb
        self._hands = Callbacks(notifier_name, on_error)
        self._build = target_builder
        self._heartbeat = heartbeat
        self._limit = limit
        self._timeout = timeout
        wish = Wish(tuple(path), mods_only, newest=max_rate is not None)
        features = frozenset({RAW_BUFFERS} if raw_buffers else ())
        self._request = Request(notifier_name, wish, features, max_rate)
        self._replica = Replica(target_builder, wish)
        self._link: Link | None = None
        self._activity: asyncio.Future[Any] | None = None  # what close() has to end
        self._reconnects = False
        self._before_receive_cb: Callable[[], Any] | None = None
        self._went_live = asyncio.Event()

    @property
    def target(self) -> Any:
        """What `target_builder` made of the structure, with all mods since."""
        return self._replica.target

    # To begin and to end.

    async def connect(
        self,
        host: str,
        port: int,
        before_receive_cb: Callable[[], Any] | None = None,
        *,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """Connect, and return when the structure has come and the callbacks have been told of it.

        Parameters
        ----------
        host, port
            Of the publisher.
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
        with self._active(self._establish(host, port, ssl)) as activity:
            link = await activity
            self.receive_task = asyncio.ensure_future(_end_of(link))

    async def run(
        self,
        host: str,
        port: int,
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
        following = self._follow(host, port, ssl, Backoff(longest=longest_wait))
        with (
            contextlib.suppress(SubscriptionLost),  # by close(): the only way that it ends
            self._active(following, reconnects=True) as activity,
        ):
            await activity

    @contextlib.asynccontextmanager
    async def following(
        self,
        host: str,
        port: int,
        *,
        ssl: ssl.SSLContext | None = None,
        longest_wait: float = LONGEST_WAIT,
    ) -> AsyncIterator[Self]:
        """Return a context in which `run` is at work; it begins as soon as the target is live."""
        running = asyncio.ensure_future(self.run(host, port, ssl=ssl, longest_wait=longest_wait))
        self._went_live = asyncio.Event()  # of this loop
        live = asyncio.ensure_future(self._went_live.wait())
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

    async def close(self) -> None:
        """Disconnect, whatever is going on; the subscriber can be used again afterwards.

        May be called at any time and more than once, also by callbacks. No callback begins after
        it has returned.
        """
        activity, self._activity = self._activity, None
        if activity is not None:
            activity.cancel()
        link, self._link = self._link, None
        if link is not None:
            await link.end()
        self._set_state("closed")

    @contextlib.contextmanager
    def _active(
        self, coroutine: Coroutine[Any, Any, Any], *, reconnects: bool = False
    ) -> Iterator[asyncio.Future[Any]]:
        """Give the subscriber one thing to do; leave it closed if that fails."""
        if self.state != "closed":
            coroutine.close()
            raise RuntimeError("the subscriber is connected already, or about to be: close it")
        self._reconnects = reconnects
        self._replica = Replica(self._build, self._request.wish)
        self._set_state("connecting")
        self._activity = activity = asyncio.ensure_future(coroutine)
        try:
            yield activity
        except BaseException as error:
            if self._activity is activity:
                link, self._link = self._link, None
                if link is not None:
                    link.drop()
                self._set_state("closed")
            elif isinstance(error, asyncio.CancelledError):  # close() did it
                raise SubscriptionLost("the subscriber was closed") from None
            raise

    # The connection.

    async def _follow(
        self, host: str, port: int, ssl: ssl.SSLContext | None, backoff: Backoff
    ) -> None:
        loop = asyncio.get_running_loop()
        failed = False
        while True:
            began = loop.time()
            try:
                link = await self._establish(host, port, ssl)
            except Exception as error:
                level = logging.DEBUG if failed else logging.WARNING
                _logger.log(level, "%s port %s: %r; trying again", host, port, error)
                failed = True
                self._hands.report(error)
            else:
                failed = False
                await link.over
                if loop.time() - began > LONGEST_WAIT:
                    backoff.reset()
            await asyncio.sleep(backoff.wait())

    async def _establish(
        self,
        host: str,
        port: int,
        ssl: ssl.SSLContext | None,
    ) -> Link:
        """Connect in our protocol, or else in the established one, and wait for the structure."""
        loop = asyncio.get_running_loop()
        for legacy in (False, True):
            opening = [LEGACY_BANNER, self._request.name.encode()]
            if not legacy:
                request = self._request._replace(position=self._replica.position)
                opening = [write_banner(request)]
            self._link = link = Link(self._receive, self._lose, opening, limit=self._limit)
            self._replica.connected(legacy)
            try:
                async with asyncio.timeout(self._timeout):
                    await loop.create_connection(lambda link=link: link, host, port, ssl=ssl)
                    heard = await link.heard
            except TimeoutError:
                link.drop()
                raise TimeoutError(f"{host} port {port}: no answer in {self._timeout} s") from None
            except BaseException:
                link.drop()
                raise
            if heard:
                error = await link.live
                if error is None:
                    return link
                raise error
        raise SubscriptionLost(
            f"{host} port {port} closed the connection without a word: publishers of the "
            f"established protocol do so if they have no notifier {self._request.name!r}"
        )

    def _receive(self, link: Link, message: Message) -> None:
        """Handle a message of the publisher."""
        replica = self._replica
        replica.tells = bool(self.notify_cbs) or self._state_cb is not None
        if not link.heard.done():
            self._greet(link)
        number = replica.number
        try:
            mods = replica.receive(message)
        except ModsLost as error:
            self._report(error)
            mods = []
        except ModError as error:
            self._start_anew(link, error)
            return
        except Exception as error:  # of the target builder, if it is none of ours
            link.fail(error)
            return
        if not mods:  # it may have been the hello
            link.receiver.raw_buffers = RAW_BUFFERS in replica.features
        if replica.live:
            if self.state != "live":
                self._set_state("live")
            self._tell(link, mods, replica.number != number)

    def _greet(self, link: Link) -> None:
        """Take note that the publisher answers."""
        settle(link.heard, True)
        if self._before_receive_cb is not None:
            self._hands.fire(self._before_receive_cb)
        if self._heartbeat is not None and not self._replica.legacy:
            link.watch(self._heartbeat)

    def _start_anew(self, link: Link, error: ModError) -> None:
        if self._replica.give_up():
            self._report(error)
            self._set_state("stale")
            link.send(control("resync"))
        else:
            link.fail(error)

    def _lose(self, link: Link) -> None:
        """Take note that a connection that was live is gone."""
        if link is self._link:
            self._link = None
            if link.error is not None:
                self._report(link.error)
            self._set_state("stale" if self._reconnects else "closed")
            if self._disconnect_cb is not None:
                self._hands.fire(self._disconnect_cb)
        settle(link.over, None)

    # The callbacks.

    def _tell(self, link: Link, mods: list[Mod], ends: bool) -> None:
        """Call the callbacks; from the first coroutine on, in a task while no more mods come."""
        calls = self._calls(mods)
        for mod, callback in calls:
            result = self._hands.call(callback, mod)
            if result is not None and is_awaitable(result):
                link.pause_reading()
                link.teller = self._hands.spawn(self._tell_slowly(link, result, calls, ends))
                return
            if link is not self._link:
                return
        self._told(link, ends)

    def _calls(self, mods: list[Mod]) -> Iterator[tuple[Mod, Callback]]:
        """Return what is to be called with what: each callback gets a mod of its own."""
        for mod in mods:
            callbacks = self.notify_cbs.copy()
            for callback in callbacks:
                yield (mod if callback is callbacks[-1] else own(mod)), callback

    async def _tell_slowly(
        self,
        link: Link,
        result: Awaitable[Any],
        calls: Iterator[tuple[Mod, Callback]],
        ends: bool,
    ) -> None:
        await self._hands.finish(result)
        for mod, callback in calls:
            if link is not self._link:
                return
            result = self._hands.call(callback, mod)
            if is_awaitable(result):
                await self._hands.finish(result)
        self._told(link, ends)
        link.resume_reading()

    def _told(self, link: Link, ends: bool) -> None:
        if not link.live.done():
            link.live.set_result(None)
        if ends and self._request.max_rate is not None and not self._replica.legacy:
            link.send(control("ack"))

    def _report(self, error: Exception) -> None:
        _logger.warning("%s: %s", self._request.name, error)
        self._hands.report(error)

    def _set_state(self, state: State) -> None:
        if state == self.state:
            return
        self.state = state
        if state == "live":
            self._went_live.set()
        if self._state_cb is not None:
            self._hands.fire(self._state_cb, state)


async def _end_of(link: Link) -> None:
    await asyncio.wait([link.over])  # not the future itself: programs may cancel the task
