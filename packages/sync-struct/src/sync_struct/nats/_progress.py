"""What a reader of the stream has, and what each message means to it. Pure code, without a clock.

The one idea to keep in mind: the numbers decide, and nothing else. What does not follow on what the
reader has is a `Gap`, whoever lost what is between: then the reader joins anew.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pyon.framing import Message, Receiver, frame

from sync_struct.nats._layout import Beacon, Label, Manifest

__all__ = ["Gap", "Progress", "Pulse", "without_first"]

LOST_AFTER = 3
"""Intervals without a beacon until its sender counts as gone: one may be late, one lost."""

LATE_AFTER = 2
"""Intervals until a reader that has not reached what a beacon said does not count as live."""

STUCK_AFTER = 4
"""Intervals without any progress, though a beacon is ahead, until a reader joins anew: what it
waits for was said to be in the stream, so it has been lost on the way."""

Health = Literal["live", "stale", "stuck"]


class Gap(Exception):  # noqa: N818
    """What came does not follow on what the reader has."""


class Progress:
    """How far a reader is.

    Parameters
    ----------
    stream, number
        What it has.

    Attributes
    ----------
    stream : str
    number : int
        Of the last mod that was handed on.
    """

    def __init__(self, stream: str, number: int) -> None:
        self.stream = stream
        self.number = number
        self._label: Label | None = None  # of the last part in `_parts`
        self._parts: list[bytes] = []  # of a step that is not whole

    def take_step(self, label: Label, data: bytes) -> list[bytes]:
        """Take a message with a step or a part of one; return the bytes of the step it completes.

        Raises
        ------
        Gap
            It does not follow.
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
        """Pass a manifest in the stream; a `Gap` if what it contains never came as steps."""
        if manifest.stream != self.stream or manifest.number > self.number:
            raise Gap(f"the steps up to mod {manifest.number} are in a snapshot only")


def without_first(data: bytes, count: int) -> bytes:
    """Return a step without its first mods, which the reader has already.

    Raises
    ------
    Gap
        There are no mods behind them.
    """
    kept: list[bytes | memoryview] = []
    for message in Receiver(raw_buffers=True, limit=len(data) + 1).feed(data):
        count, rest = _rest(message, count)
        kept += rest
    if count or not kept:
        raise Gap("a step has fewer mods than its numbers say")
    return b"".join(kept)


def _rest(message: Message, count: int) -> tuple[int, list[bytes | memoryview]]:
    """Return how many more mods are to be left out behind a message, and what stays of it."""
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
        raise Gap("a step that cannot be taken apart") from None
    text["mods"] = mods[count:]
    return 0, frame(json.dumps(text, separators=(",", ":")))


def _without_announcement(line: bytes) -> bytes:
    """Return a line as it was before `frame` put the sizes of its buffers in front."""
    return b"{" + line[line.index(b"],") + 2 :]


class Pulse:
    """Whether the bridge that writes the stream is there, and the reader with it.

    Attributes
    ----------
    beacon : Beacon or None
        The last one that came.
    """

    def __init__(self) -> None:
        self.beacon: Beacon | None = None
        self._heard = 0.0
        self._target: Beacon | None = None  # the first beacon that the reader has not reached
        self._since = 0.0
        self._last: tuple[str, int] = ("", 0)
        self._moved = 0.0

    def hear(self, beacon: Beacon, now: float) -> None:
        """Take note of a beacon; `now` is in seconds, on any clock."""
        self.beacon, self._heard = beacon, now

    def reached(self, stream: str, number: int) -> bool:
        """Tell whether a reader that has this has all that the last beacon knew of."""
        return _reached(self.beacon, stream, number)

    def look(self, stream: str, number: int, now: float) -> Health:
        """Tell how a reader is that has this, and is not held up by its own subscriber."""
        beacon = self.beacon
        if (stream, number) != self._last:
            self._last, self._moved = (stream, number), now
        if beacon is None or now - self._heard > LOST_AFTER * beacon.interval:
            self._target = None
            return "stale"
        if _reached(self._target, stream, number):
            self._target = None
        if self._target is None and not _reached(beacon, stream, number):
            self._target, self._since = beacon, now
            self._moved = max(self._moved, now)
        if self._target is None:
            return "live" if beacon.live else "stale"
        if now - self._moved > STUCK_AFTER * beacon.interval:
            self._target = None
            return "stuck"
        late = now - self._since > LATE_AFTER * beacon.interval
        return "live" if beacon.live and not late else "stale"


def _reached(beacon: Beacon | None, stream: str, number: int) -> bool:
    return beacon is None or (beacon.stream == stream and beacon.number <= number)
