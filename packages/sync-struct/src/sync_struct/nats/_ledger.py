"""What a bridge has written into a stream, and what it owes it. Pure code, without a clock.

The one idea to keep in mind: every message has its place (its sequence) before it is sent, and the
engine refuses it anywhere else. So a manifest can name the places of parts that are still on their
way, and a second bridge cannot come in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from sync_struct.nats._layout import Label, Manifest

__all__ = ["Ledger", "Tail"]

LEAST_STEPS = 8 * 2**20
"""Bytes of steps behind a snapshot that are always worth keeping: with a small structure, another
one every few thousand steps would help nobody."""

MESSAGE_OVERHEAD = 250
"""Bytes of a message besides ours, in the stream: headers, subject, and the engine's own."""

KEPT_BOUNDARIES = 20_000
"""Ends of steps that are known with their place. A publisher may give a snapshot that is 2 s old:
four seconds of 5,000 steps."""


class Tail(NamedTuple):
    """What a stream ends with, as it was found."""

    seq: int
    """Of the last message; 0: there is none."""

    size: int
    """Bytes in the stream."""

    manifest: Manifest | None
    step: Label | None
    """Of the last message with a step."""


class Ledger:
    """The account of one stream.

    Parameters
    ----------
    tail : Tail
        What is there already.

    Attributes
    ----------
    stream : str
        Stream id of the notifier; empty if there is no snapshot yet.
    number : int
        Of the last mod that was written.
    seq : int
        Of the last message that was written.
    """

    def __init__(self, tail: Tail) -> None:
        self.seq = tail.seq
        self.stream, self.number = "", 0
        self._since = self._size = 0
        self._low: int | None = None  # what the newest snapshot needs begins there
        self._torn = False  # some of that has been deleted
        self._boundaries: deque[tuple[int, int]] = deque(maxlen=KEPT_BOUNDARIES)
        if tail.manifest is not None:
            self._take_tail(tail.manifest, tail)

    def _take_tail(self, manifest: Manifest, tail: Tail) -> None:
        self.stream, self.number = manifest.stream, manifest.number
        self._size = manifest.size
        self._since = max(0, tail.size - manifest.size)
        self._low = min(manifest.begin, manifest.next)
        label = tail.step
        if label is not None and label.stream == manifest.stream:
            whole = label.part == label.parts
            self.number = max(self.number, label.last if whole else label.first - 1)
        self._boundaries.append((self.number, tail.seq))

    @property
    def position(self) -> tuple[str, int] | None:
        """Where the publisher is to go on; None: it has to send the structure first."""
        return (self.stream, self.number) if self.stream else None

    def take_place(self) -> int:
        """Return the sequence of the next message."""
        self.seq += 1
        return self.seq

    # Steps.

    def labels(self, last: int, parts: int) -> Iterator[Label]:
        """Return the labels of a step that ends with mod `last`."""
        first = self.number + 1
        return (Label(self.stream, first, last, part, parts) for part in range(1, parts + 1))

    def note_step(self, last: int, size: int, messages: int) -> None:
        """Take note that a step has its places, the last of which is `seq`."""
        self.number = last
        self._since += size + messages * MESSAGE_OVERHEAD
        self._boundaries.append((last, self.seq))

    # Snapshots.

    @property
    def snapshot_due(self) -> bool:
        """Whether the steps behind the newest snapshot outweigh it, or it cannot be read."""
        outweighed = self._since > max(self._size, LEAST_STEPS)
        return bool(self.stream) and (outweighed or self._torn)

    def note_first(self, seq: int) -> None:
        """Take note of the first message that is in the stream: others may delete some, too."""
        self._torn = self._low is not None and seq > self._low

    def next_after(self, number: int) -> int | None:
        """Return the sequence from which to read what is behind mod `number`; None: unknown."""
        if not self._boundaries or number < self._boundaries[0][0]:
            return None
        index = bisect_right(self._boundaries, number, key=lambda boundary: boundary[0])
        return self._boundaries[index - 1][1] + 1

    def begin_stream(self, stream: str, number: int) -> None:
        """Go on with a structure that does not follow on what was written before."""
        self.stream, self.number = stream, number
        self._boundaries.clear()

    def note_snapshot(self, manifest: Manifest) -> int | None:
        """Take note of a snapshot whose manifest has its place, which is `seq`.

        Returns
        -------
        int or None
            What is before this sequence is needed no more once the manifest is in the stream.
        """
        before, self._low = self._low, min(manifest.begin, manifest.next)
        self._size, self._since, self._torn = manifest.size, 0, False
        if not self._boundaries:
            self._boundaries.append((manifest.number, self.seq))
        return before
