"""ARCHITECTURE.md is true: its modules are those of the tree, and its words are there once."""

import ast
import functools
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


# The longest chain of imports inside a package: how many files have to be understood before a file.
MOST_FLOORS = {"sync-struct": 9}


def imports(source):
    """Return the modules of its own package that each module imports at run time."""
    modules = {path.stem: path for path in source.glob("*.py")}
    return {
        name: imported(ast.parse(path.read_text(encoding="utf-8")), source.name) & set(modules)
        for name, path in modules.items()
    }


def imported(node, package):
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    if isinstance(node, ast.ImportFrom) and node.module == package:
        return {"__init__"}
    if isinstance(node, ast.ImportFrom) and f"{node.module}".startswith(f"{package}."):
        return {node.module.split(".")[1]}
    return {name for child in ast.iter_child_nodes(node) for name in imported(child, package)}


@pytest.mark.parametrize("package", sorted(MOST_FLOORS))
def test_a_package_has_few_floors(package):
    (source,) = (PACKAGES[package] / "src").iterdir()
    graph = imports(source)

    @functools.cache
    def floor(module):
        return 1 + max(map(floor, graph[module]), default=0)

    floors = {module: floor(module) for module in graph}  # without end if there is a circle
    assert max(floors.values()) <= MOST_FLOORS[package], floors
