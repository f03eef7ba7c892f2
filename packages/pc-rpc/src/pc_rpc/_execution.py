"""Where and when methods run: on the event loop, awaited there, or in a worker thread.

The one idea to keep in mind: `Runner.run` returns whether the call is done. A plain method is
called in the callback that read its request, without a task. Calls that are awaited, run in a
worker thread, or wait for calls of other connections are done later; then `then` is called.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from pc_rpc._caller import executing
from pc_rpc._failures import Failure, describe
from pc_rpc._place import explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyon.asyncio_connection import Connection

    from pc_rpc._outcome import Outcome
    from pc_rpc._protocol import ServerSide
    from pc_rpc._schedule import Call
    from pc_rpc._session import Session
    from pc_rpc._stream import Stream
    from pc_rpc._targets import Instance

NOT_BEGUN = describe(asyncio.CancelledError())._replace(cancelled=True)
"""The outcome of a call that was cancelled before its method was called."""


class Runner:
    """Runs the calls of one connection. For the event loop's thread.

    Parameters
    ----------
    instance : Instance
        The object whose methods are called.
    connection : Connection
        The connection of the client.
    then : callable
        Called with each call that was not done at once, when it is done.
    side : ServerSide
        Encodes results, also in worker threads; its features say how exceptions are described.
    """

    __slots__ = ("_details", "_instance", "_owner", "_place", "_side", "_then")

    def __init__(
        self,
        instance: Instance,
        connection: Connection,
        then: Callable[[Call], object],
        *,
        side: ServerSide,
    ) -> None:
        self._side = side
        self._details = side.features.exception_details
        self._instance = instance
        self._place = instance.place
        self._owner = connection
        self._then = then

    def run(self, call: Call) -> bool:
        """Run a call when its turn comes; return whether it is done."""
        if call.lists:
            return self._list(call)
        lane = self._place.lane
        if lane is None or call.immediate:
            return self._start(call)
        if not lane.take(self, call):
            return False
        done = self._start(call)
        if done:
            lane.release()
        return done

    def start_in_turn(self, call: Call) -> bool:
        """Start a call that waited for its turn; return whether the turn is over."""
        if not self._start(call):
            return False
        self._then(call)
        return True

    def _list(self, call: Call) -> bool:
        """Have the methods of the target described, without taking a turn."""

        def described(outcome: Outcome) -> None:
            outcome.explain(self._describe)
            call.result, call.failure = outcome.take(), outcome.failure
            self._then(call)

        features = self._side.features
        form = features.version, features.exception_details, features.streams
        call.result = self._instance.described.get(form)
        if call.result is None:
            self._instance.describe(form, described)
        return call.result is not None

    def _start(self, call: Call) -> bool:
        if not call.wanted:
            call.failure = NOT_BEGUN
            return True
        executing.set(self._owner)
        worker = self._place.worker
        if worker is not None and not (
            call.immediate or call.name in self._instance.methods.coroutine
        ):
            work = functools.partial(self._work, call)
            worker.submit(work, functools.partial(self._worker_returned, call))
            return False
        call.invoke(self._instance.target)
        return self._returned(call)

    def stream(self, call: Call, owner: Session) -> Stream:
        """Return a stream of the iterator that a call returned; `TypeError` if it is none."""
        from pc_rpc._stream_turns import open_stream  # few servers have streams

        return open_stream(call, owner, self._place, self._side, self._describe)

    def resume(self, call: Call) -> bool:
        """Continue a call whose method was called in its turn; return whether it is done."""
        done = self._returned(call)
        if done and self._place.lane is not None:
            self._place.lane.release()
        return done

    def _returned(self, call: Call) -> bool:
        """Handle the outcome of a method on the event loop; return whether the call is done."""
        if call.error is not None:
            return self._explain(call)
        if hasattr(type(call.result), "__await__"):  # as `Outcome.awaitable`, for speed
            self._await(call)
            return False
        return True

    def _work(self, call: Call) -> None:
        """Call the method, in the worker thread, unless the call was cancelled meanwhile."""
        if not call.wanted:
            call.failure = NOT_BEGUN
            return
        executing.set(self._owner)
        call.invoke(self._instance.target)
        if call.error is not None:
            call.explain(self._describe)
        elif call.credit is None and not call.awaitable:
            # In this thread, because forms registered by users run their code.
            call.chunks = self._side.reply(call.number, call)

    def _worker_returned(self, call: Call) -> None:
        """Continue a call whose method has returned in the worker thread."""
        if call.awaitable:
            self._await(call)
        else:
            self._done(call)

    def _await(self, call: Call) -> None:
        call.task = self._place.tasks.start(call.settle())
        call.task.add_done_callback(functools.partial(self._awaited, call))

    def _awaited(self, call: Call, task: asyncio.Task[None]) -> None:
        call.task = None
        if task.cancelled():  # before it had begun
            call.dismiss()
            call.failure = NOT_BEGUN
        if call.error is None or self._explain(call):
            self._done(call)

    def _explain(self, call: Call) -> bool:
        """Have an exception raised on the event loop described; return whether that is done."""
        return explain(call, self._describe, self._place, self._done, details=self._details)

    def _describe(self, error: BaseException) -> Failure:
        cancelled = issubclass(type(error), asyncio.CancelledError)
        return describe(error, details=self._details)._replace(cancelled=cancelled)

    def _done(self, call: Call) -> None:
        """End a call that was not done at once."""
        try:
            self._then(call)
        finally:
            if self._place.lane is not None and not call.immediate:
                self._place.lane.release()
