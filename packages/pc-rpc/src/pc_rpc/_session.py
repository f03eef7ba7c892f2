"""One connection of a server: reads requests, has the calls run, sends replies.

The one idea to keep in mind: there is one path. A request becomes a `Call`, the `Schedule` says
when it may start, the `Runner` runs it, and `Session._reply` sends the outcome. For a call that is
done at once, this takes one callback of the event loop. The fast path of `_lean_session` is a short
cut for calls that are alone; an unusual call continues on the general path.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING

from pyon.asyncio_connection import HIGH_WATER, TURN, Connection
from pyon.asyncio_tasks import Later
from pyon.framing import FramingError, Message

from pc_rpc._attributes import kind_of
from pc_rpc._errors import ProtocolError
from pc_rpc._execution import NOT_BEGUN, Runner
from pc_rpc._failures import describe
from pc_rpc._handshake import Handshake
from pc_rpc._lean_session import lean_road
from pc_rpc._lease_requests import ACTIONS
from pc_rpc._lease_seat import Seat
from pc_rpc._open_streams import OpenStreams
from pc_rpc._outcome import Outcome
from pc_rpc._protocol import SELECTION_LIMIT, Request, ServerSide, arguments
from pc_rpc._schedule import Call, Schedule
from pc_rpc._worker import end_child

if TYPE_CHECKING:
    from pc_rpc._failures import Failure
    from pc_rpc._shared import Shared
    from pc_rpc._stream import Stream
    from pc_rpc._targets import Instance

_logger = logging.getLogger("pc_rpc")

LEAN = True
"""Whether common calls take the fast path. Tests switch it off, to test the general path."""

FAREWELL_TIMEOUT = 600.0
"""Seconds that calls may still take after the client has closed its sending side. A script that
pipes requests into the server waits for a slow method, but the client may also be gone."""


class Session(Connection):
    """The server's end of one connection.

    Parameters
    ----------
    shared : Shared
        The state that all connections of the server share.
    scratch : bytearray
        Memory to receive into, shared as well.

    Attributes
    ----------
    gone : bool
        Whether the connection has ended, or this process is a child without the connection.
    """

    gone = False
    _instance: Instance | None = None
    _streams: OpenStreams | None = None
    _runner: Runner
    _seat: Seat | None = None

    def __init__(self, shared: Shared, scratch: bytearray) -> None:
        super().__init__(limit=SELECTION_LIMIT, scratch=scratch)
        self._shared = shared
        self._side = ServerSide(shared.targets, shared.description, limit=shared.limit)
        self._schedule = Schedule()
        self._later = Later()
        self._handshake: Handshake | None = Handshake(self, self._side)
        self._handle = self._handshake.read
        self._deadline: asyncio.TimerHandle | None = None  # after the client's last request
        self._refused = False
        if LEAN:
            self.lines_received = self._handshake.read_text

    def message_received(self, message: Message) -> None:
        self._handle(message)

    def connection_broken(self, error: FramingError) -> None:
        self.refuse(error)

    def refuse(self, reason: object) -> None:
        """Abort the connection, with one record in the log."""
        if not self._refused:
            self._refused = True
            _logger.warning("%s: %s; connection closed", self.peername, reason)
            self._flush()  # replies to earlier requests of the same read
            self.abort()

    # Handshake.

    def connection_opened(self) -> None:
        if self._handshake is not None:
            self._handshake.start()

    def take_in(self, nbytes: int, done: int) -> None:
        """See `Connection.take_in`."""
        super().take_in(nbytes, done)
        if self._handshake is not None:
            self._handshake.check_pending(self.receiver.pending)

    def greet(self) -> None:
        """Send the greeting."""
        self.send(self._side.greeting(self._shared.leases()))

    def select(self, name: str) -> None:
        """Have the instance of a target made, or found."""
        target, place = self._shared.targets[name], self._shared.place(name)
        target.open(place, self, self._begin, details=self._side.features.exception_details)
        if self._instance is None:
            self.pause_reading()  # until it is made

    def _begin(self, outcome: Outcome) -> None:
        """Begin to serve the instance for this connection, or close if it could not be made."""
        if outcome.failure is not None:
            self._end_without_target(outcome.failure)
            return
        self._instance = instance = outcome.take()
        if self.closed:
            self._leave_target()
            return
        self._shared.sessions.add(self)
        features = self._side.features
        self._runner = Runner(instance, self, self._finished, side=self._side)
        self._schedule = Schedule(ids=features.request_ids, parallel=self._shared.parallel)
        self._seat = Seat(self._shared.desk(instance.name), self, self._schedule, self._side)
        self.receiver.limit = self._shared.limit
        self.receiver.line_limit = self._shared.line_limit
        self.receiver.raw_buffers = features.raw_buffers
        if features.streams and instance.methods.streams:
            self._streams = OpenStreams(instance.methods.streams, self._schedule)
        self._handshake, self._handle = None, self._read_request
        self.send_chunks(instance.announcement(features))
        self.lines_received = None
        if LEAN:
            most = min(self._shared.limit, self._shared.line_limit)
            self.lines_received = lean_road(self, instance, self._schedule, self._side, most)
        self.resume_reading()

    def _end_without_target(self, failure: Failure) -> None:
        self.send_chunks(self._side.no_target(failure))
        self.close()
        if failure.exits:
            self._shared.terminate()

    # Requests.

    def _read_request(self, message: Message) -> None:
        try:
            request = self._side.read_request(message)
        except ProtocolError as error:
            self.refuse(error)
            return
        if request.action == "call":
            self.read_call(request)
        else:
            self._answer(request)

    def read_call(self, request: Request) -> None:
        """Handle a request for a call, and start the calls that may start."""
        try:
            call = self._call(request)
        except Exception as error:
            self.send_chunks(self._side.refusal(request.number, error))
            return
        if call is not None and not (self._schedule.barred and self._is_refused(call)):
            self._schedule.add(call)
            self.start_calls()

    def _is_refused(self, call: Call) -> bool:
        """Refuse a call because of a lease, unless it waits for the end of the lease."""
        assert self._seat is not None
        error = None if call.immediate else self._seat.refusal()
        if error is not None:
            self.send_chunks(self._side.refusal(call.number, error))
        return error is not None

    def _call(self, request: Request) -> Call | None:
        """Return the requested call; raise an exception if the request is invalid.

        Return None if it was a call of the built-in ``terminate``, which is replied to at once.
        """
        assert self._instance is not None
        name, args, kwargs = arguments(request.content)
        methods = self._instance.methods
        if name in methods.names:
            immediate = name in methods.immediate
            call = Call(request.number, name, args, kwargs, request.size, immediate=immediate)
            if self._streams is not None:
                self._streams.read_credit(call, request)
            return call
        if name != "terminate" or not self._shared.builtin_terminate:
            kind = kind_of(self._instance.driver)
            raise AttributeError(f"{kind!r} object has no attribute {name!r}")
        self.send_chunks(self._side.confirm(request.number))
        self._shared.terminate()
        return None

    def _answer(self, request: Request) -> None:
        """Reply to a request other than a call."""
        assert self._seat is not None
        if request.error is not None:
            self.send_chunks(self._side.refusal(request.number, request.error))
        elif request.action == "cancel" and self._side.features.request_ids:
            self._cancel(request.content.get("request"), self._seat)
        elif request.action == "credit" and self._side.features.streams:
            self._grant(request)
        elif request.action in ACTIONS and self._side.features.leases:
            self._seat.answer(request)
        elif request.action == "ping":
            self.send_chunks(self._side.confirm(request.number))
        elif request.action == "get_rpc_method_list":
            self._schedule.add(Call(request.number, request.action, immediate=True, lists=True))
            self.start_calls()
        else:
            unknown = ValueError(f"Unknown action: {request.action}")
            self.send_chunks(self._side.refusal(request.number, unknown))

    def _grant(self, request: Request) -> None:
        try:
            if self._streams is not None:
                self._streams.credit(request.content)
        except ValueError as error:
            self.refuse(error)

    def _cancel(self, number: object, seat: Seat) -> None:
        """Cancel a call, a stream or a claim for a lease, by the id of its request."""
        call = self._schedule.cancel(number)
        if call is not None:
            self.send_chunks(self._side.failure(call.number, NOT_BEGUN))
            self.start_calls()
        if self._streams is not None:
            self._streams.cancel(number)
        seat.cancel(number)

    # Calls.

    def continue_call(self, call: Call) -> None:
        """Continue a call of the fast path, which has its turn and whose method was called."""
        self._schedule.adopt(call)
        if self._runner.resume(call):
            self._reply(call)
        self.start_calls()

    def start_calls(self) -> None:
        """Start the calls that may start, for the time of a turn; pause or resume reading."""
        schedule, until = self._schedule, monotonic() + TURN
        call = schedule.next()
        while call is not None:
            if self._runner.run(call):
                self._reply(call)
            call = None
            if schedule.waiting and self._keeps_up():
                if monotonic() > until:
                    self._later.ask(self.start_calls)
                else:
                    call = schedule.next()
        if schedule.wants_more:
            self.resume_reading()
        else:
            self.pause_reading()

    def _keeps_up(self) -> bool:
        """Return whether the client reads its replies; if not, wait for it in a task."""
        if not self._schedule.congested and self.backlog > HIGH_WATER:
            self._schedule.congested = True
            self._shared.tasks.start(self._wait_for_client())
        return not self._schedule.congested

    async def _wait_for_client(self) -> None:
        try:
            await self.drained()
        except ConnectionError:
            return
        self._schedule.congested = False
        self.start_calls()

    def _finished(self, call: Call) -> None:
        """Reply to a call that was not done at once; start the next ones."""
        self._reply(call)
        if not self._schedule.waiting or self._keeps_up():
            self.start_calls()

    def _reply(self, call: Call) -> None:
        self._schedule.done(call)
        if self._seat is not None and self._seat.watched:
            self._seat.call_ended()
        if call.failure is not None:
            self._reply_failure(call, call.failure)
        elif self.closed:
            self._leave_target()
        elif call.chunks is not None:
            chunks, call.chunks = call.chunks, None
            self.send_chunks(chunks)
        elif call.lists:
            self.send_chunks(self._side.confirm(call.number, call.take()))
        elif call.credit is not None:
            self._open_stream(call)
        else:
            self.send_chunks(self._side.reply(call.number, call))

    def _reply_failure(self, call: Call, failure: Failure) -> None:
        if self.closed:
            self._leave_target()
        elif failure.cancelled and self._shared.stopping:
            self.send_chunks(self._side.stopped(call.number, begun=call.begun))
        else:
            self.send_chunks(self._side.failure(call.number, failure))
        if failure.exits:
            self._shared.terminate()

    # Streams.

    def _open_stream(self, call: Call) -> None:
        """Open a stream on the iterator that a call has returned."""
        assert self._streams is not None
        try:
            self._streams.start(self._runner.stream(call, self))
        except (TypeError, RuntimeError) as error:
            self.send_chunks(self._side.refusal(call.number, error))

    def resume_streams(self) -> None:
        """Resume the streams that a lease has paused."""
        if self._streams is not None:
            self._streams.resume()

    def fail_streams(self, error: Exception) -> None:
        """End the streams that need turns: the lease of this connection was lost."""
        if self._streams is not None:
            self._streams.fail(describe(error, details=self._side.features.exception_details))

    def stream_turn_begins(self) -> None:
        """Note that the turn of a stream begins."""
        self._schedule.advancing += 1

    def stream_turn_ends(self) -> None:
        """Note that the turn of a stream is over."""
        if self._shared.in_child:  # the iterator has forked, and this is the child
            end_child()
        assert self._seat is not None
        self._schedule.advancing -= 1
        if self._seat.watched:
            self._seat.call_ended()

    def stream_ended(self, stream: Stream) -> None:
        """Reply to the call that has opened a stream, after all items."""
        assert self._streams is not None
        self._streams.ended(stream)
        call = stream.call
        if call.failure is not None and stream.closing and not self.closed:
            self.send_chunks(self._side.failure(call.number, call.failure, closing=True))
        elif call.failure is not None:
            self._reply_failure(call, call.failure)
        elif self.closed:
            self._leave_target()
        elif stream.wanted:
            self.send_chunks(self._side.reply(call.number, call))
        elif self._shared.stopping:
            self.send_chunks(self._side.stopped(call.number, begun=True))
        else:
            self.send_chunks(self._side.confirm(call.number))
        if not self.closed:
            self.start_calls()

    # The end.

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`. Earlier requests are still replied to."""
        self._schedule.half_closed = True
        if self._streams is not None:
            self._streams.seal()
        if self._schedule.busy:
            self.pause_reading()
        half_open = super().eof_received()
        if self._schedule.busy:
            self._deadline = self._loop.call_later(FAREWELL_TIMEOUT, self.close)
        return half_open

    def stop_calls(self) -> None:
        """Begin no further call: the server stops."""
        for call in self._schedule.withdraw():
            self.send_chunks(self._side.stopped(call.number, begun=False))
        if self._streams is not None:
            self._streams.end()

    def notify_and_close(self) -> None:
        """Tell the callers of running calls that the server stops, and close."""
        self.stop_calls()
        for call in self._calls():
            self.send_chunks(self._side.stopped(call.number, begun=call.begun))
        self.close()

    def _calls(self) -> list[Call]:
        """Return the running calls, those of streams included."""
        return [*self._schedule.running, *(self._streams.calls if self._streams else ())]

    @property
    def running(self) -> list[str]:
        """The running methods, as ``target.method()``."""
        name = "" if self._instance is None else self._instance.name
        return [f"{name}.{call.name}()" for call in self._calls() if call.begun]

    def connection_closed(self, exc: Exception | None) -> None:
        self.gone = True
        self.lines_received = None
        self._shared.sessions.discard(self)
        if self._handshake is not None:
            self._handshake.stop()
        if self._deadline is not None:
            self._deadline.cancel()
        self._schedule.withdraw()
        if self._seat is not None:
            self._seat.leave()
        if self._streams is not None:
            self._streams.end()
        self._leave_target()

    def forked(self) -> None:
        """See `forks.ForkAware`."""
        super().forked()
        self._shared.in_child = self.gone = True

    def _leave_target(self) -> None:
        """Close the instance, if the connection is gone and none of its calls run."""
        if self._shared.in_child:
            end_child()
        if self._instance is not None and not self._schedule.busy:
            instance, self._instance = self._instance, None
            if self._seat is not None:
                self._seat.forget()
            instance.close(self)
