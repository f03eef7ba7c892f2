"""Try the mutants: ``python -m mutants``, or ``python3 noxfile.py -s mutants``.

The exit status is 1 if a mutant survives that is not listed with a reason, and 2 if the tables do
not match the code, or if tests fail without a mutant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mutants import report as reports
from mutants import tool
from mutants.scratch import SUITE_TIMEOUT, Scratch
from mutants.table import TABLES, Mutant, TableError, check, load
from mutants.trial import Result, attempt

ROOT = Path(__file__).resolve().parents[2]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("mutants", description="Try deliberate faults of our own.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to try; default: all")
    parser.add_argument("--package", action="append", help="only mutants of this package")
    parser.add_argument("--quick", action="store_true", help="run only the tests that should fail")
    parser.add_argument("--tool", action="store_true", help="run mutmut on the pure modules")
    parser.add_argument("--list", action="store_true", help="list the mutants, and try none")
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    parser.add_argument("--report", type=Path, default=Path(".nox/mutants"), help="folder")
    return parser.parse_args()


def main() -> int:
    """Try the selected mutants; return the exit status."""
    options = _options()
    if options.tool:
        return tool.run(options.root, options.report, options.package)
    try:
        mutants = _chosen(options)
        check(mutants, options.root)
        if options.list:
            print(
                "".join(f"{one.name} ({one.package}): {one.promise}\n" for one in mutants), end=""
            )
            return 0
        results = _try(mutants, options)
    except TableError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    print(reports.as_text(results), end="")
    verdicts = {result.verdict for result in results}
    return 2 if "error" in verdicts else 1 if "survived" in verdicts else 0


def _chosen(options: argparse.Namespace) -> list[Mutant]:
    mutants = load(options.tables)
    unknown = set(options.names) - {mutant.name for mutant in mutants}
    if unknown:
        raise TableError(f"no mutants have these names: {', '.join(sorted(unknown))}; see --list")
    chosen = [
        mutant
        for mutant in mutants
        if (not options.names or mutant.name in options.names)
        and (not options.package or mutant.package in options.package)
    ]
    if not chosen:
        raise TableError("no mutants to try")
    return chosen


def _try(mutants: Sequence[Mutant], options: argparse.Namespace) -> list[Result]:
    """Try the mutants one by one; write the report after each."""
    results: list[Result] = []
    with Scratch(options.root) as scratch:
        _check_without_mutants(scratch, mutants)
        for mutant in mutants:
            _show_progress(f"{len(results) + 1} of {len(mutants)}: {mutant.name}")
            results.append(attempt(scratch, mutant, quick=options.quick))
            reports.write(options.report, results)
    _show_progress("")
    return results


def _check_without_mutants(scratch: Scratch, mutants: Sequence[Mutant]) -> None:
    """Run all tests that should fail, once, without a mutant: they must pass."""
    for package in dict.fromkeys(mutant.package for mutant in mutants):
        _show_progress(f"{package}: the tests without a mutant")
        scratch.check_imports(package)
        named = [mutant.test_paths for mutant in mutants if mutant.package == package]
        tests = list(dict.fromkeys(test for tests in named for test in tests))
        outcome = scratch.run(tests, timeout=SUITE_TIMEOUT)
        if not outcome.passed:
            raise TableError(f"{outcome.test} fails without a mutant:\n{outcome.output[-2000:]}")


def _show_progress(text: str) -> None:
    """Show the progress, if standard error is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text[:100]}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
