"""The contents of a stream as a recording: its oldest structure, and the steps since then."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from pyon.framing import Receiver

from sync_struct import ProtocolError, Step, UnknownNotifier
from sync_struct.gateway import Record, name_in
from sync_struct.nats._connecting import connect
from sync_struct.nats._jetstream import Entry, JetStream, JetStreamError
from sync_struct.nats._layout import Label, Manifest, Subjects, subjects
from sync_struct.nats._progress import Gap, Progress
from sync_struct.nats._pull import Pull, read_snapshot

if TYPE_CHECKING:
    import ssl

__all__ = ["read_history"]


async def read_history(address: str, ssl: ssl.SSLContext | None) -> list[Record]:
    """Return the contents of the stream of an address, in order.

    Raises
    ------
    UnknownNotifier
        There is no such stream, or no structure in it.
    JetStreamError
        The engine cannot be reached, or messages were deleted while they were read.
    """
    names = subjects(name_in(address))
    js = await connect(address, ssl)
    try:
        oldest = await js.first(names.stream, names.manifest)
        if oldest is None:
            raise UnknownNotifier(f"{js.where} has no notifier {name_in(address)!r}")
        return await _History(js, names).read(oldest)
    finally:
        await js.close()


class _History:
    def __init__(self, js: JetStream, names: Subjects) -> None:
        self._js = js
        self._names = names
        self._progress = Progress("", 0)
        self._records: list[Record] = []

    async def read(self, oldest: Entry) -> list[Record]:
        """Read from the oldest manifest up to the present end of the stream."""
        names = self._names
        wanted = [names.step, names.manifest]
        ends = [await self._js.last(names.stream, subject) for subject in wanted]
        last = max((entry.seq for entry in ends if entry is not None), default=0)
        begin = await self._start(oldest)
        pull = await Pull.open(self._js, names.stream, wanted, begin)
        try:
            seq = begin - 1
            while seq < last:
                for entry in await pull.next():
                    seq = entry.seq
                    await self._take(entry)
        finally:
            await pull.close()
        return self._records

    async def _take(self, entry: Entry) -> None:
        try:
            if entry.subject == self._names.manifest:
                self._progress.pass_manifest(Manifest.read(entry.data))
            elif step := self._progress.take_step(Label.read(entry.headers), entry.data):
                self._note("mods", b"".join(step), entry.time)
        except Gap:
            if entry.subject == self._names.manifest:
                await self._start(entry)
        except ProtocolError:
            pass  # a message of another program

    async def _start(self, entry: Entry) -> int:
        """Read the snapshot of a manifest; return the sequence to continue from."""
        manifest = Manifest.read(entry.data)
        parts = await read_snapshot(self._js, self._names, manifest)
        if parts is None:
            raise JetStreamError(
                f"{self._js.where}: {self._names.stream}: the snapshot was deleted; try again"
            )
        self._progress = Progress(manifest.stream, manifest.number)
        self._note("init", b"".join(parts), entry.time)
        return manifest.next

    def _note(self, action: str, data: bytes, time: int) -> None:
        messages = Receiver(raw_buffers=True, limit=len(data) + 1).feed(data)
        lines = tuple(bytes(message.line) for message in messages)
        buffers = tuple(tuple(message.buffers) for message in messages)
        step = Step(action, lines, self._progress.stream, self._progress.number, buffers)
        when = datetime.datetime.fromtimestamp(time / 1e9, datetime.UTC).astimezone()
        self._records.append(Record(when, step.mods()))
