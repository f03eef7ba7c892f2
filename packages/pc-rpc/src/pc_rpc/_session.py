"""One connection of a server: reads requests, starts them, sends replies.

The one idea to keep in mind: calls are started as far as order and back-pressure allow. A method
that just returns is called right where its request was read, without a task; only what is awaited,
or runs in a worker thread, comes back later.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pyon.asyncio_connection import HIGH_WATER, Connection
from pyon.framing import FramingError, Message

from pc_rpc._errors import ProtocolError
from pc_rpc._execution import Lane, Outcome, ParallelLane, Worker, is_immediate
from pc_rpc._exposure import method_list
from pc_rpc._protocol import BANNER, SELECTION_LIMIT, Chunks, Request, ServerSide, arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pc_rpc._host import Host

_logger = logging.getLogger(__name__)

BANNER_TIMEOUT = 10.0
"""Seconds until the banner must be there. Clients send it at once; a port scanner never does."""

SELECTION_TIMEOUT = 600.0
"""Seconds until a target must be selected: there may be a person who chooses."""

MAX_IN_PARALLEL = 1000
"""Calls of one connection that run at the same time. More than any program has awaited at once;
each costs a task."""

MAX_WAITING = 1000
"""Requests of one connection that are read before they can be started: so many in advance that
cancellations and pings behind them are seen."""

MAX_WAITING_SIZE = 2**24
"""Bytes of such requests: large ones wait in the network, where the sender notices."""

FAREWELL_TIMEOUT = 600.0
"""Seconds that calls may still take when the client has said that it sends nothing more: a script
that pipes requests into the server waits for a slow method, but it may as well be gone."""

_AT_ONCE = ParallelLane()

_current_session: ContextVar[Session] = ContextVar("session")


def current_peer() -> str | None:
    """Return the address of the client whose call is being executed, as "host:port".

    For methods of targets (on the event loop, not in worker threads) and for target factories;
    elsewhere None.
    """
    session = _current_session.get(None)
    return None if session is None else session.peername


def current_extra_info(name: str) -> Any:
    """Return what the transport knows about the connection whose call is being executed.

    For methods of targets (on the event loop, not in worker threads) and for target factories.

    Parameters
    ----------
    name : str
        As for `asyncio.BaseTransport.get_extra_info`: "peername" and "sockname" are addresses as
        the socket has them, "peercert" is the client's verified TLS certificate, empty or None
        if it has shown none.

    Raises
    ------
    LookupError
        No call of a connection is being executed.
    """
    return _current_session.get().transport.get_extra_info(name)


class _Call(Outcome):
    """A request from the moment that it was read until it is replied to."""

    __slots__ = ("ahead", "cancelled", "lane", "request", "session", "size", "task")

    def __init__(self, session: Session, request: Request, size: int) -> None:
        super().__init__()
        self.session = session
        self.request = request
        self.size = size
        self.lane = session._lane
        self.ahead = False  # of those that wait on its connection
        self.cancelled = False
        self.task: asyncio.Task[Any] | None = None

    def start(self) -> bool:
        """See `Job`."""
        return self.session.start_call(self)

    def call_unless_cancelled(
        self, method: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        """Call the method, when a worker thread comes to it, unless nobody wants it any more."""
        if self.unwanted:
            self.error = asyncio.CancelledError()
        else:
            self.call(method, *args, **kwargs)

    @property
    def unwanted(self) -> bool:
        return self.cancelled or self.session.closed or self.session._host.stopping

    def cancel(self) -> None:
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()


class Session(Connection):
    """The server's end of one connection.

    Parameters
    ----------
    host : Host
        What it shares with the others.
    scratch : bytearray
        Memory to receive into, shared as well.
    """

    def __init__(self, host: Host, scratch: bytearray) -> None:
        super().__init__(limit=SELECTION_LIMIT, scratch=scratch)
        self._host = host
        self._side = ServerSide(host.targets, host.description, limit=host.limit)
        self._handle = self._read_banner
        self._deadline: asyncio.TimerHandle | None = None
        self._target: object = None
        self._names: frozenset[str] = frozenset()
        self._immediate: list[str] = []  # those of them that do not wait for their turn
        self._lane = Lane()
        self._worker: Worker | None = None
        self._close_target: Callable[[], Any] | None = None
        self._calls: dict[int | None, _Call] = {}  # those that were handed to a lane, by id
        self._waiting: deque[_Call] = deque()
        self._waiting_size = 0
        self._most = 1  # calls that may be active at a time
        self._active = 0  # calls that were handed to a lane in their turn and are not done
        self._ahead = 0  # the same, of calls that did not wait for their turn
        self._starting = False
        self._congested = False
        self._refused = False
        self._greeted = False
        self._half_closed = False  # the client sends nothing more

    def message_received(self, message: Message) -> None:
        self._handle(message)

    # Handshake.

    def connection_opened(self) -> None:
        self._expect(self._read_banner, BANNER_TIMEOUT, "no banner in time")

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        if not self._greeted and self.receiver.pending > len(BANNER):
            self._refuse("expected the banner, got something else")  # TLS, for example

    def _refuse(self, reason: object) -> None:
        """Drop the connection: one line in the log, whatever the peer has sent."""
        if not self._refused:
            self._refused = True
            _logger.warning("%s: %s; connection closed", self.peername, reason)
            self.abort()

    def connection_broken(self, error: FramingError) -> None:
        self._refuse(error)

    def _read_banner(self, message: Message) -> None:
        if message.line != BANNER:
            self._refuse(f"expected the banner {BANNER.decode()!r}, got {message.line[:60]!r}")
            return
        self._greeted = True
        self._expect(self._read_selection, SELECTION_TIMEOUT, "no target selected in time")
        self.send(self._side.greeting())

    def _expect(self, handle: Any, timeout: float, complaint: str) -> None:
        self._forget_deadline()
        self._deadline = self._loop.call_later(timeout, self._refuse, complaint)
        self._handle = handle

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _read_selection(self, message: Message) -> None:
        try:
            name = self._side.read_selection(message.line)
        except ProtocolError as error:
            self._refuse(error)
            return
        _current_session.set(self)
        try:
            opened = self._host.open_target(name)
        except BaseException as error:  # SystemExit, too: the loop is not the target's to end
            _logger.error("%s: target %r cannot be made", self.peername, name, exc_info=error)
            self.abort()
            if isinstance(error, SystemExit):
                self._host.terminate()
            return
        self._target, self._names, self._lane, self._worker, self._close_target = opened
        self._immediate = [
            name for name in self._names if is_immediate(getattr(self._target, name, None))
        ]
        self._forget_deadline()
        if self._host.parallel and self._side.features.request_ids:
            self._most = MAX_IN_PARALLEL
        self.receiver.limit = self._host.limit
        self.receiver.raw_buffers = self._side.features.raw_buffers
        self._handle = self._read_request
        self.send(self._side.features.encode(set(self._names))[0])

    # Requests.

    def _read_request(self, message: Message) -> None:
        size = len(message.line)
        if message.buffers:
            size += sum(map(len, message.buffers))
        try:
            request = self._side.read_request(message)
        except ProtocolError as error:
            self._refuse(error)
            return
        if request.action == "call" and request.error is None:
            name = request.content.get("name")
            if name.__class__ is str and name == "terminate" and self._host.builtin_terminate:
                self.send_chunks(self._side.reply(request.number, None))
                self._host.terminate()
                return
            self._accept(_Call(self, request, size), name)
        elif request.action == "cancel" and self._side.features.request_ids:
            self._cancel(request.content.get("request"))
        else:
            self.send_chunks(self._answer(request))

    def _answer(self, request: Request) -> Chunks:
        """Return the reply to a request that is no call."""
        if request.error is not None:
            return self._side.failure(request.number, request.error)
        try:
            if request.action == "ping":
                return self._side.reply(request.number, None)
            if request.action != "get_rpc_method_list":
                raise ValueError(f"Unknown action: {request.action}")
            methods = method_list(
                self._target,
                self._names - {"terminate"} if self._host.builtin_terminate else self._names,
                builtin_terminate=self._host.builtin_terminate,
                version=self._side.features.version,
            )
            return self._side.reply(request.number, methods)
        except Exception as error:
            return self._side.failure(request.number, error)

    def _cancel(self, number: Any) -> None:
        if type(number) is not int:
            return
        for call in self._waiting:
            if call.request.number == number:
                call.cancel()
                return
        if (started := self._calls.get(number)) is not None:
            started.cancel()

    # Calls: when they are started.

    def _accept(self, call: _Call, name: Any) -> None:
        if self._immediate and type(name) is str and name in self._immediate:
            call.lane = _AT_ONCE
            call.ahead = self._side.features.request_ids and self._ahead < MAX_IN_PARALLEL
        if call.ahead:
            self._ahead += 1
            self._calls[call.request.number] = call
            call.lane.submit(call)
        else:
            self._waiting.append(call)
            self._waiting_size += call.size
            self._start_waiting()

    def _start_waiting(self) -> None:
        """Start what may be started, and read on or not."""
        if self._starting:
            return
        self._starting = True
        try:
            while self._waiting and self._active < self._most and not self._congested:
                call = self._waiting.popleft()
                self._waiting_size -= call.size
                self._active += 1
                self._calls[call.request.number] = call
                call.lane.submit(call)
        finally:
            self._starting = False
        self._regulate()

    def _regulate(self) -> None:
        if self._side.features.request_ids:
            room = len(self._waiting) < MAX_WAITING and self._waiting_size < MAX_WAITING_SIZE
        else:
            room = not self._active and not self._waiting
        if self._half_closed:  # to read on is to find the end, and to close
            room = room and not self._active and not self._ahead
        if room and not self._congested:
            self.resume_reading()
        else:
            self.pause_reading()

    # Calls: how they run.

    def start_call(self, call: _Call) -> bool:
        """Start a call; return whether it is done."""
        if call.unwanted:
            call.error = asyncio.CancelledError()
            self._finish(call)
            return True
        _current_session.set(self)
        try:
            name, args, kwargs = arguments(call.request.content)
            call.request.content.clear()  # the arguments are the method's, to keep or to give back
            if name not in self._names:
                kind = type(self._target).__name__
                raise AttributeError(f"{kind!r} object has no attribute {name!r}")
            method = getattr(self._target, name)
            if self._worker is not None and not self._belongs_on_loop(call, method):
                function = functools.partial(call.call_unless_cancelled, method, args, kwargs)
                self._worker.submit(function, functools.partial(self._returned, call))
                return False
            call.result = method(*args, **kwargs)
            del args, kwargs
        except BaseException as error:  # any of them is the caller's to hear
            call.error = error
        if hasattr(type(call.result), "__await__"):
            self._await(call)
            return False
        self._finish(call)
        return True

    def _belongs_on_loop(self, call: _Call, method: Any) -> bool:
        return call.lane is _AT_ONCE or inspect.iscoroutinefunction(method)

    def _await(self, call: _Call) -> None:
        awaitable = call.take_result()
        call.task = self._host.start_task(call.wait(awaitable))
        call.task.add_done_callback(functools.partial(self._awaited, call, awaitable))

    def _awaited(self, call: _Call, awaitable: Any, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before it had begun
            getattr(awaitable, "close", _nothing)()
            call.error = asyncio.CancelledError()
        self._done(call)

    def _returned(self, call: _Call) -> None:
        """Go on with what came from the worker thread."""
        if hasattr(type(call.result), "__await__"):
            self._await(call)
        else:
            self._done(call)

    def _done(self, call: _Call) -> None:
        """End a call that was not done at once."""
        try:
            self._finish(call)
        finally:
            call.lane.release()

    def _finish(self, call: _Call) -> None:
        """Send the reply, and go on."""
        if call.ahead:
            self._ahead -= 1
        else:
            self._active -= 1
        number = call.request.number
        error, call.error = call.error, None  # its traceback may lead to the call
        self._calls.pop(number, None)
        if not self.closed:
            if error is None:
                self.send_chunks(self._side.reply(number, call.take_result()))
            else:
                self.send_chunks(self._side.failure(number, _without_own_frames(error)))
            if not self._congested and self.backlog > HIGH_WATER:
                self._congested = True
                self._host.start_task(self._wait_for_client())
        elif not self._active and not self._ahead:
            self._leave_target()
        if isinstance(error, SystemExit):
            self._host.terminate()
        self._start_waiting()

    async def _wait_for_client(self) -> None:
        """Produce nothing more until the client has read."""
        try:
            await self.drained()
        except ConnectionError:
            return
        self._congested = False
        self._start_waiting()

    # The end.

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`: what the client asked for before is still replied to."""
        self._half_closed = True
        if self._active or self._ahead:
            self._deadline = self._loop.call_later(FAREWELL_TIMEOUT, self.close)
            self._regulate()
        return super().eof_received()

    def connection_closed(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self._waiting.clear()
        if not self._active and not self._ahead:
            self._leave_target()

    def _leave_target(self) -> None:
        """Close the target, if it was made for this connection and can be closed."""
        close, self._close_target = self._close_target, None
        if close is None:
            return
        closing = Outcome()
        if self._worker is not None:
            function = functools.partial(closing.call, close)
            self._worker.submit(function, functools.partial(self._target_closed, closing))
        else:
            closing.call(close)
            self._target_closed(closing)

    def _target_closed(self, closing: Outcome) -> None:
        if closing.error is not None:
            _logger.error("%s: closing its target failed", self.peername, exc_info=closing.error)
        elif hasattr(type(closing.result), "__await__"):
            awaitable = closing.take_result()
            task = self._host.start_closing(closing.wait(awaitable))
            task.add_done_callback(
                functools.partial(self._target_close_awaited, closing, awaitable)
            )

    def _target_close_awaited(
        self, closing: Outcome, awaitable: Any, task: asyncio.Task[None]
    ) -> None:
        if task.cancelled():  # before it had begun
            getattr(awaitable, "close", _nothing)()
        else:
            self._target_closed(closing)


def _nothing() -> None:
    """Do nothing."""


def _without_own_frames(error: BaseException) -> BaseException:
    """Take off the traceback the frames of this package that it begins with."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__package__") == __package__:
        frames = frames.tb_next
    # Not by assignment: a class may have forbidden that (a frozen dataclass, for one).
    return BaseException.with_traceback(error, frames or error.__traceback__)
