"""The connection of a `Client` that reconnects: the current one, and the next.

The one idea to keep in mind: a call is given to a connection, and to another one only if the first
was lost before any byte of the call was sent. So no request is sent twice. Callers that find no
connection start a search and wait for it, each until its own deadline.
"""

from __future__ import annotations

import time
from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

from pc_rpc._attempts import (
    AGAIN,
    FIRST_WAIT,
    LONGEST_WAIT,
    UNLIMITED_CALL,
    Attempts,
    closed_by_user,
    is_mistake,
    lease_lost,
    no_connection,
    not_the_target,
    was_not_sent,
)
from pc_rpc._connection import DESCRIPTION_TIMEOUT, BlockingConnection
from pc_rpc._deadlines import LONGEST_RECHECK, RECHECK, deadline_of, remaining, within
from pc_rpc._errors import ConnectionLost, RpcError
from pc_rpc._reconnecting import Reconnecting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pc_rpc._client_side import ClientSide
    from pc_rpc._protocol import AutoTarget
    from pc_rpc._remote_stream import RemoteStream
    from pc_rpc._states import State


class _Waiter:
    """A call that waits for a connection."""

    __slots__ = ("deadline", "lock", "outcome")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.outcome: BlockingConnection | Exception | None = None
        self.lock = allocate_lock()
        self.lock.acquire()

    def wake(self, outcome: BlockingConnection | Exception | None) -> None:
        """Wake it with a connection or an error; None: it should check the state."""
        self.outcome = outcome
        try:
            self.lock.release()
        except RuntimeError:  # awake already
            pass


class LastingConnection(Reconnecting):
    """One connection after the other, to the same target; for any thread.

    Parameters
    ----------
    where : tuple
        Host, port and name of the target.
    options : dict
        Keyword arguments of each `BlockingConnection`.
    state_cb : callable or None
        Called at each change of the state.
    renewed : weakref.WeakMethod
        The method to call when the methods of the target have changed.
    """

    def __init__(
        self,
        where: tuple[str, int, Any],
        options: dict[str, Any],
        state_cb: Callable[[State], object] | None,
        renewed: Callable[[], Callable[[], object] | None],
    ) -> None:
        attempts = Attempts(FIRST_WAIT, LONGEST_WAIT, at_once=True)
        first = options["connect_timeout"]
        super().__init__(where, {**options, "again": AGAIN}, attempts, state_cb)
        self._renewed = renewed
        self._connect_timeout: float | None = first
        self._waiters: dict[_Waiter, None] = {}
        try:
            self.adopt(BlockingConnection(*self.where, **self._options))
        except BaseException:
            self.closed = True
            raise

    @property
    def _known(self) -> BlockingConnection:
        """The current connection, or the last one."""
        assert self.last is not None  # the constructor has made one
        return self.last

    # State, of the last connection if there is no current one.

    @property
    def side(self) -> ClientSide:
        """The negotiated features and the pending calls."""
        return self._known.side

    @property
    def names(self) -> Collection[str]:
        """Names of the methods of the selected target."""
        return self._known.names

    @property
    def streams(self) -> frozenset[str]:
        """Names of the methods that return streams."""
        return self._known.streams

    @property
    def gone(self) -> Mapping[str, str]:
        """Methods that the server has no longer, each with the text of the error."""
        return self.side.requests.gone

    @property
    def label(self) -> str:
        """Target and server, for messages."""
        return super().label if self.last is None else self.last.label

    @property
    def state(self) -> str:
        """The state, to be shown behind the label."""
        if self.closed or self.foreign is not None:
            return ", closed" if self.closed else ", connection lost"
        return ", not connected" if self.connection is None else ""

    def described(self) -> Mapping[str, Any]:
        """Return the method list, an empty one if it is not available."""
        return self._known.described()

    def look_again(self) -> bool:
        """Connect again if the connection is lost; return whether the methods have changed."""
        before = self._known
        try:
            longest = DESCRIPTION_TIMEOUT
            self._ready("question", min(self.timeout or longest, longest))
        except (OSError, RpcError, ValueError):  # the look-up raises AttributeError
            return False
        return self._known.names != before.names

    # Calls.

    def invoke(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Any:
        """Call a method of the target and return its result."""
        connection, began = self.connection, time.monotonic()
        if connection is not None:
            try:
                return connection.invoke(name, args, kwargs, timeout)
            except ConnectionLost as error:
                self._note_loss(connection, error)
        return self._through(
            f"call of {name}()",
            lambda other, left: other.invoke(name, args, kwargs, left),
            timeout,
            began,
        )

    def stream(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> RemoteStream:
        """Return the iterator over a stream.

        It belongs to one connection: if that is lost, it raises `ConnectionLost`.
        """
        return self._ready(f"stream of {name}()", timeout).stream(name, args, kwargs, timeout)

    def request(self, action: str, fields: Mapping[str, Any] | None = None) -> Any:
        """Make a request other than a call of a method, and return the result."""
        return self._through(
            f"request {action}", lambda c, left: c.act(action, left, fields), self.timeout
        )

    def ready(self) -> BlockingConnection:
        """Return a connection that is not known to be lost, made again if needed."""
        return self._ready("lease", self.timeout)

    def _ready(self, what: str, timeout: float | None) -> BlockingConnection:
        connection = self._known
        connection.look()
        if (reason := connection.side.reason) is not None:
            self.drop(connection, reason)
        found: BlockingConnection = self._through(what, lambda other, _: other, timeout)
        return found

    def local_host(self) -> str:
        """Return the address of the local end."""
        return str(self._through("question", lambda c, _: c.local_host(), self.timeout))

    def select(self, target_name: str | AutoTarget | type[AutoTarget]) -> None:
        """Select a target, for this connection and later ones."""
        self._through("selection", lambda c, _: c.select(target_name), self.timeout)
        self._note_target()

    def _through(
        self,
        what: str,
        use: Callable[[BlockingConnection, float | None], Any],
        timeout: float | None,
        began: float | None = None,
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
        began : float, optional
            When it began; now by default.
        """
        began = time.monotonic() if began is None else began
        wait = timeout
        if wait is None:
            wait = UNLIMITED_CALL if self._connect_timeout is None else self._connect_timeout
        deadline, call_deadline = began + wait, deadline_of(timeout, began)
        while True:
            connection = self.connection or self._await_connection(what, began, deadline)
            left = None
            if call_deadline is not None:  # whole milliseconds, for error messages
                left = round(max(call_deadline - time.monotonic(), 0.0), 3)
            try:
                return use(connection, left)
            except ConnectionLost as error:
                self._note_loss(connection, error)

    def _note_loss(self, connection: BlockingConnection, error: ConnectionLost) -> None:
        """Note that a call has found the connection lost; raise the error if the call was sent."""
        reason = connection.side.reason
        stopped = error.__cause__ is None and not hasattr(error, "parent_traceback")
        if reason is not None or stopped:
            self.drop(connection, reason or EOFError("the server stopped"))
        if not was_not_sent(error, reason):
            raise error

    # Waiting for a connection.

    def _await_connection(self, what: str, began: float, deadline: float) -> BlockingConnection:
        if self._known.side.blocks:
            raise lease_lost(self.label, self._known.side.blocks.values(), what)
        waiter, failed = _Waiter(deadline), self.attempts.failed_times
        pause = RECHECK
        try:
            self._interrupts.held_back(self._enlist, waiter)
            while waiter.outcome is None and not self.closed:
                waiter.lock.acquire(True, within(deadline, pause))
                pause = min(2 * pause, LONGEST_RECHECK)
        except (TimeoutError, RuntimeError):  # no time left; or no thread: the interpreter exits
            raise self._refusal(what, began, failed) from self.attempts.last_error
        finally:
            self._waiters.pop(waiter, None)
        if isinstance(waiter.outcome, BlockingConnection):
            return waiter.outcome
        if waiter.outcome is None or self.closed:
            raise closed_by_user(self.label, what)
        raise not_the_target(waiter.outcome, what)

    def _enlist(self, waiter: _Waiter) -> None:
        if self.foreign is not None:
            raise self.foreign
        with self.changing():
            self._waiters[waiter] = None
            if self.connection is not None:
                waiter.wake(self.connection)
        remaining(waiter.deadline)
        self.search()

    def _refusal(self, what: str, began: float, failed: int) -> ConnectionLost:
        attempts, seconds = self.attempts, time.monotonic() - began
        times = max(0, attempts.failed_times - failed)
        return ConnectionLost(no_connection(self.label, what, attempts, times, seconds))

    def _is_wanted(self) -> bool:
        return bool(self._waiters)

    def _time_for_attempt(self) -> float | None:
        if self._connect_timeout is not None:
            return self._connect_timeout
        deadlines = [waiter.deadline for waiter in list(self._waiters)]
        return max(max(deadlines, default=0.0) - time.monotonic(), RECHECK)

    def _was_made(self, connection: BlockingConnection, changed: bool) -> None:
        self._note_target()
        if changed and (renewed := self._renewed()) is not None:
            renewed()
        self._wake_waiters(connection)

    def _note_target(self) -> None:
        """Have later connections select the same target."""
        if self.side.selected_target is not None:
            self.where = (*self.where[:2], self.side.selected_target)

    def _has_failed(self, error: Exception) -> None:
        if is_mistake(error):
            self._wake_waiters(error)

    def close(self) -> None:
        """Close the connection. Calls that wait for a reply or a connection raise an error."""
        super().close()
        self._wake_waiters(None)

    def _wake_waiters(self, outcome: BlockingConnection | Exception | None) -> None:
        for waiter in list(self._waiters):
            waiter.wake(outcome)

    def forked(self) -> None:
        """See `pyon.forks`."""
        super().forked()
        self._waiters = {}
