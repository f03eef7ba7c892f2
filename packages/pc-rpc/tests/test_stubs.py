"""Typed stubs from the method lists of servers, including hostile ones."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pc_rpc._exposure import find_methods
from pc_rpc._method_list import method_list
from pc_rpc._stubs import annotation_text, stub_module


@pytest.mark.parametrize(
    ("annotation", "text"),
    [("int", "int"), ("None", "None"), ("int | None", "int | None"), ("'Driver'", "Any"),
     ("list[dict[str, int]]", "list[dict[str, int]]"), ("tuple[int, ...]", "tuple[int, ...]"),
     ("ndarray", "numpy.ndarray[Any, Any]"), ("np.ndarray[Any, Any]", "numpy.ndarray[Any, Any]"),
     ("typing.Optional[str]", "Optional[str]"), ("a; b", "Any"),
     ("Union[int, laser.Mode]", "Any"), ("__import__('os')", "Any"), ("(" * 10**5, "Any"),
     ("typing.Annotated[float, 'W']", "float"), ("Annotated[list[int], x()]", "list[int]"),
     (5, "Any"), ("", "Any"), ("\0", "Any"), ("tuple[()]", "tuple[()]"),
     ("set[" * 150 + "int" + "]" * 150, "set[" * 150 + "int" + "]" * 150),
     ("set[" * 160 + "int" + "]" * 160, "Any")],
)  # fmt: skip
def test_only_known_types_get_into_a_stub(annotation, text):
    assert annotation_text(annotation) == text


def test_hostile_names_and_docstrings_stay_out_of_the_code():
    spec = {"args": ["self", "x"], "annotations": {}}
    methods = {"ok": [spec, 'quotes """ and \\'], "not-a-name": [spec, None], "class": [spec, None],
               "no_signature": [{"args": ["("]}, None], "own_self": [
                   {"args": ["a", "self"], "annotations": {}}, None]}  # fmt: skip
    text = stub_module("s:1", '"s", 1', {"3 x\n": {"docstring": None, "methods": methods}})
    compiled = compile(text, "stub", "exec")
    assert "import numpy" not in text
    assert {"ok", "no_signature", "own_self"} <= set(re.findall(r" def (\w+)", text))
    assert "not-a-name" not in text
    assert compiled.co_consts


def stub_of(**targets):
    """Return the stub of a server with these objects, and the names of its classes."""
    described = {
        name: method_list(target, find_methods(target), builtin_terminate=False, version=2)
        for name, target in targets.items()
    }
    text = stub_module("s:1", '"s", 1', described)
    return text, [node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]


class Shutter:
    """Has methods with the names of types."""

    def set(self, value: float, channels: set[int], modes: list[str] | None = None) -> None:
        """Set."""

    def list(self) -> list[dict[str, int]]:
        return []

    def trace(self, like: numpy.ndarray) -> numpy.ndarray:
        return like

    def nothing(self, Ellipsis_count: int = 3) -> tuple[()]:
        return ()

    def names(self) -> set[str]:
        return set()


def test_a_parameter_whose_name_begins_with_ellipsis_keeps_it():
    text, _ = stub_of(shutter=Shutter())
    assert "def nothing(self, Ellipsis_count: int = ...) -> tuple[()]:" in text


def test_types_are_found_beside_methods_of_the_same_names():
    text, _ = stub_of(shutter=Shutter())
    assert "value: float, channels: builtins.set[int]" in text
    assert "-> builtins.list[dict[str, int]]:" in text
    assert "like: numpy.ndarray[Any, Any]" in text
    assert "builtins" not in stub_of(numbers=Numbers())[0]


class Numbers:
    """Has methods without the names of types."""

    def list_all(self) -> list[int]:
        return []


class Hostile:
    """Has methods with names that annotations use."""

    def numpy(self, like: numpy.ndarray) -> numpy.ndarray:
        return like

    def ndarray(self) -> numpy.ndarray:
        return numpy.zeros(3)

    def Any(self, thing, /) -> Any:
        return thing

    def Optional(self, value=None):
        return value or 0

    Optional.__annotations__ = {"value": "Optional[int]", "return": "Union[int, str]"}

    def Union(self, values: list[int]) -> list[int]:
        return values

    def builtins(self, values: list[int]) -> dict[str, int]:
        return {}

    def list(self) -> list[int]:
        return []

    def Protocol(self) -> None:
        pass


def test_no_method_hides_what_the_annotations_of_the_others_mean():
    text, _ = stub_of(shutter=Shutter(), hostile=Hostile())
    assert "def numpy(self, like: _numpy.ndarray[_Any, _Any]) -> _numpy.ndarray[_Any, _Any]" in text
    assert "def builtins(self, values: _builtins.list[int]) -> dict[str, int]:" in text
    assert "def Optional(self, value: _Optional[int] = ...) -> _Union[int, str]:" in text
    assert "def trace(self, like: numpy.ndarray[Any, Any])" in text  # of the other class
    alone, _ = stub_of(hostile=Hostile())
    assert "import builtins as _builtins\n" in alone
    assert "import builtins\n" not in alone
    assert "import numpy\n" not in alone


PROGRAM = """
import numpy
from stub import AsyncioHostile, Hostile, Shutter
def unhidden(hostile: Hostile) -> int:
    hostile.numpy(hostile.ndarray()).sum()
    hostile.Any(5).whatever()
    return hostile.builtins(hostile.list())["a"] + hostile.Union([1])[0]
def right(shutter: Shutter) -> str:
    shutter.set(0.5, {1, 2}, ["fast"])
    shutter.nothing(Ellipsis_count=5)
    for entry in shutter.list():
        entry["a"].bit_length()
    return shutter.names().pop()
def wrong(shutter: Shutter) -> int:
    shutter.set(0.5, {"1"})
    return shutter.names().pop()
"""


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_a_checker_understands_them(tmp_path, checker):
    pytest.importorskip(checker)
    names = ["none", "protocol", "shutter_1", "shutter1", "asyncio_shutter"]
    text, _ = stub_of(shutter=Shutter(), hostile=Hostile(), **dict.fromkeys(names, Shutter()))
    (tmp_path / "stub.py").write_text(text)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    options = {"mypy": ["--strict", "--cache-dir", str(tmp_path / "cache")],
               "basedpyright": ["--pythonpath", sys.executable]}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", checker, "stub.py", "program.py", *options[checker]],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    errors = re.findall(r"(\w+)\.py:(\d+).* error: ", done.stdout.replace(" - error", " error"))
    assert errors == [("program", "15"), ("program", "16")], done.stdout + done.stderr


def test_targets_whose_names_make_the_same_class_name_have_classes_of_their_own():
    names = ["laser_1", "laser1", "asyncio_laser1", "none", "protocol", "target_none"]
    names += ["\N{SUPERSCRIPT TWO}", "\N{TAMIL NUMBER TEN}"]
    _, classes = stub_of(**dict.fromkeys(names, Numbers()))
    assert classes[::2] == [
        "Laser1", "Laser1_2", "AsyncioLaser1_3", "TargetNone", "TargetProtocol", "TargetNone_2",
        "Target2", "Target",
    ]  # fmt: skip
    assert classes[1::2] == [f"Asyncio{name}" for name in classes[::2]]
    assert len(set(classes)) == len(classes)


def test_unreadable_characters_are_escaped_in_a_docstring():
    spec = {"args": ["self"], "annotations": {}}
    methods = {"f": [spec, "a\ud800b\0c\rd\\"]}
    text = stub_module("s:1", '"s", 1', {"t": {"docstring": None, "methods": methods}})
    function = ast.parse(text.encode()).body[-1].body[1]
    assert ast.get_docstring(function) == "a\\ud800b\0c\rd\\"


TRICKY = st.sampled_from(
    ["self", "_self", "set", "None", "none", "class", "__debug__", "numpy", "Any", "tuple[()]",
     "list[int]", "Ellipsis", "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}", "\ufb01", "fi", "\xb2",
     "\u0bf0", '"""', "\\", "\0", "\ud800", "\r", "_", " ", "protocol", "Laser", "asyncio_laser"]
) | st.text(min_size=1, max_size=5)  # fmt: skip
SPECS = st.fixed_dictionaries({
    "args": st.lists(TRICKY, max_size=3).map(lambda names: ["self", *names]),
    "defaults": st.none() | st.lists(st.none(), max_size=1),
    "varargs": st.none() | TRICKY, "varkw": st.none() | TRICKY,
    "annotations": st.dictionaries(TRICKY | st.just("return"), TRICKY, max_size=4),
})  # fmt: skip
METHODS = st.dictionaries(TRICKY, st.tuples(SPECS, st.none() | TRICKY), max_size=4)


@given(st.dictionaries(TRICKY, METHODS, max_size=3))
def test_the_stub_of_any_method_list_is_valid_python(targets):
    described = {name: {"docstring": None, "methods": of} for name, of in targets.items()}
    compile(stub_module("s:1", '"s", 1', described).encode(), "stub", "exec")
