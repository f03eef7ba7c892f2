"""Undocumented usage by programs of the established stack, which must run unchanged."""

import asyncio
import contextlib
import sys
import threading

import numpy as np
import pyon
import pytest
from sync_struct import (
    ChangedBehindBack,
    ModAction,
    ModError,
    Notifier,
    Publisher,
    Subscriber,
    process_mod,
    update_from_dict,
)


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


# notifier.publish


def test_publish_is_none_or_called_with_each_mod_in_the_thread_of_the_change():
    n = Notifier({"l": []})
    assert n.publish is None
    n["l"].append(0)
    told = []
    n.publish = lambda mod: told.append((mod, n.read["l"].copy(), threading.get_ident()))
    assert n["l"].publish is n.publish
    n["l"].append(1)
    n["x"] = 2
    n.publish = None
    n["x"] = 3
    here = threading.get_ident()
    assert told == [
        ({"action": "append", "path": ["l"], "x": 1}, [0, 1], here),
        ({"action": "setitem", "path": [], "key": "x", "value": 2}, [0, 1], here),
    ]


def test_mods_passed_to_publish_do_not_change_later():
    n, replica, mods = Notifier({}), {}, []
    n.publish = mods.append
    n["s"] = []
    n["s"].append(1)
    mods[0]["value"].append("mine")
    n["a"] = (True, np.zeros(2), {})
    n["a"][1][0] = 5
    mods[0]["value"].remove("mine")
    for mod in mods:
        process_mod(replica, mod)
    assert mods[0]["value"] == [1]  # process_mod puts the value of the mod into the target
    assert same(replica, n.read)


def test_an_exception_of_publish_is_raised_by_the_mutator_after_the_change():
    n, heard = Notifier({}), []

    def ended(mod):
        raise KeyboardInterrupt

    n.publish = ended
    n.add_listener(heard.append)
    with pytest.raises(KeyboardInterrupt):
        n["x"] = 1
    assert n.read == {"x": 1}
    assert len(heard) == 1
    with pytest.raises(KeyboardInterrupt), n.batch():
        n["x"] = 2
    assert len(heard) == 2


def test_publish_is_for_the_root_and_takes_callables_only():
    n = Notifier({"l": []})
    with pytest.raises(AttributeError, match="whole"):
        n["l"].publish = print
    with pytest.raises(TypeError, match="callable or None, got a int"):
        n.publish = 5


async def test_a_publisher_leaves_publish_to_the_program(until):
    n, told = Notifier({}), []
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        assert n.publish is None
        n.publish = told.append
        subscriber = Subscriber("n", lambda x: x)
        await subscriber.connect("127.0.0.1", publisher.port)
        n["x"] = 1
        await until(lambda: subscriber.target == {"x": 1})
        await subscriber.close()
    assert len(told) == 1
    assert n.publish is not None


# By reference


def test_assigned_values_are_kept_by_reference():
    n = Notifier({})
    value, array = [1], np.zeros(3)
    n["key"] = (True, value, {})
    n["array"] = (True, array, {})
    n["plain"] = inner = {"deep": [0]}
    assert n.raw_view["key"][1] is value
    assert n.raw_view["array"][1] is array
    mods = []
    n.publish = mods.append
    n["key"][1].append(2)
    n["array"][1][0] = 5
    n["array"][1][1:] = 7
    n["plain"]["deep"].append(1)
    assert value == [1, 2]
    assert array.tolist() == [5, 7, 7]
    assert inner == {"deep": [0, 1]}
    assert mods == [
        {"action": "append", "path": ["key", 1], "x": 2},
        {"action": "setitem", "path": ["array", 1], "key": 0, "value": 5},
        {"action": "setitem", "path": ["array", 1], "key": slice(1, None, None), "value": 7},
        {"action": "append", "path": ["plain", "deep"], "x": 1},
    ]


ENTRANCES = {
    "setitem": lambda n, v: n.__setitem__("x", (v,)),
    "append": lambda n, v: n["l"].append((v,)),
    "insert": lambda n, v: n["l"].insert(0, (v,)),
    "extend": lambda n, v: n["l"].extend([(v,)]),
    "slice": lambda n, v: n["l"].__setitem__(slice(0, 0), [(v,)]),
    "update": lambda n, v: n.update({"x": (v,)}),
    "update by a name": lambda n, v: n.update(x=(v,)),
    "setdefault": lambda n, v: n.setdefault("x", (v,)),
    "|=": lambda n, v: n.__ior__({"x": (v,)}),
    "+=": lambda n, v: n["l"].__iadd__([(v,)]),
    "process_mod": lambda n, v: process_mod(
        n, {"action": "setitem", "path": [], "key": "x", "value": (v,)}
    ),
}


@pytest.mark.parametrize("assign", ENTRANCES.values(), ids=ENTRANCES)
@pytest.mark.parametrize("value", [[1], {"a": 1}, np.zeros(2)], ids=["list", "dict", "array"])
def test_every_mutator_keeps_references_or_copies_on_demand(assign, value):
    for copy in (False, True):
        n, told = Notifier({"l": []}, copy=copy), []
        n.publish = told.append
        assign(n, value)
        kept = (n.read.get("x") or n.read["l"][0])[0]
        assert (kept is value) is not copy
        assert type(told[0].get("value", told[0].get("x"))) in (tuple, list)


def test_parts_within_tuples_are_parts():
    n = Notifier({"k": (1, [2], ({"d": np.zeros(2)},)), "flat": (1, "a")})
    replica = n.copy()
    n.add_listener(lambda mod: process_mod(replica, mod))
    assert n["flat"] == (1, "a")
    assert type(n["flat"]) is tuple
    number, items, (inner,) = n["k"]
    assert (number, len(n["k"])) == (1, 3)
    items.append(3)
    inner["d"][1] = 4
    inner["new"] = ([],)
    inner["new"][0].append(5)
    for part in n.values():
        if isinstance(part, Notifier):
            part[1].append(6)
    assert n["k"][1] == [2, 3, 6]
    assert same(n.read, replica)
    n["k"] += ([7],)
    n["k"][3].append(8)
    n["k"] *= 1
    assert n["k"][3] == [7, 8]
    with pytest.raises(TypeError, match="tuple"):
        n["k"][0] = 5
    with pytest.raises(AttributeError):
        n["k"].append(5)
    assert same(n.read, replica)


def test_a_part_within_a_tuple_that_was_replaced_is_stale():
    n = Notifier({"k": ([1],)})
    kept = n["k"][0]
    n["k"] = ([1],)
    with pytest.raises(LookupError, match="look it up again"):
        kept.append(2)


def test_a_set_is_returned_as_a_frozenset():
    n = Notifier({"tags": {1}, "t": ({2}, 3), "l": [{4}]})
    replica = n.copy()
    n.add_listener(lambda mod: process_mod(replica, mod))
    for handed in (n["tags"], n["t"][0], n["l"][0], n.get("tags"), next(iter(n["l"]))):
        with pytest.raises(AttributeError, match="add"):
            handed.add(9)
    for value in n.values():
        if value == {1}:
            assert isinstance(value, frozenset)
    n["tags"] = n["tags"] | {2}
    n["t"] = (*n["t"], {5})
    assert type(n.read["tags"]) is set
    assert n["tags"] == {1, 2}
    assert n.read == replica == {"tags": {1, 2}, "t": ({2}, 3, {5}), "l": [{4}]}


def test_a_structure_is_checked_as_an_assigned_value_is():
    import collections

    with pytest.raises(pyon.EncodeError, match="defaultdict"):
        Notifier(collections.defaultdict(list))
    with pytest.raises(pyon.EncodeError, match="object"):
        Notifier({"a": [object()]})
    cycle = []
    cycle.append(cycle)
    with pytest.raises(pyon.EncodeError):
        Notifier(cycle)
    assert Notifier({"a": Notifier([1]), "b": frozenset({1})}).read == {"a": [1], "b": {1}}


def test_a_value_that_would_be_in_two_places_is_copied():
    n = Notifier({"l": [[0]]})
    replica = n.copy()
    n.add_listener(lambda mod: process_mod(replica, mod))
    n["grid"] = [[0]] * 3
    n["grid"][0].append(1)
    n["self"] = n.read
    n["self"]["l"].append(2)
    n["l"].append([n.read["l"]])
    n["l"][0].append(3)
    n["part"] = n["l"]
    n["part"].append(4)
    n["l"].extend(n["l"])
    n["l"][0].append(5)
    n["l"] += n["l"]
    n["l"][0].append(6)
    n["d"] = {"x": [1]}
    n["e"] = {}
    n["e"].update(n["d"])
    n["e"] |= n["d"]
    n["d"]["x"].append(7)
    assert n["e"] == {"x": [1]}
    assert n["grid"] == [[0, 1], [0], [0]]
    assert same(n.read, replica)
    rows = [0]
    shared = Notifier([rows, rows])
    shared[0].append(1)
    assert shared.read == [[0, 1], [0]]


def test_debug_mode_detects_changes_by_the_owner_of_a_reference():
    mine = [1]
    n = Notifier({}, debug=True)
    n["k"] = (mine,)
    n["k"][0].append(2)
    mine.append(3)
    with pytest.raises(ChangedBehindBack, match=r"\['k'\]"):
        n["x"] = 1


@pytest.mark.parametrize("nested", [False, True])
async def test_an_array_is_sent_as_it_was_at_the_moment_of_the_change(nested, until):
    array = np.zeros(10_000)
    n, mods = Notifier({}), []
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("n", lambda x: x, lambda mod: mods.append(mod))
        await subscriber.connect("127.0.0.1", publisher.port)
        n["a"] = [array] if nested else array
        array[:] = 9  # before the loop has sent anything
        await until(lambda: len(mods) == 2)
        assert not np.any(subscriber.target["a"])
        await subscriber.close()


# ModAction, process_mod, update_from_dict


def test_mod_actions_are_named_as_in_the_mods():
    names = ["init", "append", "insert", "pop", "setitem", "delitem"]
    assert [action.name for action in ModAction] == names
    assert [action.value for action in ModAction] == names


def test_a_mod_applied_to_a_notifier_is_published():
    source, target, told = Notifier({}), Notifier({}, debug=True), []
    source.publish = lambda mod: process_mod(target, mod)
    target.publish = told.append
    source["l"] = [1]
    source["l"].append(2)
    source["l"].insert(0, 0)
    source["k"] = (True, np.zeros(2), {"a": []})
    source["k"][1][0] = 5
    source["k"][2]["a"] += [1, 2]
    source["l"].pop()
    del source["l"][0]
    assert same(source.read, target.read)
    assert [mod["action"] for mod in told[-2:]] == ["pop", "delitem"]
    assert len(told) == 8
    with pytest.raises(ModError):
        process_mod(target, {"action": "append", "path": ["no"], "x": 1})
    assert len(told) == 8


def test_a_notifier_is_brought_up_to_date_with_a_dict_again_and_again():
    n, replica = Notifier({"gone": 1}), {"gone": 1}
    n.add_listener(lambda mod: process_mod(replica, mod))
    database = {"a": {"b": [1]}, "s": {1}}
    for _ in range(3):
        database["a"]["b"].append(2)
        database["s"].add(len(database["a"]["b"]))
        update_from_dict(n, database)
        assert n.read == replica == database


@pytest.mark.parametrize(
    ("present", "new"),
    [(1, True), (True, 1), (1, 1.0), (0.0, -0.0), ((1, 2), 5), ([1], (1,)), ({1}, {True}),
     (np.zeros(2), np.zeros(2, "f4")), (np.zeros(2), np.array([0.0, -0.0]))],
    ids=str,
)  # fmt: skip
def test_values_that_only_compare_equal_are_updated(present, new):
    n, mods = Notifier({"x": present, "y": float("nan")}), []
    n.add_listener(mods.append)
    update_from_dict(n, {"x": new, "y": float("nan")})
    assert [mod["key"] for mod in mods] == ["x"]
    assert same(n.read["x"], new)


def test_a_notifier_is_brought_up_to_date_in_one_step():
    n, steps = Notifier({"gone": 1, "a": {"b": 1}}), []
    n._structure.add_sink(steps.append, False)
    update_from_dict(n, {"a": {"b": 2, "c": 3}, "d": 4})
    assert [len(changes) for changes in steps] == [4]


# The subscriber


async def test_callbacks_are_added_and_removed_while_subscribed(until):
    n = Notifier({"x": 0})
    heard = {"first": [], "second": []}
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("n", lambda x: x, heard["first"].append)
        await subscriber.connect("127.0.0.1", publisher.port)
        subscriber.notify_cbs.append(heard["second"].append)
        n["x"] = 1
        await until(lambda: heard["second"])
        subscriber.notify_cbs.remove(heard["first"].append)
        n["x"] = 2
        await until(lambda: len(heard["second"]) == 2)
        assert [mod["action"] for mod in heard["first"]] == ["init", "setitem"]
        await subscriber.close()


@pytest.mark.parametrize("how", ["publisher", "close"])
async def test_the_receive_task_ends_when_the_subscription_does(how):
    async with Publisher({"n": Notifier({})}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("n", lambda x: x)
        await subscriber.connect("127.0.0.1", publisher.port)
        assert isinstance(subscriber.receive_task, asyncio.Task)
        assert not subscriber.receive_task.done()
        await (publisher.stop() if how == "publisher" else subscriber.close())
        await asyncio.wait([subscriber.receive_task])
        await subscriber.close()


async def test_a_cancelled_receive_task_ends_the_subscription(until):
    n, mods, lost = Notifier({}), [], []
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("n", lambda x: x, mods.append, lambda: lost.append(True))
        await subscriber.connect("127.0.0.1", publisher.port)
        subscriber.receive_task.cancel()
        await until(lambda: subscriber.state == "closed")
        await until(lambda: publisher.counters["n"].subscribers == 0)
        assert lost == [True]
        await subscriber.connect("127.0.0.1", publisher.port)
        assert subscriber.state == "live"
        await subscriber.close()


# An experiment, a master, a dashboard

EXPERIMENT = """
import sys
import numpy as np
import pyon
from sync_struct import Notifier


def ask(mod):
    print(pyon.encode(mod), flush=True)


datasets = Notifier({})
datasets.publish = ask
value, array = [1], np.zeros(3)
datasets["counts"] = (True, value, {})
datasets["image"] = (False, array, {"unit": "V"})
assert datasets.raw_view["counts"][1] is value
for i in range(100):
    datasets["counts"][1].append(i)
    datasets["image"][1][i % 3] = i
datasets["image"][1][1:] = 7
datasets["done"] = True
datasets.publish = None
datasets["unseen"] = 1
assert value == [1, *range(100)], value
assert array.tolist() == [99, 7, 7], array
print(pyon.encode({"end": datasets.raw_view}), flush=True)
"""


async def test_an_experiment_a_master_and_a_dashboard(until):
    datasets = Notifier({})  # the master's
    seen = []
    experiment = await asyncio.create_subprocess_exec(
        sys.executable, "-c", EXPERIMENT, stdout=asyncio.subprocess.PIPE
    )
    async with Publisher({"datasets": datasets}) as publisher:
        await publisher.start("127.0.0.1", 0)
        dashboard = Subscriber("datasets", lambda x: x, seen.append)
        await dashboard.connect("127.0.0.1", publisher.port)
        async for line in experiment.stdout:
            message = pyon.decode(line.decode())
            if "end" in message:
                break
            process_mod(datasets, message)
        await until(lambda: dashboard.target.get("done"))
        expected = message["end"]
        del expected["unseen"]
        assert same(dashboard.target, expected)
        model = seen[0]["struct"]
        for mod in seen[1:]:
            process_mod(model, mod)
        assert same(model, expected)
        appended = [mod["x"] for mod in seen if mod.get("path") == ["counts", 1]]
        assert appended == list(range(100))
    with contextlib.suppress(ProcessLookupError):
        assert await experiment.wait() == 0
    await asyncio.wait([dashboard.receive_task])
