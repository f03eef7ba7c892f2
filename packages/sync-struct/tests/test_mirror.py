"""The blocking front end, used as a script would: the publisher is in another thread."""

import asyncio
import contextlib
import copy
import gc
import json
import operator
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyon
import pytest
from sync_struct import (
    ModsLost,
    Notifier,
    Publisher,
    SubscriptionLost,
    UnknownNotifier,
    mirror,
    publish,
)
from sync_struct._replication import First, Replication
from sync_struct._subscriber_connection import SubscriberConnection


@contextlib.contextmanager
def publisher(**notifiers):
    """Run a publisher in a thread; yield its port, and a function that stops it."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    server, stopped = Publisher(notifiers), asyncio.Event()

    async def main():
        await server.start("127.0.0.1", 0)
        found.append(server.port)
        ready.set()
        await stopped.wait()
        await server.stop()

    found = []
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(10)

    def stop():
        if thread.is_alive():
            loop.call_soon_threadsafe(stopped.set)
            thread.join()

    try:
        yield found[0], stop
    finally:
        stop()
        loop.close()


def test_a_script_follows_a_structure():
    told = []
    n = Notifier({"x": 1, "a": np.arange(3)})
    with publisher(d=n) as (port, _), mirror("127.0.0.1", port, "d", told.append) as view:
        assert view["x"] == 1
        assert view.state == "live"
        n["x"] = 2
        view.wait(lambda d: d["x"] == 2, timeout=10)
        assert len(view) == 2
        assert "x" in view
        assert "y" not in view
        assert sorted(view) == ["a", "x"]
        assert [mod["action"] for mod in told] == ["init", "setitem"]
        with view.lock:
            assert view.raw_view["x"] == 2
            threading.Thread(target=n["a"].__setitem__, args=(0, 7)).start()
            view.wait(timeout=10)
            assert view.raw_view["a"].tolist() == [7, 1, 2]
        held = view.read
        n["x"] = 3
        view.wait(lambda d: d["x"] == 3, timeout=10)
        assert held["x"] == 2
        with pytest.raises(TimeoutError):
            view.wait(timeout=0.01)
        assert "live" in repr(view)
    view.close()
    assert view.state == "closed"
    assert view["x"] == 3


def test_waiting_threads_are_woken_when_the_mirror_is_closed():
    n = Notifier({"x": 1})
    with publisher(d=n) as (port, _):
        view = mirror("127.0.0.1", port, "d")
        with ThreadPoolExecutor() as pool:
            waiting = [pool.submit(view.wait, lambda d: False), pool.submit(view.wait)]
            view.close()
            for wait in waiting:
                with pytest.raises(SubscriptionLost, match="closed"):
                    wait.result(30)
        with pytest.raises(SubscriptionLost):
            view.wait()
        view.wait(lambda d: d["x"] == 1)  # already true: returns at once


def test_a_callback_may_close_the_mirror(caplog):
    n = Notifier({"x": 1})
    closed = threading.Event()

    def close(mod):
        if mod["action"] != "init":
            view.close()
            closed.set()

    with publisher(d=n) as (port, _):
        view = mirror("127.0.0.1", port, "d", close)
        n["x"] = 2
        assert closed.wait(30)
        with view.lock:
            assert view.lock.wait_for(lambda: view.state == "closed", 30)
    assert caplog.text == ""


def test_a_pong_is_not_an_update(monkeypatch):
    n = Notifier({"x": 1})
    pong = threading.Event()
    receive = SubscriberConnection.message_received

    def see(connection, message):
        receive(connection, message)
        if b"pong" in message.line:
            pong.set()

    monkeypatch.setattr(SubscriberConnection, "message_received", see)
    with (
        publisher(d=n) as (port, _),
        mirror("127.0.0.1", port, "d", heartbeat=0.01) as view,
        ThreadPoolExecutor() as pool,
    ):
        waiting = pool.submit(view.wait)
        assert pong.wait(30)
        assert not waiting.done()
        n["x"] = 2
        waiting.result(30)


def test_a_mirror_of_a_part():
    n = Notifier({"x": {"y": 1}})
    with publisher(d=n) as (port, _), mirror("127.0.0.1", port, "d", path=["x"]) as view:
        n["x"]["y"] = 2
        view.wait(lambda d: d == {"y": 2}, timeout=10)


def test_a_mirror_that_cannot_connect_raises_at_once():
    with publisher(d=Notifier({})) as (port, stop):
        with pytest.raises(UnknownNotifier, match="'d'"):
            mirror("127.0.0.1", port, "nope")
        stop()
        with pytest.raises(ConnectionRefusedError):
            mirror("127.0.0.1", port, "d")


def test_a_mirror_outlives_the_publisher():
    n = Notifier({"x": 1})
    with publisher(d=n) as (port, stop), mirror("127.0.0.1", port, "d") as view:
        stop()
        with view.lock:
            view.lock.wait_for(lambda: view.state == "stale", 10)
        assert view["x"] == 1


# Reading.


@pytest.fixture
def seen():
    """Yield a notifier and a mirror of it."""
    n = Notifier({"x": 1, "l": [1, [2]], "t": ([1], 2), "s": {1, 2}, "a": np.arange(3.0), "d": {}})
    with publisher(d=n) as (port, _), mirror("127.0.0.1", port, "d") as view:
        yield n, view


def test_a_mirror_reads_like_the_dict_that_it_mirrors(seen):
    _, view = seen
    assert dict(view)["l"] == [1, [2]]
    assert view.get("x") == 1
    assert view.get("y") is None
    assert view.get("y", 5) == 5
    assert list(view.keys()) == ["x", "l", "t", "s", "a", "d"]
    assert dict(view.items())["t"] == ([1], 2)
    assert next(iter(view.values())) == 1
    assert list(reversed(view)) == ["d", "a", "s", "t", "l", "x"]
    assert isinstance(view["l"], list)
    assert view["l"][1][0] == 2
    assert view["l"] == [1, [2]]
    assert view["d"] == {}
    assert view["s"] == {1, 2}
    assert view["a"].tolist() == [0, 1, 2]
    assert repr(view["l"]) == "[1, [2]]"
    assert "'x': 1" in repr(view)
    assert len(view) == 6
    assert view
    with pytest.raises(KeyError):
        view["nope"]


def test_a_mirror_equals_what_it_mirrors():
    n = Notifier({"x": [1, {"y": 2}]})
    with publisher(d=n, l=Notifier([1, [2], 3])) as (port, _):
        with mirror("127.0.0.1", port, "d") as view:
            assert view == {"x": [1, {"y": 2}]}
            assert view != {"x": []}
            assert view == {"x": [1, {"y": 2}]}
            assert json.loads(json.dumps(view["x"])) == [1, {"y": 2}]
        with mirror("127.0.0.1", port, "l") as view:
            assert view == [1, [2], 3]
            assert list(view) == [1, [2], 3]
            assert view[-1] == 3
            assert view[1:] == [[2], 3]
            assert view.index(3) == 2
            assert view.count(1) == 1
            assert [2] in view
            assert np.array(mirror_list := view[:1]).tolist() == [1]
            assert mirror_list == [1]


CHANGES = {
    "item": lambda v: v.__setitem__("x", 5),
    "deletion": lambda v: v.__delitem__("x"),
    "update": lambda v: v.update(x=5),
    "pop": lambda v: v.pop("x"),
    "nested append": lambda v: v["l"].append(1),
    "nested item": lambda v: v["l"].__setitem__(0, 1),
    "deeper": lambda v: v["l"][1].append(1),
    "sort": lambda v: v["l"].sort(),
    "within a tuple": lambda v: v["t"][0].append(5),
    "set": lambda v: v["s"].add(5),
    "nested update": lambda v: v["d"].update(a=1),
    "nested default": lambda v: v["d"].setdefault("a", 1),
    "by get": lambda v: v.get("l").clear(),
    "by values": lambda v: list(v.values())[1].append(5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_mirror_says_that_it_is_read_only(seen, change):
    n, view = seen
    before = repr(view.read)
    with pytest.raises(TypeError, match="read-only"):
        change(view)
    assert repr(view.read) == before == repr(n.copy())


def test_an_array_of_a_mirror_is_read_only(seen):
    _, view = seen
    with pytest.raises(ValueError, match="read-only"):
        view["a"][0] = 5
    with pytest.raises(AttributeError):
        view.temperature = 5


def test_a_copy_belongs_to_the_reader(seen):
    _, view = seen
    for mine in (view.read, view.copy(), copy.deepcopy(view), pickle.loads(pickle.dumps(view))):
        mine["l"][1].append(9)
        mine["t"][0].append(9)
        mine["s"].add(9)
        mine["a"][0] = 9
        assert type(mine["l"]) is list
    for mine in (copy.copy(view["l"]), view["l"].copy(), copy.deepcopy(view["l"])):
        mine[1].append(9)
        assert type(mine) is list
    assert view["l"] == [1, [2]]
    assert view["t"] == ([1], 2)
    assert view["s"] == {1, 2}
    assert view["a"][0] == 0


def test_values_read_do_not_change_later(seen):
    n, view = seen
    before = view["l"]
    n["l"][1].append(3)
    view.wait(lambda d: d["l"] == [1, [2, 3]], timeout=30)
    assert before == [1, [2]]
    assert view["l"] == [1, [2, 3]]
    n["l"] = 5
    view.wait(lambda d: d["l"] == 5, timeout=30)
    assert view["l"] == 5
    del n["l"]
    view.wait(lambda d: "l" not in d, timeout=30)
    assert "l" not in view


# To wait.


def test_wait_treats_missing_values_as_not_yet(seen):
    n, view = seen
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(view.wait, lambda d: len(d["scan"]) >= 2 and max(d["scan"]) > 1, 30)
        for change in (
            lambda: n.__setitem__("scan", None),
            lambda: n.__setitem__("scan", []),
            lambda: n["scan"].append(1),
            lambda: n["scan"].append(2),
        ):
            assert not waiting.done()
            change()
        waiting.result(30)


def test_wait_does_not_miss_a_condition_that_was_true_for_one_step(seen):
    n, view = seen
    entered = threading.Event()

    def condition(d):
        entered.set()
        return d["x"] == 500

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(view.wait, condition, 30)
        assert entered.wait(30)
        for i in range(1000):
            n["x"] = i
            seen_by_publisher = n["x"]
            view.wait(lambda d, i=i: d["x"] == i, timeout=30)
        waiting.result(30)
    assert seen_by_publisher == 999


def test_a_condition_that_never_became_true_says_why(seen):
    _, view = seen
    with pytest.raises(TimeoutError, match="KeyError: 'scan'"):
        view.wait(lambda d: d["scan"], timeout=0.01)
    with pytest.raises(NameError):
        view.wait(lambda d: nowhere)  # noqa: F821
    with pytest.raises(TypeError, match="argument"):
        view.wait(lambda: True)


def test_updates_sees_each_step_once(seen):
    n, view = seen
    updates = view.updates(timeout=30)
    with n.batch():
        n["x"] = 10
        n["l"].append(3)
    first = next(updates)
    assert (first["x"], first["l"]) == (10, [1, [2], 3])
    n["l"][1].append(4)
    n["t"] = (1, [2])
    n["a"][1] = 5
    seen_ = []
    for structure in updates:
        seen_.append(structure)
        if structure["a"][1] == 5:
            break
    assert first["l"] == [1, [2], 3]
    assert seen_[-1]["l"] == [1, [2, 4], 3]
    assert seen_[-1]["t"] == (1, [2])
    with pytest.raises(TypeError, match="read-only"):
        seen_[-1]["l"].append(1)
    with pytest.raises(TimeoutError):
        next(view.updates(timeout=0.01))
    view.close()
    assert list(updates) == []


@pytest.mark.parametrize("path", [[], ["a"], ["t", 1]])
def test_arrays_that_grow_are_followed_at_every_step(path):
    n = Notifier({"a": np.zeros((2, 2)), "t": (1, np.zeros((2, 2)))})
    whole = Notifier(np.zeros((2, 2)))
    with publish("127.0.0.1", 0, {"d": n, "whole": whole}) as served:
        name = "d" if path else "whole"
        with mirror("127.0.0.1", served.port, name, path=path) as view:
            grown = {(): lambda: whole, ("a",): lambda: n["a"], ("t", 1): lambda: n["t"][1]}
            updates = view.updates(timeout=30)
            before = view.read
            for i in range(1, 4):
                grown[tuple(path)]().append([i, i])
                view.wait(lambda d, i=i: len(d) == 2 + i, timeout=30)
                assert next(updates).tolist()[-1] == [i, i]
                grown[tuple(path)]()[0] = [i, -i]
                assert next(updates).tolist()[0] == [i, -i]
            view.wait(lambda d: d[0, 0] == 3, timeout=30)
            assert view.read.shape == (5, 2)
            assert before.shape == (2, 2)


def test_a_reader_that_is_too_slow_gets_an_error(seen, monkeypatch):
    monkeypatch.setattr("sync_struct._updates.STEPS_LIMIT", 5000)
    n, view = seen
    updates = view.updates(timeout=30)
    for i in range(100):
        n["x"] = i
        view.wait(lambda d, i=i: d["x"] == i, timeout=30)
    with pytest.raises(ModsLost):
        next(updates)
    n["x"] = 1000
    view.wait(lambda d: d["x"] == 1000, timeout=30)
    while next(updates)["x"] != 1000:
        pass


def test_a_reader_that_was_too_slow_continues_with_the_present_structure(seen, monkeypatch):
    monkeypatch.setattr("sync_struct._updates.STEPS_LIMIT", 5000)
    n, view = seen
    n["list"] = []
    view.wait(lambda d: d["list"] == [], timeout=30)
    updates = view.updates(timeout=30)
    for i in range(100):
        n["list"].append(i)
        view.wait(lambda d, i=i: len(d["list"]) == i + 1, timeout=30)  # each is a step
    with pytest.raises(ModsLost):
        next(updates)
    n["list"].append(100)
    assert next(updates)["list"] == list(range(101))


def test_a_mirror_can_wait_for_a_part():
    n = Notifier({})
    with publish("127.0.0.1", 0, {"d": n}) as served:
        with pytest.raises(UnknownNotifier, match="no part"):
            mirror("127.0.0.1", served.port, "d", path=["scan"])
        with mirror("127.0.0.1", served.port, "d", path=["scan"], may_be_absent=True) as view:
            assert view.state == "absent"
            assert view.read is None
            updates = view.updates(timeout=30)
            n["scan"] = [1]
            view.wait(lambda d: d == [1], timeout=30)
            assert (view.state, view[0]) == ("live", 1)
            del n["scan"]
            view.wait(lambda d: d is None, timeout=30)
            assert [next(updates), next(updates)] == [[1], None]


# No waiting for callbacks and conditions.


def test_a_lock_of_the_user_is_no_deadlock():
    n = Notifier({"a": 0})
    mine = threading.Lock()
    inside = threading.Event()

    def callback(mod):
        inside.set()
        with mine:
            pass

    with publisher(d=n) as (port, _), mirror("127.0.0.1", port, "d", callback) as view:
        with mine:
            inside.clear()
            n["a"] = 1
            assert inside.wait(30)  # the callback waits for us
            assert view["a"] == 1  # and we do not wait for it
            assert view.read == {"a": 1}
            view.wait(lambda d: d["a"] == 1, timeout=30)
            n["a"] = 2
        view.wait(lambda d: d["a"] == 2, timeout=30)


def test_closing_with_a_lock_held_that_a_callback_wants_is_no_deadlock(monkeypatch, caplog):
    monkeypatch.setattr("sync_struct._loop_thread.STOP_GRACE", 0.1)
    n = Notifier({"a": 0})
    mine = threading.Lock()
    inside = threading.Event()

    def callback(mod):
        if mod["action"] != "init":
            inside.set()
            with mine:
                pass

    with publish("127.0.0.1", 0, {"d": n}) as served:
        view = mirror("127.0.0.1", served.port, "d", callback)
        with mine:
            n["a"] = 1
            assert inside.wait(30)
            view.close()
        assert "a callback has not returned" in caplog.text
        with view.lock:
            assert view.lock.wait_for(lambda: view.state == "closed", 30)


def test_a_condition_delays_no_other_thread(seen):
    n, view = seen
    entered, leave = threading.Event(), threading.Event()

    def slow(d):
        entered.set()
        return leave.wait(30)

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(view.wait, slow)
        assert entered.wait(30)
        n["x"] = 7
        view.wait(lambda d: d["x"] == 7, timeout=30)
        assert view["x"] == 7
        leave.set()
        waiting.result(30)


class Stubborn:
    """A registered type whose copying waits for an event."""

    lock = threading.RLock()

    def __deepcopy__(self, memo):
        with self.lock:
            return Stubborn()


def test_copying_a_users_value_delays_no_other_thread(seen):
    pyon.register(Stubborn, name="Stubborn", encode=lambda _: (), decode=Stubborn)
    n, view = seen
    try:
        n["v"] = Stubborn()
        view.wait(lambda d: "v" in d, timeout=30)
        with ThreadPoolExecutor() as pool:
            with Stubborn.lock:
                reading = [pool.submit(lambda: view["v"]), pool.submit(lambda: view.read)]
                n["x"] = 2
                with view.lock:
                    assert view.lock.wait_for(lambda: view.raw_view["x"] == 2, 30)
                assert view["x"] == 2
            assert all(
                isinstance(r.result(30)["v"] if i else r.result(30), Stubborn)
                for i, r in enumerate(reading)
            )
            assert view["v"] is not view.raw_view["v"]
            assert view["v"] is not view["v"]
    finally:
        pyon.deregister(Stubborn, "Stubborn")


def test_a_callback_that_would_wait_for_itself_gets_an_error():
    n = Notifier({"x": 1})
    errors = []
    asked = threading.Event()

    def callback(mod):
        if mod["action"] != "init":
            asked.set()
            view.wait()

    with (
        publisher(d=n) as (port, _),
        mirror("127.0.0.1", port, "d", callback, on_error=errors.append) as view,
    ):
        n["x"] = 2
        assert asked.wait(30)
        n["x"] = 3
        view.wait(lambda d: d["x"] == 3, timeout=30)
    assert all("wait for its own mirror" in str(error) for error in errors)
    assert errors


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_no_exception_of_a_callback_ends_the_mirror(raised):
    n = Notifier({"x": 0})
    errors = []

    def leave(mod):
        raise raised(3)

    with (
        publish("127.0.0.1", 0, {"d": n}) as served,
        mirror("127.0.0.1", served.port, "d", leave, on_error=errors.append) as view,
    ):
        for i in range(1, 4):
            n["x"] = i
            view.wait(lambda d, i=i: d["x"] == i, timeout=30)
        assert view.state == "live"
    assert len(errors) >= 3


def test_callbacks_receive_states_and_errors(seen):
    states, errors = [], []
    n = Notifier({"x": 1})
    with (
        publisher(d=n) as (port, stop),
        mirror("127.0.0.1", port, "d", state_cb=states.append, on_error=errors.append) as view,
    ):
        assert states == ["connecting", "live"]
        stop()
        with view.lock:
            assert view.lock.wait_for(lambda: errors, 30)
        assert states[:3] == ["connecting", "live", "stale"]
    assert states[-1] == "closed"


async def test_a_mirror_on_the_publishers_own_loop_is_refused_at_once():
    async with Publisher({"d": Notifier({"x": 1})}) as server:
        await server.start("127.0.0.1", 0)
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(RuntimeError, match=r"sync_struct\.publish"):
                mirror(host, server.port, "d")
        view = await asyncio.to_thread(mirror, "127.0.0.1", server.port, "d")
        assert view["x"] == 1
        await asyncio.to_thread(view.close)


async def test_a_mirror_works_while_a_loop_runs_as_in_a_notebook():
    with (
        publish("127.0.0.1", 0, {"d": Notifier({"x": 1})}) as served,
        mirror("127.0.0.1", served.port, "d") as view,
    ):
        assert view["x"] == 1


def test_a_mirror_without_references_is_closed():
    n = Notifier({"x": 1})
    with publish("127.0.0.1", 0, {"d": n}) as served:

        def look():
            assert mirror("127.0.0.1", served.port, "d")["x"] == 1
            gc.collect()

        with pytest.warns(ResourceWarning, match=f"mirror of d at 127.0.0.1 port {served.port}"):
            look()
        deadline = time.monotonic() + 30
        while served.counters["d"].subscribers:
            assert time.monotonic() < deadline


@pytest.mark.skipif(not hasattr(os, "fork"), reason="asks for a system that forks")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_in_a_forked_child_a_mirror_and_a_publisher_are_lost_and_the_parents_live_on():
    n = Notifier({"x": 1})
    with publish("127.0.0.1", 0, {"d": n}) as served, mirror("127.0.0.1", served.port, "d") as view:
        child = os.fork()
        if not child:
            said = []
            for use in (lambda: view["x"], view.wait, lambda: view.read, lambda: served.counters):
                try:
                    use()
                except SubscriptionLost as error:
                    said.append("another process" in str(error))
            repr(view)
            view.close()
            served.close()
            os._exit(0 if said == [True] * 4 and view.state == "closed" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        n["x"] = 2
        view.wait(lambda d: d["x"] == 2, timeout=30)
        assert view.state == "live"


def test_a_mirror_supports_the_operators_of_dicts_and_lists():
    with (
        publisher(d=Notifier({"x": [1]}), l=Notifier([1])) as (port, _),
        mirror("127.0.0.1", port, "d") as view,
        mirror("127.0.0.1", port, "l") as items,
    ):
        assert view | {"y": 2} == {"x": [1], "y": 2}
        assert {"y": 2, "x": 0} | view == {"y": 2, "x": [1]}
        assert operator.add(items, [2]) == [1, 2]
        assert operator.add([0], items) == [0, 1]
        (view | {})["x"].append(2)
        assert view == {"x": [1]}


class Gain:
    """A type that the reader does not know."""


def test_a_mirror_begins_although_a_value_of_its_first_structure_cannot_be_decoded():
    n, errors = Notifier({"x": 1}), []
    pyon.register(Gain, name="Gain", encode=lambda x: (5,), decode=lambda x: Gain())
    try:
        n["gain"] = Gain()
        text = pyon.encode(n.read, version=2)
    finally:
        pyon.deregister(Gain, "Gain")
    assert "Gain" in text
    with publisher(d=n) as (port, _):
        pyon.register(Gain, name="Gain", encode=lambda x: (5,), decode=_refuse)
        try:
            with mirror("127.0.0.1", port, "d", on_error=errors.append) as view:
                assert view["x"] == 1
                assert view.state == "live"
        finally:
            pyon.deregister(Gain, "Gain")
    assert ["root['gain']" in str(error) for error in errors] == [True]


def _refuse(x):
    raise ValueError("no gain here")


def test_a_mirror_that_cannot_begin_raises_its_error_and_not_that_of_a_value():
    first = First(Replication(), None, None)
    first.take_error(pyon.DecodeError("a value"))
    first.take_error(ConnectionRefusedError("the publisher"))
    with pytest.raises(ConnectionRefusedError):
        first.wait(may_be_absent=False)
