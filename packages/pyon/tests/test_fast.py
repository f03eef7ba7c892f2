"""The same texts, values and errors with and without `pyon[fast]`."""

import struct

import numpy as np
import pyon
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyon import _base64, _fast

if _fast.msgspec is None or _base64.pybase64 is None:
    pytest.skip("pyon[fast] is not installed", allow_module_level=True)


def without(monkeypatch, function, *arguments, **options):
    with monkeypatch.context() as context:
        context.setattr(_fast, "msgspec", None)
        context.setattr(_base64, "pybase64", None)
        try:
            return function(*arguments, **options)
        except pyon.PyonError as error:
            return type(error)


def with_(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except pyon.PyonError as error:
        return type(error)


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as context:
        yield context


FLOATS = st.floats() | st.binary(min_size=8, max_size=8).map(lambda b: struct.unpack("d", b)[0])
NEAR = st.sampled_from(
    [1e-4, 1e-5, 1e16, 1e15, 1e22, 5e-324, 1e-6, 123456789012345680.0, 0.0, -0.0]
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | FLOATS | NEAR | st.text(st.characters(codec=None))
)
PLAIN = st.recursive(
    LEAVES,
    lambda x: st.lists(x, min_size=9) | st.dictionaries(st.text(), x, min_size=9),
    max_leaves=30,
)


@given(PLAIN | st.lists(FLOATS | NEAR, min_size=9) | st.lists(st.integers() | NEAR, min_size=300))
def test_text_is_the_same_byte_for_byte(patch, x):
    for version in (1, 2):
        written = with_(pyon.encode, x, version=version)
        assert written == without(patch, pyon.encode, x, version=version)


@given(st.floats(-9e-4, 9e-4))
def test_small_numbers_among_many_others(patch, x):
    numbers = [0.5] * 3000 + [x, x / 10, x * 1e20, -x]
    for version in (1, 2):
        written = pyon.encode(numbers, version=version)
        assert written == without(patch, pyon.encode, numbers, version=version)


@pytest.mark.parametrize(
    "part",
    ["d\u00e9tuning", "\U0001f600", "\ud83d", "\ud83d\ude00", "NaN", "null", "\x7f", "[1,2]: {3}",
     1e-7, 1e300, float("nan"), float("-inf"), -0.0, 2**64, 10**700, True, None, {}, [], {"a": []}],
)  # fmt: skip
def test_one_odd_part_among_many_plain_ones(patch, version, part):
    for many in ([0.5] * 50, list(range(50)), ["a, b: c"] * 50, [{"k": [1, 2.5]}] * 50):
        for x in ([*many, part], {"many": many, "part": part}):
            written = with_(pyon.encode, x, version=version)
            assert written == without(patch, pyon.encode, x, version=version)
            if type(written) is str and part == part:
                assert pyon.decode(written) == x


@pytest.mark.parametrize(
    "odd", ["d\u00e9tuning", "\x80\xff", "\u03bc", "\uffff\U00010000", "\U0001f600\n", "\ud83d"]
)
def test_a_few_characters_that_are_not_ascii_among_many_that_are(patch, version, odd):
    plain = ["calibration 'x', \\xe9 \\u00e9\n"] * 2000
    for x in (
        [*plain, odd],
        [odd, *plain],
        [*plain, odd, 1e-7, float("nan")],
        {"a": plain, odd: 1},
    ):
        written = pyon.encode(x, version=version)
        assert written == without(patch, pyon.encode, x, version=version)


@given(st.text(st.sampled_from('[]{}:,"\\ 0123456789.-+eEutrfalsn\u00e9\ud83d\x00')), st.booleans())
def test_the_same_is_read(patch, same, text, plain):
    text = '[["' + "x" * 300 + '"],' + text + "]"
    with_fast, without_fast = with_(pyon.decode, text), without(patch, pyon.decode, text)
    assert same(with_fast, without_fast)


@pytest.mark.parametrize(
    "number",
    [
        "1" * 30,
        "18446744073709551616",
        "-9223372036854775809",
        "1" * 5000,
        "-0",
        "1e400",
        "1e-400",
        "0." + "1" * 800,
        "9007199254740993.0",
        "NaN",
        "-Infinity",
        '"\\ud83d"',
        '"\\/"',
        "1E5",
    ],
)
def test_numbers_at_the_edges(patch, same, number):
    text = f'[{number}, "{"x" * 300}"]'
    assert same(pyon.decode(text), without(patch, pyon.decode, text))


@given(st.text(st.sampled_from("ABz09+/=-_ \n"), max_size=12))
def test_the_same_base64_is_refused(patch, text):
    text = f'nparray((3, ), "|u1", b"{text}")'
    with_fast, without_fast = with_(pyon.decode, text), without(patch, pyon.decode, text)
    if isinstance(with_fast, np.ndarray):
        with_fast, without_fast = list(with_fast), list(without_fast)
    assert with_fast == without_fast


@pytest.mark.parametrize(
    "text",
    ["A!A!A!A!", "AAAA!!!!", "AAAA    ", "-_-_AAAA", "AAAA=", "AAAA====", "AA==AAAA", "AAAAAA"],
)
def test_base64_that_a_lenient_reader_would_take_is_refused(patch, text):
    for size in range(len(text)):
        for spelled in (
            f'nparray(({size}, ), "|u1", b"{text}")',
            f'{{"__jsonclass__": ["nparray", [[{size}], "|u1", "{text}"]]}}',
        ):
            assert issubclass(with_(pyon.decode, spelled), pyon.DecodeError)
            assert issubclass(without(patch, pyon.decode, spelled), pyon.DecodeError)
    spelled = f'{{"__jsonclass__": ["bytes", ["{text}"]]}}'
    assert issubclass(with_(pyon.decode, spelled), pyon.DecodeError)
    assert issubclass(without(patch, pyon.decode, spelled), pyon.DecodeError)


def test_large_arrays(patch, version, same):
    x = np.arange(200_000.0)
    text = pyon.encode(x, version=version)
    assert text == without(patch, pyon.encode, x, version=version)
    for back in (pyon.decode(text), without(patch, pyon.decode, text), pyon.decode(text.encode())):
        assert same(back, x)
        assert back.flags.writeable
        assert back.flags.aligned
