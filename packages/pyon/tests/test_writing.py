"""Written texts: refusals with their paths, spellings, pretty layout."""

import collections
import dataclasses
import enum
import json
import math
import types
import typing

import numpy as np
import pyon
import pytest


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


class Point(typing.NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Setting:
    name: str


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


REFUSED = [
    Colour.RED,
    Level.HIGH,
    Text("a"),
    Point(1, 2),
    Setting("a"),
    type("Int", (int,), {})(1),
    collections.defaultdict(list),
    collections.Counter(),
    collections.UserDict(),
    type("Float", (float,), {})(1.0),
    type("List", (list,), {})(),
    type("Dict", (dict,), {})(),
    bytearray(b"a"),
    memoryview(b"a"),
    range(3),
    ...,
    NotImplemented,
    len,
    math,
    Rude(),
    object,
    frozenset({1}),
    types.SimpleNamespace(),
    collections.deque(),
    iter([]),
    np.array([object()]),
    np.array([None, 1], dtype=object),
    np.zeros(2, [("a", "O")]),
    np.matrix([[1]]) if False else np.dtype("f8"),
    np.ma.masked_array([1]),
    np.recarray(1, "i4"),
    np.zeros((0,), "V70000"),
]


@pytest.mark.parametrize("x", REFUSED, ids=lambda x: type(x).__name__)
def test_a_value_that_cannot_be_kept_is_refused_with_its_path(x, version):
    for pretty in (False, True):
        with pytest.raises(pyon.EncodeError) as caught:
            pyon.encode({"scan": [0] * 20 + [(1, x)]}, pretty, version=version)
        assert isinstance(caught.value, TypeError)
        assert str(caught.value).startswith("['scan'][20][1]: ")
        assert caught.value.path == "['scan'][20][1]"
        assert type(x).__name__ in caught.value.reason
        assert len(str(caught.value)) < 300
    with pytest.raises(pyon.EncodeError):
        pyon.encode(x, version=version)


@pytest.mark.parametrize(
    ("x", "path"),
    [
        ({"a": {"b": ...}}, "['a']['b']"),
        ({(1, ...): 2}, "<key (1, Ellipsis)>[1]"),
        ({1, ...} - {1}, "{...}"),
        ([slice(1, ...)], "[0].slice[1]"),
        (collections.OrderedDict(a=...), "['a']"),
        ([{"k" * 500: ...}], "[0]['kkkkkkkkkkkk...kkkkkkkkkkkkk']"),
    ],
)
def test_the_path_to_the_value(x, path):
    with pytest.raises(pyon.EncodeError) as caught:
        pyon.encode(x, version=2)
    assert caught.value.path.replace(".OrderedDict", "") == path


def nested(depth, wrap, x=0):
    for _ in range(depth):
        x = wrap(x)
    return x


WRAPS = {
    "list": lambda x: [x],
    "tuple": lambda x: (x,),
    "dict": lambda x: {"a": x},
    "pairs": lambda x: {1: x, "a": 2},
    "slice": lambda x: slice(x),
    "ordered": lambda x: collections.OrderedDict([(1, x)]),
    "wide": lambda x: [x, *range(20)],
}


@pytest.mark.parametrize("leaf", [0, 1 - 9j, complex(0.0, float("inf"))])
@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_nesting_up_to_the_limit(wrap, version, same, leaf):
    limit = pyon.MAX_DEPTH
    if wrap is WRAPS["ordered"]:
        limit //= 3 if version == 1 else 1  # a list and a tuple in it are levels, too
    x = nested(limit, wrap, leaf)
    text = pyon.encode(x, version=version)
    assert same(pyon.decode(text), x)
    with pytest.raises(pyon.EncodeError, match="nested more than"):
        pyon.encode(nested(pyon.MAX_DEPTH + 1, wrap), version=version)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_nesting_100_000_deep_is_refused(wrap, version):
    with pytest.raises(pyon.EncodeError, match="nested more than"):
        pyon.encode(nested(100_000, wrap), version=version)


def test_cycles_are_refused(version):
    one, many, wide, d = [], [], [], {}
    one.append(one)
    many += [many] * 8
    wide += [wide] * 1000
    d["d"] = [(d,)]
    for x in (one, many, wide, d):
        with pytest.raises(pyon.EncodeError, match="contains itself"):
            pyon.encode(x, version=version)


def test_a_surrogate_pair_in_a_string_is_refused(version):
    with pytest.raises(pyon.EncodeError, match="surrogate"):
        pyon.encode(["\ud83d\ude00"] * 20, version=version)


def test_spellings_of_v1():
    for x, text in [
        ((5,), "(5, )"),
        (set(), "{*()}"),
        ({1: (3,)}, "{1: (3, )}"),
        (slice(None, 3), "slice(None, 3, None)"),
        (-math.inf, "-inf"),
        (complex(-0.0, 1), "(-0+1j)"),
        ("\u00e9\U0001f600\n", r'"\u00e9\ud83d\ude00\n"'),
        ({"__jsonclass__": 1}, "{'__jsonclass__': 1}"),
        (b"a\nb\"c'", "b'a\\nb\"c\\''"),
        (collections.OrderedDict([(2, "a")]), 'OrderedDict([(2, "a")])'),
        (np.zeros(1, "<f8"), 'nparray((1, ), "<f8", b"AAAAAAAAAAA=")'),
        (np.int32(5), 'npscalar("<i4", b"BQAAAA==")'),
        (np.zeros(1, [("a", "<i4")]), 'nparray((1, ), [("a", "<i4")], b"AAAAAA==")'),
    ]:
        assert pyon.encode(x) == text


def test_empty_set_reads_as_one_by_evaluation():
    # the only evaluation in this package: what the established readers do with our text
    assert eval(pyon.encode([set()]), {"__builtins__": {}}) == [set()]


def test_spellings_of_v2():
    for x, text in [
        ((5,), '{"__jsonclass__":["tuple",[[5]]]}'),
        (set(), '{"__jsonclass__":["set",[[]]]}'),
        ({1: "b"}, '{"__jsonclass__":["dict",[[[1,"b"]]]]}'),
        (1j, '{"__jsonclass__":["complex",[0.0,1.0]]}'),
        ({"__jsonclass__": 1}, '{"__jsonclass__":["dict",[[["__jsonclass__",1]]]]}'),
        (b"a", '{"__jsonclass__":["bytes",["YQ=="]]}'),
        (math.nan, "NaN"),
        ({}, "{}"),
        (np.float64(0), '{"__jsonclass__":["npscalar",["<f8","AAAAAAAAAAA="]]}'),
        (np.zeros(1, "<i2"), '{"__jsonclass__":["nparray",[[1],"<i2","AAA="]]}'),
    ]:
        assert pyon.encode(x, version=2) == text


def test_plain_data_is_written_as_json_writes_it():
    x = {str(i): [i, i / 3, "\u00e9", None, {"a": True}] for i in range(100)}
    assert pyon.encode(x) == json.dumps(x)
    assert pyon.encode(x, version=2) == json.dumps(x, separators=(",", ":"))


def test_pretty_v1_breaks_dicts_into_lines():
    x = {"b": {"y": 1, "x": [1, {"q": (1,)}]}, "a": {3, 1, 2}}
    assert pyon.encode(x, pretty=True, sort_keys=True) == (
        '{\n    "a": {1, 2, 3},\n    "b": {\n'
        '        "x": [1, {"q": (1, )}],\n        "y": 1\n    }\n}'
    )


def test_pretty_v2_is_indented_json():
    x = {"b": [1, {"c": None}], "a": (1, 2)}
    text = pyon.encode(x, pretty=True, version=2, sort_keys=True)
    assert json.loads(text) == json.loads(pyon.encode(x, version=2))
    assert text.startswith(
        '{\n    "a": {"__jsonclass__": ["tuple", [[1, 2]]]},\n    "b": [\n        1,\n'
    )


def test_pretty_is_the_same_for_equal_values(version):
    words = [f"word {i}" for i in range(50)]
    x = {"s": set(words), "d": dict.fromkeys(words), 3: None, (1, 2): 0, None: 1}
    y = {
        None: 1,
        (1, 2): 0,
        3: None,
        "d": dict.fromkeys(reversed(words)),
        "s": {*words[::-1]},
    }
    assert x == y
    for pretty in (False, True):
        assert pyon.encode(x, pretty, version=version, sort_keys=True) == pyon.encode(
            y, pretty, version=version, sort_keys=True
        )
        assert pyon.decode(pyon.encode(x, pretty, version=version, sort_keys=True)) == x


ORDERS = [
    {"z": 1, "a": 2},
    {3: 1, 1: 2, 2: 0},
    {"z": {"y": 1, "x": {"b": 0, "a": {}}}, "a": [{"d": 1, "c": 2}, ({"f": 1, "e": 2},)]},
    {(2, 1): "x", None: "y", 1.5: "z", "a": 0, True: 1},
    {str(-i): {str(-j): i for j in range(12)} for i in range(12)},
    collections.OrderedDict([("z", {"y": 1, "x": 2}), ("a", 2)]),
]


@pytest.mark.parametrize("x", ORDERS, ids=range(len(ORDERS)))
def test_dicts_keep_their_order_everywhere_unless_asked_otherwise(x, version, tmp_path):
    def order(x):
        if isinstance(x, dict):
            return [(key, order(value)) for key, value in x.items()]
        return [order(y) for y in x] if isinstance(x, list | tuple) else x

    pyon.store_file(tmp_path / "f", x, version=version)
    for back in (
        pyon.decode(pyon.encode(x, version=version)),
        pyon.decode(pyon.encode(x, pretty=True, version=version)),
        pyon.load_file(tmp_path / "f"),
    ):
        assert order(back) == order(x)


def test_sorted_keys_give_equal_texts_for_equal_dicts(version, tmp_path):
    x = {"z": [{2: 0, 1: 0}], "a": {"c": 1, "b": 2}}
    pyon.store_file(tmp_path / "f", x, version=version, sort_keys=True)
    back = pyon.load_file(tmp_path / "f")
    assert list(back) == ["a", "z"]
    assert list(back["a"]) == ["b", "c"]
    assert list(back["z"][0]) == [1, 2]
    one_line = pyon.encode(x, version=version, sort_keys=True)
    assert "\n" not in one_line
    assert list(pyon.decode(one_line)) == ["a", "z"]


# --- numpy scalars in pretty texts


def test_a_numpy_scalar_has_its_value_in_a_comment_on_its_line(tmp_path, same):
    x = {
        "n": np.int64(7),
        "pair": (np.float32(0.1), "x", np.bool_(True)),
        "deep": {"date": np.datetime64("2026-01-31"), "one": {"c": np.complex128(1 - 2j)}},
        "set": {np.int8(5), np.int8(-5), 3},
        "text": np.str_("a"),
        "last": np.float64("nan"),
    }
    pyon.store_file(tmp_path / "f", x)
    text = (tmp_path / "f").read_text()
    notes = [line.partition("  # ")[2] for line in text.splitlines()]
    assert notes == ["", "7", "0.1, True", "", "2026-01-31", "(1-2j)", "", "-5, 5", "", "nan", ""]
    assert '"n": npscalar("<i8", b"BwAAAAAAAAA="),  # 7\n' in text
    assert same(pyon.load_file(tmp_path / "f"), x)


def test_notes_are_comments_of_v1_in_pretty_texts_only():
    for version, pretty in ((1, False), (2, False), (2, True)):
        assert "#" not in pyon.encode([np.int64(7)], pretty, version=version)
    assert pyon.encode(np.int64(7), pretty=True) == 'npscalar("<i8", b"BwAAAAAAAAA=")  # 7'


def test_comments_stay_on_their_line_where_dicts_are_sorted():
    x = [np.float64(2.5), {1: 2, "a": np.int8(3)}, {}]
    text = pyon.encode(x, pretty=True, sort_keys=True)
    assert [line.partition("  # ")[2] for line in text.splitlines()] == ["", "2.5, 3", "", ""]


TABLES = [[[1, 2], None], [{"a": None}, True], {"a": [None], "b": "x"}, {"a": {}, "b": [{}]}]


@pytest.mark.parametrize("table", TABLES)
def test_small_values_that_begin_with_a_container_are_written_as_others_are(version, table):
    comma, colon = (", ", ": ") if version == 1 else (",", ":")
    expected = json.dumps(table, separators=(comma, colon))
    assert pyon.encode(table, version=version) == expected
    for x in (
        [table, (1,)],
        {"a": table, "b": (table,)},
        {"__jsonclass__": table, "b": 1},
        {1: table, "b": table},
        slice(table, None, table),
        collections.OrderedDict(a=table, b=None),
    ):
        text = pyon.encode(x, version=version)
        assert pyon.decode(text) == x
        assert text.count(expected) == str(x).count(str(table))
    if version == 1:
        assert pyon.encode(slice(table, None)) == f"slice({expected}, None, None)"


# --- pieces


def test_pieces_are_the_text_and_long_base64_is_never_part_of_another_one(version):
    long = np.arange(10_000.0)
    x = {"a": [1, (long, b"x" * 10_000), np.arange(3)], "b": {"c": long}}
    for pretty in (False, True):
        for sort_keys in (False, True):
            options = {"version": version, "pretty": pretty, "sort_keys": sort_keys}
            pieces = pyon.Codec().encode_pieces(x, **options)
            joined = "".join(p if type(p) is str else p.decode() for p in pieces)
            assert joined == pyon.encode(x, **options)
            if not sort_keys:
                assert sum(type(p) is bytes for p in pieces) == 2 + (version == 2)
                assert max(len(p) for p in pieces if type(p) is str) < 35_000
    assert pyon.Codec().encode_pieces([1]) == ["[1]"]
    with pytest.raises(pyon.EncodeError):
        pyon.Codec().encode_pieces(...)


def test_versions_and_buffers_that_do_not_exist():
    with pytest.raises(ValueError, match="versions"):
        pyon.encode(1, version=3)
    with pytest.raises(ValueError, match="version 2"):
        pyon.encode(1, buffer_callback=print)
