"""The global names that a function uses are sent with it, or the function is refused."""

import dataclasses
import enum
import functools
import importlib
import itertools
import linecache
import logging
import re
import sys
import threading
from collections import deque as queue
from datetime import datetime
from functools import lru_cache, reduce
from math import *  # noqa: F403
from math import pi, sqrt
from math import sqrt as root
from random import uniform

import numpy as np
import pytest
from numpy import sin
from numpy.random import default_rng
from remote_exec._sending import source_of

SCALE = 3
TABLE = {"gain": [1.5, (2, 3j)], "name": "µ"}
WEIGHTS = np.arange(3.0)
COUNT = 0
LOCK = threading.Lock()
TOOLS = {"lock": LOCK}
square = lambda x: x * x  # noqa: E731
controller_driver = None  # for the linter; at the controller it is the driver
Frame = np.ndarray
NoType = list[int]


logger = logging.getLogger("lab.camera")
NUMBER = re.compile(r"\d+ \"nm\"", re.IGNORECASE)


class Shutter(enum.Enum):
    OPEN = 1
    SHUT = 2


def finds_and_logs(text):
    logger.warning("found %s", NUMBER.findall(text))
    return Shutter["OPEN"].value, [n for n in squares(4)]  # noqa: C416


def squares(count, seen=[]):  # noqa: B006
    for n in range(count):
        seen.append(n)
        yield n * n


def uses_imported_names():
    return [sqrt(16), root(9), reduce(max, [1, 5, 2]), len(queue([1, 2])), sin(0.0), floor(pi)]  # noqa: F405


@lru_cache(maxsize=4)
def cached(x):
    return x + SCALE


def uses_constants():
    return SCALE, TABLE, WEIGHTS.sum()


def uses_a_helper(x):
    return [cached(n) for n in range(x)]


@dataclasses.dataclass
class Point:
    x: float
    scale: int = SCALE

    def norm(self):
        return self.scale * self.x + nested_helper(0)


class Shifted(Point):
    def norm(self):
        return 1 + super().norm()


def nested_helper(depth):
    def inner():
        return SCALE + depth

    return inner()


def uses_classes(x):
    return Shifted(x).norm(), Point(x).norm()


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


also_even = even


def uses_another_name(n):
    return also_even(n), even(n)


def counts():
    global COUNT, LATER
    COUNT += 1
    LATER = COUNT
    return COUNT + LATER


def defaults(a=SCALE, *, b: Frame = None, now: datetime | None = None) -> NoType:
    c: NoType = [a]
    return c


def uses_what_hides():
    names = [name for name in ("pi", "SCALE")]  # noqa: C416
    return [(lambda SCALE: SCALE)(1), names, [math for math in (1, 2)]]  # noqa: C416


def uses_the_driver():
    return controller_driver.identify()


def draws():
    return 0 <= uniform(0, 1) <= 1 and 0 <= default_rng(1).random() < 1


def uses_a_match(point):
    match point:
        case Point(x=value):
            return value
        case {"x": value, **rest}:
            return value, rest


def makes_a_point(x):
    return uses_a_match(Point(x)), uses_a_match({"x": x, "y": 1})


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (uses_imported_names, (), [4.0, 3.0, 5, 2, 0.0, 3]),
        (uses_constants, (), (SCALE, TABLE, 3.0)),
        (uses_a_helper, (3,), [3, 4, 5]),
        (uses_classes, (2.0,), (10.0, 9.0)),
        (even, (10,), True),
        (uses_another_name, (3,), (False, False)),
        (defaults, (), [3]),
        (uses_what_hides, (), [1, ["pi", "SCALE"], [1, 2]]),
        (uses_the_driver, (), "driver of the test"),
        (draws, (), True),
        (makes_a_point, (4,), (4, (4, {"y": 1}))),
        (finds_and_logs, ('12 "NM"',), (1, [0, 1, 4, 9])),
    ],
)
def test_names_that_a_function_uses_are_sent_with_it(controller, function, arguments, result):
    found = controller.rexec().send(function)(*arguments)
    assert found == result
    assert type(found) is type(result)


def test_a_logger_of_the_module_has_the_same_name_at_the_controller(controller, caplog):
    controller.rexec().send(finds_and_logs)('12 "nm"')
    assert ("lab.camera", 30, "found ['12 \"nm\"']") in caplog.record_tuples


def test_a_global_variable_of_the_function_is_its_own_there(controller):
    there = controller.rexec().send(counts)
    assert [there(), there()] == [2, 4]
    assert COUNT == 0


def test_imports_name_the_public_module():
    imports = source_of(uses_imported_names).imports + source_of(draws).imports
    assert imports.splitlines() == [
        "from collections import deque as queue",
        "from functools import reduce as reduce",
        "from math import floor as floor",
        "from math import sqrt as root",
        "from math import sqrt as sqrt",
        "from numpy import sin as sin",
        "from numpy.random import default_rng as default_rng",
        "from random import uniform as uniform",
    ]


def uses_what_cannot_be_sent():
    return LOCK, TOOLS, square(2), uses_a_closure(1), SCALE


def make_closure(n):
    def uses_n(x):
        return x + n

    return uses_n


uses_a_closure = make_closure(1)


def test_everything_that_cannot_be_sent_is_named_at_once(controller):
    calls = []
    rexec = controller.rexec()
    rexec.add_code = calls.append
    with pytest.raises(TypeError) as caught:
        rexec.send(uses_what_cannot_be_sent)
    text = str(caught.value)
    assert text.startswith("cannot send uses_what_cannot_be_sent: LOCK is a lock (")
    assert "TOOLS is a dict (['lock']" in text
    assert "square: a lambda has no name to be called by; use def" in text
    assert "uses_a_closure: it uses local variables of an enclosing function: n" in text
    assert "SCALE" not in text
    assert calls == []


def test_local_variables_and_other_unsendable_names_are_listed_together(controller):
    first = 1

    def uses_both():
        return first, LOCK, second

    second = 2
    with pytest.raises(TypeError) as caught:
        controller.rexec().send(uses_both)
    expected = "it uses local variables of an enclosing function: first, second; LOCK is a"
    assert expected in str(caught.value)


def test_a_local_variable_that_is_assigned_later_is_refused_too(controller):
    rexec = controller.rexec()
    with pytest.raises(TypeError, match="local variables of an enclosing function: later_on"):

        @rexec.send
        def uses_it():
            return later_on

    later_on = 2


def test_failing_imports_at_the_controller_are_listed_when_a_function_is_sent(
    controller, tmp_path, monkeypatch
):
    (tmp_path / "of_this_side.py").write_text("def helper():\n    return 1\n")
    (tmp_path / "experiment.py").write_text(
        "import of_this_side as ours\nfrom of_this_side import helper\n\n\n"
        "def measure():\n    return helper() + ours.helper() + nowhere\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    measure = importlib.import_module("experiment").measure
    # The controller of the tests is in this process: it must not find what is loaded here.
    source = source_of(measure)
    for name in ("of_this_side", "experiment"):
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "of_this_side.py").unlink()
    linecache.clearcache()
    importlib.invalidate_caches()
    with pytest.raises(TypeError, match="cannot send measure") as caught:
        controller.connect().add_code(source.needs)
    for what in (
        "'from of_this_side import helper as helper' fails at the controller (No module named",
        "'import of_this_side as ours' fails at the controller",
        "'nowhere' is defined neither here nor at the controller",
    ):
        assert what in str(caught.value)


def test_values_are_those_at_the_time_of_send(controller, monkeypatch):
    rexec = controller.rexec()
    there = rexec.send(uses_constants)
    monkeypatch.setitem(globals(), "SCALE", 4)
    assert there()[0] == 3
    assert rexec.send(uses_constants)()[0] == 4


def test_a_class_that_was_sent_before_stays_the_same(controller):
    rexec = controller.rexec()
    rexec.send(uses_classes)
    rexec.add_code("before = Point")
    rexec.send(makes_a_point)
    rexec.add_code("def same():\n    return before is Point\n")
    assert rexec.call("same") is True


def test_names_of_two_modules_do_not_replace_each_other(controller, tmp_path, monkeypatch):
    for name, scale in (("first", 1), ("second", 2), ("third", 1)):
        (tmp_path / f"lab_{name}.py").write_text(
            f"SCALE = {scale}\n\n\ndef {name}():\n    return SCALE\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    first, second, third = (
        getattr(importlib.import_module(f"lab_{name}"), name)
        for name in ("first", "second", "third")
    )
    rexec = controller.rexec()
    there = rexec.send(first)
    with pytest.raises(TypeError, match="cannot send second: SCALE would replace"):
        rexec.send(second)
    assert there() == 1
    assert rexec.send(third)() == 1


def test_the_controllers_names_are_not_replaced_by_values(start_controller):
    rexec = start_controller().rexec()
    rexec.add_code("controller_initial_namespace['SCALE'] = 'of the controller'")
    later = rexec.client  # all connections share the dictionary
    later.add_code("SCALE = 'of the controller'")
    assert rexec.send(uses_constants)()[0] == "of the controller"


# As a decorator


def test_send_is_a_decorator(controller):
    rexec = controller.rexec()

    @rexec.send
    def add(x, y=SCALE):
        return x + y

    assert add(1) == 4
    assert add.__name__ == "add"


def test_decorators_below_send_are_sent_and_those_above_are_not(controller):
    rexec = controller.rexec()
    called = []

    def noted(function):
        @functools.wraps(function)
        def wrapper(*args):
            called.append(args)
            return function(*args)

        return wrapper

    @noted
    @rexec.with_deadline(
        60,
    ).send
    @lru_cache(maxsize=1)
    @lru_cache(maxsize=2)
    def add(x):
        return x + 1

    assert add(1) == 2
    assert called == [(1,)]
    rexec.add_code("def depth():\n    return hasattr(add.__wrapped__.__wrapped__, '__wrapped__')\n")
    assert rexec.call("depth") is False


def test_send_under_another_name_is_a_decorator_too(controller):
    remotely = controller.rexec().send

    @remotely
    def add(x):
        return x + 1

    assert add(1) == 2


def test_a_decorated_function_can_be_sent_to_another_controller(start_controller):
    first, second = start_controller().rexec(), start_controller().rexec()

    @first.send
    def add(x):
        return x + 1

    assert second.send(add)(1) == 2
    assert first.send(add)(2) == 3


def test_a_method_is_refused_with_the_reason(controller):
    rexec = controller.rexec()
    with pytest.raises(TypeError, match=r"Scan\.run: it is a method of .*Scan, which"):

        class Scan:
            @rexec.send
            def run(self):
                return 1


def test_a_function_that_calls_itself_is_sent_from_within_a_function(controller):
    def factorial(n):
        return 1 if n == 0 else n * factorial(n - 1)

    assert controller.rexec().send(factorial)(5) == 120


# Where the source is, or is not


CELL = """
from math import hypot
from typing import final
import itertools

OFFSET = 2

def helper(x):
    return hypot(3, 4) + Offset(x).value()

class Base:
    def __init__(self, x):
        self.x = x

@final
class Offset(Base):
    def value(self):
        return self.x

@rexec.send
def of_a_cell(x):
    return helper(x) + OFFSET
"""


def run_cell(text, **names):
    """Execute text as IPython does, with its lines in linecache for tracebacks."""
    filename = f"<ipython-input-{next(itertools.count(1))}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    namespace = {"__name__": "__main__", **names}
    exec(compile(text, filename, "exec", dont_inherit=True), namespace)
    return namespace


def test_a_function_of_a_notebook_is_sent_with_what_it_uses(controller):
    assert run_cell(CELL, rexec=controller.rexec())["of_a_cell"](1) == 8.0


def test_a_function_of_a_doctest_is_sent(controller):
    import doctest

    test = doctest.DocTestParser().get_doctest(
        ">>> N = 2\n>>> @rexec.send\n... def double(x):\n...     return N * x\n>>> double(4)\n8\n",
        {"rexec": controller.rexec(), "__name__": "__main__"},
        "example",
        None,
        None,
    )
    assert doctest.DocTestRunner().run(test).failed == 0


def test_a_function_whose_file_was_edited_since_is_refused(controller, tmp_path, monkeypatch):
    file = tmp_path / "edited.py"
    file.write_text("def gain():\n    return 1.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    gain = importlib.import_module("edited").gain
    assert controller.rexec().send(gain)() == 1.5
    file.write_text("def gain():\n    return 2.5\n")
    linecache.checkcache()
    with pytest.raises(TypeError, match="cannot send gain: its file has changed since"):
        controller.rexec().send(gain)


def test_a_function_without_source_is_refused_with_what_to_do(controller):
    namespace = {"__name__": "__main__"}
    exec("def f():\n    return g()\n\n\ndef g():\n    pass\n", namespace)
    with pytest.raises(TypeError, match="its source is not available: define it in a file"):
        controller.rexec().send(namespace["f"])


def test_two_lambdas_on_a_line_are_refused_as_every_lambda_is(controller):
    functions = [lambda x: x, lambda x: x + 1]
    for function in functions:
        with pytest.raises(TypeError, match="a lambda has no name to be called by; use def"):
            controller.rexec().send(function)
