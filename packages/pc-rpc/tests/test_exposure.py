"""The methods that a target offers; finding them runs no code of the target."""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
import types

import pytest
from pc_rpc import Server, immediate
from pc_rpc._exposure import find_methods, is_factory, public_methods
from pc_rpc._methods import RemoteMethods

touched = []


class Register:
    """A descriptor that reads the instrument."""

    def __get__(self, instance, owner):
        touched.append("register")
        return instance.measure if instance is not None else self


class WrittenRegister(Register):
    def __set__(self, instance, value):
        touched.append("written")


class CallableRegister(Register):
    def __call__(self):
        touched.append("called")


class Dial:
    """Can be called."""

    def __call__(self, x=1):
        return ("dial", x)


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Base:
    def inherited(self): ...

    def overridden(self): ...

    hidden_by_property = inherited


class Driver(Base):
    register = Register()
    written = WrittenRegister()
    called = CallableRegister()
    dial = Dial()
    number = 5

    class Nested:
        """A class is no method."""

    def __init__(self):
        self.instance_function = lambda: 5
        self.instance_partial = functools.partial(int, "5")
        self.instance_method = [].append
        self.instance_dial = Dial()
        self.instance_class = Driver.Nested
        self.written_in_vain = None
        self.__dict__["value"] = self.measure  # what a cached property keeps

    def __call__(self):
        touched.append("__call__")

    def __getattr__(self, name):
        touched.append(f"__getattr__ {name}")
        raise OSError("the instrument is off")

    def __dir__(self):
        touched.append("__dir__")
        return []

    @property
    def __class__(self):
        touched.append("__class__")
        return int

    @property
    def level(self):
        touched.append("property")

    @property
    def hidden_by_property(self):
        touched.append("property")

    @functools.cached_property
    def value(self):
        touched.append("cached property")

    def measure(self): ...

    def overridden(self): ...

    async def coroutine(self): ...

    @staticmethod
    def static(): ...

    @classmethod
    def of_class(cls): ...

    part = functools.partialmethod(measure)
    hypot = staticmethod(math.hypot)
    root = math.sqrt
    upper = str.upper
    from_keys = dict.__dict__["fromkeys"]

    @functools.lru_cache  # noqa: B019
    def kept(self): ...

    @functools.singledispatchmethod
    def dispatched(self, x): ...

    @decorated
    def decorated(self): ...

    @immediate
    def abort(self): ...

    def close(self): ...

    def _private(self): ...


METHODS = {
    "abort", "coroutine", "decorated", "dispatched", "from_keys", "hypot", "inherited",
    "instance_function", "instance_method", "instance_partial", "kept", "measure", "of_class",
    "overridden", "part", "root", "static", "upper",
}  # fmt: skip


@pytest.fixture(autouse=True)
def untouched():
    """Check that no test has touched a driver."""
    touched.clear()
    yield
    assert touched == []


def test_methods_are_found_without_touching_the_driver():
    assert public_methods(Driver()) == METHODS


def test_a_driver_with_descriptors_is_not_touched_by_those_who_connect(serve, connect):
    thread = serve({"main": Driver}, expose={"main": ["measure", "dial", "called"]})
    client = connect(thread.port)
    assert set(dir(client.__rpc__)) == {"measure", "dial", "called"}
    assert set(client.get_rpc_method_list()["methods"]) == {"measure", "dial", "called"}
    assert client.dial(5) == ("dial", 5)
    assert client.measure() is None
    assert touched == []


def test_other_callables_are_offered_when_they_are_exposed():
    names = ["dial", "instance_dial", "instance_class", "Nested", "called", "close", "measure"]
    assert find_methods(Driver(), expose=names).names == set(names)


class Slotted:
    __slots__ = ("dial", "empty", "function", "number")

    def __init__(self):
        self.function = lambda: 5
        self.dial = Dial()
        self.number = 5


def test_functions_in_slots_are_methods():
    assert public_methods(Slotted()) == {"function"}


class Meta(type):
    def __getattribute__(cls, name):
        touched.append(f"metaclass {name}")
        return type.__getattribute__(cls, name)


def test_no_code_of_a_metaclass_runs():
    class Odd(metaclass=Meta):
        def measure(self): ...

    odd = Odd()
    touched.clear()
    assert public_methods(odd) == {"measure"}


def test_a_computed_dictionary_is_not_read():
    class Odd:
        @property
        def __dict__(self):
            touched.append("__dict__")

        def measure(self): ...

    assert public_methods(Odd()) == {"measure"}


@pytest.fixture
def lazy_module(tmp_path):
    """A module that is imported when an attribute of it is first read."""
    path = tmp_path / "lazy_driver.py"
    path.write_text("raise AssertionError('imported')\ndef measure(): ...\n")
    spec = importlib.util.spec_from_file_location("lazy_driver", path)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_lazily_imported_module_is_not_imported(lazy_module):
    class Holder:
        library = lazy_module

        def measure(self): ...

    assert public_methods(Holder()) == {"measure"}
    assert public_methods(lazy_module) == set()


def test_functions_of_a_module_are_methods():
    assert {"hypot", "sqrt"} <= public_methods(math)
    module = types.ModuleType("driver")
    module.measure, module.Nested, module.sys = lambda: 5, Dial, sys
    assert public_methods(module) == {"measure"}


def test_marks_are_seen_through_every_kind_of_method():
    class Stage:
        @immediate
        @staticmethod
        def first(): ...

        @classmethod
        @immediate
        def second(cls): ...

        @immediate
        async def third(self): ...

        fourth = functools.partialmethod(third)

        def plain(self): ...

    methods = find_methods(Stage())
    assert methods.immediate == {"first", "second", "third", "fourth"}
    assert methods.coroutine == {"third", "fourth"}
    assert methods.plain == {"plain"}


# Exposing and hiding.


@pytest.mark.parametrize("option", ["expose", "hide"])
@pytest.mark.parametrize("name", ["measur", "clos", ""])
def test_exposing_or_hiding_an_unknown_method_is_an_error(option, name):
    with pytest.raises(ValueError, match=f"'main': 'Base' object has no attribute '{name}'"):
        Server({"main": Base()}, **{option: {"main": ["inherited", name]}})


@pytest.mark.parametrize("option", ["expose", "hide"])
@pytest.mark.parametrize("names", ["inherited", b"inherited", 5, [5], [["inherited"]]])
def test_methods_are_exposed_or_hidden_by_a_list_of_names(option, names):
    with pytest.raises(TypeError, match=r"main.*expected (a list of names|names of methods)"):
        Server({"main": Base()}, **{option: {"main": names}})


@pytest.mark.parametrize("option", ["expose", "hide"])
@pytest.mark.parametrize("value", [["main"], "main"])
def test_exposing_takes_a_dict_of_target_names(option, value):
    with pytest.raises(TypeError, match=f"{option}: expected a dict of target names"):
        Server({"main": Base()}, **{option: value})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("_private", "leading underscore"),
        ("__init__", "leading underscore"),
        ("level", r"computed when it is read \(property\)"),
        ("value", r"computed when it is read \(cached_property\)"),
        ("register", r"computed when it is read \(Register\)"),
        ("number", r"it cannot be called \(int\)"),
    ],
)
def test_what_cannot_be_exposed_is_refused_with_the_reason(name, reason):
    with pytest.raises(
        ValueError, match=f"cannot expose '{name}' of a 'Driver' object: .*{reason}"
    ):
        find_methods(Driver(), expose=[name])


def test_what_is_not_offered_anyway_may_be_hidden():
    hidden = ["close", "_private", "level", "measure"]
    assert find_methods(Driver(), hide=hidden).names == METHODS - {"measure"}


def test_names_that_a_driver_computes_may_be_exposed():
    class Proxy:
        def __getattr__(self, name):
            touched.append(name)

    assert find_methods(Proxy(), expose=["measure"]).names == {"measure"}


def test_a_missing_method_of_a_factory_s_target_is_logged_once(serve, connect, caplog):
    thread = serve({"main": lambda: Base()}, hide={"main": ["onn", "inherited"]})
    for _ in range(2):
        assert dir(connect(thread.port).__rpc__) == ["hidden_by_property", "overridden"]
    assert caplog.text.count("target 'main': 'Base' object has no attribute 'onn'") == 1


# The close of a driver.


class Closing:
    closed = False

    def close(self):
        self.closed = True
        return "closed"

    def get(self):
        return self.closed


@pytest.mark.parametrize("expose", [None, ["measure", "_private"]])
def test_a_gateway_offers_no_names_with_a_leading_underscore(expose):
    """Even if its own server announces such names."""
    behind = types.SimpleNamespace(names={"measure", "_private", "__reduce__"}, label="the server")
    behind.streams = frozenset({"measure"})
    offered = find_methods(RemoteMethods(behind, None), expose=expose, strict=False)
    assert offered.names == offered.streams == {"measure"}


def test_no_client_can_close_a_driver(serve, connect):
    driver = Closing()
    client = connect(serve({"main": driver}).port)
    assert dir(client.__rpc__) == ["get"]
    with pytest.raises(AttributeError, match="object has no attribute 'close'"):
        client._target.invoke("close", (), {}, 30)
    assert not driver.closed


def test_a_driver_can_be_closed_where_that_is_exposed(serve, connect):
    client = connect(serve({"main": Closing()}, expose={"main": ["close", "get"]}).port)
    assert client.close() == "closed"
    assert client.get() is True


# Factories.


@pytest.mark.parametrize("given", [Base, lambda: Base(), functools.partial(Base), [].copy, len])
def test_classes_functions_and_partials_are_factories(given):
    assert is_factory(given)
    Server({"main": given})


def test_another_object_that_can_be_called_is_refused_with_what_to_write():
    with pytest.raises(TypeError, match=r"'main' is a Dial object.*lambda: target\(\)"):
        Server({"main": Dial()})
    with pytest.raises(TypeError, match="is a Driver object that can be called"):
        Server({"main": Driver()})
