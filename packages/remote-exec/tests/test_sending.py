"""Functions sent as objects."""

import functools
import importlib
import math
import math as renamed
import traceback
import xml.etree.ElementTree
from pathlib import Path

import pytest
from remote_exec._sending import source_of


def hypotenuse(a, b=4):
    """Use an imported module, also under another name, and in a nested function."""
    return sum(math.sqrt(x) for x in [a * a + b * b]) + renamed.floor(0.5)


def count_frames():
    return len(controller_driver.frames)  # noqa: F821  # defined at the controller


def fails():
    marker = "this very line"
    raise ValueError(marker)


def uses_missing_names():
    return NOWHERE + nothing()  # noqa: F821  # on purpose


async def later(x):
    return x


def twice(f):
    @functools.wraps(f)
    def wrapper(x):
        return 2 * f(x)

    return wrapper


@twice
def decorated(x):
    return x


@functools.lru_cache
def parsed(text: renamed.pi, *, depth=math.inf) -> xml.etree.ElementTree.Element:
    """Refer to modules in a decorator, in annotations, in a default, and by several dots."""
    return xml.etree.ElementTree.fromstring(text).tag, depth


def test_modules_used_anywhere_are_imported_with_their_submodules(controller):
    assert source_of(parsed).imports == (
        "import xml.etree.ElementTree as xml\n"
        "import xml.etree as xml\n"
        "import functools as functools\n"
        "import math as math\n"
        "import math as renamed\n"
        "import xml as xml\n"
    )
    assert tuple(controller.rexec().send(parsed)("<a/>")) == ("a", math.inf)


def test_postponed_annotations_are_not_evaluated_at_the_controller(
    controller, tmp_path, monkeypatch
):
    (tmp_path / "postponed.py").write_text(
        "from __future__ import annotations\n\nimport math\n\n\n"
        "def first(x: math.NoSuch, y: NotThere = 1) -> list[NotThereEither]:\n"
        "    z: AlsoNot = x\n"
        "    return z\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    first = importlib.import_module("postponed").first
    source = source_of(first)
    assert source.imports == ""
    assert source.first_line == 5  # and a line for the future import
    assert controller.rexec().send(first)(5) == 5


def test_a_function_is_sent_and_called_like_a_local_one(controller):
    rexec = controller.rexec()
    there = rexec.send(hypotenuse)
    assert there(3) == 5.0
    assert there(6, b=8) == 10.0
    assert there.__doc__ == hypotenuse.__doc__
    assert rexec.call("hypotenuse", 3) == 5.0


def test_a_sent_function_finds_the_driver_and_what_was_sent_before(controller):
    rexec = controller.rexec()
    assert rexec.send(count_frames)() == 1000
    rexec.send(twice)
    assert rexec.send(decorated)(21) == 42
    assert rexec.send(later)("x") == "x"


def test_a_nested_function_without_free_variables_is_sent(controller):
    def local(x):
        return x + 1

    assert controller.rexec().send(local)(1) == 2


def test_a_nested_function_may_contain_classes(controller):
    def local(x):
        class Pair:
            def twice(self):
                return 2 * x

        return Pair().twice()

    assert controller.rexec().send(local)(21) == 42


def test_a_traceback_shows_the_file_and_the_line_that_were_sent(controller):
    there = controller.rexec().send(fails)
    with pytest.raises(ValueError, match="this very line") as caught:
        there()
    shown = "".join(traceback.format_exception(caught.value))
    line = Path(__file__).read_text().splitlines().index("    raise ValueError(marker)") + 1
    assert f'from {__file__}>", line {line}, in fails\n    raise ValueError(marker)' in shown


def test_all_names_missing_at_the_controller_are_listed_when_a_function_is_sent(controller):
    rexec = controller.rexec()
    with pytest.raises(TypeError, match="cannot send uses_missing_names") as caught:
        rexec.send(uses_missing_names)
    for name in ("NOWHERE", "nothing"):
        assert f"'{name}' is defined neither here nor at the controller" in str(caught.value)
    rexec.add_code("NOWHERE = 1\ndef nothing():\n    return 2\n")
    assert rexec.send(uses_missing_names)() == 3


def test_a_deadline_can_be_given_per_call(controller):
    def spin():
        while True:
            pass

    rexec = controller.rexec()
    there = rexec.with_deadline(0.2).send(spin)
    with pytest.raises(TimeoutError):
        there()
    with pytest.raises(TimeoutError):
        rexec.with_deadline(0.2).call("spin")


def closure(local):
    def inner():
        return local

    return inner


def from_no_file():
    namespace = {}
    exec(compile("def f():\n    pass", "<no file>", "exec"), namespace)
    return namespace["f"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x, "a lambda has no name"),
        (closure(3), r"uses local variables of an enclosing function: local"),
        (from_no_file(), "its source is not available"),
        (len, "expected a function, got <built-in function len>"),
        (functools.partial(hypotenuse, 1), "expected a function, got functools.partial"),
        (Path("x").exists, "expected a function, got <bound method"),
        (Path, "expected a function, got <class"),
        ("def f(): pass", "expected a function, got 'def f"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_reason(function, message):
    with pytest.raises(TypeError, match=message):
        source_of(function)


class EstablishedController:
    """A controller with the methods of the established remote execution interface only."""

    def __init__(self):
        self.calls = []

    def add_code(self, code):
        self.calls.append(("add_code", code))

    def call(self, function, *args, **kwargs):
        self.calls.append(("call", function, args, kwargs))


def test_a_controller_of_the_established_stack_can_be_used(controller):
    from remote_exec import RemoteExec

    old = EstablishedController()
    there = RemoteExec(old).send(twice)
    there(1, x=2)
    kinds = [call[0] for call in old.calls]
    assert kinds == ["add_code", "add_code", "call"]
    assert old.calls[-1] == ("call", "twice", (1,), {"x": 2})
    with pytest.raises(TypeError, match="supports no deadlines"):
        RemoteExec(old, deadline=1)
