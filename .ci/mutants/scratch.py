"""A copy of the packages that mutants live in, and pytest in it.

The one idea to keep in mind: the tree is never touched. The copy stands first on Python's path, in
every process that a test starts, too.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mutants.table import Mutant, TableError

TEST_TIMEOUT = 60
"""Seconds after which a single test counts as failed: a fault may make it wait for ever."""

SUITE_TIMEOUT = 1200
"""Seconds after which a run of tests counts as failed, whatever holds it up."""

NOT_RUN = {3, 4, 5}
"""Statuses of pytest: an error of its own, wrong usage, no tests. Others are: 0, and 1 or, from
several processes, 2 for tests that failed; a fault may also end the process."""

NOTICED = re.compile(r"^(?:FAILED|ERROR) (\S+?)(?: - |$)", re.MULTILINE)
"""How pytest names a test that failed, in its summary."""


@dataclass(frozen=True)
class Outcome:
    """How a run of tests ended.

    Parameters
    ----------
    passed : bool
    test : str
        The first test that failed; empty if none did.
    output : str
        What pytest said.
    """

    passed: bool
    test: str
    output: str


class Scratch:
    """A copy of the packages, in a folder that is removed at the end of the block.

    Parameters
    ----------
    root : Path
        The repository.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._changes = 0

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        shutil.copytree(
            self._root / "packages",
            self.folder / "packages",
            ignore=shutil.ignore_patterns("__pycache__", ".*", "dist", "build"),
        )
        shutil.copy(self._root / "pyproject.toml", self.folder)
        return self

    def __exit__(self, *details: object) -> None:
        shutil.rmtree(self.folder)

    @property
    def environment(self) -> dict[str, str]:
        """What processes get that are to import the copy."""
        sources = self.folder.glob("packages/*/src")
        return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))}

    def check_imports(self, package: str) -> None:
        """Raise RuntimeError unless a package is imported from the copy."""
        module = package.replace("-", "_")
        code = f"import {module}; print({module}.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        if not Path(done.stdout.strip()).is_relative_to(self.folder):
            raise RuntimeError(f"{module} is imported from {done.stdout.strip()}, not from a copy")

    @contextlib.contextmanager
    def applied(self, mutant: Mutant) -> Iterator[None]:
        """Have one fault in the copy, for the time of the block."""
        path = self.folder / mutant.path
        source = path.read_text(encoding="utf-8")
        self._write(path, mutant.changed(source))
        try:
            yield
        finally:
            self._write(path, source)

    def _write(self, path: Path, text: str) -> None:
        """Write a file with a time of its own: Python tells by it and the size what to compile."""
        path.write_text(text, encoding="utf-8")
        self._changes += 1
        moment = 10**9 + self._changes
        os.utime(path, (moment, moment))

    def run(self, tests: Sequence[str], *options: str) -> Outcome:
        """Run tests until the first one fails.

        Raises
        ------
        TableError
            There is no such test, or its module cannot be loaded.
        """
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["--hypothesis-seed=0", f"--timeout={TEST_TIMEOUT}", *options, *tests]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                output = process.communicate(timeout=SUITE_TIMEOUT)[0]
            except subprocess.TimeoutExpired:
                return Outcome(False, "(the tests did not end)", "")
            finally:
                process.kill()
        if process.returncode in NOT_RUN or " during collection" in output:
            raise TableError(f"{' '.join(tests)}: pytest did not run them:\n{output[-2000:]}")
        match = NOTICED.search(output)
        noticed_by = match[1] if match else f"(pytest ended with status {process.returncode})"
        return Outcome(not process.returncode, noticed_by if process.returncode else "", output)
