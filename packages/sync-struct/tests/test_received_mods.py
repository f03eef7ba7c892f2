"""Mods belong to the callbacks that receive them; kept to the end, they make the structure."""

import asyncio
import threading

import numpy as np
import pyon
import pytest
from pyon.framing import Message
from sync_struct import Notifier, ProtocolError, Publisher, Subscriber, process_mod
from sync_struct._actions import walk
from sync_struct._copies import copy_of
from sync_struct._replica import Replica
from sync_struct._selection import EVERYTHING, Wish


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


def folded(mods):
    model = None
    for mod in mods:
        if mod["action"] == "init":
            model = mod["struct"]
        else:
            process_mod(model, mod)
    return model


def change_in_one_turn(n):
    n["s"] = []
    n["s"].append(1)
    n["s"].append(2)
    n["a"] = np.zeros(3)
    n["a"][0] = 5
    n["t"] = ([], {"d": []})
    n["t"][0].append(1)
    n["t"][1]["d"].append(2)
    n["s"].append([])
    n["s"][-1].append(3)
    n["s"].insert(0, {"x": []})
    n["s"][0]["x"].append(4)


async def subscribe(publisher, until, **options):
    kept = []
    subscriber = Subscriber("n", lambda x: x, kept.append, **options)
    await subscriber.connect("127.0.0.1", publisher.port)
    return subscriber, kept


@pytest.mark.parametrize(
    "options",
    [{}, {"raw_buffers": False}, {"max_rate": float("inf")}, {"path": ["part"]}],
    ids=["all", "without raw buffers", "conflated", "a part"],
)
@pytest.mark.parametrize("batch", [False, True])
async def test_mods_that_were_kept_make_the_structure(until, options, batch):
    n = Notifier({"part": {}})
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber, kept = await subscribe(publisher, until, **options)
        if batch:
            with n.batch():
                change_in_one_turn(n["part"])
        else:
            change_in_one_turn(n["part"])
        n["part"]["end"] = True
        expected = n.read if "path" not in options else n.read["part"]
        await until(lambda: same(subscriber.target, expected))
        assert same(folded(kept), expected)
        assert same(subscriber.target, expected)
        await subscriber.close()


async def test_mods_of_an_established_publisher_that_were_kept_make_the_structure(until):
    async def serve(reader, writer):
        if await reader.readline() != b"ARTIQ sync_struct\n":
            writer.close()
            return
        writer.write(
            b'{"action":"init","struct":{"l":[]}}\n'
            b'{"action":"setitem","path":[],"key":"s","value":[1]}\n'
            b'{"action":"append","path":["s"],"x":2}\n'
        )
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        mods = []
        subscriber = Subscriber("n", lambda x: x, mods.append)
        await subscriber.connect("127.0.0.1", server.sockets[0].getsockname()[1])
        await until(lambda: len(mods) == 3)
        assert folded(mods) == subscriber.target == {"l": [], "s": [1, 2]}
        await subscriber.close()


async def test_a_callback_may_change_its_mod(until):
    n = Notifier({"l": [3, 1, 2]})
    second = []

    def spoil(mod):
        if mod["action"] == "init":
            mod["struct"]["l"].sort()
        else:
            mod["value"].sort()
            mod["path"].append("gone")
        mod.clear()

    async def spoil_later(mod):
        await asyncio.sleep(0)
        spoil(mod)

    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("n", lambda x: x, [spoil, spoil_later, second.append])
        await subscriber.connect("127.0.0.1", publisher.port)
        assert subscriber.target == {"l": [3, 1, 2]}
        n["m"] = [2, 1]
        await until(lambda: len(second) == 2)
        assert subscriber.target == n.read == {"l": [3, 1, 2], "m": [2, 1]}
        assert second == [
            {"action": "init", "struct": {"l": [3, 1, 2]}},
            {"action": "setitem", "path": [], "key": "m", "value": [2, 1]},
        ]
        await subscriber.close()


@pytest.mark.parametrize("together", [True, False])
async def test_a_mod_kept_by_the_only_callback_is_not_changed_by_later_mods(together, until):
    n, kept = Notifier({"l": [[1]]}), []
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("n", lambda x: x, kept.append)
        await subscriber.connect("127.0.0.1", publisher.port)
        changes = [
            lambda: n.__setitem__("m", [2]),
            lambda: n["m"].append(3),
            lambda: n["l"][0].append(4),
        ]
        if together:
            with n.batch():
                for change in changes:
                    change()
            await until(lambda: len(kept) == 4)
        for number, change in enumerate([] if together else changes, 2):
            change()
            await until(lambda number=number: len(kept) == number)
        assert subscriber._subscription.replica.number == n._structure.number
        assert subscriber.target == {"l": [[1, 4]], "m": [2, 3]}
        assert kept[0] == {"action": "init", "struct": {"l": [[1]]}}
        assert kept[1] == {"action": "setitem", "path": [], "key": "m", "value": [2]}
        await subscriber.close()


def test_a_copy_shares_nothing_that_can_change():
    original = [[1], {"a": [2]}, ([3],), np.zeros(2), {4}, {"b": {"c": [5]}}]
    before, copy = pyon.encode(original), copy_of(original)
    assert same(copy, original)
    copy[0].append(9)
    copy[1]["a"].append(9)
    copy[2][0].append(9)
    copy[3][0] = 9
    copy[4].add(9)
    copy[5]["b"]["c"].append(9)
    assert pyon.encode(original) == before


def test_listeners_and_publish_receive_their_own_mods():
    n = Notifier({})
    first, second, third = [], [], []
    n.publish = first.append
    n.add_listener(second.append)
    n.add_listener(third.append)
    change_in_one_turn(n)
    models = [{}, {}, {}]
    for mods, model in zip((first, second, third), models, strict=True):
        for mod in mods:
            process_mod(model, mod)
    assert all(same(model, n.read) for model in models)


class Received:
    """A replica to which the test passes messages."""

    def __init__(self, wish=EVERYTHING):
        self.replica = Replica(lambda x: x, wish)

    def connect(self, number, resumed):
        self.replica.connected(legacy=False)
        self.say(action="hello", stream="s", number=number, resumed=resumed, features=[])

    def say(self, **message):
        return self.replica.receive(Message(pyon.encode(message, version=2).encode()))

    def set(self, key, **number):
        return self.say(action="setitem", path=[], key=key, value=1, **number)


@pytest.fixture
def received():
    received = Received()
    received.connect(0, resumed=False)
    received.say(action="init", struct={}, number=0)
    return received


def test_mods_without_a_number_are_applied_with_the_one_that_ends_their_step(received):
    assert received.set("x") == received.set("y") == []
    assert (received.replica.target, received.replica.number) == ({}, 0)
    assert [mod["key"] for mod in received.set("z", number=3)] == ["x", "y", "z"]
    assert (received.replica.target, received.replica.number) == ({"x": 1, "y": 1, "z": 1}, 3)


HELLO = {"stream": "s", "number": 0, "resumed": False, "features": []}
NO_HELLOS = {
    "number": {"number": "0"},
    "number that is true": {"number": True},
    "stream": {"stream": 5},
    "resumed": {"resumed": 1},
    "no features": {"features": None},
    "features": {"features": {"raw_buffers": 1}},
    "feature": {"features": [["raw_buffers"]]},
    "resumption that nobody asked for": {"resumed": True},
}


@pytest.mark.parametrize("odd", NO_HELLOS.values(), ids=NO_HELLOS)
@pytest.mark.parametrize("mods_only", [False, True])
def test_an_invalid_hello_is_an_error(odd, mods_only):
    received = Received(Wish(mods_only=mods_only))
    received.replica.connected(legacy=False)
    with pytest.raises(ProtocolError):
        received.say(action="hello", **HELLO | odd)
    received.say(action="hello", **HELLO)


@pytest.mark.parametrize("number", ["1", True, 1.0, [1]])
def test_an_invalid_number_is_an_error(received, number):
    for say in (
        lambda: received.set("x", number=number),
        lambda: received.say(action="init", struct={}, number=number),
        lambda: received.say(action="absent", number=number),
        lambda: received.say(action="gap", number=number),
    ):
        with pytest.raises(ProtocolError, match="number of a step"):
            say()
    assert (received.replica.target, received.replica.number) == ({}, 0)


@pytest.mark.parametrize("resumed", [True, False])
def test_half_a_step_is_void_when_the_connection_is_lost(received, resumed):
    received.set("x")
    received.connect(2, resumed)
    if not resumed:
        received.say(action="init", struct={}, number=0)
    received.set("y", number=1)
    assert received.replica.target == {"y": 1}


def test_mods_are_ignored_until_the_structure_has_arrived(received):
    assert received.set("x", number=1)
    received.replica.give_up()
    assert received.set("y", number=2) == []
    assert received.replica.number is None
    received.say(action="init", struct={"z": 0}, number=2)
    received.set("y", number=3)
    assert received.replica.target == {"z": 0, "y": 1}


def test_a_guarded_target_changes_under_the_guard_only():
    guard, seen = threading.RLock(), []

    class Watched(dict):
        def __setitem__(self, key, value):
            seen.append((key, guard._is_owned()))
            super().__setitem__(key, value)

    replica = Replica(Watched, guard=guard, on_step=lambda mods: seen.append(guard._is_owned()))
    replica.connected(legacy=True)
    for mod in (
        {"action": "init", "struct": {}},
        {"action": "setitem", "path": [], "key": "x", "value": 1},
    ):
        replica.receive(Message(pyon.encode(mod, version=2).encode()))
    assert seen == [True, ("x", True), True]
    assert not guard._is_owned()


RECORD_CHANGES = {
    "a field of a record": lambda n: n["r"][0].__setitem__("a", 3),
    "a record": lambda n: n["r"].__setitem__(0, (3, 4)),
    "a field": lambda n: n["r"].__setitem__("a", 3),
    "an element of a field": lambda n: n["r"]["a"].__setitem__(0, 3),
    "records": lambda n: n["r"].__setitem__(slice(None), (3, 4)),
}


@pytest.mark.parametrize("change", RECORD_CHANGES.values(), ids=RECORD_CHANGES)
@pytest.mark.parametrize("part", [["r", "a"], ["r", 0], ["r", 0, "a"]], ids=str)
def test_a_part_of_records_cut_from_an_established_publisher_follows_every_change(change, part):
    n = Notifier({"r": np.zeros(2, [("a", "f8"), ("b", "i4")])})
    replica = Replica(lambda x: x, Wish(tuple(part)))
    replica.connected(legacy=True)

    def receive(mod):
        replica.receive(Message(pyon.encode(mod, version=2).encode()))

    receive({"action": "init", "struct": n.read})
    n.add_listener(receive)
    change(n)
    assert pyon.encode(replica.target) == pyon.encode(walk(n.read, part))
