"""Subscription: handles the messages of a publisher, and calls the callbacks in order.

The replica decides what a message means; `_subscriber_connection` handles the connection. The one
idea to keep in mind: a message is handled completely, including callbacks, before the next one.
While a coroutine callback runs, messages are queued.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pyon.asyncio_tasks import settle

from sync_struct._callbacks import Callbacks, is_awaitable
from sync_struct._errors import (
    ModError,
    ModsLost,
    SyncStructError,
    UnknownNotifier,
)
from sync_struct._lean_steps import take_array
from sync_struct._protocol import RAW_BUFFERS, Request, control

if TYPE_CHECKING:
    from pyon.framing import Message

    from sync_struct._actions import Mod
    from sync_struct._replica import Replica
    from sync_struct._steps import StepReader
    from sync_struct._subscriber_connection import SubscriberConnection

__all__ = ["Callback", "State", "Subscription"]

_logger = logging.getLogger("sync_struct")

State = Literal["connecting", "live", "absent", "stale", "closed"]
Callback = Callable[[Any], Any]


class Subscription:
    """The state of a subscription, which outlives connections.

    Parameters
    ----------
    request : Request
        The request to send.
    callbacks : Callbacks
        Calls the user's functions.
    may_be_absent : bool
        Whether a part that is absent at first is waited for.
    heartbeat : float or None
        Seconds of silence after which the publisher is sent a ping.

    Attributes
    ----------
    state : State
    notify_cbs : list of callables
        Called with every mod, or step.
    state_cb, disconnect_cb : callable or None
        Called with a new state; called when a connection is lost.
    before_receive_cb : callable or None
        Called before the first message of a connection.
    replica : Replica or StepReader
        Handles the contents of messages.
    connection : SubscriberConnection or None
        The present connection. Messages of other connections are ignored.
    reconnects : bool
        Whether another connection is made after a loss.
    guard, on_step
        See `Subscriber._observe`.
    """

    replica: Replica | StepReader

    def __init__(
        self,
        request: Request,
        callbacks: Callbacks,
        *,
        may_be_absent: bool,
        heartbeat: float | None,
    ) -> None:
        self.request = request
        self.callbacks = callbacks
        self.state: State = "closed"
        self.notify_cbs: list[Callback] = []
        self.state_cb: Callable[[State], Any] | None = None
        self.disconnect_cb: Callable[[], Any] | None = None
        self.before_receive_cb: Callable[[], Any] | None = None
        self.connection: SubscriberConnection | None = None
        self.reconnects = False
        self.has_begun = asyncio.Event()
        self.guard: contextlib.AbstractContextManager[Any] | None = None
        self.on_step: Callable[[Sequence[Mod]], None] | None = None
        self._may_be_absent = may_be_absent
        self._heartbeat = heartbeat

    # Messages.

    def receive(self, connection: SubscriberConnection, message: Message) -> None:
        """Handle a message of the publisher."""
        if message.buffers and take_array(self, connection, message):
            return
        if connection is not self.connection:
            return
        if not connection.greeted:
            self._greet(connection)
        replica = self.replica
        number = replica.number
        share = self.on_step is None and not self.notify_cbs
        try:
            mods: Sequence[Any] = replica.receive(message, share=share)
        except ModsLost as error:
            self._report(error)
            mods = []
        except ModError as error:
            self._start_anew(connection, error)
            return
        except BaseException as error:  # an error of the protocol, or of the target builder
            connection.fail(_as_exception(error))
            return
        if replica.decode_errors:
            for decode_error in replica.take_decode_errors():
                self._report(decode_error)
        if not mods:  # the message may be the hello
            connection.receiver.raw_buffers = RAW_BUFFERS in replica.features
        ends = bool(mods) or replica.number != number
        self._deliver(connection, [] if share else mods, ends)

    def _deliver(self, connection: SubscriberConnection, mods: Sequence[Any], ends: bool) -> None:
        """Call callbacks with the mods that have been applied, and with a new state."""
        replica = self.replica
        if replica.absent and not self._may_wait(connection):
            part = list(self.request.wish.path)
            connection.fail(UnknownNotifier(f"the structure has no part {part!r}"))
        elif replica.live:
            state: State = "absent" if replica.absent else "live"
            if replica.stale:
                state = "stale"
            if state != self.state and replica.caught_up:
                self.has_begun.set()
                self.set_state(state)
            self._call_callbacks(connection, mods, ends)

    def _may_wait(self, connection: SubscriberConnection) -> bool:
        """Return whether to wait for an absent part, as always once the connection was ready."""
        return self.reconnects or self._may_be_absent or connection.ready.done()

    def _greet(self, connection: SubscriberConnection) -> None:
        """Handle the first message of a connection."""
        connection.greeted = True
        if self.before_receive_cb is not None:
            self.callbacks.fire(self.before_receive_cb)
        if self._heartbeat is not None and not self.replica.legacy:
            connection.watch(self._heartbeat)

    def _start_anew(self, connection: SubscriberConnection, error: ModError) -> None:
        if self.replica.give_up():
            self._report(error)
            self.set_state("stale")
            connection.send(control("resync"))
        else:
            connection.fail(error)

    def lose(self, connection: SubscriberConnection) -> None:
        """Handle the loss of a connection that was ready."""
        if connection is self.connection:
            self.connection = None
            if connection.error is not None:
                self._report(connection.error)
            self.set_state("stale" if self.reconnects else "closed")
            if self.disconnect_cb is not None:
                self.callbacks.fire(self.disconnect_cb)
        settle(connection.over, None)

    # The callbacks.

    def _call_callbacks(
        self, connection: SubscriberConnection, mods: Sequence[Any], ends: bool
    ) -> None:
        """Call the callbacks. From the first coroutine on, a task does so, and messages wait."""
        calls = self._calls(mods) if mods else iter(())
        for callback, mod in calls:
            result = self.callbacks.call(callback, mod)
            if result is not None and is_awaitable(result):
                self.wait_for(connection, result, calls, ends=ends)
                return
            if connection is not self.connection:
                return
        self._finish(connection, ends)

    def _calls(self, mods: Sequence[Any]) -> Iterator[tuple[Callback, Any]]:
        """Return the calls to make: pairs of a callback and its own copy of a mod, or a step."""
        if len(mods) == len(self.notify_cbs) == 1 and self.on_step is None:
            return iter([(self.notify_cbs[0], mods[0])])  # the usual small mod
        return self._all_calls(mods)

    def _all_calls(self, mods: Sequence[Any]) -> Iterator[tuple[Callback, Any]]:
        own = self.replica.own
        for mod in mods:
            callbacks = self.notify_cbs
            if len(callbacks) == 1 and self.on_step is None:
                yield callbacks[0], mod
            else:  # copied before the first callback can change it
                yield from [(callback, own(mod)) for callback in callbacks]

    def wait_for(
        self,
        connection: SubscriberConnection,
        result: Awaitable[Any],
        calls: Iterator[tuple[Callback, Any]],
        *,
        ends: bool,
    ) -> None:
        """Queue messages until a coroutine callback and the remaining calls are done."""
        connection.hold()
        self.callbacks.spawn(self._finish_calls(connection, result, calls, ends))

    async def _finish_calls(
        self,
        connection: SubscriberConnection,
        result: Awaitable[Any],
        calls: Iterator[tuple[Callback, Any]],
        ends: bool,
    ) -> None:
        try:
            await self.callbacks.finish(result)
            for callback, mod in calls:
                if connection is not self.connection:
                    return
                result = self.callbacks.call(callback, mod)
                if is_awaitable(result):
                    await self.callbacks.finish(result)
            self._finish(connection, ends)
        finally:
            connection.release()

    def _finish(self, connection: SubscriberConnection, ends: bool) -> None:
        if self.replica.caught_up and not connection.ready.done():
            connection.ready.set_result(None)
        if ends and self.request.max_rate is not None and not self.replica.legacy:
            connection.send(control("ack"))

    def _report(self, error: Exception) -> None:
        _logger.warning("%s: %s", self.request.name, error)
        self.callbacks.report(error)

    def set_state(self, state: State) -> None:
        """Set the state; call `state_cb` if it has changed."""
        if state == self.state:
            return
        self.state = state
        if self.state_cb is not None:
            self.callbacks.fire(self.state_cb, state)


def _as_exception(error: BaseException) -> Exception:
    """Return an exception as an `Exception`; one that has to end the program is raised again."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    if isinstance(error, Exception):
        return error
    wrapped = SyncStructError(f"the target could not be built: {error!r}")
    wrapped.__cause__ = error
    return wrapped
