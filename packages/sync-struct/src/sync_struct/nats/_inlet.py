"""Inlet: serves one subscriber from a stream, as a publisher does.

The one idea to keep in mind: the bytes of the stream are sent unchanged. `Progress` decides whether
they follow on what the subscriber has; if not, it is sent the newest snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from pyon.asyncio_connection import Connection
from pyon.framing import Message

from sync_struct import ProtocolError, SubscriptionLost, UnknownNotifier
from sync_struct.gateway import GROWING_ARRAYS, RAW_BUFFERS, STALENESS, Request, control, refusal
from sync_struct.nats._jetstream import Entry, JetStream, JetStreamError
from sync_struct.nats._layout import Beacon, Label, Manifest, name_of, subjects
from sync_struct.nats._progress import BeaconMonitor, Gap, Progress
from sync_struct.nats._pull import Pull, read_snapshot
from sync_struct.nats._together import first_end

__all__ = ["Inlet", "takes_bytes"]

ASK_TIMEOUT = 1.0
"""Seconds to wait for the bridge's reply; after that, its next beacon is awaited."""

RETRY_WAIT = 0.25
"""Seconds between attempts while the engine cannot be reached, or lacks messages."""

STARTED_AGAIN = "the publisher was started again"

CHECKS_PER_INTERVAL = 4
"""Checks of the bridge's beacons per interval of beacons."""


def takes_bytes(request: Request) -> bool:
    """Return whether the bytes of the stream can be sent to a subscriber unchanged."""
    needed = {RAW_BUFFERS, GROWING_ARRAYS}
    return not request.wish.path and request.max_rate is None and needed <= request.features


class Inlet(Connection):
    """The connection of one subscriber; it starts to serve when it is opened.

    Parameters
    ----------
    js : JetStream
        A connection of its own, which it closes.
    name : str
        Name of the notifier in the engine.
    request : Request
        The request in the subscriber's banner. The banner itself arrives on the connection, too.
    """

    def __init__(self, js: JetStream, name: str, request: Request) -> None:
        super().__init__()
        self._js = js
        self._name = name
        self._names = subjects(name)
        self._request = request
        self._monitor = BeaconMonitor()
        self._progress = Progress("", 0)
        self._seq = 0  # sequence of the last message handled
        self._stale = False  # as the subscriber was told last
        self._greeted = False
        self._wants_structure = False  # the subscriber has sent a resync
        self._resumed_at: int | None = None
        self._must_join = asyncio.Event()  # set when the subscriber has to join again
        self._task: asyncio.Task[None] | None = None

    def connection_opened(self) -> None:
        """See `Connection`."""
        self._task = asyncio.ensure_future(self._serve())
        self._task.add_done_callback(lambda _: self._js.abort())  # if the loop ends during close

    def connection_closed(self, exc: Exception | None) -> None:
        """See `Connection`."""
        if self._task is not None:
            self._task.cancel()

    def message_received(self, message: Message) -> None:
        """See `Connection`."""
        line = bytes(message.line)
        if b'"ping"' in line:
            self.send(control("pong"))
        elif b'"resync"' in line:
            self._wants_structure = True
            self._must_join.set()

    async def _serve(self) -> None:
        try:
            await self._js.subscribe(self._names.beacon, self._receive_beacon)
            await first_end(self._follow(), self._watch(), self._js.lost())
            raise SubscriptionLost(f"{self._js.where} could not be reached for a long time")
        except ConnectionResetError:
            pass  # the subscriber has left
        except (UnknownNotifier, SubscriptionLost, ProtocolError, JetStreamError) as error:
            self.send(refusal(_as_protocol_error(error)))
            self.close()
        finally:
            if not self.closed:
                self.close()
            await self._js.close()

    async def _receive_beacon(self, message: Any) -> None:
        with contextlib.suppress(ProtocolError):  # a message of another program
            self._monitor.receive(Beacon.read(message.data), self._loop.time())

    async def _request_beacon(self) -> None:
        answer = await self._js.ask(self._names.ask, ASK_TIMEOUT)
        if answer is not None:
            self._monitor.receive(Beacon.read(answer), self._loop.time())

    # Joining.

    async def _follow(self) -> None:
        await self._request_beacon()
        begin = await self._join()
        missing_at = -1
        while True:
            try:
                await self._read(begin)
            except Gap:
                if missing_at == self._progress.number:  # the stream itself lacks a step there
                    await asyncio.sleep(RETRY_WAIT)
                missing_at = self._progress.number
                begin = await self._join_again()
            except JetStreamError:
                if begin == self._seq + 1:  # no message has arrived
                    await asyncio.sleep(RETRY_WAIT)
                begin = self._seq + 1

    async def _newest(self) -> Manifest:
        """Return the newest manifest."""
        found = await self._js.last(self._names.stream, self._names.manifest)
        if found is None:
            streams = map(name_of, await self._js.notifiers_streams())
            names = sorted(name for name in streams if name is not None)
            known = ", ".join(map(repr, names)) or "none at all"
            text = f"{self._js.where} has no notifier {self._name!r}; there is {known}"
            if self._name in names:
                text = f"{self._js.where} has no structure of {self._name!r} yet"
            raise UnknownNotifier(text, names)
        return Manifest.read(found.data)

    async def _join(self) -> int:
        """Send hello, and the structure if needed; return the sequence to read from."""
        manifest = await self._newest()
        at = self._request.position
        if at is not None and at.stream == manifest.stream and at.number >= manifest.number:
            self._progress = Progress(*at)
            self._send_hello(at.number, resumed=True)
            return manifest.next
        number, begin = await self._last_mod(manifest)
        self._progress = Progress(manifest.stream, number)
        self._send_hello(number, resumed=False)
        return begin if self._request.wish.mods_only else await self._send_snapshot(manifest)

    def _send_hello(self, number: int, *, resumed: bool) -> None:
        features = [
            word
            for word in (RAW_BUFFERS, GROWING_ARRAYS, STALENESS)
            if word in self._request.features
        ]
        self._stale = STALENESS in features and self._health() != "live"
        hello = control(
            "hello",
            stream=self._progress.stream,
            number=number,
            resumed=resumed,
            features=features,
            **({"stale": True} if self._stale else {}),
        )
        self.send(hello)
        self._greeted = True

    async def _last_mod(self, manifest: Manifest) -> tuple[int, int]:
        """Return the number of the last mod in the stream, and the sequence to read from."""
        found = await self._js.last(self._names.stream, self._names.step)
        if found is None:
            return manifest.number, manifest.next
        label = Label.read(found.headers)
        if label.stream != manifest.stream or label.last <= manifest.number:
            return manifest.number, manifest.next
        if label.part == label.parts:
            return label.last, found.seq + 1
        return max(manifest.number, label.first - 1), manifest.next

    async def _join_again(self) -> int:
        """Resume or send the structure after a gap; return the sequence to read from."""
        self._must_join.clear()
        self._send_staleness(True)
        while True:
            try:
                manifest = await self._newest()
                if manifest.stream != self._progress.stream:
                    raise SubscriptionLost(STARTED_AGAIN)
                if self._may_resume(manifest):
                    return manifest.next
                if not self._request.wish.mods_only:
                    return await self._send_snapshot(manifest)
                number, begin = await self._last_mod(manifest)
                self._progress = Progress(manifest.stream, number)
                self.send(control("gap", number=number))
                return begin
            except JetStreamError:
                await asyncio.sleep(RETRY_WAIT)

    def _may_resume(self, manifest: Manifest) -> bool:
        """Return whether the subscriber can resume; not twice from the same position."""
        number, before = self._progress.number, self._resumed_at
        self._resumed_at = number
        wanted, self._wants_structure = self._wants_structure, False
        return manifest.number <= number and number != before and not wanted

    async def _send_snapshot(self, manifest: Manifest) -> int:
        """Send a structure when all its parts have arrived; return the sequence to read from."""
        while (parts := await read_snapshot(self._js, self._names, manifest)) is None:
            before, manifest = manifest, await self._newest()  # parts of the older one are deleted
            if manifest.stream != self._progress.stream:
                raise SubscriptionLost(STARTED_AGAIN)  # our hello named the previous stream id
            if manifest == before:
                where = f"{self._js.where}: {self._names.stream}"
                raise UnknownNotifier(f"{where} has lost parts of the structure of {self._name!r}")
        self._progress = Progress(manifest.stream, manifest.number)
        self.send_chunks(parts)
        await self.drained()
        return manifest.next

    # Following.

    async def _read(self, begin: int) -> None:
        self._seq = begin - 1
        _, last, _ = await self._js.state(self._names.stream)
        if last < begin - 1:
            raise Gap(f"the stream ends at {last}: it has lost messages that were read from it")
        names = self._names
        pull = await Pull.open(self._js, names.stream, [names.step, names.manifest], begin)
        try:
            await first_end(self._pump(pull), self._must_join.wait())
            raise Gap("steps announced by a beacon do not arrive, or the subscriber sent a resync")
        finally:
            await pull.close()

    async def _pump(self, pull: Pull) -> None:
        while True:
            for entry in await pull.next():
                self._take(entry)
            if self.backlog:
                await self.drained()

    async def _watch(self) -> None:
        """Send changes of staleness, independently of the messages of the stream."""
        while True:
            beacon = self._monitor.beacon
            interval = 1.0 if beacon is None else beacon.interval
            await asyncio.sleep(interval / CHECKS_PER_INTERVAL)
            if self._greeted:
                self._update_staleness()

    def _take(self, entry: Entry) -> None:
        with contextlib.suppress(ProtocolError):  # of another program: a gap would be detected
            if entry.subject == self._names.manifest:
                self._progress.pass_manifest(Manifest.read(entry.data))
            else:
                step = self._progress.take_step(Label.read(entry.headers), entry.data)
                self.send_chunks(step)
        self._seq = entry.seq

    def _health(self) -> str:
        return self._monitor.health(self._progress.stream, self._progress.number, self._loop.time())

    def _update_staleness(self) -> None:
        """Send whether the subscriber is up to date, if that has changed."""
        health = self._health()
        if health == "stuck" and not self.backlog:
            self._must_join.set()
        if health != "live":
            self._send_staleness(True)
        elif self._monitor.reached(self._progress.stream, self._progress.number):
            self._send_staleness(False)

    def _send_staleness(self, stale: bool) -> None:
        if stale != self._stale and STALENESS in self._request.features:
            self._stale = stale
            self.send(control("stale" if stale else "live"))


def _as_protocol_error(error: Exception) -> Exception:
    """Return an error as one that the protocol can express."""
    return SubscriptionLost(str(error)) if isinstance(error, JetStreamError) else error
