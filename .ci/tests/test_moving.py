"""The tables for moving a program: the names exist, and the example shows them."""

import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOVING = README.partition("## Moving a program here")[2].partition("\n## ")[0]
ROWS = [tuple(row.split(" | ")) for row in re.findall(r"^\| (.*`.*) \|$", MOVING, re.MULTILINE)]
EXAMPLE = (ROOT / "packages/pc-rpc/examples/ported/controller.py").read_text(encoding="utf-8")


def statements():
    for _, here in ROWS:
        yield from re.findall(r"`((?:from|import) [^`]*)`", here)


@pytest.mark.parametrize("statement", list(statements()))
def test_the_new_imports_work(statement):
    exec(statement, {})


@pytest.mark.parametrize(
    "call", sorted(set(re.findall(r"`[^`]*?((?:pyon|pc_rpc)\.[\w.]+)\(", MOVING)))
)
def test_the_new_functions_exist(call):
    module, _, name = call.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    "name",
    ["simple_network_args", "verbosity_args", "init_logger_from_args", "bind_address_from_args"],
)
def test_the_example_shows_what_replaces_each_helper(name):
    assert name in MOVING
    assert f"common_args.{name}" in EXAMPLE


def test_the_lines_of_the_table_are_lines_of_the_example():
    (line,) = re.findall(r"`(logging\.basicConfig.*?)` \|", MOVING)
    assert line in EXAMPLE
    assert (
        EXAMPLE.count("    network.add_argument") + EXAMPLE.count("    verbosity.add_argument") == 5
    )
    assert "five `parser.add_argument` lines" in MOVING


PAGE = (ROOT / ".ci/docs/howto/move.md").read_text(encoding="utf-8")
TABLES = re.findall(
    r"^### `([\w.]+)`\n\n\| parameter \| here \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE
)


def found(dotted):
    module, *names = dotted.split(".")
    return functools.reduce(getattr, names, importlib.import_module(module))


@pytest.mark.parametrize(("dotted", "rows"), TABLES, ids=[dotted for dotted, _ in TABLES])
def test_every_established_parameter_exists_in_its_order(dotted, rows):
    parameters = [name for name in inspect.signature(found(dotted)).parameters if name != "self"]
    table = re.findall(r"^\| `(\w+)` \| (.*) \|$", rows, re.MULTILINE)
    kept = [name for name, here in table if "by keyword" not in here and name != "ssl_config"]
    assert parameters[: len(kept)] == kept
    assert {name for name, here in table if "by keyword" in here} <= set(parameters)
    for name, here in table:
        if name == "ssl_config":
            assert "ssl=pyon.tcp." in here
            assert "ssl" in parameters


def test_every_class_and_function_of_the_established_stack_has_a_table():
    assert len(TABLES) == len(re.findall(r"^### ", PAGE, re.MULTILINE)) == 11
