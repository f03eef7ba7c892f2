"""A mutation tester, mutmut, on the pure modules: every small change, and the tests of the module.

It makes hundreds of changes, so only few tests are run, usually those without random examples.
Changes of message texts are counted separately, and not as survivors. ``modules/modules.toml`` has
the modules, their tests, and the survivors that were reviewed, each with the reason. The report has
all other survivors, as differences.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mutants.scratch import Scratch

TABLE = Path(__file__).resolve().parent / "modules" / "modules.toml"

CONFIGURATION = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = [{source}]
use_git_change_detection = false
timeout_constant = 10.0
pytest_add_cli_args = ["-p", "no:cacheprovider", "--hypothesis-seed=0", {marker}]
pytest_add_cli_args_test_selection = {tests}

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
"""

KILLED = {1, 3}
TOO_LATE = {-24, 24, 36, 152, 255}
"""Statuses of mutmut: a test failed, or the tests did not end."""


@dataclass
class ModuleResult:
    """The results of the changes of one module.

    Parameters
    ----------
    package, file : str
    made, killed : int
    words : int
        Survivors in which only a message text is changed.
    allowed : int
        Survivors that the table lists.
    survived : list of str
        The differences of all other survivors.
    """

    package: str
    file: str
    made: int = 0
    killed: int = 0
    words: int = 0
    allowed: int = 0
    survived: list[str] = field(default_factory=list)

    def as_text(self) -> str:
        """Return the results as text."""
        head = (
            f"{self.package}/{self.file}: made {self.made}, killed {self.killed}, "
            f"words {self.words}, allowed {self.allowed}, survived {len(self.survived)}"
        )
        return "\n".join([head, *self.survived]) + "\n"


def run(root: Path, folder: Path, packages: Sequence[str] | None) -> int:
    """Try the modules of these packages; return 1 if a change survives that is not listed."""
    results = []
    for module in tomllib.loads(TABLE.read_text(encoding="utf-8"))["module"]:
        if packages and module["package"] not in packages:
            continue
        with Scratch(root) as scratch:
            results.append(_try(scratch, module))
        text = "".join(result.as_text() for result in results)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tool.txt").write_text(text, encoding="utf-8")
    print("".join(result.as_text() for result in results), end="")
    return 1 if any(result.survived for result in results) else 0


def _try(scratch: Scratch, module: dict[str, Any]) -> ModuleResult:
    package, file = module["package"], module["file"]
    source = f"src/{package.replace('-', '_')}/{file}"
    home = scratch.folder / "packages" / package
    tests = [f"tests/{test}" for test in module["tests"]]
    marker = "" if module.get("random") else '"-m", "not hypothesis"'
    values = {"source": json.dumps(source), "tests": json.dumps(tests), "marker": marker}
    text = CONFIGURATION.format(**values)
    (home / "pyproject.toml").write_text(text, encoding="utf-8")
    done = _mutmut(scratch, home, "run", "--max-children", "1")
    if done.returncode:
        raise RuntimeError(f"mutmut failed on {package}/{file}:\n{done.stdout[-3000:]}")
    statuses = json.loads((home / "mutants" / f"{source}.meta").read_text(encoding="utf-8"))
    result = ModuleResult(package, file)
    for name, status in statuses["exit_code_by_key"].items():
        result.made += 1
        if status in KILLED or status in TOO_LATE:
            result.killed += 1
            continue
        difference = _mutmut(scratch, home, "show", name).stdout
        if _is_in_words(difference):
            result.words += 1
        elif any(_is_listed(difference, one) for one in module.get("survivor", [])):
            result.allowed += 1
        else:
            result.survived.append(difference)
    return result


def _is_listed(difference: str, survivor: dict[str, str]) -> bool:
    """Return whether an entry lists a difference; lines are compared without indentation."""
    new = [line[1:].strip() for line in _changed(difference, "+")]
    old = [line[1:].strip() for line in _changed(difference, "-")]
    return survivor.get("after") in new or survivor.get("before") in old


def _is_in_words(difference: str) -> bool:
    """Return whether only a text is changed: mutmut puts XX around it, or changes its case."""
    (old,), (new,) = ([*_changed(difference, sign), ""][:1] for sign in "-+")
    return "XX" in new or old[1:].lower() == new[1:].lower()


def _changed(difference: str, sign: str) -> Iterator[str]:
    for line in difference.splitlines():
        if line.startswith(sign) and not line.startswith(sign * 3):
            yield line


def _mutmut(scratch: Scratch, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=home,
        env=scratch.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
