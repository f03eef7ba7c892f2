"""The report on the mutants, as text and as data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mutants.trial import Result

VERDICTS = ("killed", "allowed", "killed after all", "survived", "error")


def as_text(results: Sequence[Result]) -> str:
    """Return the results as text, with the sums of each package."""
    lines = []
    for result in results:
        mutant = result.mutant
        lines.append(f"{result.verdict.upper():<9} {mutant.name} ({mutant.package}/{mutant.file})")
        lines.append(f"          {mutant.promise}")
        if result.noticed_by:
            hint = "" if result.named else ", which the table does not list"
            lines.append(f"          noticed by {result.noticed_by}{hint}")
        if result.error:
            lines.append(f"          {result.error}")
        if mutant.survives:
            lines.append(f"          may survive: {mutant.survives}")
        if result.verdict == "survived":
            lines.append(f"          again: python3 noxfile.py -s mutants -- {mutant.name}")
    packages = dict.fromkeys(result.mutant.package for result in results)
    lines += [
        _sum(name, [one for one in results if one.mutant.package == name]) for name in packages
    ]
    lines.append(_sum("all", results))
    return "\n".join(lines) + "\n"


def _sum(what: str, results: Sequence[Result]) -> str:
    counts = Counter(result.verdict for result in results)
    parts = [f"{verdict} {counts[verdict]}" for verdict in VERDICTS]
    return f"{what}: made {len(results)}, {', '.join(parts)}"


def write(folder: Path, results: Sequence[Result]) -> None:
    """Write ``report.json`` and ``report.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    data = [result.as_dict() for result in results]
    (folder / "report.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (folder / "report.txt").write_text(as_text(results), encoding="utf-8")
