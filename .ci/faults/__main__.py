"""Run the suite: ``python -m faults --budget 600``; ``python3 noxfile.py -s faults`` does.

Each page runs in its own process, so that leaks and the peak of memory are measured per page.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from faults import complaints
from faults import report as reports
from faults.pages import PAGES, Page
from faults.processes import environment
from faults.report import Report

GRACE = 240.0
"""Seconds beyond its budget after which a page hangs; pages detect hanging calls earlier."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("faults", description="Test the promises of the packages.")
    parser.add_argument("--budget", type=float, default=720, metavar="SECONDS", help="of all pages")
    parser.add_argument("--hours", type=float, help="the same in hours")
    parser.add_argument("--page", action="append", choices=[page.name for page in PAGES])
    parser.add_argument("--seed", type=int, default=1, help="source of all random choices")
    parser.add_argument("--report", type=Path, default=Path(".nox/faults-report"), help="folder")
    parser.add_argument("--in-process", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run the selected pages; return 1 if there is any finding."""
    options = _options()
    if options.hours is not None:
        options.budget = 3600 * options.hours
    if options.in_process is not None:
        (page,) = (page for page in PAGES if page.name == options.in_process)
        return _run_here(page, options.budget, options.seed)
    chosen = [page for page in PAGES if options.page is None or page.name in options.page]
    total = sum(page.share for page in chosen)
    results = []
    for page in chosen:
        results.append(_run_beside(page, options.budget * page.share / total, options.seed))
        reports.write(options.report, results)
    print(reports.as_text(results), end="")
    return 1 if any(result["findings"] for result in results) else 0


def _run_here(page: Page, budget: float, seed: int) -> int:
    """Run a page in this process, and print its report to standard output, once a second."""
    faulthandler.dump_traceback_later(budget + GRACE, exit=True)
    report, ended = Report(page.name, seed), threading.Event()
    complaints.listen(report)

    def print_report() -> None:
        while not ended.wait(1):
            print(json.dumps(report.as_dict()), flush=True)

    printer = threading.Thread(target=print_report, name="printer")
    printer.start()
    try:
        page.run(budget, seed, report)
    finally:
        ended.set()
        printer.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    report.peak("memory of the page, MiB", peak)
    print(json.dumps({**report.as_dict(), "seed": seed, "done": True}), flush=True)
    return 0


def _run_beside(page: Page, budget: float, seed: int) -> dict[str, Any]:
    """Run a page in its own process; return its report."""
    began = time.monotonic()
    command = [sys.executable, "-m", "faults", "--in-process", page.name]
    command += ["--budget", str(budget), "--seed", str(seed)]
    result: dict[str, Any] = Report(page.name, seed).as_dict()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**environment(), "PYTHONHASHSEED": "0"}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                result = json.loads(line)
                _show_progress(result, time.monotonic() - began, budget)
    if not result.pop("done", False):
        result["found"]["hung" if process.returncode == 1 else "crashes"] += 1
        text = f"the page ended with status {process.returncode} before it was done; see above"
        result["findings"].append({"verdict": "crashes", "seed": result["seed"], "text": text})
    result["seconds"] = time.monotonic() - began
    _show_progress(None, 0, 0)
    return result


def _show_progress(result: dict[str, Any] | None, seconds: float, budget: float) -> None:
    """Show the progress of a page, if standard error is a terminal."""
    if not sys.stderr.isatty():
        return
    text = ""
    if result is not None:
        most = sorted(result["counts"].items(), key=lambda item: -item[1])[:3]
        counts = ", ".join(f"{what} {number:,}" for what, number in most)
        text = f"{result['page']}: {seconds:.0f} of {budget:.0f} s; {counts}"
    sys.stderr.write(f"\r\x1b[K{text[:100]}")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
