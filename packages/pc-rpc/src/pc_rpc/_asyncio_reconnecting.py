"""The asyncio client's search for its next connection: one task for all callers that wait.

The one idea to keep in mind: the task makes attempts while any caller waits, and is independent of
each of them. So a caller can leave, at its deadline or because it was cancelled, whatever the
attempt is waiting for. A call is made again only if no byte of it was sent, as in `_lasting`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from pyon.asyncio_tasks import settle

from pc_rpc._asyncio_connection import AsyncioConnection, open_connection
from pc_rpc._attempts import (
    AGAIN,
    FIRST_WAIT,
    LONGEST_WAIT,
    UNLIMITED_CALL,
    Attempts,
    closed_by_user,
    is_foreseen,
    is_mistake,
    lease_lost,
    no_connection,
    not_the_target,
    was_not_sent,
    without_frames,
)
from pc_rpc._client_side import ClientSide
from pc_rpc._errors import ConnectionLost
from pc_rpc._states import States

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from pc_rpc._states import State

_logger = logging.getLogger("pc_rpc")


class Holder(Protocol):
    """The object with the current connection."""

    connection: AsyncioConnection | None
    timeout: float | None

    def renewed(self, connection: AsyncioConnection, *, changed: bool) -> None:
        """Use a new connection; `changed` tells whether its methods differ from before."""


class _Watched(AsyncioConnection):
    """A connection that reports its end to an `AsyncioReconnecting`."""

    def __init__(self, side: ClientSide, watcher: AsyncioReconnecting) -> None:
        super().__init__(side)
        self._watcher = weakref.ref(watcher)  # weak, so that an unused client is freed

    def end(self, reason: BaseException) -> None:
        """Close the connection; pending calls raise `ConnectionLost`."""
        lost, watcher = self.side.reason is None, self._watcher()
        super().end(reason)
        if lost and watcher is not None:
            watcher.ended(self, reason)


class AsyncioReconnecting:
    """One connection after the other, to the same target; for one event loop.

    Parameters
    ----------
    holder : Holder
        The object with the current connection. Kept as a weak reference: it refers to this one.
    where : tuple
        Host, port and name of the target.
    side : callable
        Makes the `ClientSide` of each connection. Its argument is that class's `again`.
    context : ssl.SSLContext or None
        Speak TLS.
    state_cb : callable or None
        Called at each change of the state.
    """

    def __init__(
        self,
        holder: Holder,
        where: tuple[str, int, Any],
        side: Callable[[str], ClientSide],
        context: ssl.SSLContext | None,
        state_cb: Callable[[State], object] | None,
    ) -> None:
        self.closed = False
        self._holder = weakref.ref(holder)
        self._where = where
        self._side = side
        self._context = context
        self._attempts = Attempts(FIRST_WAIT, LONGEST_WAIT, at_once=True)
        self._states = States(state_cb)
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._connection: AsyncioConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiters: dict[asyncio.Future[Any], float] = {}  # with their deadlines

    def make(self) -> AsyncioConnection:
        """Return a connection that is not open yet."""
        return _Watched(self._side(AGAIN), self)

    def adopt(self, connection: AsyncioConnection) -> None:
        """Use a connection that was opened."""
        holder = self._holder()
        if holder is None or self.closed:
            connection.end(ConnectionLost("the client was closed"))
            return
        before, self._connection = self._connection, connection
        self.note_target(connection.side)
        changed = before is not None and connection.side.come_after(before.side)
        holder.renewed(connection, changed=changed)
        self._attempts.made(time.monotonic())
        self._wake_waiters(connection)
        self._note("connected")

    def note_target(self, side: ClientSide) -> None:
        """Have later connections select the same target."""
        if side.selected_target is not None:
            self._where = (*self._where[:2], side.selected_target)

    def ended(self, connection: AsyncioConnection, reason: BaseException) -> None:
        """Note that a connection is lost."""
        if connection is self._connection and not self.closed:
            self._attempts.lost(time.monotonic(), reason)
            self._note("lost")

    def _note(self, state: State) -> None:
        self._states.note(state)
        self._loop.call_soon(self._states.deliver)

    def close(self) -> None:
        """Stop connecting. Calls that wait for a connection raise `ConnectionLost`."""
        if not self.closed:
            self.closed = True
            if self._task is not None:
                self._task.cancel()
            self._wake_waiters(None)
            self._note("closed")

    def _wake_waiters(self, outcome: AsyncioConnection | Exception | None) -> None:
        for waiter in self._waiters:
            settle(waiter, outcome)

    # Calls that find no connection.

    async def through(
        self,
        what: str,
        use: Callable[[AsyncioConnection, float | None], Awaitable[Any]],
        timeout: float | None,
    ) -> Any:
        """Return the result of `use` with a connection, which is made again if needed.

        Parameters
        ----------
        what : str
            Description of the request, for errors.
        use : callable
            Called with the connection and the seconds left. Called again only if nothing was sent.
        timeout : float or None
            Seconds that all of it may take.
        """
        began = time.monotonic()
        while True:
            connection = self._connection
            if connection is None or connection.side.reason is not None or self.closed:
                deadline = began + (UNLIMITED_CALL if timeout is None else timeout)
                connection = await self._await_connection(what, began, deadline)
            left = None
            if timeout is not None:  # whole milliseconds, for error messages
                left = round(max(began + timeout - time.monotonic(), 0.0), 3)
            try:
                return await use(connection, left)
            except ConnectionLost as error:
                if not was_not_sent(error, connection.side.reason):
                    raise

    async def _await_connection(
        self, what: str, began: float, deadline: float
    ) -> AsyncioConnection:
        if os.getpid() != self._process:
            text = f"made in another process, {self._process}; make a new client here"
            raise ConnectionLost(f"connection to {self._label} lost: {text}")
        if self.closed:
            raise closed_by_user(self._label, what)
        if self._connection is not None and (blocks := self._connection.side.blocks):
            raise lease_lost(self._label, blocks.values(), what)
        waiter, failed = self._loop.create_future(), self._attempts.failed_times
        self._waiters[waiter] = deadline
        if self._task is None:
            self._task = self._loop.create_task(self._search())
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                outcome = await waiter
        except TimeoutError:
            times = max(0, self._attempts.failed_times - failed)
            waited = time.monotonic() - began
            text = no_connection(self._label, what, self._attempts, times, waited)
            raise ConnectionLost(text) from self._attempts.last_error
        finally:
            del self._waiters[waiter]
        if isinstance(outcome, AsyncioConnection):
            return outcome
        raise (
            closed_by_user(self._label, what) if outcome is None else not_the_target(outcome, what)
        )

    @property
    def _label(self) -> str:
        return "the server" if self._connection is None else self._connection.side.label

    # The search.

    async def _search(self) -> None:
        """Make attempts when they are due, while any caller waits."""
        try:
            while self._waiters and not self.closed:
                if (pause := self._attempts.due - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
                elif await self._attempt():
                    break
        finally:
            self._task = None

    async def _attempt(self) -> bool:
        """Try to connect; return whether there is a connection."""
        connection = self.make()
        longest = max(self._waiters.values()) - time.monotonic()
        try:
            await open_connection(connection, self._where, self._context, max(longest, FIRST_WAIT))
        except Exception as error:  # at the top of a task: the waiting callers get it
            if not is_foreseen(error):
                _logger.exception("%s: connecting again failed", self._label)
            self._attempts.failed(time.monotonic(), without_frames(error))
            if is_mistake(error):
                self._wake_waiters(error)
            return False
        self.adopt(connection)
        return True
