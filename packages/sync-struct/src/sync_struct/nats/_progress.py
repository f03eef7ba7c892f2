"""What a reader of the stream has, and what each message means to it. Pure code, without a clock.

The one idea to keep in mind: only the numbers decide. A message that does not follow directly on
what the reader has is a `Gap`, whatever the cause: then the reader joins again.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pyon.framing import Message, Receiver, frame

from sync_struct.nats._layout import Beacon, Label, Manifest

__all__ = ["BeaconMonitor", "Gap", "Progress", "without_first"]

LOST_AFTER = 3
"""Intervals without a beacon until the bridge counts as gone: one may be late, one lost."""

LATE_AFTER = 2
"""Intervals until a reader that has not reached the number of a beacon does not count as live."""

STUCK_AFTER = 4
"""Intervals without progress, although a beacon is ahead, until a reader joins again: the awaited
messages were in the stream according to the beacon, so they have been lost in transit."""

Health = Literal["live", "stale", "stuck"]


class Gap(Exception):  # noqa: N818
    """A message does not follow directly on what the reader has."""


class Progress:
    """The position of a reader.

    Parameters
    ----------
    stream, number
        The initial position.

    Attributes
    ----------
    stream : str
        Stream id of the notifier.
    number : int
        Number of the last mod that was passed on.
    """

    def __init__(self, stream: str, number: int) -> None:
        self.stream = stream
        self.number = number
        self._label: Label | None = None  # label of the last part in `_parts`
        self._parts: list[bytes] = []  # parts of an incomplete step

    def take_step(self, label: Label, data: bytes) -> list[bytes]:
        """Handle a message with a step or part of one; return the bytes of a completed step.

        Raises
        ------
        Gap
            The message does not follow.
        """
        if label.stream != self.stream:
            raise Gap(f"expected stream {self.stream}, got {label.stream}")
        if label.last <= self.number:
            self._forget()
            return []
        if label.first > self.number + 1:
            raise Gap(f"expected mod {self.number + 1}, got {label.first}")
        if label.part == 1:
            self._forget()
        elif self._label is None or label != self._label._replace(part=self._label.part + 1):
            raise Gap(f"expected the first part of a step, got part {label.part}")
        self._label = label
        self._parts.append(data)
        if label.part < label.parts:
            return []
        parts = self._parts
        had = self.number - label.first + 1
        if had:
            parts = [without_first(b"".join(parts), had)]
        self.number = label.last
        self._forget()
        return parts

    def _forget(self) -> None:
        self._label, self._parts = None, []

    def pass_manifest(self, manifest: Manifest) -> None:
        """Pass a manifest in the stream; raise `Gap` if the reader lacks steps that it contains."""
        if manifest.stream != self.stream or manifest.number > self.number:
            raise Gap(f"the steps up to mod {manifest.number} are only in a snapshot")


def without_first(data: bytes, count: int) -> bytes:
    """Return a step without its first `count` mods, which the reader has already.

    Raises
    ------
    Gap
        The step has no more mods than that.
    """
    kept: list[bytes | memoryview] = []
    for message in Receiver(raw_buffers=True, limit=len(data) + 1).feed(data):
        count, rest = _rest(message, count)
        kept += rest
    if count or not kept:
        raise Gap("a step has fewer mods than its numbers say")
    return b"".join(kept)


def _rest(message: Message, count: int) -> tuple[int, list[bytes | memoryview]]:
    """Drop up to `count` mods of a message; return how many are left to drop, and the rest."""
    line = bytes(message.line)
    if not count:
        plain = _without_announcement(line) if message.buffers else line
        return 0, frame(plain, message.buffers)
    try:
        text: dict[str, Any] = json.loads(line)
        mods = text["mods"] if text["action"] == "mods" else [text]
        if len(mods) <= count:
            return count - len(mods), []
    except (ValueError, TypeError, LookupError):
        raise Gap("a step that cannot be split into mods") from None
    text["mods"] = mods[count:]
    return 0, frame(json.dumps(text, separators=(",", ":")))


def _without_announcement(line: bytes) -> bytes:
    """Return a line without the sizes of its buffers, which `frame` has inserted."""
    return b"{" + line[line.index(b"],") + 2 :]


class BeaconMonitor:
    """Judges by beacons whether the bridge is alive and the reader up to date.

    Attributes
    ----------
    beacon : Beacon or None
        The last beacon received.
    """

    def __init__(self) -> None:
        self.beacon: Beacon | None = None
        self._received_at = 0.0
        self._target: Beacon | None = None  # the first beacon that the reader has not reached
        self._since = 0.0
        self._last: tuple[str, int] = ("", 0)
        self._progressed_at = 0.0

    def receive(self, beacon: Beacon, now: float) -> None:
        """Record a beacon received at the time `now`, in seconds of any clock."""
        self.beacon, self._received_at = beacon, now

    def reached(self, stream: str, number: int) -> bool:
        """Return whether a reader at this position has reached the last beacon."""
        return _reached(self.beacon, stream, number)

    def health(self, stream: str, number: int, now: float) -> Health:
        """Return the state of a reader at this position that is not delayed by its subscriber."""
        beacon = self.beacon
        if (stream, number) != self._last:
            self._last, self._progressed_at = (stream, number), now
        if beacon is None or now - self._received_at > LOST_AFTER * beacon.interval:
            self._target = None
            return "stale"
        if _reached(self._target, stream, number):
            self._target = None
        if self._target is None and not _reached(beacon, stream, number):
            self._target, self._since = beacon, now
            self._progressed_at = max(self._progressed_at, now)
        if self._target is None:
            return "live" if beacon.live else "stale"
        if now - self._progressed_at > STUCK_AFTER * beacon.interval:
            self._target = None
            return "stuck"
        late = now - self._since > LATE_AFTER * beacon.interval
        return "live" if beacon.live and not late else "stale"


def _reached(beacon: Beacon | None, stream: str, number: int) -> bool:
    return beacon is None or (beacon.stream == stream and beacon.number <= number)
