"""The fast path of a session: the calls of one read, in one function.

The common case: small requests on a connection with ids, for methods that just return, while no
call of this connection runs or waits and the lane of the target is free. Nearly all calls are like
that, and the cost of a call is mostly the number of functions and objects on its path.

The one idea to keep in mind: everything is tested before a method is called. The first request that
is not the common case, and all requests after it, are left to the general path. A call that turns
out to be unusual after its method has been called (it raised, or must be awaited) continues there,
and keeps its turn. So both paths give the same guarantees.
"""

from __future__ import annotations

from operator import itemgetter
from time import monotonic
from typing import TYPE_CHECKING, Any

from pyon.asyncio_connection import TURN
from pyon.framing import frame_size
from pyon.wire import LINE_SIZE, line_scanner, small_text

from pc_rpc._caller import executing
from pc_rpc._lane import Lane
from pc_rpc._outcome import Outcome
from pc_rpc._protocol import ID_END, Request
from pc_rpc._schedule import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from pc_rpc._protocol import ServerSide
    from pc_rpc._schedule import Schedule
    from pc_rpc._session import Session
    from pc_rpc._targets import Instance

MOST = 64 * 2**10
"""Size of the replies to one read after which the general path takes over, in bytes. That path
stops reading from a client that does not read its replies. Few reads have so many requests."""

_fields = itemgetter("id", "action", "name", "args", "kwargs")
_KINDS = (int, list, dict)
_NO_CALL = (ValueError, StopIteration, RecursionError, LookupError, TypeError)
"""Exceptions of reading a line that is not a common call."""


def lean_road(
    session: Session, instance: Instance, schedule: Schedule, side: ServerSide, limit: int
) -> Callable[[str], int] | None:
    """Return the function that handles the lines of a read; None if the path cannot be used.

    Parameters
    ----------
    session, instance, schedule, side
        As for `LeanRoad`.
    limit : int
        Maximum size of a line, in bytes.
    """
    if not side.features.request_ids or instance.place.worker is not None or limit < 2 * LINE_SIZE:
        return None
    return LeanRoad(session, instance, schedule, side).take


def _begun(number: int, name: str, result: Any = None, error: BaseException | None = None) -> Call:
    """Return a call whose method has been called."""
    call = Call(number, name)
    call.result, call.error = result, error
    call.begun = True
    return call


class LeanRoad:
    """Makes the common calls of one session.

    Parameters
    ----------
    session : Session
        The connection. Unusual calls are passed to its `read_call` and `continue_call`.
    instance : Instance
        Has the methods. They run on the event loop.
    schedule : Schedule
        The calls of the session.
    side : ServerSide
        Encodes replies that are not small. Ids were negotiated.
    """

    __slots__ = ("_in_turns", "_lane", "_names", "_schedule", "_session", "_side", "_target")

    def __init__(
        self, session: Session, instance: Instance, schedule: Schedule, side: ServerSide
    ) -> None:
        self._session = session
        self._target = instance.target
        self._names = instance.plain
        self._in_turns = instance.place.lane is not None
        self._lane = instance.place.lane or Lane()
        self._schedule = schedule
        self._side = side

    def take(self, text: str) -> int:
        """Make the calls in some lines, and reply; return the number of characters handled."""
        schedule, lane, side = self._schedule, self._lane, self._side
        session, target, names = self._session, self._target, self._names
        scan = line_scanner(text)
        if scan is None or lane.busy or lane.waiting or not schedule.idle:
            return 0
        if executing.get(None) is not session:
            executing.set(session)
        replies: list[bytes | memoryview] = []
        unusual: Call | Request | None = None
        done, size, until = 0, 0, monotonic() + TURN
        while done < len(text) and size < MOST:
            end = text.find("\n", done)
            if end - done > LINE_SIZE:
                break
            try:
                request, stop = scan(text, done)
                number, action, name, args, kwargs = _fields(request)
                if (
                    stop != end
                    or len(request) != 5
                    or action != "call"
                    or (type(number), type(args), type(kwargs)) != _KINDS
                    or not 0 <= number < ID_END
                ):
                    break
                if name not in names:
                    unusual = Request(number, action, request, end - done)
            except _NO_CALL:
                break
            done = end + 1
            if unusual is not None:
                break
            lane.busy = True
            schedule.turns += 1
            try:
                result = getattr(target, name)(*args, **kwargs)
            except BaseException as error:  # of any class: all of them are sent to the caller
                unusual = _begun(number, name, error=error)
                break
            request = args = kwargs = None  # drop all references to the arguments
            spelt = small_text(result)
            alone = not (session.gone or schedule.waiting or lane.waiting)
            if not alone or (spelt is None and hasattr(type(result), "__await__")):
                unusual = _begun(number, name, result)
                break
            lane.busy = False
            schedule.turns -= 1
            if spelt is not None and len(spelt) <= LINE_SIZE:
                replies.append(f'{{"id":{number},"status":"ok","ret":{spelt}}}\n'.encode())
                size += len(spelt)
            else:
                outcome, result = Outcome(result), None  # the only reference to it
                chunks = side.reply(number, outcome)
                replies += chunks
                size += frame_size(chunks)
            if done < len(text) and monotonic() > until:
                session.give_way()
                break
        if done:
            self._send(replies, size, unusual)
        return done

    def _send(
        self, replies: list[bytes | memoryview], size: int, unusual: Call | Request | None
    ) -> None:
        """Send replies, in one write; pass an unusual call to the session."""
        session = self._session
        if unusual is None and size < MOST:
            session.send_now(b"".join(replies))
            return
        if replies:
            session.send_chunks(replies)
        if isinstance(unusual, Request):
            session.read_call(unusual)
        elif unusual is not None:
            if not self._in_turns:
                self._lane.busy = False  # calls do not take turns
            session.continue_call(unusual)
