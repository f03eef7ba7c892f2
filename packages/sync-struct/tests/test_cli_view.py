import re

import numpy as np
import pytest

pytest.importorskip("rich")

from rich.console import Console
from sync_struct._cli_view import View, describe_array, image, sparkline


def drawn(view, height=100):
    console = Console(width=100, height=height, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_an_error_is_shown_before_the_first_structure():
    view = View("lab")
    assert drawn(view) == "lab  connecting\n"
    view.trouble = "nobody listens there"
    assert drawn(view) == "lab  connecting  nobody listens there\n"


def test_a_structure_is_a_tree():
    view = View("lab")
    view.state = "live"
    view.target = {"a": [1, {"b": "x" * 200}], "long": list(range(60))}
    text = drawn(view)
    assert "lab  live" in text
    assert "'a': list of 2" in text
    assert "..." in text
    assert "10 earlier" in text


def test_a_long_list_shows_its_newest_items_and_how_many_are_left_out():
    view = View("lab")
    view.target = {"temperature": 293.0, "scan": list(range(1000))}
    text = drawn(view, height=24)
    assert "999: 999" in text
    assert re.search(r"\.\.\. 9\d\d earlier", text)
    assert len(text.splitlines()) <= 24
    assert "'temperature': 293.0" in text


def test_the_tree_fits_into_the_window_and_shows_changed_items():
    view = View("lab")
    view.target = {f"key {i}": {"x": [i, i]} for i in range(100)}
    view.note({"action": "setitem", "path": [], "key": "key 77", "value": {}})
    text = drawn(view, height=24)
    assert "'key 77'" in text
    assert "'key 0'" in text
    assert "more: name one as PATH" in text
    assert len(text.splitlines()) <= 24


def test_changes_are_highlighted():
    view = View("lab")
    view.target = {"a": 1, "b": 2}
    view.note({"action": "init", "struct": {}})
    assert not view._changed
    view.note({"action": "setitem", "path": [], "key": "b", "value": 2})
    assert view._label("b", 2, ["b"]).spans != view._label("a", 1, ["a"]).spans


def test_arrays_are_small_pictures():
    assert sparkline(np.arange(8)) == "▁▂▃▄▅▆▇█"
    assert len(sparkline(np.arange(1000.0))) <= 40
    assert sparkline(np.array([1.0, np.nan, np.inf, 1.0])) == "▁▁▁▁"
    assert sparkline(np.array([-1.7e308, 1.7e308])) == "▁█"
    assert len(sparkline(np.array([0, 5e-324]))) == 2
    assert image(np.array([[0, 1], [2, 4]])) == " ░\n▒█"
    assert describe_array(np.array(5)).startswith("int64 no dimension")
    assert describe_array(np.zeros((0, 3))) == "float64 0 x 3"
    assert describe_array(np.array(["x"])) == "<U1 1"
    assert describe_array(np.zeros((2, 2, 2))) == "float64 2 x 2 x 2"
    assert describe_array(np.zeros((2, 2))).startswith("float64 2 x 2\n")
