"""ARCHITECTURE.md: its modules are those of the tree, and its terms are defined once."""

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
    """Return the modules of a package, as paths relative to its import package."""
    (source,) = (PACKAGES[package] / "src").iterdir()
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    return {module for module in modules if module.rpartition("/")[2] not in UNLISTED}


def test_every_package_has_its_section():
    assert sorted(SECTIONS) == sorted(PACKAGES)


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_the_listed_modules_are_those_of_the_tree(package):
    listed = re.findall(r"^  ([\w/]+\.py) +\S", SECTIONS[package], re.MULTILINE)
    assert sorted(listed) == sorted(in_tree(package))


def test_the_data_flow_names_existing_modules():
    flow = TEXT.partition("## Data flow")[2]
    assert flow
    modules = {Path(module).stem for package in PACKAGES for module in in_tree(package)}
    named = set(re.findall(r"`(_?\w+)(?:\.\w+)?`", flow))
    unknown = {name for name in named if name.startswith("_") and not name.startswith("__")}
    assert unknown - modules == {"_record"}  # a method, which all mutators call


def test_every_noun_of_the_glossary_has_one_meaning():
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", TEXT, re.MULTILINE)
    nouns = [noun.strip() for row in rows for noun in row.split(",")]
    assert len(nouns) >= 40
    assert len(nouns) == len(set(nouns))


MOST_LAYERS = {"sync-struct": 9}
"""The longest allowed chain of imports inside a package."""


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


@pytest.mark.parametrize("package", sorted(MOST_LAYERS))
def test_a_package_has_few_layers(package):
    (source,) = (PACKAGES[package] / "src").iterdir()
    graph = imports(source)

    @functools.cache
    def layer(module):
        return 1 + max(map(layer, graph[module]), default=0)

    layers = {module: layer(module) for module in graph}  # RecursionError for a circle of imports
    assert max(layers.values()) <= MOST_LAYERS[package], layers


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_loggers_have_public_names(package):
    for path in (PACKAGES[package] / "src").rglob("*.py"):
        for name in re.findall(r"getLogger\((\S+)\)", path.read_text(encoding="utf-8")):
            private = path.name.startswith("_") if name == "__name__" else "._" in name
            assert not private, f"{path}: {name}"
