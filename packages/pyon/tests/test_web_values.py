"""The description of values for a page: lines, parts, drawings; frames without a socket."""

import json
import struct

import numpy as np
import pyon
import pytest
from pyon.web import Spelling, View, _searching, search
from pyon.web._changes import MOST_PLACES, Changes
from pyon.web._plots import WIDEST, image, line, spark
from pyon.web._values import LONGEST_LINE, kind_of, line_of, number_of, text_of
from pyon.web._view import LARGEST_FRAME, MOST_PARTS, pack

SPELLING = Spelling(pyon.decode, lambda path: pyon.encode(list(path)), str)


def spelled(*path):
    return SPELLING.write(path)


class Badly:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "other", "None"),
        (True, "number", "True"),
        (1.5, "number", "1.5"),
        (np.float32(0.1), "number", "0.1"),
        (np.array(3), "number", "3"),
        (1 << 100_000, "number", "integer of 100,001 bits"),
        ("a\nb", "text", "'a\\nb'"),
        (bytes(20), "text", "20 bytes: " + " ".join(["00"] * 16) + " ..."),
        ([1, 2.5], "branch", "[1, 2.5]"),
        ((), "branch", "tuple of 0"),
        ({"a": 1}, "branch", "dict of 1"),
        ([[1]], "branch", "list of 1"),
        (list(range(9)), "line", "list of 9"),
        ({1, 2}, "other", "set of 2"),
        (np.zeros(1000), "line", "float64 1,000"),
        (np.zeros((3, 4), bool), "image", "bool 3 x 4"),
        (np.zeros((2, 3, 4), int), "branch", "int64 2 x 3 x 4"),
        (np.zeros(0), "branch", "float64 0"),
        (np.array(["a"]), "branch", "<U1 1"),
        (np.zeros(2, [("x", float)]), "branch", "2 of records"),
        (Badly(), "other", "<Badly>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_has_a_kind_and_a_line(value, kind, text):
    assert (kind_of(value), line_of(value)) == (kind, text)


def test_a_line_is_short_whatever_the_value():
    assert len(line_of("x" * 10**7)) <= LONGEST_LINE
    assert len(line_of(["x" * 10**6] * 8)) <= LONGEST_LINE


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), (True, 1.0), (float("nan"), None), (10**400, None), ("1", None), (1j, None)],
    ids=lambda value: type(value).__name__,
)
def test_only_finite_numbers_have_a_history(value, number):
    assert number_of(value) == number


def test_a_long_text_is_cut_and_says_so():
    shown = text_of("x" * 30_000)
    assert len(shown["text"]) == 20_000
    assert shown["note"] == "10,000 more characters"


def test_half_a_surrogate_pair_can_be_sent():
    assert text_of("a\ud800")["text"] == "a\\ud800"


# Drawings.


def floats(buffer):
    return np.frombuffer(buffer, "<f8")


def test_a_short_line_is_drawn_as_it_is():
    drawing = line(np.array([1.0, np.nan, 3.0]), 100)
    assert floats(drawing.buffers[0]).tolist() == pytest.approx([1.0, np.nan, 3.0], nan_ok=True)
    assert drawing.facts["step"] == 1
    assert drawing.facts["note"] == ""


def test_of_a_long_line_nothing_that_stands_out_is_lost():
    values = np.zeros(1_000_003)
    values[777_777], values[13] = 5.0, -4.0
    drawing = line(values, 500)
    shown = floats(drawing.buffers[0])
    assert len(shown) <= 1000
    assert (shown.min(), shown.max()) == (-4.0, 5.0)
    assert drawing.facts["start"] + drawing.facts["step"] * len(shown) >= 1_000_003
    assert "1,000,003 points" in drawing.facts["note"]


def test_no_page_can_ask_for_a_line_of_any_width():
    assert len(floats(line(np.zeros(10**6), 10**9).buffers[0])) <= 2 * WIDEST


def test_of_a_long_list_the_last_items_are_drawn():
    drawing = line([0] * 100_000 + [7] * 100_000, 100)
    assert set(floats(drawing.buffers[0])) == {7.0}
    assert drawing.facts["start"] == 100_000
    assert "the last 100,000 of 200,000" in drawing.facts["note"]


def test_integers_beyond_the_range_of_floats_are_gaps():
    values = [1] * 10 + [1 << 100_000]
    drawing = line(values, 100)
    assert np.isnan(floats(drawing.buffers[0])).tolist() == [False] * 10 + [True]
    assert drawing.facts["ends"].endswith("integer of 100,001 bits")
    assert spark(values).buffers == drawing.buffers


def test_complex_numbers_are_two_lines():
    drawing = line(np.array([1 + 2j, 3 + 4j]), 100)
    assert [floats(one).tolist() for one in drawing.buffers] == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    "values",
    [
        np.array([1e308, -1e308, np.inf, np.nan]),
        np.full(3, np.nan),
        np.array([2**63], np.uint64),
        np.array([True]),
        np.array([1], np.float16),
    ],
)
def test_any_numbers_can_be_drawn(values):
    for drawing in (line(values, 1), spark(values), image(values[None], 1)):
        json.dumps(drawing.facts, allow_nan=False)


def test_an_image_is_drawn_in_levels_with_level_0_for_nan():
    drawing = image(np.array([[0.0, 1.0], [np.nan, 0.5]]), 100)
    levels = np.frombuffer(drawing.buffers[0], np.uint8)
    assert levels.tolist() == [1, 255, 0, 128]
    assert (drawing.facts["low"], drawing.facts["high"]) == (0.0, 1.0)


def test_a_large_image_is_made_of_means():
    values = np.zeros((1001, 500))
    values[1000, 499] = 8.0
    drawing = image(values, 500)
    assert (drawing.facts["rows"], drawing.facts["columns"]) == (334, 167)
    assert drawing.facts["high"] == 8.0 / 4  # of 2 x 2 in the corner
    assert drawing.facts["note"] == "1,001 x 500, means of 3 x 3"


# Changes.


def test_a_change_concerns_places_above_and_below_it():
    changes = Changes()
    changes.note(("a", "b"))
    assert all(map(changes.concern, [(), ("a",), ("a", "b"), ("a", "b", "c")]))
    assert not changes.concern(("a", "c"))
    changes.clear()
    assert not changes.concern(())


def test_many_changes_take_bounded_memory_and_none_is_lost():
    changes = Changes()
    for number in range(3 * MOST_PLACES):
        changes.note(("a", number))
    assert len(changes._replaced) <= MOST_PLACES
    assert changes.concern(("a", 3 * MOST_PLACES - 1))
    assert changes.concern(("b",))


# Frames.


def frame_of(view):
    frame = view.frame()
    return {row["id"]: row for row in frame.rows}


def test_a_page_is_sent_its_rows_and_then_their_changes():
    structure = {"a": {"x": 1, "y": 2}}
    view = View(lambda: structure, SPELLING)
    view.want({spelled("a"): [True, 100, 0], spelled("a", "x"): [False, 0, 0]})
    rows = frame_of(view)
    assert rows[spelled("a")]["parts"] == [spelled("a", "x"), spelled("a", "y")]
    assert rows[spelled("a", "y")]["line"] == "2"  # sent with its parent
    assert frame_of(view) == {}
    structure["a"]["x"] = 3
    view.changes.note(("a", "x"))
    assert frame_of(view) == {
        spelled("a", "x"): {"id": spelled("a", "x"), "kind": "number", "line": "3", "number": 3.0}
    }


def test_a_new_key_is_sent_with_its_value():
    structure = {"a": {"x": 1}}
    view = View(lambda: structure, SPELLING)
    view.want({spelled("a"): [True, 100, 0]})
    view.frame()
    structure["a"]["z"] = 5
    view.changes.note(("a", "z"))
    assert set(frame_of(view)) == {spelled("a"), spelled("a", "z")}


def test_parts_are_sent_again_when_a_branch_is_opened_again():
    view = View(lambda: {"a": {"x": 1}}, SPELLING)
    for _ in range(2):
        view.want({spelled("a"): [True, 100, 0]})
        assert set(frame_of(view)) == {spelled("a"), spelled("a", "x")}
        view.want({spelled("a"): [False, 0, 0]})
        assert "parts" not in frame_of(view)[spelled("a")]
    view.want({})
    view.want({spelled("a"): [True, 100, 0]})
    assert set(frame_of(view)) == {spelled("a"), spelled("a", "x")}


def test_a_missing_or_invalid_path_is_absent():
    view = View(lambda: {"a": [1]}, SPELLING)
    names = [spelled("b"), spelled("a", 5), spelled("a", -1), spelled("a", "x"), "[[", "x" * 9999]
    names += [spelled([1]), spelled("a", {}), "7", "null"]
    view.want({name: [False, 0, 0] for name in names})
    assert {row["kind"] for row in view.frame().rows} == {"absent"}


def test_of_100_000_keys_only_the_first_are_sent():
    view = View(lambda: {"a": {f"k{i}": i for i in range(100_000)}}, SPELLING)
    view.want({spelled("a"): [True, 10**9, 0]})
    rows = frame_of(view)
    assert rows[spelled("a")]["count"] == 100_000
    assert len(rows[spelled("a")]["parts"]) == MOST_PARTS


def test_of_a_long_list_only_the_newest_items_are_sent():
    view = View(lambda: {"a": [[i] for i in range(1000)]}, SPELLING)
    view.want({spelled("a"): [True, 2, 0]})
    assert frame_of(view)[spelled("a")]["parts"] == [spelled("a", 998), spelled("a", 999)]


def test_a_frame_is_bounded_and_the_rest_comes_in_the_next():
    structure = {f"i{n}": np.zeros((2000, 2000)) for n in range(4)}
    view = View(lambda: structure, SPELLING)
    view.want({spelled(name): [True, 0, 2000] for name in structure})
    first = view.frame()
    assert sum(map(len, first.buffers)) < LARGEST_FRAME + 4_000_001
    assert view.has_more
    second = view.frame()
    assert not view.has_more
    sent = [row["id"] for row in first.rows + second.rows]
    assert sorted(sent) == sorted(map(spelled, structure))


@pytest.mark.parametrize(
    "rows", [None, [], {"x": 1}, {"x": [1, 2, 3]}, {"x": [True, "a", 0]}, {"x": [True, 1]}]
)
def test_an_invalid_request_for_rows_is_an_error(rows):
    with pytest.raises(ValueError, match="expected"):
        View(dict, SPELLING).want(rows)


def test_a_frame_is_text_and_buffers_at_multiples_of_8_bytes():
    message = pack({"rows": []}, [b"abc", b"12345678"])
    (length,) = struct.unpack_from("<I", message)
    assert json.loads(message[4 : 4 + length]) == {"rows": [], "sizes": [3, 8]}
    assert (4 + length) % 8 == 0
    assert message[4 + length :] == b"abc".ljust(8, b"\0") + b"12345678"


def test_a_value_that_is_html_stays_text():
    view = View(lambda: {"a": "<img src=x onerror=alert(1)>"}, SPELLING)
    view.want({spelled("a"): [True, 0, 0]})
    assert frame_of(view)[spelled("a")]["text"] == "<img src=x onerror=alert(1)>"


# Search.


async def test_all_words_of_a_search_are_in_the_path():
    structure = {"oven": {"Temperature": 1, "log": [{"temperature": 2}]}, "pump": {"x": 1}}
    found = await search(structure, "oven TEMP", lambda path: "/".join(map(str, path)))
    assert found.paths == [("oven", "Temperature"), ("oven", "log", 0, "temperature")]


async def test_a_search_finds_what_is_near_the_top_beside_something_huge(monkeypatch):
    monkeypatch.setattr(_searching, "MOST_VISITED", 3000)
    structure = {"huge": [{} for _ in range(4000)], "small": {"needle": 1}}
    found = await search(structure, "needle", lambda path: "/".join(map(str, path)))
    assert found.paths == [("small", "needle")]
    assert "say where" in found.note


async def test_a_search_that_finds_too_much_says_so():
    found = await search({"a": [{}] * 1000}, "a", lambda path: str(path))
    assert len(found.paths) == 200
    assert found.note
