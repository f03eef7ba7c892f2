"""A journal of a publisher's structure at each step, to compare replicas with.

The one idea to keep in mind: a file survives killed processes. So the structures of replicas can be
compared with the publisher's during the faults, and so can their age while they are live.
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
"""The journal has the bursts of the publisher that end at a multiple of this: about a dozen per
second. Replicas are compared at steps that may end a burst."""


class Writer:
    """Writes a journal: lines with publisher, step, and a digest of the structure after it."""

    def __init__(self, path: Path, life: int) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._life = life

    def note(self, count: int, structure: Any) -> None:
        """Write a line for a step, if it is a multiple of `EVERY`."""
        if count % EVERY == 0:
            self._file.write(f"{self._life} {count} {digest(structure)}\n")
            self._file.flush()


def digest(structure: Any) -> str:
    """Return a digest that is the same for equal structures."""
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
    """Reads a journal while it is written, and compares replicas with it.

    Parameters
    ----------
    path : pathlib.Path
        Path of the file; it may not exist yet.
    report : Report
    lying : float
        Seconds that a live replica may lag behind the journal.

    Attributes
    ----------
    remark : str
        Added to findings: the state of the network.
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
        """Record the structure of a replica, if the journal may have this step."""
        place = structure["life"], structure["count"]
        if place[1] % EVERY == 0 and (not self._seen or self._seen[-1][:2] != (name, place)):
            self._seen.append((name, place, digest(structure)))

    def look(self, replicas: dict[Any, tuple[int, int] | None]) -> None:
        """Compare all recorded structures; `replicas` has their positions, None if not live."""
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
            self._report.count("checks of live replicas during the faults")

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
