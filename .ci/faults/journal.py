"""What a publisher had at which step: written down by itself, compared with what replicas have.

The one idea to keep in mind: a file outlives whoever is killed. So what replicas have in the midst
of all faults can be compared with the truth, and how old it may be while they say that it is live.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from faults.report import Report

EVERY = 2
"""Of the bursts of a publisher, those are written down that end at a multiple of this: about a
dozen a second. What replicas have is looked at where it may be the end of a burst."""


class Writer:
    """Keeps a journal: lines with publisher, step, and a digest of the structure behind it."""

    def __init__(self, path: Path, life: int) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._life = life

    def note(self, count: int, structure: Any) -> None:
        """Write down what the structure is at a step, if it is time for that."""
        if count % EVERY == 0:
            self._file.write(f"{self._life} {count} {digest(structure)}\n")
            self._file.flush()


def digest(structure: Any) -> str:
    """Return a short text that is the same for equal structures."""
    return hashlib.blake2b(repr(_canonical(structure)).encode(), digest_size=8).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return "dict", sorted((repr(key), _canonical(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [_canonical(item) for item in value]
    if isinstance(value, np.ndarray):
        return "array", value.dtype.str, value.tolist()
    return value


class Journal:
    """Reads a journal while it is written, and what replicas had beside it.

    Parameters
    ----------
    path : pathlib.Path
        Of the file; it need not be there yet.
    report : Report
    lying : float
        Seconds that a replica may be live with less than the journal had then.

    Attributes
    ----------
    remark : str
        Added to findings: what has been done to the network.
    """

    def __init__(self, path: Path, report: Report, lying: float) -> None:
        self.path, self._report, self._lying = path, report, lying
        self.remark = ""
        self._at = 0
        self._truth: dict[tuple[int, int], str] = {}
        self._seen: list[tuple[str, tuple[int, int], str]] = []
        self._progress: deque[tuple[float, tuple[int, int]]] = deque()
        self._live_since: dict[Any, float] = {}

    def see(self, name: str, structure: Any) -> None:
        """Take note of what a replica has, if the journal may say what it should be."""
        place = structure["life"], structure["count"]
        if place[1] % EVERY == 0 and (not self._seen or self._seen[-1][:2] != (name, place)):
            self._seen.append((name, place, digest(structure)))

    def look(self, replicas: dict[Any, tuple[int, int] | None]) -> None:
        """Compare all that is known, given where each replica is; None: it is not live."""
        now = time.monotonic()
        self._read(now)
        self._compare()
        while len(self._progress) > 1 and self._progress[1][0] <= now - self._lying:
            self._progress.popleft()
        for replica, place in replicas.items():
            if place is None:
                self._live_since.pop(replica, None)
                continue
            since = self._live_since.setdefault(replica, now)
            if not self._progress:
                continue
            then, least = self._progress[0]
            if max(then, since) <= now - self._lying and place < least:
                self._report.find(
                    "wrong",
                    f"{replica.name} has been live for {now - since:.1f} s, and is at {place}, "
                    f"though the publisher was at {least} {now - then:.1f} s ago{self.remark}",
                )
            self._report.count("looks at live replicas during the faults")

    def _read(self, now: float) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1]
        self._at += len(lines)
        for line in lines.decode().splitlines():
            life, count, found = line.split()
            place = int(life), int(count)
            self._truth[place] = found
            self._progress.append((now, place))

    def _compare(self) -> None:
        later = []
        for name, place, found in self._seen:
            true = self._truth.get(place)
            if true is None:
                later.append((name, place, found))
                continue
            self._report.count("structures compared during the faults")
            if found != true:
                self._report.find("wrong", f"{name} has another structure at {place}")
        self._seen = later
