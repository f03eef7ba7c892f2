"""What a bridge has written into a stream and has to write next. Pure code, without a clock.

The one idea to keep in mind: every message is assigned its sequence before it is sent, and the
engine refuses it at any other. So a manifest can name the sequences of parts that are still being
sent, and a second bridge cannot write in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from sync_struct.nats._layout import Label, Manifest

__all__ = ["Ledger", "Tail"]

LEAST_STEPS = 8 * 2**20
"""Minimum number of bytes of steps before another snapshot: for a small structure, a snapshot every
few thousand steps would have no benefit."""

MESSAGE_OVERHEAD = 250
"""Bytes of a message in the stream besides its payload: headers, subject, and the engine's own."""

KEPT_BOUNDARIES = 20_000
"""Ends of steps whose sequences are kept. A publisher may send a snapshot that is 2 s old: this is
four seconds at 5,000 steps a second."""


class Tail(NamedTuple):
    """The end of a stream as it was found."""

    seq: int
    """Sequence of the last message; 0: there is none."""

    size: int
    """Bytes in the stream."""

    manifest: Manifest | None
    """The newest manifest."""

    step: Label | None
    """Label of the last message with a step."""


class Ledger:
    """The record of what has been written into one stream.

    Parameters
    ----------
    tail : Tail
        The present end of the stream.

    Attributes
    ----------
    stream : str
        Stream id of the notifier; empty if there is no snapshot yet.
    number : int
        Number of the last mod written.
    seq : int
        Sequence of the last message written.
    """

    def __init__(self, tail: Tail) -> None:
        self.seq = tail.seq
        self.stream, self.number = "", 0
        self._since = self._size = 0
        self._needed_from: int | None = None  # first sequence that the newest snapshot needs
        self._incomplete = False  # messages from there on have been deleted
        self._boundaries: deque[tuple[int, int]] = deque(maxlen=KEPT_BOUNDARIES)
        if tail.manifest is not None:
            self._take_tail(tail.manifest, tail)

    def _take_tail(self, manifest: Manifest, tail: Tail) -> None:
        self.stream, self.number = manifest.stream, manifest.number
        self._size = manifest.size
        self._since = max(0, tail.size - manifest.size)
        self._needed_from = min(manifest.begin, manifest.next)
        label = tail.step
        if label is not None and label.stream == manifest.stream:
            whole = label.part == label.parts
            self.number = max(self.number, label.last if whole else label.first - 1)
        self._boundaries.append((self.number, tail.seq))

    @property
    def position(self) -> tuple[str, int] | None:
        """Position from which the publisher is to resume; None: it has to send the structure."""
        return (self.stream, self.number) if self.stream else None

    def next_sequence(self) -> int:
        """Assign a sequence to the next message and return it."""
        self.seq += 1
        return self.seq

    # Steps.

    def labels(self, last: int, parts: int) -> Iterator[Label]:
        """Return the labels of a step that ends with mod number `last`."""
        first = self.number + 1
        return (Label(self.stream, first, last, part, parts) for part in range(1, parts + 1))

    def record_step(self, last: int, size: int, messages: int) -> None:
        """Record a step whose messages have been assigned their sequences, up to `seq`."""
        self.number = last
        self._since += size + messages * MESSAGE_OVERHEAD
        self._boundaries.append((last, self.seq))

    # Snapshots.

    @property
    def snapshot_due(self) -> bool:
        """Whether the steps after the newest snapshot are larger than it, or it is incomplete."""
        outweighed = self._since > max(self._size, LEAST_STEPS)
        return bool(self.stream) and (outweighed or self._incomplete)

    def record_first(self, seq: int) -> None:
        """Record the first sequence in the stream: other programs may delete messages, too."""
        self._incomplete = self._needed_from is not None and seq > self._needed_from

    def next_after(self, number: int) -> int | None:
        """Return the sequence from which to read the steps after mod `number`; None: unknown."""
        if not self._boundaries or number < self._boundaries[0][0]:
            return None
        index = bisect_right(self._boundaries, number, key=lambda boundary: boundary[0])
        return self._boundaries[index - 1][1] + 1

    def begin_stream(self, stream: str, number: int) -> None:
        """Continue with a structure that does not follow from the steps written before."""
        self.stream, self.number = stream, number
        self._boundaries.clear()

    def record_snapshot(self, manifest: Manifest) -> int | None:
        """Record a snapshot whose manifest has been assigned its sequence, `seq`.

        Returns
        -------
        int or None
            Messages before this sequence are not needed once the manifest is in the stream.
        """
        before, self._needed_from = self._needed_from, min(manifest.begin, manifest.next)
        self._size, self._since, self._incomplete = manifest.size, 0, False
        if not self._boundaries:
            self._boundaries.append((manifest.number, self.seq))
        return before
