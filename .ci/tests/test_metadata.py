"""The five pyproject.toml: common fields, and the dependencies on each other."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
METADATA = {
    path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
}
EDGES = {
    "pyon": set(),
    "pc-rpc": {"pyon"},
    "sync-struct": {"pyon"},
    "fire-and-forget": set(),
    "remote-exec": {"pc-rpc", "pyon"},
}


@pytest.mark.parametrize("name", METADATA)
def test_the_common_fields_are_equal(name):
    model, one = METADATA["pyon"], METADATA[name]
    assert one["build-system"] == model["build-system"]
    assert one["project"]["name"] == name
    for key in ("license", "license-files", "readme", "requires-python", "dynamic", "classifiers"):
        assert one["project"][key] == model["project"][key], key


@pytest.mark.parametrize("name", METADATA)
def test_a_package_depends_on_the_packages_that_the_architecture_allows(name):
    needed = map(Requirement, METADATA[name]["project"]["dependencies"])
    ours = {one.name for one in needed if one.name in METADATA}
    assert ours == EDGES[name]


@pytest.mark.parametrize("name", METADATA)
def test_an_unreleased_package_is_not_classified_as_stable(name):
    released = "## Unreleased" not in (ROOT / "packages" / name / "CHANGELOG.md").read_text()
    stable = "Development Status :: 5 - Production/Stable"
    assert (stable in METADATA[name]["project"]["classifiers"]) <= released


@pytest.mark.parametrize("name", METADATA)
def test_the_licence_of_a_package_is_that_of_the_repository(name):
    licence = (ROOT / "packages" / name / "LICENSE").read_text(encoding="utf-8")
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")
