"""Small plain values, which are written without a `Writer`: the same texts as with one.

Within a list that holds a set, the writer of all values writes what is plain, too; so does the one
for sorted texts.
"""

import json
import random
import sys
import threading

import numpy as np
import pyon
import pytest
from pyon._plain import CLASS_KEY
from pyon._spelling import LONGEST_KEY, MOST_KEYS, Keys
from pyon._v2_spelling import V2

LEAVES = [
    5, -3, 2**70, True, False, None, 1.5, -0.0, 1e300, float("inf"), float("-inf"), "", "a\u20ac",
    "a\\u005fb", "\U0001f600", "\ud83d", CLASS_KEY, "\\ud83d", 'quo"te\n\x7f', 10**700, 1 - 2j,
]  # fmt: skip
KEYS = ["a", "name", "\u20ac", 'quo"te', "a\nb", "x" * 50, ""]


def plain(rng, depth):
    kind = rng.randrange(8) if depth else 0
    if kind < 3:
        return rng.choice(LEAVES)
    size = rng.choice([0, 1, 1, 2, 3, 4, 8, 9, 10, 33])
    if kind == 3:
        return tuple(plain(rng, depth - 1) for _ in range(size))
    if kind < 6:
        return [plain(rng, depth - 1) for _ in range(min(size, 6 * depth))]
    keys = rng.choices(KEYS, k=size) if size < 9 else [f"k{i}" for i in range(size)]
    return {key: plain(rng, depth - 1) for key in keys}


def test_plain_values_are_written_as_the_writer_of_all_values_does(version):
    rng = random.Random(3)
    for _ in range(300):
        x = plain(rng, rng.randrange(1, 5))
        text = pyon.encode(x, version=version)
        around = pyon.encode([x, {1}], version=version)
        end = around.rindex(pyon.encode({1}, version=version))
        assert text == around[1:end].rstrip(", ")
        assert pyon.Codec().encode_pieces(x, version=version) == [text]
        assert repr(pyon.decode(text)) == repr(x)


@pytest.mark.parametrize("levels", [1, 5, 6, 7, 40, 127, 128])
@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"a": x}])
def test_plain_values_at_any_depth(version, levels, wrap):
    x = "deep"
    for _ in range(levels):
        x = wrap(x)
    assert pyon.decode(pyon.encode(x, version=version)) == x
    if levels == 128:
        with pytest.raises(pyon.EncodeError, match="128 levels deep"):
            pyon.encode(wrap(x), version=version)


def test_the_same_list_in_many_places_takes_no_time(version):
    x = []
    for _ in range(200):
        x = [x] * 8
    with pytest.raises(pyon.EncodeError, match="128 levels deep"):
        pyon.encode(x, version=version)


@pytest.mark.parametrize("rows", [2, 5, 8])
@pytest.mark.parametrize("columns", [2, 8, 20])
def test_tables(version, rows, columns):
    separators = (", ", ": ") if version == 1 else (",", ":")
    row = {f"column {i}": i / 4 for i in range(columns)}
    for x in ([row] * rows, [[*row.values()]] * rows, {str(i): row for i in range(rows)}):
        assert pyon.encode(x, version=version) == json.dumps(x, separators=separators)


def test_keys_that_equal_strings_are_no_strings(version, same):
    x = {"name": 1, "b": [2]}
    assert pyon.decode(pyon.encode(x, version=version)) == x  # so the spelling of "name" is cached
    x = {np.str_("name"): 1, "b": [2]}
    for value in (x, [x], [x, {1}]):
        read = pyon.decode(pyon.encode(value, version=version))
        assert same(read, value)


def test_the_key_of_a_tag_is_spelled_as_a_key_and_as_a_value(version):
    for x in ({CLASS_KEY: CLASS_KEY, "a": 1}, [{"b": {CLASS_KEY: [1]}}], {CLASS_KEY: {1}}):
        assert pyon.decode(pyon.encode(x, version=version)) == x


@pytest.mark.parametrize("limit", [0, 640, 4300, 200_000])
def test_integers_in_small_values_have_the_limit_of_all(version, limit):
    before = sys.get_int_max_str_digits()
    longest = 10**49_999
    sys.set_int_max_str_digits(limit)
    try:
        for x in ([longest, 1], {"a": -longest}, longest):
            text = pyon.encode(x, version=version)
            assert pyon.decode(text) == x
        with pytest.raises(pyon.EncodeError, match=r"^\['a'\]\[1\]: an integer of more than 50000"):
            pyon.encode({"a": [1, longest * 10]}, version=version)
    finally:
        sys.set_int_max_str_digits(before)


def test_an_error_in_a_small_value_names_the_place(version):
    for x, path in (
        ([1, {"a": ("\ud83d\ude00",)}], "[1]['a'][0]"),
        ({"b": [object()]}, "['b'][0]"),
        ({"c": {"\ud83d\ude00": 1}}, "['c']<key '\\ud83d\\ude00'>"),
    ):
        with pytest.raises(pyon.EncodeError) as error:
            pyon.encode(x, version=version)
        assert error.value.path == path


def test_only_so_many_keys_and_short_ones_are_kept():
    keys = Keys(json.dumps, ": ", tagged=True)
    for i in range(2 * MOST_KEYS):
        assert keys[f"key {i}"] == f'"key {i}": '
    assert len(keys) == MOST_KEYS
    keys.clear()
    assert keys["x" * LONGEST_KEY]
    assert keys["x" * (LONGEST_KEY + 1)].endswith('x": ')
    assert len(keys) == 1
    with pytest.raises(KeyError):
        keys[CLASS_KEY]
    assert len(V2.keys) <= MOST_KEYS


def test_threads_write_new_keys_at_the_same_time():
    wrong = []
    start = threading.Barrier(6)

    def write(number):
        start.wait()
        for i in range(300):
            x = {f"field {i % 40}": number, "values": [i, {f"field {i % 30}": (i,)}]}
            if pyon.decode(pyon.encode(x)) != x:
                wrong.append(x)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- large ones, which are written in C


FOREIGN = "d\u00e9tuning \u03bcwave calibration of the laser, and of much else\n"


@pytest.mark.parametrize("halves", ["\ud83d", "\ude00\ud83d", "a\ud83d\ude00b"])
@pytest.mark.parametrize("at", [0, 1, 255, 256, 700, 999])
def test_surrogates_among_many_strings(version, at, halves):
    many = [FOREIGN] * 1000
    many[at] = halves
    joined = "\ud83d\ude00" in halves
    for x in (
        many,
        [*many, 5],
        ["", *many[1:], halves],
        {"a": many},
        {f"{i} {text}": text for i, text in enumerate(many)},
        [{"k": text, "n": i} for i, text in enumerate(many)],
        [[""] * 300, many],
    ):
        if joined:
            with pytest.raises(pyon.EncodeError, match="high surrogate"):
                pyon.encode(x, version=version)
        else:
            assert pyon.decode(pyon.encode(x, version=version)) == x


@pytest.mark.parametrize("before", [0, 2**15 - 2, 2**15 - 1, 2**15, 2**16 - 1, 100_000])
def test_surrogates_in_a_long_string(version, before):
    for text in ("\u03bc" * before, "\U0001f600" * before):
        many = ["x"] * 40
        assert pyon.decode(pyon.encode([*many, text], version=version)) == [*many, text]
        with pytest.raises(pyon.EncodeError, match="high surrogate"):
            pyon.encode([*many, text + "\ud83d\ude00"], version=version)
        lone = text + "\ud83dx"
        assert pyon.decode(pyon.encode([*many, lone, "\ude00"], version=version))[-2] == lone


def test_surrogates_in_two_strings_are_no_pair(version):
    x = ["\ud83d", "\ude00"] * 500
    assert pyon.decode(pyon.encode(x, version=version)) == x


@pytest.mark.parametrize("odd", [1, 1.5, None, "\u20ac", np.float64(1), (1,), Exception])
@pytest.mark.parametrize("at", [0, 50, 199])
def test_one_other_item_among_many_that_are_alike(version, same, at, odd):
    for item in (7, 0.25, "text", None):
        x = [item] * 200
        x[at] = odd
        if odd is Exception:
            with pytest.raises(pyon.EncodeError, match=rf"^\[{at}\]"):
                pyon.encode(x, version=version)
        else:
            assert same(pyon.decode(pyon.encode(x, version=version)), x)
