"""Outlet: writes one notifier of a publisher into its stream.

The one idea to keep in mind: received bytes are written unchanged. A structure becomes a snapshot
in parts and a manifest, and a step becomes messages; none of them is decoded here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from sync_struct import ProtocolError, Step, Subscriber, SyncStructError
from sync_struct.nats._jetstream import NO_STREAM, JetStream, JetStreamError
from sync_struct.nats._layout import Beacon, Label, Manifest, count_parts, cut, part_size, subjects
from sync_struct.nats._ledger import Ledger, Tail
from sync_struct.nats._pipeline import Displaced, Pipeline
from sync_struct.nats._together import first_end

if TYPE_CHECKING:
    import ssl

__all__ = ["AnotherBridge", "Outlet", "Source", "StreamOptions"]

ASK_TIMEOUT = 1.0
"""Seconds to wait for the reply of another bridge that is already active."""

SNAPSHOT_RETRY = 3.0
"""Seconds until another snapshot is requested if the last one could not be used: the publisher
keeps one for 2 s."""

HEARTBEAT = 10.0
"""Seconds of silence after which the publisher is sent a ping: encoding a structure of 150 MB
blocks it for seconds."""

CHECK_AFTER = 2
"""Intervals of beacons between checks that the stream still has what was written."""

LATE_AFTER = 2
"""Intervals of beacons that a message may await acknowledgement while the bridge counts as live."""


class AnotherBridge(SyncStructError, RuntimeError):  # noqa: N818
    """Another bridge already writes this notifier; this one stands by."""


class Source(NamedTuple):
    """Host, port and TLS context of the publisher."""

    host: str
    port: int | None
    ssl: ssl.SSLContext | None = None


class StreamOptions(NamedTuple):
    """How streams are created and maintained."""

    storage: str
    replicas: int
    interval: float
    """Seconds between beacons."""


class Outlet:
    """Writes one notifier into its stream.

    Parameters
    ----------
    source : Source
    name : str
        Name of the notifier.
    js : JetStream
    options : StreamOptions
    on_error, on_state : callable
        Called with errors; called with ``"standby"`` and the states of the subscription.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        js: JetStream,
        options: StreamOptions,
        *,
        on_error: Callable[[Exception], object],
        on_state: Callable[[str], object],
    ) -> None:
        self._source = source
        self._name = name
        self._names = subjects(name)
        self._js = js
        self._options = options
        self._interval = options.interval
        self._on_error = on_error
        self._on_state = on_state
        self._part_size = part_size(js.max_payload)
        self._ledger: Ledger
        self._pipeline: Pipeline
        self._subscriber: Subscriber
        self._failed: asyncio.Future[None]
        self._written: deque[tuple[int, str, int]]  # sequence, and the position written up to there
        self._arrived: tuple[str, int]  # the last position that is acknowledged
        self._snapshot_lock: asyncio.Lock  # held while the parts of one snapshot are written
        self._progressed: (
            asyncio.Event
        )  # set when a snapshot is due, or the step of one has arrived
        self._snapshotting: bool

    async def run(self) -> None:
        """Write the notifier until this is cancelled; stand by while another bridge does."""
        while True:
            try:
                await self._stand_by()
                await self._write()
            except (JetStreamError, Displaced, ProtocolError) as error:
                self._on_error(error)
            await asyncio.sleep(self._interval / 4)

    async def _stand_by(self) -> None:
        reported = False
        while (answer := await self._js.ask(self._names.ask, ASK_TIMEOUT)) is not None:
            if not reported:
                reported = True
                writer = Beacon.read(answer).writer
                self._on_error(AnotherBridge(f"{self._name}: bridge {writer} is active"))
                self._on_state("standby")
            await asyncio.sleep(self._interval)

    # While this bridge is active.

    async def _write(self) -> None:
        await self._js.make_stream(self._names, self._options.storage, self._options.replicas)
        tail = await self._read_tail()
        self._ledger = Ledger(tail)
        self._pipeline = Pipeline(self._js, self._names.stream, tail.seq, self._on_error)
        self._failed = asyncio.get_running_loop().create_future()
        self._written = deque()
        self._arrived = self._ledger.position or ("", 0)
        self._snapshot_lock, self._progressed = asyncio.Lock(), asyncio.Event()
        self._snapshotting = False
        self._subscriber = Subscriber(
            self._name,
            None,
            self._take,
            decode=False,
            raw_buffers=True,
            position=self._ledger.position,
            heartbeat=HEARTBEAT,
            state_cb=self._on_state,
            on_error=self._on_error,
        )
        host, port, tls = self._source
        answering = await self._js.subscribe(self._names.ask, self._answer)
        try:
            await first_end(
                self._pipeline.run(),
                self._subscriber.run(host, port, ssl=tls),
                self._send_beacons(),
                self._make_snapshots(),
                self._failed,
            )
        finally:
            self._pipeline.close()
            await self._subscriber.close()
            await self._js.unsubscribe(answering)

    async def _read_tail(self) -> Tail:
        stream = self._names.stream
        state = await self._js.state(stream)
        manifest = step = None
        with contextlib.suppress(ProtocolError):  # of another program: treated as missing
            if (found := await self._js.last(stream, self._names.manifest)) is not None:
                manifest = Manifest.read(found.data)
            if (found := await self._js.last(stream, self._names.step)) is not None:
                step = Label.read(found.headers)
        return Tail(state.last, state.size, manifest, step)

    def _take(self, step: Step) -> Awaitable[None] | None:
        """Write a step; the subscription awaits the result, if there is one."""
        if self._failed.done():
            return None  # a step after one that was not written must not be written
        if step.number is None:
            self._fail(ProtocolError(f"{self._name}: {_UNNUMBERED}"))
            return None
        if step.action == "init":
            return self._guarded(self._begin(step, step.number))
        try:
            self._put_step(step, step.number)
        except Exception as error:
            self._fail(error)
            return None
        return self._guarded(self._pipeline.room()) if self._pipeline.full else None

    def _put_step(self, step: Step, last: int) -> None:
        ledger, frames = self._ledger, step.frames
        parts = count_parts(frames, self._part_size)
        for label, part in zip(
            ledger.labels(last, parts), cut(frames, self._part_size), strict=True
        ):
            self._pipeline.put(ledger.next_sequence(), self._names.step, part, label)
        ledger.record_step(last, sum(map(len, frames)), parts)
        self._record_written()

    def _record_written(self) -> None:
        """Record the position that is reached when the last message is acknowledged."""
        ledger = self._ledger
        self._written.append((ledger.seq, ledger.stream, ledger.number))
        if self._snapshotting or ledger.snapshot_due:
            self._progressed.set()

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    # Snapshots.

    async def _begin(self, step: Step, number: int) -> None:
        """Write a structure that replaces steps: after a restart of the publisher, or a lag."""
        async with self._snapshot_lock:
            self._ledger.begin_stream(step.stream, number)
            manifest = await self._put_parts(step, number)
            await self._put_manifest(manifest, None)

    async def _put_parts(self, step: Step, number: int) -> Manifest:
        """Write a structure; return its manifest, in which `next` is still to be set."""
        ledger, frames = self._ledger, step.frames
        parts = count_parts(frames, self._part_size)
        begin = 0
        for i, part in enumerate(cut(frames, self._part_size)):
            await self._pipeline.room()
            place = ledger.next_sequence()
            begin = begin or place
            label = Label(step.stream, number, number, i + 1, parts)
            self._pipeline.put(place, self._names.part, part, label)
        return Manifest(step.stream, number, begin, place, sum(map(len, frames)), 0)

    async def _put_manifest(self, manifest: Manifest, go_on: int | None) -> None:
        """Write a manifest, and delete old messages. `go_on` is its `next`; None: its successor."""
        place = self._ledger.next_sequence()
        manifest = manifest._replace(next=place + 1 if go_on is None else go_on)
        self._pipeline.put(place, self._names.manifest, manifest.write())
        before = self._ledger.record_snapshot(manifest)
        self._record_written()
        if before is not None:
            await self._pipeline.arrival(place)
            await self._js.purge(self._names.stream, before)

    async def _make_snapshots(self) -> None:
        """Write a snapshot whenever `Ledger.snapshot_due`."""
        while True:
            self._progressed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_AFTER * self._interval):
                    await self._progressed.wait()
            await self._check_stream()
            self._snapshotting = True
            if self._ledger.snapshot_due and not await self._make_snapshot():
                await asyncio.sleep(SNAPSHOT_RETRY)
            self._snapshotting = False

    async def _check_stream(self) -> None:
        """Detect messages that were deleted or lost, even while nothing is written."""
        arrived = self._pipeline.arrived
        try:
            state = await self._js.state(self._names.stream)
        except JetStreamError as error:
            if error.code == NO_STREAM:
                raise Displaced(f"the stream is gone: {error}") from error
            return  # the engine cannot be reached
        if state.last < arrived:
            raise Displaced(f"{self._names.stream} ends at {state.last}, but had {arrived}")
        self._ledger.record_first(state.first)

    async def _make_snapshot(self) -> bool:
        """Request the structure on another connection and write it; return whether that worked."""
        steps: list[Step] = []
        host, port, tls = self._source
        subscriber = Subscriber(self._name, None, steps.append, decode=False, raw_buffers=True)
        try:
            await subscriber.connect(host, port, ssl=tls)
        except (OSError, LookupError) as error:
            self._on_error(error)
            return False
        finally:
            await subscriber.close()
        step = steps[0]
        if step.number is None or self._sequence_after(step) is None:
            return False
        async with self._snapshot_lock:
            manifest = await self._put_parts(step, step.number)
        while self._ledger.stream == step.stream and self._ledger.number < step.number:
            self._progressed.clear()
            await self._progressed.wait()
        go_on = self._sequence_after(step)
        if go_on is not None:
            await self._put_manifest(manifest, go_on)
        return go_on is not None

    def _sequence_after(self, step: Step) -> int | None:
        """Return the sequence after the step that a structure corresponds to; None: unknown."""
        same = step.stream == self._ledger.stream and step.number is not None
        return self._ledger.next_after(step.number or 0) if same else None

    # Beacons.

    def _beacon(self) -> bytes:
        while self._written and self._written[0][0] <= self._pipeline.arrived:
            _, stream, number = self._written.popleft()
            self._arrived = stream, number
        limit = LATE_AFTER * self._interval
        now = asyncio.get_running_loop().time()
        live = (
            self._subscriber.state == "live"
            and self._subscriber.lag <= limit
            and self._pipeline.waiting_since(now) <= limit
        )
        return Beacon(*self._arrived, self._pipeline.writer, self._interval, live).write()

    async def _send_beacons(self) -> None:
        while True:
            if self._js.connected:
                await self._js.publish(self._names.beacon, self._beacon())
            await asyncio.sleep(self._interval)

    async def _answer(self, message: Any) -> None:
        await self._js.publish(message.reply, self._beacon())


_UNNUMBERED = (
    "a publisher of the established protocol does not number mods: put `sync-struct relay` between "
    "it and the bridge"
)
