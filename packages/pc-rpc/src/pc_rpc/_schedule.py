"""Which calls of one connection may start, in pure code: no loop, no socket, no thread.

The one idea to keep in mind: a `Call` is passive. A `Schedule` counts calls from the request to the
reply and says which one may start next and whether more requests should be read. The connection
asks it and acts.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from pc_rpc._outcome import Outcome

MAX_IN_PARALLEL = 1000
"""Calls of one connection that run at the same time. More than any program has awaited at once;
each costs a task."""

MAX_WAITING = 1000
"""Requests of one connection that are read before they can be started: so many in advance that
cancellations and pings behind them are seen."""

MAX_WAITING_SIZE = 2**24
"""Bytes of such requests: large ones wait in the network, where the sender notices."""


class Call(Outcome):
    """A call of a method, from the request to the reply. The result is its own: see `Outcome`.

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
        The method is called while others run or wait.
    lists : bool, optional
        It is no call of a method: the methods are to be listed.

    Attributes
    ----------
    wanted : bool
        False once the call was cancelled, or nobody is left to reply to: it must not begin.
    begun : bool
        Whether the method has been called.
    ahead : bool
        Whether it started before its turn.
    task : asyncio.Task or None
        What awaits the result of a coroutine method.
    chunks : sequence of bytes or None
        The reply, if the result was encoded where the method ran.
    credit : tuple of int or None
        Items and bytes of a stream that the caller asked for; None for all other calls.
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
        """Call the method. The arguments are the method's, to keep or to return."""
        args, kwargs = self.args, self.kwargs
        self.args = self.kwargs = None
        self.begun = True
        try:
            self.result = getattr(target, self.name)(*args, **kwargs)
        except BaseException as error:  # any of them is the caller's to hear
            self.error = error

    def cancel(self) -> None:
        """Have the call not begin; cancel the coroutine method if it runs."""
        self.wanted = False
        if self.task is not None:
            self.task.cancel()


class Schedule:
    """Order, limits and back-pressure of the calls of one connection.

    Parameters
    ----------
    ids : bool, optional
        Requests have ids: they are read in advance, and replies may overtake each other.
    parallel : bool, optional
        Calls need not wait for earlier ones. Only where there are ids.

    Attributes
    ----------
    congested : bool
        The client does not read its replies: only calls that never wait are started.
    waiting : deque of Call
        Calls whose turn has not come.
    half_closed : bool
        The client sends nothing more: once every call is replied to, there is the end to be read.
    barred : bool
        Another connection has a lease on the target: only immediate calls are started. See `bar`.
    turns : int
        Calls that run and waited for their turn, those of the lean road included.
    streams, advancing : int
        Streams that are open, and those that have a turn just now. They wait for their own turns.
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
        self._general = False  # whether no call may take the lean road
        self._ids = ids
        self._most = MAX_IN_PARALLEL if ids and parallel else 1
        self.waiting: deque[Call] = deque()
        self._size = 0  # bytes of their requests
        self._first: deque[Call] = deque()  # immediate calls that have not started yet
        self._running: dict[int | None, Call] = {}
        self.turns = 0
        self.streams = self.advancing = 0
        self._ahead = 0  # calls that do not wait for it
        self._lists = 0  # method lists that are being made

    def add(self, call: Call) -> None:
        """Take in a call that was requested. After `withdraw` it is not wanted any more."""
        call.wanted = not self._ended
        if call.immediate and self._ids and self._ahead < MAX_IN_PARALLEL:
            call.ahead = True
            self._ahead += 1
            self._first.append(call)
        else:
            self.waiting.append(call)
            self._size += call.size

    def next(self) -> Call | None:
        """Return the call that is to be started now, if there is one. It runs until `done`."""
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
        """Take in a call that runs, and was counted in `turns` already."""
        self._running[call.number] = call

    def done(self, call: Call) -> None:
        """Note that a call which was started has ended."""
        if call.ahead:
            self._ahead -= 1
        else:
            self.turns -= 1
        if call.lists:
            self._lists -= 1
        self._running.pop(call.number, None)

    def cancel(self, number: object) -> Call | None:
        """Cancel a call, waiting or running, by its id. Other ids are ignored.

        Return the call if it waited for the end of a lease, which may take long: it is forgotten,
        and to be replied to now.
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
        """Say whether only immediate calls may start.

        Parameters
        ----------
        barred : bool
            Whether that is so. Calls that wait go on waiting.
        counted : bool, optional
            Each call is to be noted when it ends.
        """
        self.barred = barred
        self._general = self._ended or barred or counted

    def turn_away(self) -> list[Call]:
        """Return the calls that wait and are not immediate, which are forgotten."""
        away = [call for call in self.waiting if not call.immediate]
        self.waiting = deque(call for call in self.waiting if call.immediate)
        self._size -= sum(call.size for call in away)
        return away

    def withdraw(self) -> list[Call]:
        """Begin no call any more; return those that wait, which are forgotten.

        Calls that run go on; those of them that have not begun must not.
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
        """Calls that have started and are not done."""
        return list(self._running.values())

    @property
    def active(self) -> bool:
        """Whether anything runs that waited for its turn."""
        return self.turns > 0 or self.advancing > 0

    @property
    def idle(self) -> bool:
        """Whether no call runs or waits, and one that comes may begin at once, on the lean road."""
        return not (self.turns or self._ahead or self.waiting or self._general)

    @property
    def busy(self) -> bool:
        """Whether calls run, or streams are open."""
        return self.turns > 0 or self._ahead > 0 or self.streams > 0

    @property
    def wants_more(self) -> bool:
        """Whether more requests should be read."""
        if self._lists:  # or any number would be asked for, and answered, at once
            return False
        if self.congested or (self.half_closed and self.busy):
            return False
        if self._ids:
            return len(self.waiting) < MAX_WAITING and self._size < MAX_WAITING_SIZE
        return not self.turns and not self.waiting
