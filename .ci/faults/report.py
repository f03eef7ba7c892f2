"""The report of a page: counts, and findings with the commands that repeat them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from faults.known import known

VERDICTS = ("wrong", "lost", "hung", "leaks", "crashes", "memory", "slow")
"""Kinds of findings; the report has a number for each, also 0."""

SHOWN = 20
"""Largest number of findings of one page with their text: more are only counted."""


class Report:
    """Counts and findings of one page. May be used by any thread.

    Parameters
    ----------
    page : str
        Name of the page.
    seed : int
        Seed of the page; pages with rounds set it to the seed of the round.
    """

    def __init__(self, page: str, seed: int) -> None:
        self.page, self.seed = page, seed
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._peaks: dict[str, float] = {}
        self._found: Counter[str] = Counter()
        self._findings: list[dict[str, Any]] = []
        self._notes: list[str] = []

    def count(self, what: str, number: int = 1) -> None:
        """Add to a count: of calls, mods, faults of a kind."""
        with self._lock:
            self._counts[what] += number

    def counted(self, what: str) -> int:
        """Return a count."""
        return self._counts[what]

    def counts(self, prefix: str) -> list[tuple[str, int]]:
        """Return the counts whose names begin with a prefix."""
        with self._lock:
            return [(what, n) for what, n in self._counts.items() if what.startswith(prefix)]

    def peak(self, what: str, value: float) -> None:
        """Record a measured value; the report has the largest one."""
        with self._lock:
            self._peaks[what] = max(value, self._peaks.get(what, value))

    def find(self, verdict: str, text: str) -> None:
        """Add a finding."""
        if verdict not in VERDICTS:
            raise ValueError(f"expected one of {VERDICTS}, got {verdict!r}")
        if (defect := known(text)) is not None:
            self.note(f"a known defect: {defect}")
            return
        with self._lock:
            self._found[verdict] += 1
            if len(self._findings) < SHOWN:
                self._findings.append({"verdict": verdict, "seed": self.seed, "text": text})

    def note(self, text: str) -> None:
        """Add a note for the reader: something that was not permitted here, for example."""
        with self._lock:
            if text not in self._notes:
                self._notes.append(text)

    @property
    def failed(self) -> bool:
        """Whether there is any finding."""
        return bool(self._found)

    @property
    def number_of_findings(self) -> int:
        """The number of findings."""
        return self._found.total()

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        with self._lock:
            return {
                "page": self.page,
                "seed": self.seed,
                "counts": dict(sorted(self._counts.items())),
                "peaks": dict(sorted(self._peaks.items())),
                "found": {verdict: self._found[verdict] for verdict in VERDICTS},
                "findings": list(self._findings),
                "notes": list(self._notes),
            }


def repeats(finding: dict[str, Any], page: str) -> str:
    """Return the command that repeats a finding."""
    return f"python3 noxfile.py -s faults -- --page {page} --seed {finding['seed']}"


def as_text(results: list[dict[str, Any]]) -> str:
    """Return the reports of all pages, for people."""
    lines = []
    for result in results:
        found = {verdict: number for verdict, number in result["found"].items() if number}
        verdict = ", ".join(f"{kind} {number}" for kind, number in found.items()) or "no findings"
        lines.append(
            f"{result['page']} (seed {result['seed']}, {result['seconds']:.0f} s): {verdict}"
        )
        lines += [f"    {number:>12,}  {what}" for what, number in result["counts"].items()]
        lines += [f"    {value:>12,.2f}  {what} (peak)" for what, value in result["peaks"].items()]
        lines += [f"    note: {note}" for note in result["notes"]]
        for finding in result["findings"]:
            lines.append(f"    {finding['verdict'].upper()}: {finding['text']}")
            lines.append(f"        again: {repeats(finding, result['page'])}")
    total: Counter[str] = Counter()
    for result in results:
        total.update(result["found"])
    lines.append("all: " + ", ".join(f"{verdict} {total[verdict]}" for verdict in VERDICTS))
    return "\n".join(lines) + "\n"


def write(folder: Path, results: list[dict[str, Any]]) -> None:
    """Write ``report.json`` and ``report.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "report.txt").write_text(as_text(results), encoding="utf-8")
