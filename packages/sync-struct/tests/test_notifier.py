import copy
import operator
import pickle
import sys
import threading
import types

import numpy as np
import pyon
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sync_struct import ChangedBehindBack, Notifier, StaleView, process_mod
from sync_struct._change import MAX_LEVELS, Change


def followed(structure):
    """Return a notifier in debug mode, its mods, and a replica that applies them."""
    mods = []
    notifier = Notifier(structure, debug=True)
    replica = notifier.copy()

    def follow(mod):
        mods.append(copy.deepcopy(mod))
        process_mod(replica, mod)

    notifier.add_listener(follow)
    return notifier, mods, replica


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


def iadd(n):
    n["l"] += [8, 9]


def imul(n):
    n["l"] *= 2


def ior(n):
    n["d"] |= {"z": 1}


def number(n):
    n["d"]["x"] += 1


def array_arithmetic(n):
    n["a"] += 1
    n["a"] *= 2


MUTATIONS = {
    "set": lambda n: n.__setitem__("new", 5),
    "delete": lambda n: n.__delitem__("l"),
    "append": lambda n: n["l"].append({}),
    "insert": lambda n: n["l"].insert(1, 5),
    "insert near the end": lambda n: n["l"].insert(-1, 5),
    "pop": lambda n: n["l"].pop(),
    "pop first": lambda n: n["l"].pop(0),
    "pop key": lambda n: n.pop("d"),
    "pop key that is missing": lambda n: n.pop("gone", None),
    "popitem": lambda n: n.popitem(),
    "nested path": lambda n: n["d"]["y"]["z"].append(1),
    "slice set": lambda n: n["l"].__setitem__(slice(1, 3), [7, 7, 7]),
    "slice set from an iterator": lambda n: n["l"].__setitem__(slice(0, 0), iter("ab")),
    "slice delete": lambda n: n["l"].__delitem__(slice(0, 2)),
    "array element": lambda n: n["a"].__setitem__((1, 2), 5),
    "array row": lambda n: n["a"][1].__setitem__(0, 5),
    "array slice": lambda n: n["a"].__setitem__(slice(1, None), 3.5),
    "array view of a slice": lambda n: n["a"][1:][0].__setitem__(0, 6),
    "array mask": lambda n: n["a"].__setitem__(n["a"].read == 0, 4),
    "array arithmetic": array_arithmetic,
    "array without a dimension": lambda n: n["scalar"].__setitem__((), 6),
    "extend": lambda n: n["l"].extend(iter([5, 6])),
    "extend by nothing": lambda n: n["l"].extend([]),
    "update": lambda n: n["d"].update({"x": 5}, k=6),
    "clear a dict": lambda n: n["d"].clear(),
    "clear a list": lambda n: n["l"].clear(),
    "clear the root": lambda n: n.clear(),
    "setdefault": lambda n: n.setdefault("fresh", []).append(1),
    "setdefault that is there": lambda n: n.setdefault("l", []).append(1),
    "remove": lambda n: n["l"].remove(3),
    "sort": lambda n: n["l"].sort(key=abs, reverse=True),
    "reverse": lambda n: n["l"].reverse(),
    "+= on a list": iadd,
    "*= on a list": imul,
    "|= on a dict": ior,
    "+= on a number": number,
    "keys of any type": lambda n: [n.__setitem__(k, 1) for k in (1, 2.5, None, (1, 2), b"x")],
    "a part elsewhere": lambda n: n.__setitem__("copy", n["d"]),
}


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS)
def test_every_mutation_reaches_the_replica(mutate):
    notifier, _, replica = followed(
        {
            "l": [3, 1, 2],
            "d": {"x": 1, "y": {"z": []}},
            "a": np.zeros((2, 3)),
            "scalar": np.array(5),
        }
    )
    before = copy.deepcopy(notifier.read)
    mutate(notifier)
    assert same(replica, notifier.read)
    unchanged = mutate in (MUTATIONS["extend by nothing"], MUTATIONS["pop key that is missing"])
    assert same(before, notifier.read) == unchanged


def test_mods_have_the_established_form():
    notifier, mods, _ = followed({"l": [3, 1]})
    notifier["l"].sort()
    notifier["l"].extend([5])
    notifier["l"].clear()
    notifier["x"] = (1,)
    del notifier["x"]
    assert mods == [
        {"action": "setitem", "path": ["l"], "key": slice(None, None, None), "value": [1, 3]},
        {"action": "setitem", "path": ["l"], "key": slice(2, 2, None), "value": [5]},
        {"action": "delitem", "path": ["l"], "key": slice(None, None, None)},
        {"action": "setitem", "path": [], "key": "x", "value": (1,)},
        {"action": "delitem", "path": [], "key": "x"},
    ]


def test_reads_like_the_list_or_dict_it_stands_for():
    structure = {"l": [3, [1], 3], "d": {"x": 1}, "a": np.arange(3)}
    n = Notifier(structure)
    assert n.read is structure
    assert n.raw_view is structure
    assert len(n) == 3
    assert "l" in n
    assert 3 in n["l"]
    assert list(n) == list(n.keys()) == ["l", "d", "a"]
    assert list(reversed(n)) == ["a", "d", "l"]
    assert dict(n["d"].items()) == {"x": 1}
    assert list(n["d"].values()) == [1]
    assert n.get("d") == {"x": 1}
    assert n.get("no") is None
    assert n.get("no", 5) == 5
    assert n["d"]["x"] == 1
    assert n["l"].index(3, 1) == 2
    assert n["l"].count(3) == 2
    assert n["l"] == [3, [1], 3]
    assert n["l"][1:] == [[1], 3]
    assert n["l"] != [3]
    assert list(n["l"])[1] == [1]
    assert next(iter(reversed(n["l"]))) == 3
    assert isinstance(next(iter(n.values())), Notifier)
    assert bool(n)
    assert not Notifier([])
    assert np.sum(n["a"]) == 3
    assert np.asarray(n["a"], dtype=float).tolist() == [0, 1, 2]
    assert repr(Notifier([[1]])) == "Notifier([[1]])"
    with pytest.raises(TypeError):
        hash(n)
    with pytest.raises(AttributeError):
        n["l"].items()
    with pytest.raises(AttributeError):
        n.append(1)


def test_copies_pickles_and_probes_do_not_recurse():
    notifier = Notifier({"l": [1]})
    for other in (
        copy.copy(notifier),
        copy.deepcopy(notifier),
        pickle.loads(pickle.dumps(notifier)),
    ):
        assert other == notifier
        other["l"].append(2)
    assert notifier == {"l": [1]}
    assert not hasattr(notifier, "_repr_html_")
    assert "append" in dir(notifier)


UNENCODABLE = {
    "object": object(),
    "nested": {"a": [1, {"b": object()}]},
    "lock": [threading.Lock()],
    "array of objects": np.array([object()]),
    "cycle": (lambda x: (x.append(x), x)[1])([]),
}


@pytest.mark.parametrize("value", UNENCODABLE.values(), ids=UNENCODABLE)
def test_a_value_that_cannot_be_encoded_raises_and_changes_nothing(value):
    notifier, mods, replica = followed({"l": [1]})
    for mutate in (
        lambda: notifier.__setitem__("x", value),
        lambda: notifier["l"].append(value),
        lambda: notifier["l"].insert(0, value),
        lambda: notifier["l"].extend([value]),
    ):
        with pytest.raises(pyon.EncodeError):
            mutate()
    notifier["l"].append(2)
    assert notifier == replica == {"l": [1, 2]}
    assert len(mods) == 1


@given(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    st.integers() | st.floats() | st.text() | st.tuples(st.integers()),
    st.lists(st.integers() | st.text(), max_size=3),
)
@example(10**300, 1e300, [])
@example(-(10**5000), -1e300, [])
@example(np.float64(1.5), True, [None])
def test_a_mod_is_written_as_the_codec_writes_it(value, key, path):
    for whole in (value, [value], {"a": [value]}):
        mod = {"action": "setitem", "path": path, "key": key, "value": whole}
        assert Change(mod).line.decode() == pyon.encode(mod, version=2)


NESTS = {
    "list": lambda x: [x],
    "dict": lambda x: {"a": x},
    "dict with other keys": lambda x: {1: x},
    "tuple": lambda x: (x,),
}


def nested(nest, levels, innermost=0):
    value = innermost
    for _ in range(levels):
        value = nest(value)
    return value


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS)
def test_a_value_that_is_too_deep_for_the_structure_is_refused(nest):
    notifier, mods, replica = followed({"a": {"b": []}})
    fits = MAX_LEVELS - 3  # the root, and the values at "a" and "b"
    part = notifier["a"]["b"]
    part.append(nested(nest, fits))
    part[:] = [nested(nest, fits), 1]
    part.reverse()
    before = pyon.encode(notifier.read)
    for mutate in (
        lambda: part.append(nested(nest, fits + 1)),
        lambda: part.insert(0, nested(nest, fits + 1)),
        lambda: part.__setitem__(0, nested(nest, fits + 1)),
        lambda: part.extend([nested(nest, fits + 1)]),
        lambda: notifier["a"].__setitem__(nested(NESTS["tuple"], fits + 2), 1),
    ):
        with pytest.raises(pyon.EncodeError, match=r"too deeply for root\['a'\].* 127 levels"):
            mutate()
    assert pyon.encode(notifier.read) == before == pyon.encode(replica)
    assert len(mods) == 3


@pytest.mark.parametrize(
    ("mutate", "error"),
    [
        (lambda n: n["l"].pop(9), IndexError),
        (lambda n: n.pop("no"), KeyError),
        (lambda n: n.__delitem__("no"), KeyError),
        (lambda n: n["l"].__setitem__(9, 1), IndexError),
        (lambda n: n["l"].remove(9), ValueError),
        (lambda n: n.__setitem__([], 1), TypeError),
        (lambda n: n.__setitem__(slice(None), 1), TypeError),
        (lambda n: n.__setitem__(float("nan"), 1), ValueError),
        (lambda n: n["a"].__setitem__(slice(None), [1, 2]), ValueError),
        (lambda n: n["l"].sort(key=lambda x: x.no), AttributeError),
        (lambda n: Notifier({}).popitem(), KeyError),
    ],
)
def test_a_mutation_that_fails_is_not_published(mutate, error):
    notifier, mods, replica = followed({"l": [1, 2, 3], "a": np.zeros(3)})
    with pytest.raises(error):
        mutate(notifier)
    assert mods == []
    assert same(notifier.read, replica)


def test_with_copy_assigned_values_stay_independent():
    first = {"d": [0]}
    notifier = Notifier(first, copy=True, debug=True)
    replica = notifier.copy()
    notifier.add_listener(lambda mod: process_mod(replica, mod))
    mine, array = [[1]], np.zeros(3)
    notifier["a"] = mine
    notifier["b"] = mine
    notifier["c"] = array
    first["d"].append(1)
    mine[0].append(2)
    array[0] = 7
    notifier["a"][0].append(3)
    notifier["c"][1] = 1
    assert same(notifier.read, {"d": [0], "a": [[1, 3]], "b": [[1]], "c": np.array([0.0, 1, 0])})
    assert same(notifier.read, replica)


def test_a_part_that_was_removed_cannot_be_changed():
    notifier, mods, _ = followed({"a": [1], "l": [[1], [2]]})
    part, second, deep = notifier["a"], notifier["l"][1], notifier["l"][0]
    notifier["a"] = [1]
    notifier["l"].insert(0, [])
    del notifier["l"][2]
    count = len(mods)
    for stale in (part, second, deep):
        with pytest.raises(StaleView):
            stale.append(2)
    assert len(mods) == count
    with pytest.raises(LookupError):
        del part[0]


def test_debug_mode_detects_a_change_made_without_the_notifier():
    backing = {"a": {"b": [1, 2]}}
    notifier = Notifier(backing, debug=True)
    notifier["x"] = 1
    backing["a"]["b"][1] = 3
    with pytest.raises(ChangedBehindBack, match=r"\['a'\]\['b'\]\[1\]"):
        notifier["x"] = 2
    assert notifier["x"] == 1
    notifier["x"] = 2


def test_changes_of_a_batch_are_published_at_its_end():
    notifier, mods, _ = followed({"l": []})
    with notifier.batch():
        notifier["l"].append(1)
        with notifier["l"].batch():
            notifier["l"].append(2)
        assert mods == []
        assert notifier["l"] == [1, 2]
    assert len(mods) == 2
    with pytest.raises(ZeroDivisionError), notifier.batch():
        notifier["l"].extend([3]) or 1 / 0
    assert len(mods) == 3


def test_a_listener_that_raises_is_logged_and_others_are_called(caplog):
    notifier = Notifier({})
    mods = []

    def bad(mod):
        raise RuntimeError("no")

    notifier.add_listener(bad)
    notifier.add_listener(mods.append)
    notifier["x"] = 1
    assert len(mods) == 1
    assert caplog.text.count("RuntimeError: no") == 1
    notifier.remove_listener(bad)
    notifier["x"] = 2
    assert caplog.text.count("RuntimeError: no") == 1


def test_many_threads_lose_nothing():
    notifier, _, replica = followed({"l": [], "d": {}})
    notifier._structure.witness = None  # would make it quadratic

    def work(name):
        for i in range(200):
            notifier["l"].append((name, i))
            notifier["d"][name] = i
            with notifier.batch():
                notifier["d"].setdefault("count", 0)
                notifier["d"]["count"] += 1

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notifier["d"]["count"] == 800
    assert len(notifier["l"]) == 800
    assert notifier == replica


ARRAYS = {
    "frame": np.arange(6000, dtype=np.uint16).reshape(60, 100),
    "doubles": np.linspace(0, 1, 1000),
    "one row": np.zeros((1, 5000), np.float32),
    "bools": np.ones(5000, bool),
    "big-endian": np.arange(5000, dtype=">i4"),
    "columns": np.asfortranarray(np.arange(6000.0).reshape(60, 100)),
    "every second": np.arange(10_000)[::2],
    "complex": np.ones(5000, complex),
    "long doubles": np.ones(5000, np.longdouble),
    "dates": np.zeros(5000, "M8[s]"),
    "records": np.zeros(1000, [("a", "u1"), ("b", "f8")]),
    "texts": np.full(1000, "text"),
    "small": np.arange(3),
    "none": np.zeros((0, 5000)),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_is_written_as_the_codec_writes_it(array):
    for mod in (
        {"action": "setitem", "path": ["a"], "key": "b", "value": array},
        {"action": "append", "path": [], "x": array},
        {"action": "setitem", "path": [], "key": (slice(None), 0), "value": array},
    ):
        for _ in range(2):
            buffers = []
            text = pyon.encode(mod, version=2, buffer_callback=buffers.append)
            change = Change(mod)
            assert change.line.decode() == text
            assert list(map(bytes, change.buffers)) == list(map(bytes, buffers))
            assert not any(
                np.may_share_memory(np.frombuffer(buffer, np.uint8), array)
                for buffer in change.buffers
            )


def test_appends_to_a_long_list_cost_the_same(monkeypatch):
    encoded = []
    real = pyon.encode

    def counting(*args, **kwargs):
        text = real(*args, **kwargs)
        encoded.append(len(text))
        return text

    monkeypatch.setattr(pyon, "encode", counting)
    notifier = Notifier(list(range(100_000)))
    encoded.clear()
    notifier.append(1)
    notifier.extend([2])
    assert sum(encoded) < 300


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)
keys = st.sampled_from("abc") | st.integers(-2, 2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_sequence_of_mutations_reaches_the_replica(data):
    notifier, _, replica = followed({"a": [], "b": {}})
    for _ in range(data.draw(st.integers(1, 15))):
        part = notifier
        while data.draw(st.booleans()):
            inner = [
                part[k] for k in (part.keys() if isinstance(part.read, dict) else range(len(part)))
            ]
            inner = [p for p in inner if isinstance(p, Notifier)]
            if not inner:
                break
            part = data.draw(st.sampled_from(inner))
        is_dict = isinstance(part.read, dict)
        choices = ["set", "delete", "pop", "clear"] + (
            ["update"] if is_dict else ["append", "insert", "extend", "reverse"]
        )
        action = data.draw(st.sampled_from(choices))
        key = data.draw(st.sampled_from("abc") if is_dict else st.integers(-3, 3))
        value = copy.deepcopy(data.draw(values))
        try:
            match action:
                case "set":
                    part[key] = value
                case "delete":
                    del part[key]
                case "pop":
                    part.pop(key)
                case "clear":
                    part.clear()
                case "update":
                    part.update({key: value})
                case "append":
                    part.append(value)
                case "insert":
                    part.insert(key, value)
                case "extend":
                    part.extend([value, copy.deepcopy(value)])
                case "reverse":
                    part.reverse()
        except (KeyError, IndexError):
            pass
        assert same(notifier.read, replica)


def test_an_array_is_sorted_as_numpy_does_it_and_in_one_mod():
    n, mods = Notifier({"x": np.array([3.0, 1.0, 2.0]), "im": np.array([[2, 1], [1, 2]])}), []
    n.add_listener(mods.append)
    n["x"].sort()
    n["im"].sort()
    assert n["x"].read.tolist() == [1, 2, 3]
    assert n["im"].read.tolist() == [[1, 2], [1, 2]]
    assert len(mods) == 2


@pytest.mark.parametrize(
    "arrange",
    [
        lambda n: n["x"].sort(key=abs),
        lambda n: n["x"].sort(reverse=True),
        lambda n: n["x"].reverse(),
        lambda n: n["z"].reverse(),
        lambda n: n["d"].sort(),
        lambda n: n["t"].reverse(),
    ],
)
def test_only_lists_can_be_sorted_and_reversed(arrange):
    n, mods = Notifier({"x": np.arange(3), "z": np.array(1), "d": {"b": 1}, "t": ([1], 2)}), []
    n.add_listener(mods.append)
    with pytest.raises(TypeError, match=r"expected a list to arrange|as numpy does it"):
        arrange(n)
    assert mods == []


ELLIPSES = {
    "all": lambda a: a.__setitem__(..., 7),
    "all of a part": lambda a: a[...].__setitem__((0, 1, 0), 7),
    "first": lambda a: a.__setitem__((..., 1), 7),
    "last": lambda a: a.__setitem__((1, ...), 7),
    "between": lambda a: a.__setitem__((0, ..., 1), 7),
    "nothing": lambda a: a.__setitem__((0, 0, 1, ...), 7),
    "with a new axis": lambda a: a.__setitem__((None, ..., 1), 7),
    "with a mask": lambda a: a.__setitem__((..., np.array([[True, False], [False, True]])), 7),
    "in place": lambda a: operator.iadd(a[..., 0], 1),
}


@pytest.mark.parametrize("change", ELLIPSES.values(), ids=ELLIPSES)
def test_an_ellipsis_reaches_subscribers_as_the_slices_that_it_stands_for(change):
    n = Notifier({"x": np.zeros((2, 2, 2))}, debug=True)
    plain, replica = np.zeros((2, 2, 2)), n.copy()
    n.add_listener(lambda mod: process_mod(replica, mod))
    change(plain)
    change(n["x"])
    assert plain.tolist() == n["x"].read.tolist() == replica["x"].tolist()
    assert plain.any()


def test_an_operator_in_place_on_an_ellipsis_is_one_mod():
    n, mods, replica = followed({"x": np.zeros((2, 2))})
    n["x"][...] += 1
    n["x"][..., 1] += 1
    assert n["x"].read.tolist() == replica["x"].tolist() == [[1, 2], [1, 2]]
    assert len(mods) == 2


def test_an_array_without_a_dimension_is_set_by_an_ellipsis():
    n, mods = Notifier({"z": np.array(1.0)}), []
    n.add_listener(mods.append)
    n["z"][...] = 5
    assert n["z"].read == 5
    assert mods == [{"action": "setitem", "path": ["z"], "key": (), "value": 5}]


IN_PLACE = ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"]
BITWISE = ["iand", "ior", "ixor", "ilshift", "irshift"]


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, float) for name in IN_PLACE] + [(name, int) for name in BITWISE]
)
def test_operators_in_place_change_arrays_at_the_publisher_and_at_subscribers(name, dtype):
    operate = getattr(operator, name)
    n, mods, replica = followed({"x": np.arange(1, 5, dtype=dtype), "t": (np.array(6, dtype),)})
    n["x"] = operate(n["x"], 3)
    n["x"][1:] = operate(n["x"][1:], 2)
    n["t"][0].__setitem__((), operate(np.asarray(n["t"][0]), 2))
    operate(n["t"][0], 2)
    plain, scalar = np.arange(1, 5, dtype=dtype), np.array(6, dtype)
    plain = operate(plain, 3)
    plain[1:] = operate(plain[1:], 2)
    scalar = operate(operate(scalar, 2), 2)
    assert n["x"].read.tolist() == replica["x"].tolist() == plain.tolist()
    assert n["t"][0].read == replica["t"][0] == scalar
    assert len(mods) == 4


def test_an_operator_that_changes_arrays_is_refused_where_there_is_none():
    n, mods, _ = followed({"l": [1], "d": {}})
    with pytest.raises(TypeError, match="-="):
        n["l"] -= [1]
    with pytest.raises(TypeError, match="&="):
        n["d"] &= {}
    assert mods == []


def test_a_change_while_another_thread_imports_numpy(monkeypatch):
    n = Notifier({"points": []})
    monkeypatch.setitem(sys.modules, "numpy", types.ModuleType("numpy"))  # nothing is in it yet
    n["points"].append(("a", (1, [2])))
    monkeypatch.undo()
    assert n.read == {"points": [("a", (1, [2]))]}
