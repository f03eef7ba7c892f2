import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync_struct import process_mod
from sync_struct._change import Change
from sync_struct._notifier import Notifier
from sync_struct._selection import Touch, newest, touch

INSIDE, REPLACED, OUTSIDE = Touch.INSIDE, Touch.REPLACED, Touch.OUTSIDE

TOUCHES = [
    # action, path, key, part, effect
    ("setitem", ["a"], "x", ["a"], INSIDE),
    ("append", ["a", 0], None, ["a"], INSIDE),
    ("setitem", [], "a", ["a"], REPLACED),
    ("setitem", [], "b", ["a"], OUTSIDE),
    ("delitem", [], "a", ["a", 3], REPLACED),
    ("pop", [], "a", ["a"], REPLACED),
    ("append", ["b"], None, ["a"], OUTSIDE),
    ("append", [], None, [3], OUTSIDE),
    ("append", [], None, [-1], REPLACED),
    ("insert", [], 5, [3], REPLACED),
    ("pop", [], -1, [3], REPLACED),
    ("delitem", [], "x", [3], OUTSIDE),
    ("setitem", [], 3, [3], REPLACED),
    ("setitem", [], 2, [3], OUTSIDE),
    ("setitem", [], -1, [3], REPLACED),
    ("setitem", [], slice(None), [3], REPLACED),
    ("setitem", [-1], "x", [3], REPLACED),
    ("setitem", [2], "x", [3], OUTSIDE),
    ("setitem", [], (1, 2), [(1, 2)], REPLACED),
    ("setitem", [], (1, 2), ["a"], OUTSIDE),
    ("setitem", [], None, [3], OUTSIDE),
    ("setitem", [], 1.0, [1], REPLACED),
]


TOUCHES_IN_ARRAYS = [
    ([], slice(None), [(0, 1)], REPLACED),
    ([], None, [(0,)], REPLACED),
    ([], 1, ["x"], REPLACED),
    ([], "y", [1], REPLACED),
    ([], "y", ["x"], OUTSIDE),
    ([], True, [5], REPLACED),
    ([], 4, [5], OUTSIDE),
    ([], -1, [5], REPLACED),
    ([], (0, 1), [(0, 2)], OUTSIDE),
    ([], (0, slice(None)), [(0, 2)], REPLACED),
    ([3], 0, [3, 1], OUTSIDE),
    ([3], 0, [(3, 1)], REPLACED),
]


@pytest.mark.parametrize(("path", "key", "part", "how"), TOUCHES_IN_ARRAYS)
def test_the_effect_of_an_assignment_to_an_array_on_a_part(path, key, part, how):
    assert touch("setitem", path, key, part, in_array=True) is how


def test_a_mask_that_looks_like_an_index_is_kept():
    np = pytest.importorskip("numpy")
    notifier, changes = recorded({"a": np.zeros(4)})
    notifier["a"][True] = 7
    notifier["a"][1] = 5
    left = replay({"a": np.zeros(4)}, newest(changes))
    assert left["a"].tolist() == notifier["a"].read.tolist() == [7, 5, 7, 7]


@pytest.mark.parametrize(("action", "path", "key", "part", "how"), TOUCHES)
def test_the_effect_of_a_mod_on_a_part(action, path, key, part, how):
    assert touch(action, path, key, part) is how


def recorded(structure):
    notifier, changes = Notifier(structure), []
    notifier._structure.add_sink(changes.extend, False)
    return notifier, changes


def replay(structure, changes):
    for change in changes:
        process_mod(structure, change.mod())
    return structure


def test_a_thousand_assignments_of_one_key_leave_the_last():
    notifier, changes = recorded({"a": 0, "l": []})
    for i in range(1000):
        notifier["a"] = i
        notifier["l"].append(i)
    left = newest(changes)
    assert len(left) == 1001
    assert replay({"a": 0, "l": []}, left) == notifier.read


def test_frames_written_into_an_array_leave_the_last():
    np = pytest.importorskip("numpy")
    notifier, changes = recorded({"image": np.zeros((2, 2))})
    for i in range(10):
        notifier["image"][:] = np.full((2, 2), i)
    assert len(newest(changes)) == 1


def test_mods_within_an_overwritten_value_are_left_out():
    notifier, changes = recorded({})
    notifier["a"] = {"b": []}
    notifier["a"]["b"].append(1)
    notifier["a"]["b"][0] = 2
    notifier["x"] = 1
    notifier["a"] = {}
    del notifier["x"]
    notifier["x"] = 2
    left = newest(changes)
    assert [change.key for change in left] == ["a", "x"]
    assert replay({}, left) == notifier.read


values = st.sampled_from([1, [], {}, [1, [2]], {"a": {"b": []}}, [{"a": 1}]])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_leaving_out_superseded_mods_never_changes_the_result(data):
    start = {"a": [1, 2, [3]], "b": {"a": {}, "b": [0]}}
    notifier, changes = recorded(copy.deepcopy(start))
    for _ in range(data.draw(st.integers(1, 12))):
        part = notifier
        while data.draw(st.booleans()):
            if not (inner := [p for p in parts(part) if isinstance(p, Notifier)]):
                break
            part = data.draw(st.sampled_from(inner))
        key = data.draw(
            st.sampled_from("abc")
            if isinstance(part.read, dict)
            else st.integers(-3, 3) | st.sampled_from([slice(None), slice(1, 2), slice(0, 0)])
        )
        value = copy.deepcopy(data.draw(values))
        try:
            match data.draw(st.sampled_from(["set", "delete", "pop", "append", "insert"])):
                case "set":
                    part[key] = value
                case "delete":
                    del part[key]
                case "pop":
                    part.pop(key)
                case "append":
                    part.append(value)
                case "insert":
                    part.insert(key, value)
        except (LookupError, TypeError, AttributeError):
            pass
    left = newest(changes)
    assert replay(copy.deepcopy(start), left) == notifier.read
    assert len(left) <= len(changes)


def parts(part):
    if isinstance(part.read, dict):
        return list(part.values())
    # A part looked up by a negative index has another path.
    return [part[i] for i in (*range(len(part)), *range(-len(part), 0))]


def test_a_mod_of_a_place_that_has_moved_is_kept():
    notifier, changes = recorded({"l": [1, 2, 3]})
    notifier["l"][0] = 10
    notifier["l"].insert(0, 5)
    notifier["l"][0] = 20
    assert newest(changes) == changes
    assert replay({"l": [1, 2, 3]}, newest(changes)) == notifier.read


def test_mods_of_a_place_under_two_indices_are_kept():
    changes = [
        Change({"action": "setitem", "path": path, "key": key, "value": value})
        for path, key, value in [
            (["l"], 2, {"a": 1}),
            (["l", -1], "a", 2),
            (["l"], 2, {"a": 3}),
        ]
    ]
    assert newest(changes) == changes
    assert replay({"l": [0, 0, 0]}, newest(changes)) == {"l": [0, 0, {"a": 3}]}


def test_mods_with_ambiguous_keys_are_kept():
    change = Change({"action": "append", "path": [slice(None), "x"], "x": 1}, with_v1=False)
    assert newest([change, change]) == [change, change]
