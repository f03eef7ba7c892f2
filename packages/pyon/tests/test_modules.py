"""The classes of a module, registered by one line."""

import enum
import sys
import types

import pyon
import pytest

SOURCE = """
from __future__ import annotations

import collections
import dataclasses
import enum
import typing
from datetime import timedelta as imported
from http import HTTPStatus


class Mode(enum.Enum):
    SCAN = object()
    HOLD = 2


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Bits(enum.Flag):
    A = 1
    B = 2


class Point(typing.NamedTuple):
    x: float
    y: float = 0.0


Pair = collections.namedtuple("Pair", "a b")


class Named(collections.namedtuple("Named", "a b")):
    __slots__ = ()

    def total(self):
        return self.a + self.b


@dataclasses.dataclass
class Peak:
    centre: float
    mode: Mode = None
    notes: list = dataclasses.field(default_factory=list)
    constant: typing.ClassVar[int] = 5

    class Unit(enum.Enum):
        HZ = "Hz"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    value: int
    limit: int = 10

    def __post_init__(self):
        if self.value > self.limit:
            raise ValueError("beyond the limit")


class _Private(enum.Enum):
    A = 1


class Plain:
    pass


class Base(enum.Enum):
    pass


@dataclasses.dataclass
class Parent:
    a: int


class Child(Parent):
    pass


alias = Peak
"""


def module(source=SOURCE, name="lab.optics"):
    """Return a module that has never been imported."""
    made = types.ModuleType(name)
    sys.modules[name] = made  # dataclasses look annotations up there
    try:
        exec(source, vars(made))
    finally:
        del sys.modules[name]
    return made


@pytest.fixture
def optics():
    return module()


@pytest.fixture
def codec(optics):
    codec = pyon.Codec()
    codec.register_module(optics)
    return codec


def test_the_public_classes_of_the_module_and_no_others_are_registered(optics):
    registered = pyon.Codec().register_module(optics)
    assert [kind.__qualname__ for kind in registered] == [
        "Mode", "Level", "Word", "Bits", "Point", "Pair", "Named", "Peak", "Peak.Unit", "Setting",
        "Parent",
    ]  # fmt: skip


def test_values_come_back_exactly(codec, optics, version):
    values = [
        *optics.Mode, *optics.Level, *optics.Word,
        optics.Bits.A, optics.Bits.A | optics.Bits.B, optics.Bits(0),
        optics.Point(1, 2.5), optics.Pair([1], (2,)), optics.Named(1, 2),
        optics.Peak(1.5, optics.Mode.SCAN, [optics.Peak.Unit.HZ]),
        optics.Setting(value=3), {optics.Setting(value=1, limit=2): optics.Level.LOW},
    ]  # fmt: skip
    for x in values:
        for pretty in (False, True):
            y = codec.decode(codec.encode([x], pretty, version=version))[0]
            assert y == x
            assert type(y) is type(x)
    assert codec.decode(codec.encode(optics.Mode.SCAN, version=version)) is optics.Mode.SCAN


def test_names_are_those_of_the_module_or_behind_a_prefix(codec, optics):
    peak = optics.Peak(1.5, optics.Mode.HOLD, [optics.Peak.Unit.HZ])
    text = 'lab.optics.Peak(1.5, lab.optics.Mode("HOLD"), [lab.optics.Peak.Unit("HZ")])'
    assert codec.encode(peak) == text
    assert codec.encode(optics.Bits.A, version=2) == '{"__jsonclass__":["lab.optics.Bits",[1]]}'
    short = pyon.Codec()
    short.register_module(optics, prefix="")
    assert short.encode(optics.Point(1, 2)) == "Point(1, 2)"
    other = pyon.Codec()
    other.register_module(optics, prefix="ours.")
    assert other.encode(optics.Point(1, 2)) == "ours.Point(1, 2)"
    with pytest.raises(pyon.DecodeError):
        other.decode("lab.optics.Point(1, 2)")


def test_two_programs_that_have_the_module_understand_each_other(optics, version):
    here, there = module(), module()
    writer, reader = pyon.Codec(), pyon.Codec()
    writer.register_module(here)
    reader.register_module(there)
    read = reader.decode(writer.encode(here.Peak(2.0, here.Mode.HOLD), version=version))
    assert type(read) is there.Peak
    assert read.mode is there.Mode.HOLD


@pytest.mark.parametrize(
    "text",
    [
        'lab.optics.Mode("NONE")', "lab.optics.Mode(2)", 'lab.optics.Mode("__class__")',
        "lab.optics.Bits(8)", 'lab.optics.Bits("A")', "lab.optics.Point()",
        "lab.optics.Point(1, 2, 3)", "lab.optics.Peak()", "lab.optics.Peak(1, 2, [], 4)",
        "lab.optics.Setting(11)", "lab.optics.Plain()", "lab.optics._Private(1)", "lab.optics()",
        "lab.optics.Peak", "lab .optics.Bits(1)", "lab. optics.Bits(1)", "lab.optics.Bits.(1)",
        ".lab.optics.Bits(1)", "lab..optics.Bits(1)", "lab.optics.HTTPStatus(200)", "null.a(1)",
        "lab.optics.Child(1)", 'lab.optics.Mode["HOLD"]', "lab.optics.5(1)", "inf.a(1)",
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_an_error_with_line_and_column(codec, text):
    with pytest.raises(pyon.DecodeError) as caught:
        codec.decode(f"[\n{text}]")
    assert caught.value.lineno == 2


def test_a_text_of_an_earlier_version_of_the_class_has_the_defaults(codec, optics):
    assert codec.decode("lab.optics.Peak(1.5)") == optics.Peak(1.5)
    assert codec.decode("lab.optics.Setting(9)") == optics.Setting(value=9)


def test_reading_imports_nothing(codec, version):
    before = set(sys.modules)
    name = {1: "tabnanny.Nanny(1)", 2: '{"__jsonclass__":["tabnanny.Nanny",[1]]}'}[version]
    with pytest.raises(pyon.DecodeError):
        codec.decode(name)
    assert "tabnanny" not in set(sys.modules) - before


def test_a_class_that_is_registered_keeps_its_form(optics):
    codec = pyon.Codec()
    codec.register(optics.Mode, name="Mode", encode=lambda m: (m.name,), decode=lambda n: n)
    assert optics.Mode not in codec.register_module(optics)
    assert codec.encode(optics.Mode.HOLD) == 'Mode("HOLD")'
    assert codec.register_module(optics) == []


def test_a_module_is_registered_as_a_whole_or_not_at_all(optics):
    codec = pyon.Codec()
    codec.register(range, name="lab.optics.Peak", encode=tuple, decode=range)
    with pytest.raises(ValueError, match=r"'lab\.optics\.Peak' is in use"):
        codec.register_module(optics)
    assert not codec.is_registered(optics.Mode)
    codec.deregister(range, "lab.optics.Peak")
    assert len(codec.register_module(optics)) == 11


HEAD = "import dataclasses\n@dataclasses.dataclass\n"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (f"{HEAD}class A:\n x: int = dataclasses.field(init=False)", "the field 'x'"),
        (f"{HEAD}class A:\n y: int\n x: dataclasses.InitVar[int]", "the field 'x'"),
        (HEAD.replace("ss\n", "ss(init=False)\n") + "class A:\n x: int", "init=False"),
    ],
)
def test_a_dataclass_that_cannot_be_made_again_exactly_is_refused(source, why):
    made = module(source)
    codec = pyon.Codec()
    with pytest.raises(ValueError, match=f"^A cannot be registered .*{why}.*: register it"):
        codec.register_module(made)
    codec.register(made.A, name="A", encode=lambda a: (), decode=made.A)
    assert codec.register_module(made) == []


def test_a_class_is_no_module(codec):
    with pytest.raises(TypeError, match="expected a module"):
        codec.register_module(enum.Enum)


def test_the_prefix_must_make_names(optics):
    with pytest.raises(ValueError, match="must be an ASCII identifier"):
        pyon.Codec().register_module(optics, prefix="lab optics.")


def test_the_function_of_the_module_registers_with_the_shared_codec(optics):
    registered = pyon.register_module(optics, prefix="test_modules.")
    try:
        assert pyon.decode(pyon.encode(optics.Level.LOW)) is optics.Level.LOW
    finally:
        for kind in registered:
            pyon.deregister(kind, f"test_modules.{kind.__qualname__}")


@pytest.mark.parametrize("name", ["a.", ".a", "a..b", "a.5", "a.b c", "."])
def test_dots_stand_between_identifiers(codec, name):
    with pytest.raises(ValueError, match="name"):
        codec.register(range, name=name, encode=tuple, decode=range)
