"""CONTRIBUTING.md, the workflow and the hooks agree with the noxfile."""

import importlib.util
import re
from pathlib import Path

import nox
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def noxfile():
    specification = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def sessions_of(noxfile):
    return {name for name in vars(noxfile) if isinstance(getattr(noxfile, name), nox.registry.Func)}


@pytest.mark.parametrize("text", [CONTRIBUTING, WORKFLOW, HOOKS], ids=["page", "workflow", "hooks"])
def test_the_named_sessions_exist(noxfile, text):
    called = re.findall(r"noxfile\.py -s ((?:\"?[a-z]+(?:-[\d.]+)?(?:\([\w-]+\))?\"? ?)+)", text)
    named = {re.split(r"[-(]", one.strip('"'))[0] for line in called for one in line.split()}
    assert named
    assert named <= sessions_of(noxfile)


def test_the_hooks_and_the_noxfile_agree_about_versions(noxfile):
    assert set(re.findall(r"ruff==[\d.]+", HOOKS)) == {noxfile.RUFF}


def test_the_workflow_has_the_pythons_of_the_packages(noxfile):
    lists = re.findall(r"python-version: \|\n((?: +3\.\d+\n)+)", WORKFLOW)
    assert len(lists) == 2
    assert all(sorted(one.split()) == sorted(noxfile.PYTHONS) for one in lists)


@pytest.mark.parametrize(
    ("path", "sessions"),
    [
        ("packages/fire-and-forget/src/fire_and_forget/_call.py", ["fire-and-forget"]),
        ("packages/pc-rpc/tests/test_calls.py", ["pc-rpc", "remote-exec"]),
        (
            "packages/pyon/src/pyon/_types.py",
            ["pyon", "pc-rpc", "sync-struct", "remote-exec"],
        ),
    ],
)
def test_a_change_is_tested_with_the_packages_that_depend_on_it(noxfile, path, sessions):
    found = noxfile._concerned([path])
    assert found[:2] == ["lint", "types"]
    assert [re.search(r"\((.*)\)", name)[1] for name in found[2:]] == sessions


@pytest.mark.parametrize("path", [".ci/docs/tutorial.md", "packages/pyon/README.md"])
def test_a_changed_page_is_built_and_run(noxfile, path):
    assert noxfile._concerned([path])[-3:] == ["docs", "build", "repository"]


def test_without_a_change_nothing_runs(noxfile):
    assert noxfile._concerned([]) == []


def test_contributing_has_at_most_two_pages():
    assert len(CONTRIBUTING.splitlines()) <= 120
