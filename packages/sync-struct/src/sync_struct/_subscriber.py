"""Subscriber: a replica of a publisher's structure, kept up to date on an event loop.

What a message means is decided by `_protocol.Replica`. Here are the connection, the callbacks and
their order, and what happens when the connection is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import random
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pyon.asyncio_connection import Connection
from pyon.framing import DEFAULT_LIMIT, Message

from sync_struct._errors import ModError, ModsLost, SubscriptionLost
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

if TYPE_CHECKING:
    import ssl

__all__ = ["Backoff", "State", "Subscriber"]

_logger = logging.getLogger(__name__)

FIRST_MESSAGE_TIMEOUT = 30.0
"""Seconds until a publisher that accepted the connection counts as dead. An old one encodes the
structure for every subscriber anew: fifty that come back at once may wait for 20 s."""

FIRST_WAIT = 0.1
"""Seconds before the first attempt to connect again: a publisher that restarts needs about that."""

LONGEST_WAIT = 10.0
"""Seconds between attempts in the long run: nobody waits longer in front of a dashboard."""

State = Literal["connecting", "live", "stale", "closed"]
Callback = Callable[[Mod], Any]
_T = TypeVar("_T")


class Backoff:
    """How long to wait before the next attempt to connect: longer each time, never the same.

    Parameters
    ----------
    first, longest : float
        Seconds.
    """

    def __init__(self, first: float = FIRST_WAIT, longest: float = LONGEST_WAIT) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def wait(self) -> float:
        """Return how long to wait now, in seconds."""
        wait, self._next = self._next, min(2 * self._next, self._longest)
        return wait * random.uniform(0.5, 1.0)  # noqa: S311  # so that a hundred do not come at once

    def reset(self) -> None:
        """Begin anew: the connection stood."""
        self._next = self._first


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

    Attributes
    ----------
    target : object
        What `target_builder` made of the structure, with all mods since. None before.
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
    ) -> None:
        self.state: State = "closed"
        if notify_cb is None:
            callbacks: Iterable[Callback] = ()
        else:
            callbacks = [notify_cb] if callable(notify_cb) else notify_cb
        self._callbacks = list(callbacks)
        self._disconnect_cb = disconnect_cb
        self._state_cb = state_cb
        self._on_error = on_error
        self._build = target_builder
        self._limit = limit
        self._timeout = timeout
        wish = Wish(tuple(path), mods_only, newest=max_rate is not None)
        features = frozenset({RAW_BUFFERS} if raw_buffers else ())
        self._request = Request(notifier_name, wish, features, max_rate)
        self._replica = Replica(target_builder, wish)
        self._link: _Link | None = None
        self._activity: asyncio.Future[Any] | None = None  # what close() has to end
        self._reconnects = False
        self._closing = False
        self._went_live = asyncio.Event()
        self._tasks: set[asyncio.Future[None]] = set()  # at work on coroutine callbacks

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
        attempt = self._establish(host, port, ssl, before_receive_cb)
        with self._active(attempt) as activity:
            await activity

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
        self._went_live.clear()
        live = asyncio.ensure_future(self._went_live.wait())
        try:
            await asyncio.wait({running, live}, return_when=asyncio.FIRST_COMPLETED)
            yield self
        finally:
            live.cancel()
            await self.close()
            await running

    async def close(self) -> None:
        """Disconnect, whatever is going on; the subscriber can be used again afterwards.

        May be called at any time and more than once, also by callbacks. No callback begins after
        it has returned.
        """
        self._closing = True
        if self._activity is not None:
            self._activity.cancel()
        link, self._link = self._link, None
        if link is not None:
            link.drop()
            await link.gone()
        self._set_state("closed")

    @contextlib.contextmanager
    def _active(
        self, coroutine: Coroutine[Any, Any, Any], *, reconnects: bool = False
    ) -> Iterator[asyncio.Future[Any]]:
        """Give the subscriber one thing to do; leave it closed if that fails."""
        if self.state != "closed":
            coroutine.close()
            raise RuntimeError("the subscriber is connected already, or about to be: close it")
        self._closing, self._reconnects = False, reconnects
        self._replica = Replica(self._build, self._request.wish)
        self._set_state("connecting")
        self._activity = activity = asyncio.ensure_future(coroutine)
        try:
            yield activity
        except BaseException as error:
            link, self._link = self._link, None
            if link is not None:
                link.drop()
            self._set_state("closed")
            if self._closing and isinstance(error, asyncio.CancelledError):
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
                link = await self._establish(host, port, ssl, None)
            except Exception as error:
                level = logging.DEBUG if failed else logging.WARNING
                _logger.log(level, "%s port %s: %r; trying again", host, port, error)
                failed = True
                self._report(error)
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
        before_receive_cb: Callable[[], Any] | None,
    ) -> _Link:
        """Connect in our protocol, or else in the established one, and wait for the structure."""
        loop = asyncio.get_running_loop()
        for legacy in (False, True):
            opening = [LEGACY_BANNER, self._request.name.encode()]
            if not legacy:
                request = self._request._replace(position=self._replica.position)
                opening = [write_banner(request)]
            self._link = link = _Link(self, opening, before_receive_cb, limit=self._limit)
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

    def _receive(self, link: _Link, message: Message) -> None:
        """Handle a message of the publisher."""
        replica = self._replica
        if not link.heard.done():
            _settle(link.heard, True)
            if link.before_receive_cb is not None:
                self._fire(link.before_receive_cb)
        position = replica.position
        try:
            mods = replica.receive(message)
        except ModsLost as error:
            self._report(error, "mods are lost")
            mods = []
        except ModError as error:
            self._report(error, "a mod does not fit: the structure has to come anew")
            self._start_anew(link, error)
            return
        except Exception as error:  # of the target builder, if it is none of ours
            link.fail(error)
            return
        link.receiver.raw_buffers = RAW_BUFFERS in replica.features
        if replica.live:
            self._set_state("live")
            self._tell(link, mods, replica.position is not position)

    def _start_anew(self, link: _Link, error: ModError) -> None:
        if self._replica.give_up():
            self._set_state("stale")
            link.send(control("resync"))
        else:
            link.fail(error)

    def _lose(self, link: _Link) -> None:
        """Take note that a connection that was live is gone."""
        if link is self._link:
            self._link = None
            if link.error is not None:
                _logger.warning("%s: %s", self._request.name, link.error)
                self._report(link.error)
            self._set_state("stale" if self._reconnects else "closed")
            if self._disconnect_cb is not None:
                self._fire(self._disconnect_cb)
        _settle(link.over, None)

    # The callbacks.

    def _tell(self, link: _Link, mods: list[Mod], ends: bool) -> None:
        """Call the callbacks; from the first coroutine on, in a task while no more mods come."""
        calls = ((callback, mod) for mod in mods for callback in self._callbacks)
        for callback, mod in calls:
            result = self._call(callback, mod)
            if result is not None and inspect.isawaitable(result):
                link.pause_reading()
                link.teller = self._spawn(self._tell_slowly(link, result, calls, ends))
                return
            if link is not self._link:
                return
        self._told(link, ends)

    async def _tell_slowly(
        self,
        link: _Link,
        result: Awaitable[Any],
        calls: Iterator[tuple[Callback, Mod]],
        ends: bool,
    ) -> None:
        await self._finish(result)
        for callback, mod in calls:
            if link is not self._link:
                return
            result = self._call(callback, mod)
            if result is not None and inspect.isawaitable(result):
                await self._finish(result)
        self._told(link, ends)
        link.resume_reading()

    def _told(self, link: _Link, ends: bool) -> None:
        _settle(link.live, None)
        if ends and self._request.max_rate is not None and not self._replica.legacy:
            link.send(control("ack"))

    def _call(self, callback: Callable[..., Any], *args: Any) -> Any:
        try:
            return callback(*args)
        except Exception as error:
            self._report(error, "a callback failed on %r", *args)

    async def _finish(self, result: Awaitable[Any]) -> None:
        try:
            await result
        except Exception as error:
            self._report(error, "a callback failed")

    def _fire(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call a callback that nothing waits for."""
        result = self._call(callback, *args)
        if result is not None and inspect.isawaitable(result):
            self._spawn(self._finish(result))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _report(self, error: Exception, what: str = "", *args: Any) -> None:
        """Log an error that reaches nobody else (unless that was done), and tell `on_error`."""
        if what:
            _logger.error(f"%s: {what}", self._request.name, *args, exc_info=error)
        if self._on_error is not None:
            try:
                self._on_error(error)
            except Exception:
                _logger.exception("on_error failed on %r", error)

    def _set_state(self, state: State) -> None:
        if state == self.state:
            return
        self.state = state
        if state == "live":
            self._went_live.set()
        if self._state_cb is not None:
            self._fire(self._state_cb, state)


class _Link(Connection):
    """One connection to a publisher.

    Attributes
    ----------
    heard : future of bool
        Done when the publisher has sent something (True), or closed the connection before (False).
    live : future of Exception or None
        Done when the callbacks have been told of the structure, or cannot be, for that reason.
    over : future of None
        Done when the connection is gone, and everybody has been told.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        opening: Sequence[bytes],
        before_receive_cb: Callable[[], Any] | None,
        *,
        limit: int,
    ) -> None:
        super().__init__(limit=limit)
        self.before_receive_cb = before_receive_cb
        self.error: Exception | None = None
        self.teller: asyncio.Task[None] | None = None
        self.heard: asyncio.Future[bool] = self._loop.create_future()
        self.live: asyncio.Future[Exception | None] = self._loop.create_future()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._subscriber = subscriber
        self._opening = opening
        self._opened = False

    def connection_opened(self) -> None:
        self._opened = True
        for line in self._opening:
            self.send(line)

    def message_received(self, message: Message) -> None:
        self._subscriber._receive(self, message)

    def fail(self, error: Exception) -> None:
        """End the connection, for a reason of our own."""
        self.error = error
        self.abort()

    def drop(self) -> None:
        """End the connection, as far as there is one."""
        if self._opened:
            self.abort()

    async def gone(self) -> None:
        """Wait until the connection is gone, as far as there was one."""
        if self._opened:
            await self.wait_closed()

    def connection_closed(self, exc: Exception | None) -> None:
        if not self.heard.done():
            _settle(self.heard, False)
        elif not self.live.done():
            lost = SubscriptionLost(f"{self.peername}: the connection was lost: {exc or 'closed'}")
            _settle(self.live, self.error or lost)
        elif self.teller is None or self.teller.done():
            self._subscriber._lose(self)
        else:
            self.teller.add_done_callback(lambda _: self._subscriber._lose(self))


def _settle(future: asyncio.Future[_T], result: _T) -> None:
    """Set the result of a future, unless it has one or who waited for it was cancelled."""
    if not future.done():
        future.set_result(result)
