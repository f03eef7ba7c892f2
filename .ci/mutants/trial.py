"""The trial of one mutant: the test that detects it, or its survival."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from mutants.scratch import SUITE_TIMEOUT, Scratch
from mutants.table import Mutant, TableError

ON_ALL_CORES = ("-n", "auto", "--dist", "loadfile")


@dataclass(frozen=True)
class Result:
    """The result of a mutant.

    Parameters
    ----------
    mutant : Mutant
    noticed_by : str
        The failed test; empty: the mutant survived.
    named : bool
        Whether that test is listed in the table.
    seconds : float
    error : str
        The reason why the mutant could not be tried; empty if it was.
    """

    mutant: Mutant
    noticed_by: str
    named: bool
    seconds: float
    error: str = ""

    @property
    def verdict(self) -> str:
        """The verdict; only "survived" is a gap in the tests."""
        if self.error:
            return "error"
        if self.noticed_by:
            return "killed" if not self.mutant.survives else "killed after all"
        return "survived" if not self.mutant.survives else "allowed"

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {
            "name": self.mutant.name,
            "package": self.mutant.package,
            "file": self.mutant.file,
            "promise": self.mutant.promise,
            "verdict": self.verdict,
            "noticed by": self.noticed_by,
            "named": self.named,
            "reason": self.mutant.survives,
            "error": self.error,
            "seconds": round(self.seconds, 1),
        }


def attempt(scratch: Scratch, mutant: Mutant, *, quick: bool = False) -> Result:
    """Apply a mutant, and run the listed tests; if they pass, run all tests of its package.

    An unlisted test that also fails without the mutant does not count. With `quick`, only the
    listed tests are run.
    """
    began = time.monotonic()
    try:
        noticed_by, named = _noticed(scratch, mutant, quick=quick)
    except TableError as error:
        return Result(mutant, "", False, time.monotonic() - began, str(error))
    return Result(mutant, noticed_by, named, time.monotonic() - began)


def _noticed(scratch: Scratch, mutant: Mutant, *, quick: bool) -> tuple[str, bool]:
    """Return the test that detected a mutant ("": none), and whether it is a listed one."""
    with scratch.applied(mutant):
        outcome = scratch.run(mutant.test_paths)
        if not outcome.passed:
            return outcome.test, True
        if quick or mutant.survives:
            return "", False
        suite = [f"packages/{mutant.package}/tests"]
        outcome = scratch.run(suite, *ON_ALL_CORES, timeout=SUITE_TIMEOUT)
    if "::" in outcome.test and not scratch.run([outcome.test]).passed:
        return "", False
    return outcome.test, False
