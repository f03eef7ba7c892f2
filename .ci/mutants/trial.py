"""What becomes of one mutant: which test noticed it, or that none did."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from mutants.scratch import SUITE_TIMEOUT, Scratch
from mutants.table import Mutant, TableError

ON_ALL_CORES = ("-n", "auto", "--dist", "loadfile")


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    Parameters
    ----------
    mutant : Mutant
    noticed_by : str
        The test that failed; empty: the mutant survived.
    named : bool
        Whether it is one of those that should notice.
    seconds : float
    error : str
        Why it could not be tried; empty: it was.
    """

    mutant: Mutant
    noticed_by: str
    named: bool
    seconds: float
    error: str = ""

    @property
    def verdict(self) -> str:
        """A word for what became of it; only "survived" is a hole in the tests."""
        if self.error:
            return "error"
        if self.noticed_by:
            return "killed" if not self.mutant.survives else "killed after all"
        return "survived" if not self.mutant.survives else "allowed"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
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
    """Apply a mutant, and run the tests that should notice; if they pass, all of its package.

    A test that was not named, and fails without the mutant, too, has not noticed anything. If it
    is to be quick, only the tests that should notice are run.
    """
    began = time.monotonic()
    try:
        noticed_by, named = _noticed(scratch, mutant, quick=quick)
    except TableError as error:
        return Result(mutant, "", False, time.monotonic() - began, str(error))
    return Result(mutant, noticed_by, named, time.monotonic() - began)


def _noticed(scratch: Scratch, mutant: Mutant, *, quick: bool) -> tuple[str, bool]:
    """Return the test that noticed a mutant, "" if none did, and whether it is a named one."""
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
