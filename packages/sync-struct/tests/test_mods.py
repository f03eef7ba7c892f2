import numpy as np
import pytest
from sync_struct import ModError, SyncStructError, process_mod

CASES = {
    "append": ([1], {"action": "append", "path": [], "x": 2}, [1, 2]),
    "insert": ([1], {"action": "insert", "path": [], "i": 0, "x": 2}, [2, 1]),
    "pop of a list": ([1, 2], {"action": "pop", "path": [], "i": -1}, [1]),
    "pop of a dict": ({"a": 1}, {"action": "pop", "path": [], "i": "a"}, {}),
    "setitem": ({}, {"action": "setitem", "path": [], "key": (1, 2), "value": 3}, {(1, 2): 3}),
    "setitem of a slice": (
        [1, 2, 3],
        {"action": "setitem", "path": [], "key": slice(1, None), "value": []},
        [1],
    ),
    "delitem": ({"a": {"b": 1}}, {"action": "delitem", "path": ["a"], "key": "b"}, {"a": {}}),
    "delitem of a slice": ([1, 2], {"action": "delitem", "path": [], "key": slice(None)}, []),
    "path": ({"a": [{}]}, {"action": "append", "path": ["a"], "x": 1}, {"a": [{}, 1]}),
}


@pytest.mark.parametrize(("target", "mod", "result"), CASES.values(), ids=CASES)
def test_each_action_has_its_effect(target, mod, result):
    process_mod(target, mod)
    assert target == result


def test_array_elements_are_set():
    target = {"a": np.zeros(3)}
    process_mod(
        target, {"action": "setitem", "path": ["a"], "key": slice(1, None, None), "value": 3.5}
    )
    assert target["a"].tolist() == [0, 3.5, 3.5]


MISFITS = {
    "no such key on the way": {"action": "append", "path": ["b"], "x": 1},
    "no such index": {"action": "pop", "path": ["a"], "i": 7},
    "no such key": {"action": "delitem", "path": [], "key": "b"},
    "no list": {"action": "append", "path": [], "x": 1},
    "not indexable": {"action": "append", "path": ["a", 0, "x"], "x": 1},
    "unknown action": {"action": "explode", "path": []},
    "init": {"action": "init", "struct": {}},
    "missing field": {"action": "setitem", "path": [], "key": "b"},
    "missing path": {"action": "setitem", "key": "b", "value": 1},
    "missing action": {"path": []},
    "wrong type": {"action": "setitem", "path": ["a"], "key": "b", "value": 1},
    "no dict": 5,
}


@pytest.mark.parametrize("mod", MISFITS.values(), ids=MISFITS)
def test_a_mod_that_does_not_fit_raises_and_leaves_the_target(mod):
    target = {"a": [1]}
    with pytest.raises(ModError) as caught:
        process_mod(target, mod)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SyncStructError)
    assert target == {"a": [1]}
    assert len(str(caught.value)) > 10
