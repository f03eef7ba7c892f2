"""Parts are cached, and the cache keeps no removed part alive."""

import weakref

import numpy as np
import pytest
from sync_struct import Notifier, StaleView
from sync_struct._readable_part import MOST_CHILDREN


def test_a_part_is_the_same_object_until_it_is_replaced():
    n = Notifier({"l": [[1], [2]], "d": {}})
    assert n["l"] is n["l"]
    assert n["l"][1] is n["l"][1]
    before = n["l"]
    n["l"] = [[3]]
    assert n["l"] is not before
    assert n["l"][0] == [3]
    with pytest.raises(StaleView):
        before.append(4)
    n["l"].insert(0, [0])
    assert n["l"][0] == [0]
    assert n["l"][1] == [3]
    n["l"][1].append(5)
    assert n.read == {"l": [[0], [3, 5]], "d": {}}


def test_equal_keys_are_told_apart():
    n = Notifier({1: [], "1": [], 2.0: []})
    n[1].append("integer")
    n["1"].append("text")
    n[True].append("bool")
    n[1.0].append("float")
    n[2].append(2)
    told = []
    n.add_listener(told.append)
    for key in (1, "1", True, 1.0, 2):
        n[key].append(0)
        n[key] = []
    assert [repr(mod["path"]) for mod in told[::2]] == ["[1]", "['1']", "[True]", "[1.0]", "[2]"]
    assert [repr(mod["key"]) for mod in told[1::2]] == ["1", "'1'", "True", "1.0", "2"]


REMOVALS = {
    "set": lambda n: n.__setitem__("a", 1),
    "delete": lambda n: n.__delitem__("a"),
    "pop": lambda n: n.pop("a"),
    "clear": lambda n: n.clear(),
}


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
def test_a_removed_part_is_not_cached(remove):
    n = Notifier({"d": {"a": np.zeros(3)}})
    assert n["d"]["a"][0] == 0
    gone = weakref.ref(n.read["d"]["a"])
    remove(n["d"])
    assert gone() is None


def test_a_part_removed_with_its_container_is_not_cached():
    n = Notifier({"d": {"a": np.zeros(3)}})
    assert n["d"]["a"][0] == 0
    gone = weakref.ref(n.read["d"]["a"])
    n["d"] = {}
    assert gone() is None


def test_an_array_that_has_grown_is_not_cached_as_it_was():
    n = Notifier({"a": np.zeros(3)})
    n["a"].append(1.0)
    gone = weakref.ref(n.read["a"])
    n["a"].extend(np.zeros(1000))
    assert len(n["a"]) == 1004
    assert gone() is None


def test_only_some_parts_are_cached():
    n = Notifier({str(i): [] for i in range(10 * MOST_CHILDREN)})
    for key in n:
        n[key].append(1)
    assert len(n._children) <= MOST_CHILDREN
    assert all(n[key] == [1] for key in n)


def test_the_cached_beginning_of_a_mod_does_not_depend_on_earlier_mods():
    n = Notifier({"d": {}, "l": [1]})
    told = []
    n.add_listener(told.append)
    for _ in range(2):
        n["d"]["x"] = None
        n["d"][None] = "x"
        n["l"].append(None)
        n["l"].insert(0, 5)
        n["l"].pop()
        n["d"].pop("x")
        n["d"].pop(None)
    assert told[:7] == told[7:]
    assert [mod["action"] for mod in told[:7]] == [
        "setitem",
        "setitem",
        "append",
        "insert",
        "pop",
        "pop",
        "pop",
    ]
    assert told[1] == {"action": "setitem", "path": ["d"], "key": None, "value": "x"}
