"""Values come back exactly: every type, both generations, plain and pretty."""

import math
import sys
from collections import OrderedDict
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyon
import pytest
from hypothesis import given
from hypothesis import strategies as st

NAN = math.nan
SCALARS = [
    None,
    True,
    False,
    0,
    -5,
    10**30,
    10**400,
    -(10**10_000),
    2**63,
    -(2**64),
    0.1,
    -0.0,
    1e16,
    1e-7,
    5e-324,
    1.7976931348623157e308,
    math.inf,
    -math.inf,
    NAN,
    1j,
    1 - 9j,
    complex(-0.0, 1),
    complex(0.0, -0.0),
    complex(-0.0, -0.0),
    complex(NAN, math.inf),
    complex(-math.inf, NAN),
    complex(1e300, -1e-300),
    "",
    "text",
    "a\nb\rc\td",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "nul \0 del \x7f",
    "\"'\\",
    "caf\u00e9 \u6f22",
    "\U0001f600",
    "\ud83d",
    "\ude00 \ud83d",
    "__jsonclass__",
    "NaN Infinity",
    "\\ud83d",
    b"",
    b"a\nb\"c'd\\\x00\xff",
    bytes(range(256)) * 40,
]
CONTAINERS = [
    (),
    (1,),
    (1, 2),
    ((),),
    ([],),
    [],
    [1, [2, [3]]],
    [()],
    [(1,), [1]],
    set(),
    {1},
    {1, "a", None, (2, 3)},
    [set(), {}],
    {},
    {"a": 1},
    {1: 2},
    {(): 0, (1, 2): [3], None: 1, True: 2, 2.5: 3, NAN: 4, b"b": 5, 1j: 6, "s": 7},
    {"b": 1, "a": 2},
    {2: "x", 1: "y"},
    {"__jsonclass__": ["tuple", [[1]]]},
    {"__jsonclass__": 1, "b": (2,)},
    [{"a": {"__jsonclass__": {}}}],
    slice(None),
    slice(None, 3, None),
    slice(1, 2, 3),
    slice("a", None, 1.5),
    slice((1,), (2, 3)),
    Fraction(3, 4),
    Fraction(-1, 7),
    Fraction(10**5000, 3),
    OrderedDict(),
    OrderedDict([(2, "a"), (1, "b")]),
    OrderedDict(b=1, a=OrderedDict()),
    # large enough for the fast functions, and values that these must refuse
    list(range(100)),
    tuple(range(100)),
    set(range(100)),
    [0.5] * 50 + [NAN],
    [1.5, "NaN"] * 20,
    ["x"] * 20 + ["\ud83d"],
    ["__jsonclass__"] * 20,
    [10**5000] * 20,
    [True] * 20 + [1],
    [None] * 30,
    {str(i): {"a": i, "b": [i, None, 0.5]} for i in range(50)},
    {i: str(i) for i in range(50)},
    {str(i): (i,) for i in range(50)},
    {"__jsonclass__": 0} | {str(i): i for i in range(50)},
    [[(1, 2)] * 20, [[1.0] * 20] * 20],
    [[], {}] * 20,
]
ARRAYS = [
    np.array(5),
    np.array(2.5),
    np.zeros(0),
    np.zeros((0, 3)),
    np.zeros((3, 0)),
    np.zeros((2, 0, 2)),
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).T,
    np.arange(20)[::-3],
    np.arange(20)[2:9],
    np.broadcast_to(1.5, (3, 4)),
    np.arange(5, dtype=">i4"),
    np.arange(5, dtype=">f8"),
    np.array([True, False]),
    np.array([b"ab", b"c"]),
    np.array(["ab", "c\u6f22\0"]),
    np.array(["ab"], ">U3"),
    np.array([1j, NAN]),
    np.arange(3, dtype="f2"),
    np.array([1, -1], "i1"),
    np.array([2**64 - 1], "u8"),
    np.zeros(2, "V3"),
    np.array(["2020-01-01", "NaT"], "M8[D]"),
    np.array([1, 2], "m8[25ms]"),
    np.array([1], "M8[ns]"),
    np.array([0, 1], ">M8[s]"),
    np.zeros(3, [("a", "<i4"), ("b", ">f8", (2, 3)), ("c", [("x", "S3"), ("y", "?")])]),
    np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    np.zeros(2, np.dtype([(("title", "a"), "i1")])),
    np.array((1, 2.0), "i4,f8"),
    np.zeros(3, []),
    np.zeros(2, {"names": ["a"], "formats": ["<i4"], "offsets": [4], "itemsize": 16}),
    np.zeros(3, [("e", "S0")])["e"],
    np.zeros(3, [("e", "U0")])["e"],
    np.zeros((0,), "S0"),
    np.arange(30_000.0),
    np.arange(30_000).reshape(100, 300).T,
]
NUMPY_SCALARS = [
    *(np.dtype(code).type(1) for code in "?bhilqBHILQefdFD"),
    *(np.dtype(code).type(x) for code in "efd" for x in (NAN, math.inf, -math.inf, -0.0)),
    np.complex128(complex(-0.0, NAN)),
    np.str_("text"),
    np.str_(""),
    np.bytes_(b"ab\0c"),
    np.bytes_(b""),
    np.datetime64("2020-01-01T12:00", "s"),
    np.datetime64("NaT", "s"),
    np.timedelta64(5, "ms"),
    np.void(b"abc"),
    np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")])[0],
]
EVERYTHING = [*SCALARS, *CONTAINERS, *ARRAYS, *NUMPY_SCALARS]


@pytest.mark.parametrize("x", EVERYTHING, ids=lambda x: type(x).__name__)
def test_every_value_comes_back_exactly(x, version, same):
    text = pyon.encode(x, version=version)
    assert text.isascii()
    assert "\n" not in text
    assert same(pyon.decode(text), x)
    assert same(pyon.decode(text.encode()), x)
    assert same(pyon.decode(pyon.encode([x, {"x": (x,)}], version=version)), [x, {"x": (x,)}])


@pytest.mark.parametrize("x", EVERYTHING, ids=lambda x: type(x).__name__)
def test_pretty_text_means_the_same(x, version, same):
    back = pyon.decode(pyon.encode(x, pretty=True, version=version))
    if type(x) is dict:  # sorted
        back = {key: back[key] for key in x} if NAN not in x else x
    assert same(back, x)


@pytest.mark.parametrize("x", EVERYTHING, ids=lambda x: type(x).__name__)
def test_buffers_instead_of_base64(x, same):
    buffers = []
    text = pyon.encode([x, [x]], version=2, buffer_callback=buffers.append)
    assert same(pyon.decode(text, buffers=buffers), [x, [x]])
    assert all(
        b.nbytes >= pyon.RAW_BUFFER_SIZE and b.contiguous and b.format == "B" for b in buffers
    )


KEYS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers(),
    lambda keys: st.lists(keys, max_size=3).map(tuple) | st.fractions(),
    max_leaves=5,
)
VALUES = st.recursive(
    KEYS,
    lambda values: (
        st.lists(values)
        | st.lists(values).map(tuple)
        | st.dictionaries(KEYS, values)
        | st.dictionaries(st.text(), values)
        | st.dictionaries(KEYS, values).map(OrderedDict)
        | st.sets(KEYS)
        | st.builds(slice, values, values, values)
    ),
    max_leaves=30,
)


@given(VALUES)
def test_any_value_comes_back_exactly(same, x):
    for version in (1, 2):
        assert same(pyon.decode(pyon.encode(x, version=version)), x)


@given(VALUES)
def test_pretty_text_is_stable_and_one_value(same, x):
    for version in (1, 2):
        text = pyon.encode(x, pretty=True, version=version)
        assert pyon.encode(pyon.decode(text), pretty=True, version=version) == text


@given(st.text(st.characters(codec=None)))
def test_any_string_is_kept_or_refused(x):
    for version in (1, 2):
        try:
            text = pyon.encode(x, version=version)
        except pyon.EncodeError:
            assert any("\ud800" <= a < "\udc00" <= b < "\ue000" for a, b in pairwise(x))
        else:
            assert pyon.decode(text) == x


@pytest.fixture(params=[640, 4300, 0])
def digit_limit(request):
    old = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(request.param)
    yield request.param
    sys.set_int_max_str_digits(old)


@pytest.mark.parametrize("digits", [400, 640, 641, 4300, 10_000, pyon.MAX_INT_DIGITS])
def test_long_integers_whatever_the_interpreters_limit(digit_limit, digits, version):
    x = 10**digits - 7 ** (digits // 2)
    assert pyon.decode(pyon.encode([x, (-x,)], version=version)) == [x, (-x,)]
    assert pyon.decode(pyon.encode([x] * 20, version=version)) == [x] * 20
    assert sys.get_int_max_str_digits() == digit_limit


def test_an_integer_beyond_the_limit(digit_limit, version):
    for x in (10**pyon.MAX_INT_DIGITS, 2**4_000_000):
        for value in (x, -x, [x], (1, x), {"a": [x]}, [x] * 20):
            with pytest.raises(pyon.EncodeError, match="50000 digits"):
                pyon.encode(value, version=version)
    for text in ("1" * 50_001, "[" + "1" * 1_000_000 + "]", "(" + "1" * 50_001 + ", )"):
        with pytest.raises(pyon.DecodeError, match="50000"):
            pyon.decode(text)
