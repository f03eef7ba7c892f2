"""The short version of the suite of faults: every page, within a minute; and its report."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from faults import report as reports
from faults.pages import PAGES
from faults.report import VERDICTS, Report

ROOT = Path(__file__).resolve().parents[2]


def run(folder, *arguments):
    """Run the suite as the session does; return the process, and the report."""
    done = subprocess.run(
        [sys.executable, "-m", "faults", "--report", folder, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ci")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, json.loads((folder / "report.json").read_text())


@pytest.mark.timeout(900)
def test_a_short_run_of_every_page_has_no_findings(tmp_path):
    done, results = run(tmp_path, "--budget", 60)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert [result["page"] for result in results] == [page.name for page in PAGES]
    assert all(result["found"] == dict.fromkeys(VERDICTS, 0) for result in results)
    assert done.stdout == (tmp_path / "report.txt").read_text()
    counts = {result["page"]: result["counts"] for result in results}
    assert counts["calls"]["calls answered"] > 100
    assert counts["reconnecting"]["calls answered"] > 100
    assert counts["reconnecting"]["states reported: lost"] > 0
    assert counts["leases"]["blocks"] > 0
    assert counts["streams"]["items"] > 100
    assert counts["structures"]["replicas compared in the end"] > 10
    assert counts["bridges"]["replicas compared in the end"] >= 6
    assert sum(n for what, n in counts["bridges"].items() if what.startswith("injected: ")) > 0
    assert counts["hostile"]["resisting codes"] >= 2
    assert counts["load"]["connections of crowds"] > 50
    assert sum(n for what, n in counts["wire"].items() if what.startswith("sessions against")) > 30
    for page in ("calls", "structures"):
        assert {f"faults: {kind}" for kind in ("split", "merge", "delay")} <= counts[page].keys()


def test_a_finding_has_its_seed_and_the_command_that_repeats_it():
    report = Report("calls", 7)
    report.seed = 9
    report.find("lost", "call 5")
    text = reports.as_text([{**report.as_dict(), "seed": 7, "seconds": 1.0}])
    assert (
        "LOST: call 5\n        again: python3 noxfile.py -s faults -- --page calls --seed 9" in text
    )
    assert "all: wrong 0, lost 1, hung 0" in text


def test_a_known_defect_is_a_note_and_any_other_is_a_finding(monkeypatch):
    monkeypatch.setattr("faults.known.PATTERNS", {"half a batch": re.compile("^seen: half")})
    report = Report("structures", 1)
    report.find("wrong", "seen: half of it")
    assert not report.failed
    assert report.as_dict()["notes"] == ["a known defect: half a batch"]
    report.find("wrong", "seen: nothing of it")
    assert report.failed


def test_a_finding_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="expected one of"):
        Report("calls", 1).find("odd", "text")
