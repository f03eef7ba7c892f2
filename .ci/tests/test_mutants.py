"""The mutants: the tables match the code, and the runner reports killed ones and survivors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutants.table import TableError, check, load

ROOT = Path(__file__).resolve().parents[2]

SOURCE = """
def largest(numbers):
    return max(numbers)


def smallest(numbers):
    return min(numbers)  # of all
"""

TESTS = {
    "test_largest.py": """
import pyon

def test_the_largest_is_found():
    assert pyon.largest([1, 3, 2]) == 3
""",
    "test_smallest.py": """
import pyon

def test_the_smallest_is_found():
    assert pyon.smallest([2, 1, 3]) == 1
""",
}

ENTRY = """
[[mutant]]
name = "{name}"
file = "__init__.py"
before = "{before}"
after = "{after}"
promise = "a number is found"
tests = ["test_largest.py"]
"""


@pytest.fixture
def root(tmp_path):
    """Make a repository with one small package, which has the name of one of ours."""
    source = tmp_path / "root" / "packages" / "pyon" / "src" / "pyon"
    tests = tmp_path / "root" / "packages" / "pyon" / "tests"
    source.mkdir(parents=True)
    tests.mkdir()
    (tmp_path / "root" / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (source / "__init__.py").write_text(SOURCE)
    for name, text in TESTS.items():
        (tests / name).write_text(text)
    return tmp_path / "root"


def run(root, entries, *arguments):
    """Try mutants as the session does; return the process, and the results by name."""
    folder = root.parent
    (folder / "pyon.toml").write_text(entries)
    command = [sys.executable, "-m", "mutants", "--root", root, "--tables", folder]
    done = subprocess.run(
        [*command, "--report", folder / "report", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ci")},
        capture_output=True,
        text=True,
        check=False,
    )
    report = folder / "report" / "report.json"
    results = json.loads(report.read_text()) if report.exists() else []
    return done, {result["name"]: result for result in results}


def entry(name, before, after, more=""):
    return ENTRY.format(name=name, before=before, after=after) + more


KILLED = entry("killed", "max(numbers)", "min(numbers)")
ELSEWHERE = entry("noticed elsewhere", "min(numbers)", "numbers[0]")
SURVIVES = entry("survives", "# of all", "# of most")
ALLOWED = entry("allowed", "# of all", "# of some", 'survives = "it is a comment"\n')


def test_each_entry_matches_the_code_and_the_tests():
    mutants = load()
    check(mutants, ROOT)
    assert len(mutants) >= 60
    packages = {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}
    assert {mutant.package for mutant in mutants} == packages


@pytest.mark.timeout(400)
def test_a_mutant_is_killed_by_a_failing_test_and_survives_otherwise(root):
    done, results = run(root, KILLED + ELSEWHERE + SURVIVES + ALLOWED)
    assert (done.returncode, done.stderr) == (1, ""), done.stdout + done.stderr
    assert {name: result["verdict"] for name, result in results.items()} == {
        "killed": "killed",
        "noticed elsewhere": "killed",
        "survives": "survived",
        "allowed": "allowed",
    }
    assert results["killed"]["noticed by"].endswith("::test_the_largest_is_found")
    assert results["noticed elsewhere"]["noticed by"].endswith("::test_the_smallest_is_found")
    assert [result["named"] for result in results.values()] == [True, False, False, False]
    assert (
        "all: made 4, killed 2, allowed 1, killed after all 0, survived 1, error 0" in done.stdout
    )
    assert (root / "packages/pyon/src/pyon/__init__.py").read_text() == SOURCE


def test_allowed_survivors_are_no_failure(root):
    done, results = run(root, KILLED + SURVIVES + ALLOWED, "killed", "allowed")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert list(results) == ["killed", "allowed"]


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        (entry("gone", "sum(numbers)", "0"), "has the text 0 times"),
        (entry("ambiguous", "numbers", "n"), "has the text 4 times"),
        (KILLED.replace("test_largest.py", "test_gone.py"), "there is no packages/pyon/tests/"),
        (KILLED.replace("test_largest.py", "test_largest.py::test_gone"), "has no test_gone"),
        (KILLED + KILLED, "two entries have the name killed"),
        (KILLED.replace("promise", "promises"), "promises"),
    ],
)
def test_an_entry_that_does_not_match_is_an_error(root, entries, complaint):
    done, _ = run(root, entries)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_mutant_that_cannot_be_imported_is_an_error_and_the_others_are_tried(root):
    done, results = run(root, entry("broken", "max(numbers)", "max(numbers") + KILLED)
    assert (done.returncode, done.stderr) == (2, "")
    assert [result["verdict"] for result in results.values()] == ["error", "killed"]
    assert "pytest did not run them" in results["broken"]["error"]


def test_tests_that_fail_without_a_mutant_are_an_error(root):
    (root / "packages/pyon/tests/test_largest.py").write_text("def test_nothing():\n    assert 0\n")
    done, _ = run(root, KILLED)
    assert done.returncode == 2
    assert "test_largest.py::test_nothing fails without a mutant" in done.stderr


def test_an_unknown_name_is_an_error(root):
    done, _ = run(root, KILLED, "kiled")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no mutants have these names: kiled" in done.stderr


def test_an_entry_without_tests_is_refused(tmp_path):
    (tmp_path / "pyon.toml").write_text(KILLED.replace('tests = ["test_largest.py"]', ""))
    with pytest.raises(TableError, match="'tests'"):
        load(tmp_path)
