"""How the iterator of a stream is advanced: on the loop, in a worker thread, or awaited.

The one idea to keep in mind: an item is a turn. The stream takes the lane of the target for some
items, as a call does. It releases the lane soon if another call waits for it, and always while the
stream waits for its reader. So no other call of the target runs while the iterator does, and any
other call may run between two items, as with a local generator.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from time import monotonic
from typing import TYPE_CHECKING, Any

from pyon.asyncio_tasks import settle

from pc_rpc._asyncio_stream import AsyncioRemoteStream
from pc_rpc._attributes import kind_of
from pc_rpc._caller import executing
from pc_rpc._outcome import Outcome
from pc_rpc._remote_stream import RemoteStream
from pc_rpc._stream import Stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pc_rpc._lane import Lane
    from pc_rpc._schedule import Call

QUICK = 1e-4
"""Maximum time of a quick item, in seconds."""

QUICK_ITEMS = 16
"""Number of quick items in a row after which several are made before they are sent. On the event
loop only: items of worker threads and tasks are sent while the next one is made."""


def open_stream(call: Call, *args: Any) -> Stream:
    """Return a stream of the iterator that a call returned; the arguments are those of `Stream`.

    Raises
    ------
    TypeError
        The call did not return an iterator.
    """
    kind = type(call.result)
    if hasattr(kind, "__aiter__"):
        return AwaitedStream(call, *args)
    if hasattr(kind, "__iter__") or hasattr(kind, "__next__"):
        return PlainStream(call, *args)
    raise TypeError(
        f"{call.name}() must return an iterator, as its annotation says, but returned a "
        f"{kind_of(call.result)!r} object"
    )


class PlainStream(Stream):
    """A stream whose iterator blocks the thread in which it is advanced."""

    _next: Callable[[], Any] | None = None
    _busy = False  # whether it has a turn, or waits for one
    _over = False
    _quick = 0  # items in a row

    def start(self) -> None:
        self._worker = None if self.call.immediate else self._place.worker
        self._loop.call_soon(self.resume)

    def cancel(self) -> None:
        self.wanted = False
        self.resume()

    def resume(self) -> None:
        self.end_if_exhausted()
        if self._busy or self._over or (self.wanted and not self.may_continue):
            return
        self._busy = True
        if self._lane is None:
            self.start_in_turn(self.call)
        elif self._lane.take(self, self.call) and self.start_in_turn(self.call):
            self._lane.release()

    def start_in_turn(self, call: Call) -> bool:
        """See `InTurn`."""
        self._owner.stream_turn_begins()
        if self._worker is not None:
            self._worker.submit(self._advance, self._worker_returned)
            return False
        self._advance()
        self._turn_ended()
        return True

    def _worker_returned(self) -> None:
        try:
            self._turn_ended()
        finally:
            if self._lane is not None:
                self._lane.release()

    def _turn_ended(self) -> None:
        """Handle the end of a turn, on the event loop."""
        self._busy = False
        self._owner.stream_turn_ends()
        if self._over:
            self.finish()
            return
        self.flush()
        self._loop.call_soon(self.resume)

    # In the place of the target.

    def _advance(self) -> None:
        """Advance the iterator for a turn; close it if its items are not wanted."""
        executing.set(self._owner)
        call = self.call
        try:
            if self._next is None:
                self._next = iter(self._iterator).__next__
            self._run(self._next)
            self._over = self.closing = not self.wanted
        except StopIteration as end:
            self._over, call.result = True, end.value
        except BaseException as error:  # of any class: all of them are sent to the caller
            self._over, call.error = True, error
        if self._over:
            self._close()
        if self._worker is not None:
            call.explain(self._describe)

    def _run(self, make: Callable[[], Any]) -> None:
        box, items, began, used = Outcome(), 0, monotonic(), self._used_bytes
        while self.may_continue:
            box.result = make()
            self.add(box)
            items += 1
            if self._worker is not None:
                self._schedule_flush()
            elif self._quick < QUICK_ITEMS:
                break
            if self.turn_is_over(began, used):
                break
        quick = monotonic() - began < items * QUICK
        self._quick = self._quick + items if quick else 0

    def _schedule_flush(self) -> None:
        """Have the loop send the items while the next one is made."""
        if not self._flushes:
            self._flushes = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.flush)

    def _close(self) -> None:
        iterator, self._iterator, self._next = self._iterator, None, None
        if isinstance(iterator, (Generator, RemoteStream)):
            try:
                iterator.close()
            except BaseException as error:
                self.call.error = error


class AwaitedStream(Stream):
    """A stream whose items are awaited, all of them in one task, as generators may require."""

    _task: asyncio.Task[None] | None = None
    _waiter: asyncio.Future[None] | None = None  # while it waits for its reader
    _turn: asyncio.Future[None] | None = None  # while it waits for its turn

    def start(self) -> None:
        self._task = self._place.tasks.start(self._follow())
        self._task.add_done_callback(lambda _: self.finish())  # also if it was never begun

    def resume(self) -> None:
        if self._waiter is not None:
            settle(self._waiter, None)

    def cancel(self) -> None:
        self.wanted = False
        if self._task is not None:
            self._task.cancel()

    def start_in_turn(self, call: Call) -> bool:
        """See `InTurn`."""
        if self._turn is None or self._turn.done():
            return True  # it was cancelled, and no longer waits
        self._turn.set_result(None)
        return False

    async def _follow(self) -> None:
        executing.set(self._owner)
        call = self.call
        try:
            make = aiter(self._iterator).__anext__
            while self.wanted:
                await self._wait_for_credit()
                async with self._in_turn():
                    await self._run(make)
        except StopAsyncIteration:
            pass
        except BaseException as error:  # of any class: all of them are sent to the caller
            call.error = error
        self.closing = not self.wanted
        if self.closing and isinstance(call.error, asyncio.CancelledError):
            call.error = None  # from our own cancellation
        await self._close()

    async def _run(self, make: Callable[[], Awaitable[Any]]) -> None:
        box, began, used = Outcome(), monotonic(), self._used_bytes
        while self.may_continue:
            box.result = await make()
            self.add(box)
            if not self._flushes:
                self._flushes = True
                self._loop.call_soon(self.flush)
            if self.turn_is_over(began, used):
                break

    async def _wait_for_credit(self) -> None:
        """Wait for credit; let other tasks run in any case."""
        await asyncio.sleep(0)
        self.end_if_exhausted()
        while self.wanted and not self.may_continue:
            self._waiter = self._loop.create_future()
            await self._waiter
            self.end_if_exhausted()

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> Any:
        lane = self._lane
        if lane is not None:
            await self._take_turn(lane)
        self._owner.stream_turn_begins()
        try:
            yield
        finally:
            self._owner.stream_turn_ends()
            if lane is not None:
                lane.release()

    async def _take_turn(self, lane: Lane) -> None:
        self._turn = self._loop.create_future()
        if lane.take(self, self.call):
            return
        try:
            await self._turn
        except asyncio.CancelledError:
            if not self._turn.cancelled():  # the turn came at the same time
                lane.release()
            raise

    async def _close(self) -> None:
        iterator, self._iterator = self._iterator, None
        if isinstance(iterator, (AsyncGenerator, AsyncioRemoteStream)):
            try:
                await self._close_in_turn(iterator)
            except BaseException as error:
                self.call.error = error

    async def _close_in_turn(
        self, iterator: AsyncGenerator[Any, Any] | AsyncioRemoteStream
    ) -> None:
        try:
            async with self._in_turn():
                await iterator.aclose()
        except asyncio.CancelledError:  # the server has stopped before the turn came
            await iterator.aclose()
