"""A copy of the packages that mutants live in, and pytest in it.

The one idea to keep in mind: the tree is never touched. The copy stands first on Python's path, in
every process that a test starts, too.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
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

NAMED_TIMEOUT = 240
SUITE_TIMEOUT = 1200
"""Seconds after which a run of some tests, and of all of a package, counts as failed: the end of
the process, too, may wait for a thread that a fault has left behind."""

NOT_RUN = {4, 5}
"""Statuses of pytest: wrong usage, no tests. Others are 0; 1 for tests that failed, or 2, from
several processes; 3 if a fault gets as far as pytest itself; and it may end the process."""

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

    def run(self, tests: Sequence[str], *options: str, timeout: float = NAMED_TIMEOUT) -> Outcome:
        """Run tests until the first one fails, no longer than so many seconds.

        Raises
        ------
        TableError
            There is no such test, or its module cannot be loaded.
        """
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["--hypothesis-seed=0", f"--timeout={TEST_TIMEOUT}", *options, *tests]
        log = self.folder / "output"
        with log.open("w", encoding="utf-8") as file:  # a pipe would be held open by what is left
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                ended = f"with status {process.wait(timeout)}"
            except subprocess.TimeoutExpired:
                ended = f"after {timeout} s"
            finally:
                _end_all(process)
        output = log.read_text(encoding="utf-8", errors="replace")
        if process.returncode in NOT_RUN or " during collection" in output:
            raise TableError(f"{' '.join(tests)}: pytest did not run them:\n{output[-2000:]}")
        match = NOTICED.search(output)
        noticed_by = match[1] if match else f"(pytest ended {ended})"
        return Outcome(not process.returncode, noticed_by if process.returncode else "", output)


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End a process, and what it has started: a fault may leave the child of a fork behind."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
