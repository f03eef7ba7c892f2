"""Small texts of a protocol: the fast functions return the same texts and values as the codec."""

from __future__ import annotations

import sys

import pyon
import pytest
from pyon import DecodeError, EncodeError, wire

SMALL = [
    5, -3, 2**70, True, None, 1.5, float("inf"), float("-inf"), "a€", "a\\u005fb", "__jsonclass__",
    1j, [], [1, 2.5, "a", None, False], [float("-inf")], list(range(20)), {"a_b": [1]}, (1, 2), {3},
]  # fmt: skip


@pytest.mark.parametrize("value", SMALL, ids=repr)
def test_a_small_text_is_written_and_read_as_by_the_codec(value):
    pieces = wire.encode_pieces(value, version=2)
    assert pieces == [pyon.encode(value, version=2)]
    assert wire.decode(pieces[0].encode(), version=2) == value


@pytest.mark.parametrize(
    "text", [b"", b"1 2", b"[1", b"(1,)", b"\xff", b'{"__jsonclass__":["x",[]]}']
)
def test_an_invalid_small_text_is_refused_as_by_the_codec(text):
    with pytest.raises(DecodeError) as short:
        wire.decode(text, version=2)
    with pytest.raises(DecodeError) as long:
        wire.decode(text + b" " * wire.SMALL, version=2)
    assert type(short.value) is type(long.value)


@pytest.mark.parametrize(
    "value",
    ["\ud800\udc00", [1, "\ud800\udc00"], [object()]],
    ids=["text", "in a list", "an object"],
)
def test_a_small_value_that_has_no_text_is_refused_in_the_words_of_the_codec(value):
    with pytest.raises(EncodeError) as short:
        wire.encode_pieces(value, version=2)
    with pytest.raises(EncodeError) as long:
        pyon.encode(value, version=2)
    assert str(short.value) == str(long.value)


LINES = ['{"a":[1,"x_y"]}', "[]", "-1.5", "null", '"a\\n"', '"b"']


def test_lines_are_read_from_one_text():
    text = "".join(f"{line}\n" for line in LINES)
    scan = wire.line_scanner(text)
    at = 0
    for line in LINES:
        value, end = scan(text, at)
        assert value == pyon.decode(line)
        assert text[end] == "\n"
        at = end + 1


@pytest.mark.parametrize(
    "text",
    ['{"__jsonclass__":["tuple",[[1]]]}', '{"\\u005f_jsonclass__":["tuple",[[1]]]}'],
    ids=["plain", "escaped"],
)
def test_lines_in_which_a_tag_may_be_are_not_scanned(text):
    assert wire.line_scanner(f"1\n{text}\n") is None


@pytest.mark.parametrize("text", ["", "(1,)", "'a'", "[1,]"])
def test_a_value_that_the_codec_refuses_cannot_be_scanned(text):
    scan = wire.line_scanner(text)
    with pytest.raises((ValueError, StopIteration)):
        scan(text, 0)
    with pytest.raises(DecodeError):
        wire.decode(text.encode(), version=2)


@pytest.mark.parametrize("limit", [0, 640, 4300])
def test_a_long_integer_is_scanned_or_refused_whatever_the_limit_of_the_interpreter(limit):
    text = "9" * wire.LINE_SIZE
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        value, _ = wire.line_scanner(text)(text, 0)
    except ValueError:
        assert limit == 640
    else:
        assert value == 10**wire.LINE_SIZE - 1
    finally:
        sys.set_int_max_str_digits(before)
