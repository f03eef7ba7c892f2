"""Which calls of one connection may start, in pure code: no loop, no socket, no thread.

The one idea to keep in mind: a `Call` is passive. A `Schedule` counts calls from the request to the
reply. It says which call may start next, and whether more requests should be read; the session acts
on that.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from pc_rpc._outcome import Outcome

MAX_IN_PARALLEL = 1000
"""Maximum number of calls of one connection that run at the same time. Programs await fewer calls
at once; each costs a task."""

MAX_WAITING = 1000
"""Maximum number of requests of one connection that are read in advance, so that cancellations and
pings after them are seen."""

MAX_WAITING_SIZE = 2**24
"""Maximum size of such requests, in bytes: further ones wait in the network, which slows the sender
down."""


class Call(Outcome):
    """A call of a method, from the request to the reply. It owns the result: see `Outcome`.

    Parameters
    ----------
    number : int or None
        Id of the request; None where ids were not negotiated.
    name : str
        Name of the method.
    args, kwargs : sequence and dict
        The arguments.
    size : int, optional
        Bytes of the request.
    immediate : bool, optional
        Whether the method is called without waiting for other calls.
    lists : bool, optional
        Whether the request is for the method list, not for a call of a method.

    Attributes
    ----------
    wanted : bool
        False after the call was cancelled, or the connection has ended: it must not begin.
    begun : bool
        Whether the method has been called.
    ahead : bool
        Whether the call does not take a turn.
    task : asyncio.Task or None
        The task that awaits the result of a coroutine method.
    chunks : sequence of bytes or None
        The reply, if the result was encoded in the worker thread.
    credit : tuple of int or None
        Items and bytes that the caller grants a stream; None for all other calls.
    """

    __slots__ = (
        "ahead", "args", "begun", "chunks", "credit", "immediate", "kwargs", "lists", "name",
        "number", "size", "task", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        number: int | None,
        name: str,
        args: Any = (),
        kwargs: Any = None,
        size: int = 0,
        *,
        immediate: bool = False,
        lists: bool = False,
    ) -> None:
        self.result = self.error = self.failure = None  # not by super(), for speed
        self.number = number
        self.name = name
        self.args = args
        self.kwargs = kwargs or {}
        self.size = size
        self.immediate = immediate
        self.lists = lists
        self.ahead = False
        self.begun = False
        self.wanted = True
        self.task: Any = None
        self.chunks: Any = None
        self.credit: tuple[int, int] | None = None

    def invoke(self, target: object) -> None:
        """Call the method. Afterwards only the method may refer to the arguments."""
        args, kwargs = self.args, self.kwargs
        self.args = self.kwargs = None
        self.begun = True
        try:
            self.result = getattr(target, self.name)(*args, **kwargs)
        except BaseException as error:  # of any class: all of them are sent to the caller
            self.error = error

    def cancel(self) -> None:
        """Prevent the call from beginning; cancel its coroutine method if it runs."""
        self.wanted = False
        if self.task is not None:
            self.task.cancel()


class Schedule:
    """Order, limits and back-pressure of the calls of one connection.

    Parameters
    ----------
    ids : bool, optional
        Whether requests have ids: they are read in advance, and replies may come in any order.
    parallel : bool, optional
        Whether calls need not wait for earlier ones. Only with ids.

    Attributes
    ----------
    congested : bool
        Whether the client does not read its replies: only immediate calls are started.
    waiting : deque of Call
        Calls that wait for their turn.
    half_closed : bool
        Whether the client has closed its sending side: after the last reply the end is read.
    barred : bool
        Whether calls must wait because of leases: only immediate calls are started. See `bar`.
    turns : int
        Number of running calls that take a turn, those of the fast path included.
    streams, advancing : int
        Numbers of open streams, and of those that have a turn now. Each of their turns waits.
    """

    __slots__ = (
        "_ahead", "_ended", "_first", "_general", "_ids", "_lists", "_most", "_running", "_size",
        "advancing", "barred", "congested", "half_closed", "streams", "turns", "waiting",
    )  # fmt: skip

    def __init__(self, *, ids: bool = False, parallel: bool = False) -> None:
        self.congested = False
        self.half_closed = False
        self.barred = False
        self._ended = False
        self._general = False  # whether no call may take the fast path
        self._ids = ids
        self._most = MAX_IN_PARALLEL if ids and parallel else 1
        self.waiting: deque[Call] = deque()
        self._size = 0  # bytes of their requests
        self._first: deque[Call] = deque()  # immediate calls that have not started yet
        self._running: dict[int | None, Call] = {}
        self.turns = 0
        self.streams = self.advancing = 0
        self._ahead = 0  # started calls that do not take a turn, and those in `_first`
        self._lists = 0  # method lists that are being made

    def add(self, call: Call) -> None:
        """Add a requested call. After `withdraw` it must not begin."""
        call.wanted = not self._ended
        if call.immediate and self._ids and self._ahead < MAX_IN_PARALLEL:
            call.ahead = True
            self._ahead += 1
            self._first.append(call)
        else:
            self.waiting.append(call)
            self._size += call.size

    def next(self) -> Call | None:
        """Return the call to start now, if there is one. It counts as running until `done`."""
        if self._first:
            call = self._first.popleft()
        elif (
            self.waiting
            and self.turns < self._most
            and not self.congested
            and (not self.barred or self.waiting[0].immediate)
        ):
            call = self.waiting.popleft()
            self._size -= call.size
            self.turns += 1
        else:
            return None
        if call.lists:
            self._lists += 1
        self._running[call.number] = call
        return call

    def adopt(self, call: Call) -> None:
        """Add a running call that is already counted in `turns`."""
        self._running[call.number] = call

    def done(self, call: Call) -> None:
        """Note that a started call has ended."""
        if call.ahead:
            self._ahead -= 1
        else:
            self.turns -= 1
        if call.lists:
            self._lists -= 1
        self._running.pop(call.number, None)

    def cancel(self, number: object) -> Call | None:
        """Cancel a call, waiting or running, by its id. Other ids are ignored.

        A call that waited for the end of a lease is removed and returned, to be replied to now: the
        lease may last long.
        """
        if not self._ids or type(number) is not int:
            return None
        for call in self.waiting:
            if call.number == number:
                call.cancel()
                return self._forget(call) if self.barred else None
        if (running := self._running.get(number)) is not None:
            running.cancel()
        return None

    def _forget(self, call: Call) -> Call:
        self.waiting.remove(call)
        self._size -= call.size
        return call

    def bar(self, *, barred: bool, counted: bool = False) -> None:
        """Set whether only immediate calls may start.

        Parameters
        ----------
        barred : bool
            Only immediate calls may start. Waiting calls stay in the queue.
        counted : bool, optional
            The end of each call must be noted, so none may take the fast path.
        """
        self.barred = barred
        self._general = self._ended or barred or counted

    def remove_waiting(self) -> list[Call]:
        """Remove and return the waiting calls that are not immediate."""
        away = [call for call in self.waiting if not call.immediate]
        self.waiting = deque(call for call in self.waiting if call.immediate)
        self._size -= sum(call.size for call in away)
        return away

    def withdraw(self) -> list[Call]:
        """Begin no further call; remove and return those that wait.

        Running calls continue; those whose method has not been called yet must not call it.
        """
        self._ended = self._general = True
        waiting = [*self._first, *self.waiting]
        self._ahead -= len(self._first)
        self._first.clear()
        self.waiting.clear()
        self._size = 0
        for call in (*waiting, *self._running.values()):
            call.wanted = False
        return waiting

    @property
    def running(self) -> list[Call]:
        """Calls that were started and are not done."""
        return list(self._running.values())

    @property
    def active(self) -> bool:
        """Whether a call or stream has a turn."""
        return self.turns > 0 or self.advancing > 0

    @property
    def idle(self) -> bool:
        """Whether no call runs or waits, and the next one may take the fast path."""
        return not (self.turns or self._ahead or self.waiting or self._general)

    @property
    def busy(self) -> bool:
        """Whether calls run, or streams are open."""
        return self.turns > 0 or self._ahead > 0 or self.streams > 0

    @property
    def wants_more(self) -> bool:
        """Whether more requests should be read."""
        if self._lists:  # otherwise any number of method lists could be requested at once
            return False
        if self.congested or (self.half_closed and self.busy):
            return False
        if self._ids:
            return len(self.waiting) < MAX_WAITING and self._size < MAX_WAITING_SIZE
        return not self.turns and not self.waiting
