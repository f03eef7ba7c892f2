"""Types registered by users."""

import collections
import copy
import dataclasses
import enum
import pickle
import typing

import numpy as np
import pyon
import pytest


class Colour(enum.Enum):
    RED = "r"


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: object


class Pair(typing.NamedTuple):
    a: object
    b: object


@pytest.fixture
def codec():
    codec = pyon.Codec()
    codec.register(
        Colour, name="Colour", encode=lambda c: (c.name,), decode=lambda name: Colour[name]
    )
    codec.register(Point, name="Point", encode=lambda p: (p.x, p.y), decode=Point)
    codec.register(Pair, name="Pair", encode=tuple, decode=Pair)
    codec.register([frozenset], name="frozenset", encode=lambda s: (set(s),), decode=frozenset)
    return codec


VALUES = [
    Colour.RED,
    Point(1.5, Colour.RED),
    Pair(Point(1, None), [Pair(1, 2)]),
    {Point(1, 2): {Colour.RED}},
    frozenset({1}),
]


@pytest.mark.parametrize("x", VALUES, ids=str)
def test_registered_types_come_back(codec, x, version):
    assert codec.decode(codec.encode([x], version=version)) == [x]
    assert codec.decode(codec.encode([x], pretty=True, version=version)) == [x]


def test_spelling(codec):
    assert codec.encode(Point(1, Colour.RED)) == 'Point(1, Colour("RED"))'
    assert codec.encode(Colour.RED, version=2) == '{"__jsonclass__":["Colour",["RED"]]}'


def test_registrations_are_local_to_a_codec(codec, version):
    with pytest.raises(pyon.EncodeError, match="register its type"):
        pyon.encode(Colour.RED)
    with pytest.raises(pyon.DecodeError, match="Colour"):
        pyon.decode(codec.encode(Colour.RED, version=version))


def test_registering_with_the_shared_codec_and_deregistering(version):
    pyon.register((Colour,), name="Colour", encode=lambda c: (c.value,), decode=Colour)
    try:
        text = pyon.encode(Colour.RED, version=version)
        assert pyon.decode(text) is Colour.RED
    finally:
        pyon.deregister((Colour,), "Colour")
    with pytest.raises(pyon.EncodeError):
        pyon.encode(Colour.RED)
    with pytest.raises(pyon.DecodeError):
        pyon.decode(text)


def test_an_exception_of_a_registered_function_is_in_the_error(codec, version):
    def explode(*arguments):
        raise KeyError("boom")

    class Mine:
        pass

    codec.register(Mine, name="Mine", encode=lambda _: (1,), decode=explode)
    with pytest.raises(pyon.DecodeError, match="Mine: 'boom'"):
        codec.decode(codec.encode(Mine(), version=version))
    with pytest.raises(pyon.DecodeError, match="Point"):
        codec.decode('[{"__jsonclass__":["Point",[1]]}]' if version == 2 else "[Point(1)]")


def test_an_argument_that_has_no_form_is_named(codec):
    with pytest.raises(pyon.EncodeError) as caught:
        codec.encode({"p": Point(1, [...])})
    assert caught.value.path == "['p'].Point[1][0]"


@pytest.mark.parametrize("name", ["nanowire", "info", "infinite", "nan_j"])
def test_a_name_may_begin_like_a_number(name, version):
    codec = pyon.Codec()
    codec.register(range, name=name, encode=lambda r: (r.stop,), decode=range)
    assert codec.decode(codec.encode([range(5)], version=version)) == [range(5)]


def test_functions_of_the_module_can_be_pickled_and_codecs_cannot(codec):
    assert pickle.loads(pickle.dumps(pyon.load_file)) == pyon.load_file
    assert pickle.loads(pickle.dumps(pyon.decode))("[1]") == [1]
    for copy_of in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="create a new one"):
            copy_of(codec)


def test_a_cycle_through_a_registered_type(codec, version):
    loop = []
    loop.append(Point(1, loop))
    with pytest.raises(pyon.EncodeError, match="contains itself"):
        codec.encode(loop, version=version)


@pytest.mark.parametrize(
    "name",
    [
        "slice",
        "tuple",
        "nparray",
        "null",
        "nan",
        "infj",
        "Point",
        "set",
        "no name",
        "",
        "caf\u00e9",
        5,
    ],
)
def test_names_that_cannot_be_taken(codec, name):
    with pytest.raises(ValueError, match="name"):
        codec.register(range, name=name, encode=tuple, decode=range)


@pytest.mark.parametrize(
    "kind",
    [int, dict, tuple, Colour, slice, np.ndarray, np.float64, collections.OrderedDict, type(None)],
)
def test_types_that_cannot_be_taken(codec, kind):
    with pytest.raises(ValueError, match="already"):
        codec.register(kind, name="Fresh", encode=tuple, decode=tuple)
    with pytest.raises(pyon.DecodeError):
        codec.decode("Fresh()")


def test_a_type_that_is_not_registered_cannot_be_deregistered(codec):
    for types, name in [
        (Colour, "Point"),
        ((Colour, Point), "Point"),
        (slice, "slice"),
        (int, "int"),
        (range, "range"),
    ]:
        with pytest.raises(ValueError, match="not registered"):
            codec.deregister(types, name)
    with pytest.raises(TypeError):
        codec.register(["Colour"], name="C", encode=tuple, decode=tuple)
