"""What becomes of one mutant: which test noticed it, or that none did."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from mutants.scratch import Scratch
from mutants.table import Mutant

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
    """

    mutant: Mutant
    noticed_by: str
    named: bool
    seconds: float

    @property
    def verdict(self) -> str:
        """One word for what became of it; only "survived" is a hole in the tests."""
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
            "seconds": round(self.seconds, 1),
        }


def attempt(scratch: Scratch, mutant: Mutant, *, quick: bool = False) -> Result:
    """Apply a mutant, and run the tests that should notice; if they pass, all of its package.

    A test that was not named, and fails without the mutant, too, has not noticed anything. If it
    is to be quick, only the tests that should notice are run.
    """
    began = time.monotonic()
    with scratch.applied(mutant):
        outcome = scratch.run(mutant.test_paths)
        named = not outcome.passed
        if outcome.passed and not (quick or mutant.survives):
            outcome = scratch.run([f"packages/{mutant.package}/tests"], *ON_ALL_CORES)
    noticed_by = "" if outcome.passed else outcome.test or "(the run as a whole)"
    if "::" in noticed_by and not named and not scratch.run([noticed_by]).passed:
        noticed_by = ""
    return Result(mutant, noticed_by, named, time.monotonic() - began)
