"""ARCHITECTURE.md is true: its modules are those of the tree, and its words are there once."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\S+)\n\n```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
PACKAGES = {path.parent.name: path.parent for path in ROOT.glob("packages/*/pyproject.toml")}
UNLISTED = {"__init__.py", "__main__.py"}


def in_tree(package):
    """Return the modules of a package, by their paths below its import package."""
    (source,) = (PACKAGES[package] / "src").iterdir()
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    return {module for module in modules if module.rpartition("/")[2] not in UNLISTED}


def test_every_package_has_its_section():
    assert sorted(SECTIONS) == sorted(PACKAGES)


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_the_modules_listed_are_those_of_the_tree(package):
    listed = re.findall(r"^  ([\w/]+\.py) +\S", SECTIONS[package], re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert {"listed, but not there": set(listed) - in_tree(package),
            "there, but not listed": in_tree(package) - set(listed)} == {
            "listed, but not there": set(), "there, but not listed": set()}  # fmt: skip


def test_the_roads_name_modules_that_there_are():
    roads = TEXT.partition("## Five roads")[2]
    modules = {Path(module).stem for package in PACKAGES for module in in_tree(package)}
    named = set(re.findall(r"`(_?\w+)(?:\.\w+)?`", roads))
    unknown = {name for name in named if name.startswith("_") and not name.startswith("__")}
    assert unknown - modules == {"_record"}  # the one method that mutators end in


def test_every_noun_of_the_glossary_has_one_meaning():
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", TEXT, re.MULTILINE)
    nouns = [noun.strip() for row in rows for noun in row.split(",")]
    assert len(nouns) >= 40
    assert len(nouns) == len(set(nouns))
