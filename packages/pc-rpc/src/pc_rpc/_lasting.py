"""What a `Client` that connects again calls through: the connection of the moment, and the next.

The one idea to keep in mind: a call is handed to a connection, and to another one only if the
first was found lost before anything of the call had left. So nothing is sent twice. Callers that
find no connection have one searched and wait for it, each until its own deadline.
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

    def tell(self, outcome: BlockingConnection | Exception | None) -> None:
        """Wake it with what there is for it; None: it should look around."""
        self.outcome = outcome
        try:
            self.lock.release()
        except RuntimeError:  # told already
            pass


class LastingConnection(Reconnecting):
    """One connection after the other, to the same target; for any thread.

    Parameters
    ----------
    where : tuple
        Host, port and name of the target.
    options : dict
        Of each `BlockingConnection`.
    state_cb : callable or None
        Told of each change of the state.
    renewed : callable
        Called when the methods are others than before. What it returns is called, if anything: it
        is a weak reference.
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
        """The last connection, from which there is still something to be learnt."""
        assert self.last is not None  # there was one, or there would not be this object
        return self.last

    # What there is to know, of the last connection if there is none.

    @property
    def side(self) -> ClientSide:
        """What was agreed."""
        return self._known.side

    @property
    def names(self) -> Collection[str]:
        """Names of the methods of the selected target."""
        return self._known.names

    @property
    def streams(self) -> frozenset[str]:
        """Names of those that give their result item by item."""
        return self._known.streams

    @property
    def gone(self) -> Mapping[str, str]:
        """Why methods cannot be called any more that there were before."""
        return self.side.requests.gone

    @property
    def label(self) -> str:
        """Target and server, as people write them."""
        return super().label if self.last is None else self.last.label

    @property
    def state(self) -> str:
        """What is said of it behind the label, to people."""
        if self.closed or self.foreign is not None:
            return ", closed" if self.closed else ", connection lost"
        return ", not connected" if self.connection is None else ""

    def described(self) -> Mapping[str, Any]:
        """Return the method list, an empty one if it cannot be had now."""
        return self._known.described()

    def look_again(self) -> bool:
        """Connect if the connection is seen to have gone; return whether the methods are others."""
        before = self._known
        try:
            longest = DESCRIPTION_TIMEOUT
            self._ready("question", min(self.timeout or longest, longest))
        except (OSError, RpcError, ValueError):  # who asked is told that there is no such method
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
        """Return the iterator of a method that gives its result item by item.

        It is that of one connection: if that is lost, it ends in `ConnectionLost`.
        """
        return self._ready(f"stream of {name}()", timeout).stream(name, args, kwargs, timeout)

    def request(self, action: str, fields: Mapping[str, Any] | None = None) -> Any:
        """Make a request that is no call of a method and return what it gives."""
        return self._through(
            f"request {action}", lambda c, left: c.act(action, left, fields), self.timeout
        )

    def ready(self) -> BlockingConnection:
        """Return a connection that is not seen to be lost, made again if need be."""
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
        """Select a target and learn its methods; it is that of later connections, too."""
        self._through("selection", lambda c, _: c.select(target_name), self.timeout)
        self._note_target()

    def _through(
        self,
        what: str,
        use: Callable[[BlockingConnection, float | None], Any],
        timeout: float | None,
        began: float | None = None,
    ) -> Any:
        """Return what `use` gives with a connection, which may have to be made, and the time left.

        Parameters
        ----------
        what : str
            What is done, for errors.
        use : callable
            Does it. Called again only if nothing had been sent.
        timeout : float or None
            Seconds that all of it may take.
        began : float, optional
            When it began; now, if that is not said.
        """
        began = time.monotonic() if began is None else began
        wait = timeout
        if wait is None:
            wait = UNLIMITED_CALL if self._connect_timeout is None else self._connect_timeout
        deadline, call_deadline = began + wait, deadline_of(timeout, began)
        while True:
            connection = self.connection or self._await_connection(what, began, deadline)
            left = None
            if call_deadline is not None:  # whole milliseconds: people see it in errors
                left = round(max(call_deadline - time.monotonic(), 0.0), 3)
            try:
                return use(connection, left)
            except ConnectionLost as error:
                self._note_loss(connection, error)

    def _note_loss(self, connection: BlockingConnection, error: ConnectionLost) -> None:
        """Note that a call has found a connection lost; raise that again unless it was not sent."""
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
        except (TimeoutError, RuntimeError):  # no time, or no thread: the interpreter ends
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
                waiter.tell(self.connection)
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
        self._tell(connection)

    def _note_target(self) -> None:
        """Have later connections select what was selected, whoever chose it."""
        if self.side.selected_target is not None:
            self.where = (*self.where[:2], self.side.selected_target)

    def _has_failed(self, error: Exception) -> None:
        if is_mistake(error):
            self._tell(error)

    def close(self) -> None:
        """Close the connection. Calls that wait, for replies or for a connection, end."""
        super().close()
        self._tell(None)

    def _tell(self, outcome: BlockingConnection | Exception | None) -> None:
        for waiter in list(self._waiters):
            waiter.tell(outcome)

    def forked(self) -> None:
        """See `pyon.forks`."""
        super().forked()
        self._waiters = {}
