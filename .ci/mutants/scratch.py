"""A copy of the packages for mutants, and pytest in it.

The one idea to keep in mind: the work tree is never changed. The copy is first on Python's path,
also in the processes that tests start.
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
"""Seconds after which a test counts as failed: a mutant may make it wait for ever."""

NAMED_TIMEOUT = 240
SUITE_TIMEOUT = 1200
"""Seconds after which a run of the named tests, or of all tests of a package, counts as failed. The
end of the process may wait for a thread that a mutant keeps running."""

NOT_RUN = {4, 5}
"""Exit statuses of pytest: wrong usage, no tests. Others are 0; 1 for failed tests, or 2 with
several processes; 3 if a mutant breaks pytest; any status of a process that a mutant ends."""

FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?)(?: - |$)", re.MULTILINE)
"""A failed test in the summary of pytest."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run of tests.

    Parameters
    ----------
    passed : bool
    test : str
        The first failed test; empty if all passed.
    output : str
        The output of pytest.
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
        """Environment variables of processes that import the copy."""
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
        """Apply one mutant to the copy, during the block."""
        path = self.folder / mutant.path
        source = path.read_text(encoding="utf-8")
        self._write(path, mutant.changed(source))
        try:
            yield
        finally:
            self._write(path, source)

    def _write(self, path: Path, text: str) -> None:
        """Write a file with a unique time: Python compiles files whose time or size has changed."""
        path.write_text(text, encoding="utf-8")
        self._changes += 1
        moment = 10**9 + self._changes
        os.utime(path, (moment, moment))

    def run(self, tests: Sequence[str], *options: str, timeout: float = NAMED_TIMEOUT) -> Outcome:
        """Run tests until the first one fails, for at most `timeout` seconds.

        Raises
        ------
        TableError
            There is no such test, or its module cannot be loaded.
        """
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["--hypothesis-seed=0", f"--timeout={TEST_TIMEOUT}", *options, *tests]
        log = self.folder / "output"
        with log.open("w", encoding="utf-8") as file:  # a pipe would stay open
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
        match = FAILED.search(output)
        failed = match[1] if match else f"(pytest ended {ended})"
        return Outcome(not process.returncode, failed if process.returncode else "", output)


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children: a mutant may leave the child of a fork behind."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
