"""Arrays grow at their end, at the publisher and at every subscriber."""

import asyncio

import numpy as np
import pyon
import pytest
from pyon.framing import Receiver
from pyon.growth import LEAST_ROOM
from sync_struct import (
    ChangedBehindBack,
    ModError,
    Notifier,
    Publisher,
    StaleView,
    Subscriber,
    process_mod,
)
from sync_struct._cursor import Cursor
from sync_struct._encoding import Encoding
from sync_struct._log import Log
from sync_struct._replica import Replica
from sync_struct._selection import EVERYTHING, Wish

GROWING = Encoding(raw=True, grows=True)
OLD, OLD_V1 = Encoding(2, numbered=False), Encoding(1, numbered=False)


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


def followed(structure):
    notifier, mods = Notifier(structure, debug=True), []
    replica = notifier.copy()

    def follow(mod):
        mods.append(pyon.decode(pyon.encode(mod)))
        process_mod(replica, mod)

    notifier.add_listener(follow)
    return notifier, mods, replica


GROWERS = {
    "a number": lambda n: n["x"].append(7.0),
    "an integer": lambda n: n["x"].append(7),
    "a numpy number": lambda n: n["x"].append(np.float32(7)),
    "numbers": lambda n: n["x"].extend([7.0, 8]),
    "numbers of an iterator": lambda n: n["x"].extend(iter([7.0])),
    "an array": lambda n: n["x"].extend(np.arange(3)),
    "the array itself": lambda n: n["x"].extend(n["x"]),
    "many": lambda n: [n["x"].append(i) for i in range(3 * LEAST_ROOM)],
    "a row": lambda n: n["img"].append([1, 2]),
    "a row that is an array": lambda n: n["img"].append(np.array([1.0, 2.0])),
    "rows": lambda n: n["img"].extend([[1, 2], [3, 4]]),
    "a record": lambda n: n["rec"].append((1.5, 2)),
    "records": lambda n: n["rec"].extend([(1.5, 2), (2.5, 3)]),
    "text": lambda n: n["s"].append(b"abc"),
    "in a tuple": lambda n: n["t"][1].append(7.0),
    "in a tuple in a tuple": lambda n: n["t"][2][0].extend([7.0, 8.0]),
    "in a list": lambda n: n["l"][0].append(True),
    "through process_mod": lambda n: process_mod(
        n, {"action": "append", "path": ["t", 1], "x": 7.0}
    ),
    "rows through process_mod": lambda n: process_mod(
        n, {"action": "append", "path": ["x"], "x": np.arange(2.0)}
    ),
}


def arrays():
    return {
        "x": np.zeros(2),
        "img": np.zeros((0, 2)),
        "rec": np.zeros(1, [("x", "f8"), ("y", "i4")]),
        "s": np.zeros(1, "S3"),
        "t": (True, np.zeros(0), (np.ones(1),)),
        "l": [np.zeros(2, bool)],
    }


@pytest.mark.parametrize("grow", GROWERS.values(), ids=GROWERS)
def test_an_array_grows_by_one_mod_that_has_the_new_rows_only(grow):
    n, mods, replica = followed(arrays())
    n["x"].append(0)
    before = n.copy()
    del mods[:]
    grow(n)
    assert same(n.read, replica)
    assert not same(n.read, before)
    assert {mod["action"] for mod in mods} == {"append"}
    assert len(mods) == (3 * LEAST_ROOM if grow is GROWERS["many"] else 1)
    n["x"][-1] = 5
    assert same(n.read, replica)


def test_values_of_arrays_that_have_grown():
    n, mods, _ = followed(arrays())
    n["x"].append(7.0)
    n["x"].extend([8, 9])
    n["img"].append([1, 2])
    n["x"].extend([])
    assert n["x"].read.tolist() == [0, 0, 7, 8, 9]
    assert n["img"].read.tolist() == [[1, 2]]
    assert n["x"].read.dtype == float
    assert mods[0] == {"action": "append", "path": ["x"], "x": 7.0}
    assert len(mods) == 3


REFUSED = {
    "a fraction to integers": (lambda n: n["i"].append(1.5), "expected what fits into int64"),
    "fractions to integers": (lambda n: n["i"].extend([1, 1.5]), "expected what fits"),
    "a complex number": (lambda n: n["x"].append(1j), "got complex128"),
    "text": (lambda n: n["x"].append("a"), "fits"),
    "text that is too long": (lambda n: n["s"].append(b"abcd"), "fits into |S3"),
    "a list as a row of numbers": (lambda n: n["x"].append([1.0]), r"expected a row of shape \(\)"),
    "a row of another length": (lambda n: n["img"].append([1, 2, 3]), r"shape \(2,\), got \(3,\)"),
    "a number as a row": (lambda n: n["img"].append(1), "extend takes several"),
    "rows of another length": (lambda n: n["img"].extend([[1]]), r"rows of shape \(2,\)"),
    "a row as rows": (lambda n: n["img"].extend([1, 2]), r"got an array of shape \(2,\)"),
    "a row that is to grow": (lambda n: n["img"][0].append(1), "only the whole"),
    "without a dimension": (lambda n: n["zero"].append(1), "without a dimension"),
    "insert": (lambda n: n["x"].insert(0, 1.0), "can grow only at its end"),
    "pop": (lambda n: n["x"].pop(), "can grow only at its end"),
    "delete": (lambda n: n["x"].__delitem__(0), "can grow only at its end"),
    "clear": (lambda n: n["x"].clear(), "can grow only at its end"),
    "in a tuple": (lambda n: n["t"][0].pop(), "can grow only at its end"),
}


@pytest.mark.parametrize(("grow", "why"), REFUSED.values(), ids=REFUSED)
def test_operations_that_a_growing_array_does_not_support_raise(grow, why):
    n, mods, replica = followed(
        {
            "i": np.arange(2),
            "x": np.zeros(2),
            "s": np.zeros(1, "S3"),
            "img": np.zeros((1, 2)),
            "zero": np.array(5),
            "t": (np.zeros(2),),
        }
    )
    with pytest.raises((TypeError, ValueError), match=why):
        grow(n)
    assert mods == []
    assert same(n.read, replica)


def test_kept_parts_follow_an_array_that_has_grown():
    n, _, replica = followed({"x": np.zeros(1), "t": (np.zeros(1), [])})
    first, second, whole, row = n["x"], n["x"], n["t"], n["x"][0:1]
    for i in range(2 * LEAST_ROOM):
        first.append(i)
        second.append(i)
        whole[0].append(i)
    row[0] = 5
    whole[1].append(6)
    assert len(first) == len(second) == 4 * LEAST_ROOM + 1
    assert len(whole[0]) == 2 * LEAST_ROOM + 1
    assert n["x"][0] == 5
    assert same(n.read, replica)
    n["x"] = np.zeros(1)
    n["t"] = (np.zeros(1), [])
    for stale in (first, second, whole[0]):
        with pytest.raises(StaleView):
            stale.append(1)


def test_arrays_that_grow_leave_those_of_others_alone():
    mine = np.arange(10.0)
    n, _, replica = followed({"x": mine[:5], "y": np.zeros(1)})
    n["x"].append(1)
    n["y"].append(1)
    older = n.read["y"]
    n["y"].append(2)
    n["z"] = (older,)  # a view of the same memory
    n["z"][0].append(3)
    n["y"].append(4)
    assert mine.tolist() == list(range(10))
    assert older.tolist() == [0, 1]
    assert n["y"].read.tolist() == [0, 1, 2, 4]
    assert n["z"][0].read.tolist() == [0, 1, 3]
    assert same(n.read, replica)


def test_debug_mode_follows_growth():
    n = Notifier({"x": np.zeros(1)}, debug=True)
    n["x"].append(1)
    n["x"].append(2)
    n.read["x"][0] = 9
    with pytest.raises(ChangedBehindBack):
        n["x"].append(3)


def test_an_array_alone_cannot_grow_in_place():
    with pytest.raises(ModError, match="keep it in a list or dict"):
        process_mod(np.zeros(1), {"action": "append", "path": [], "x": 1.0})


# What subscribers are sent.


class Reader:
    def __init__(self, log, encoding, wish=EVERYTHING, number=None):
        self.cursor = Cursor(log, encoding, wish, number)
        self.replica = Replica(lambda x: x, wish)
        self.replica.connected(legacy=not encoding.numbered)
        self.receiver = Receiver(raw_buffers=encoding.raw)
        self.mods, self.bytes = [], 0

    def read(self):
        while self.cursor.behind:
            for chunk in self.cursor.take():
                self.bytes += len(chunk)
                for message in self.receiver.feed(bytes(chunk)):
                    self.mods += self.replica.receive(message)
        return self.replica.target


def served(structure, backlog=2**20):
    notifier = Notifier(structure)
    log = Log(notifier._structure, backlog)
    notifier._structure.add_sink(log.put, True)
    return notifier, log


def old_process(target, mod):
    """Apply a mod as established subscribers do."""
    for key in mod["path"]:
        target = target[key]
    if mod["action"] == "append":
        target.append(mod["x"])
    elif mod["action"] == "setitem":
        target[mod["key"]] = mod["value"]
    else:
        raise AssertionError(mod)


def established(mods):
    target = None
    for mod in mods:
        if mod["action"] == "init":
            target = mod["struct"]
        else:
            old_process(target, mod)
    return target


@pytest.mark.parametrize("encoding", [OLD, OLD_V1], ids=["v2", "v1"])
def test_established_subscribers_are_sent_mods_that_they_understand(encoding):
    n, log = served({"x": np.zeros(2), "t": (1, np.zeros(1)), "l": []})
    reader = Reader(log, encoding)
    reader.read()
    n["l"].append(1)
    n["x"].append(1.0)
    n["x"][0] = 5
    n["t"][1].append(2.0)
    n["x"].append(2.0)
    n["l"].append(2)
    log.collect()
    assert same(reader.read(), n.read)
    assert same(established(reader.mods), n.read)
    assert [mod["action"] for mod in reader.mods] == ["init", "append", "append"] + ["setitem"] * 2
    assert [mod.get("key") for mod in reader.mods[3:]] == ["x", "t"]


REPLACERS = {
    "assigned anew": lambda n: n.__setitem__("x", [1]),
    "deleted": lambda n: n.__delitem__("x"),
    "cleared": lambda n: n.clear(),
    "moved": lambda n: n["l"].insert(0, 5),
}


@pytest.mark.parametrize("replace", REPLACERS.values(), ids=REPLACERS)
@pytest.mark.parametrize("encoding", [OLD, OLD_V1, Encoding(raw=True)])
def test_arrays_that_grow_and_are_replaced_end_equal(replace, encoding):
    n, log = served({"x": np.zeros(2), "l": [np.zeros(1)]})
    reader, part = Reader(log, encoding), None
    reader.read()
    n["x"].append(1.0)
    n["l"][0].append(1.0)
    replace(n)
    if "l" in n:
        n["l"][-1].append(2.0)
    log.collect()
    assert same(reader.read(), n.read)
    assert part is None


@pytest.mark.parametrize("encoding", [GROWING, Encoding(raw=True), Encoding(), OLD, OLD_V1])
def test_an_array_that_is_the_whole_structure_grows(encoding):
    n, log = served(np.zeros(1))
    reader = Reader(log, encoding)
    reader.read()
    n.append(1.0)
    n.extend([2.0, 3.0])
    n[0] = 9
    log.collect()
    assert reader.read().tolist() == n.read.tolist() == [9, 1, 2, 3]


@pytest.mark.parametrize("encoding", [GROWING, Encoding(raw=True)])
@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize(
    "path", [("x",), ("x", 0), ("x", -1), ("x", (-1, 0)), ("x", None), ("x", (0, 1)), ("l", 0)]
)
def test_a_part_of_an_array_that_grows_is_as_at_the_publisher(encoding, newest, path):
    n, log = served({"x": np.zeros((1, 2)), "l": [5]})
    reader = Reader(log, encoding, Wish(path, newest=newest))
    reader.read()
    for i in range(3):
        n["x"].append([i, i])
        log.collect()
        expected = n.read[path[0]]
        for key in path[1:]:
            expected = expected[key]
        assert same(reader.read(), expected)


def test_late_joiners_cost_one_snapshot_and_appends_cost_their_rows():
    n, log = served({"x": np.zeros(1000)})
    early = Reader(log, GROWING)
    early.read()
    joined = early.bytes
    for i in range(1000):
        n["x"].append(float(i))
        log.collect()
        early.read()
    assert early.bytes - joined < 1000 * 100
    late = Reader(log, GROWING)
    assert same(late.read(), n.read)
    assert same(early.replica.target, n.read)
    assert [mod["action"] for mod in late.mods] == ["init"]


async def test_a_live_plot_follows_and_may_keep_its_mods(until):
    n, kept, rows = Notifier({"x": np.zeros(0), "note": ""}), [], []
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        whole = Subscriber("n", lambda x: x, kept.append)
        plot = Subscriber("n", lambda x: x, lambda mod: rows.append(mod.get("x")), path=["x"])
        await whole.connect("127.0.0.1", publisher.port)
        await plot.connect("127.0.0.1", publisher.port)
        for i in range(300):
            n["x"].append(float(i))
            if i % 7 == 0:
                await asyncio.sleep(0)
        n["x"].extend(np.arange(5.0))
        await until(lambda: len(plot.target) == 305 and len(whole.target["x"]) == 305)
        assert same(plot.target, n.read["x"])
        model = kept[0]["struct"]
        for mod in kept[1:]:
            process_mod(model, mod)
        assert same(model, n.read)
        assert rows[1:301] == [float(i) for i in range(300)]
        await whole.close()
        await plot.close()
