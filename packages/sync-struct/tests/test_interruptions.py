"""Changes within changes, users' locks, asynchronous exceptions, forks: replicas stay equal."""

import asyncio
import contextlib
import gc
import os
import signal
import threading
import weakref

import pyon
import pytest
from sync_struct import ChangeInProgress, Notifier, Publisher, Subscriber, process_mod
from sync_struct._cursor import Cursor
from sync_struct._encoding import Encoding
from sync_struct._log import Log

PATIENCE = 30.0


def followed(structure):
    notifier = Notifier(structure)
    replica, mods = notifier.copy(), []

    def follow(mod):
        mods.append(mod)
        process_mod(replica, mod)

    notifier.add_listener(follow)
    return notifier, replica, mods


def in_thread(function):
    """Run a function in another thread, and wait for it for as long as it may take."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it waits for a lock that is held"


@pytest.fixture
def Finalised():
    """A registered type whose objects call a function when they are finalised."""

    class Finalised:
        def __init__(self, function=lambda: None):
            self.function = function

        def __del__(self):
            self.function()

    pyon.register([Finalised], name="Finalised", encode=lambda x: (), decode=lambda: "finalised")
    yield Finalised
    pyon.deregister([Finalised], "Finalised")


INNER = {
    "setitem": lambda n: n.__setitem__("x", "inner"),
    "append": lambda n: n["l"].append("inner"),
    "extend": lambda n: n["l"].extend([1, 2]),
    "insert": lambda n: n["l"].insert(0, "inner"),
    "delete": lambda n: n.__delitem__("gone"),
    "sort": lambda n: n["l"].sort(key=str),
    "clear": lambda n: n["l"].clear(),
    "update": lambda n: n.update(x="inner", y="inner"),
    "+=": lambda n: n["l"].__iadd__([3]),
    "batch": lambda n: in_batch(n),
}


def in_batch(n):
    with n.batch():
        n["x"] = "inner"
        n["l"].append("inner")


OUTER = {
    "setitem": lambda n: n.__setitem__("x", "outer"),
    "delitem": lambda n: n.__delitem__("x"),
    "slice": lambda n: n["l"].__setitem__(slice(None), [9, 8, 7]),
    "clear": lambda n: n.clear(),
    "update": lambda n: n.update(x="outer", l=[6, 5]),
}


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
@pytest.mark.parametrize("outer", OUTER.values(), ids=OUTER)
def test_a_change_by_a_finaliser_within_another_one_is_made_after_it(Finalised, inner, outer):
    n, replica, _ = followed({"l": [3, 1, 2], "gone": 1})
    called = []

    def finalise():
        called.append(1)
        with contextlib.suppress(LookupError):  # cleared meanwhile
            inner(n)

    n["x"] = Finalised(finalise)
    n["l"].append(Finalised(finalise))
    n["l"][0:0] = [0]
    outer(n)
    gc.collect()
    assert called or outer is OUTER["slice"]
    n["end"] = 1
    assert n.read.keys() == replica.keys()
    assert [x for x in n.read.get("l", ()) if not isinstance(x, Finalised)] == [
        x for x in replica.get("l", ()) if x != "finalised"
    ]
    n.clear()


def test_a_finaliser_within_a_change_cannot_make_one_that_returns_a_value(Finalised):
    n, replica, _ = followed({"l": [1], "d": {}})
    raised = []

    def finalise():
        for wants in (n["l"].pop, lambda: n["d"].setdefault("k", 1), n["d"].popitem):
            with contextlib.suppress(KeyError):
                try:
                    wants()
                except ChangeInProgress as error:
                    raised.append(error)

    n["x"] = Finalised(finalise)
    n["x"] = 1
    assert len(raised) == 2  # there is nothing that popitem could return
    assert n.read == replica == {"l": [1], "d": {}, "x": 1}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a signal from a clock")
def test_changes_by_a_signal_handler_at_any_moment_arrive_in_order():
    n, replica, _ = followed({"l": [], "s": 0})
    log = Log(n._structure)
    n._structure.add_sink(log.put, False)
    count = 0

    def handler(*_):
        nonlocal count
        count += 1
        n["l"].append(f"signal {count}")
        n["s"] = count

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        i = 0
        while count < 300:
            i += 1
            n["l"].append(i)
            n["s"] = -i
            with n.batch():
                n["l"].extend([i])
                del n["l"][:-10]
            log.collect()
            Cursor(log, Encoding(raw=True)).take()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    n["end"] = True
    assert n.read == replica
    log.collect()
    assert log.number == n._structure.number


def test_an_asynchronous_exception_within_a_change_leaves_all_replicas_equal():
    n, _, mods = followed({})
    log = Log(n._structure)

    def interrupted(changes):
        if n.read == {"x": 1}:
            n._structure.remove_sink(interrupted, False)
            raise KeyboardInterrupt

    n._structure.add_sink(interrupted, False)
    n._structure.add_sink(log.put, False)
    cursor = Cursor(log, Encoding(raw=True))
    cursor.take()
    with pytest.raises(KeyboardInterrupt):
        n["x"] = 1
    n["y"] = 2
    log.collect()
    line = b"".join(map(bytes, cursor.take()))
    assert b'"action":"init","struct":{"x":1,"y":2}' in line
    model = {}
    for mod in mods:
        model = mod["struct"] if mod["action"] == "init" else model | {mod["key"]: mod["value"]}
    assert model == n.read


# No user code under a lock.


def test_a_listener_may_wait_for_a_thread_that_makes_a_change():
    n, heard = Notifier({}), []

    def listen(mod):
        heard.append(mod["key"])
        if mod["key"] == "x":
            in_thread(lambda: n.__setitem__("y", 2))

    n.add_listener(listen)
    n["x"] = 1
    assert heard == ["x", "y"]


def test_publish_may_wait_for_a_thread_that_makes_a_change():
    n, heard = Notifier({}), []

    def publish(mod):
        heard.append(mod["key"])
        if mod["key"] == "x":
            in_thread(lambda: n.__setitem__("y", 2))

    n.publish = publish
    with n.batch():
        n["x"] = 1
    assert heard == ["x", "y"]


def ways_to_run_code_of_the_user(other):
    def key(x):
        other()
        return x

    def items():
        other()
        yield 4

    class Items:
        def keys(self):
            other()
            return ["a"]

        def __getitem__(self, key):
            return 1

    return {
        "a sort key": lambda n: n["l"].sort(key=key),
        "an iterator": lambda n: n["l"].extend(items()),
        "an iterator of a slice": lambda n: n["l"].__setitem__(slice(0, 1), items()),
        "a mapping": lambda n: n["d"].update(Items()),
        "an encoder": lambda n: n.__setitem__("x", Gain()),
    }


class Gain:
    pass


@pytest.mark.parametrize("way", list(ways_to_run_code_of_the_user(None)))
def test_user_code_runs_without_a_lock(way):
    n, replica, _ = followed({"l": [3, 1], "d": {}})
    once = []

    def other():
        if not once:
            once.append(1)
            in_thread(lambda: n["l"].append(2))

    pyon.register([Gain], name="Gain", encode=lambda x: (other(), 5)[1:], decode=lambda x: x)
    try:
        ways_to_run_code_of_the_user(other)[way](n)
        assert once
        assert 2 in n.read["l"]
        assert replica["l"] == n.read["l"]
    finally:
        pyon.deregister([Gain], "Gain")


def test_listeners_are_not_called_within_a_batch_with_mods_of_another_thread():
    n, heard = Notifier({}), []
    n.add_listener(lambda mod: heard.append((mod["key"], n._structure.lock._is_owned())))
    telling, told = threading.Event(), threading.Event()
    structure = n._structure
    run_deferred = structure.run_deferred

    def run_later():
        if threading.current_thread() is other:
            telling.set()
            told.wait(PATIENCE)  # the lock is released, and no listener called yet
        run_deferred()

    structure.run_deferred = run_later
    other = threading.Thread(target=lambda: n.__setitem__("x", 1))
    other.start()
    assert telling.wait(PATIENCE)
    with n.batch():
        n["y"] = 2
        assert heard == []
    told.set()
    other.join()
    assert heard == [("x", False), ("y", False)]


def test_a_sort_during_other_changes_sorts_the_present_items():
    n, replica, _ = followed([3, 1])
    disturbed = []

    def key(x):
        if len(disturbed) < 3:
            disturbed.append(1)
            in_thread(lambda: n.append(2))
        return x

    n.sort(key=key)
    assert n.read == replica == [1, 2, 2, 2, 3]


@contextlib.contextmanager
def held_by_a_batch(n):
    """Have a thread hold a batch, with half of its changes made, until the end of the block."""
    begun, end = threading.Event(), threading.Event()

    def hold():
        with n.batch():
            n["half"] = 1
            begun.set()
            end.wait(PATIENCE)
            n["whole"] = 2

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(PATIENCE)
    try:
        yield
    finally:
        end.set()
        thread.join()


async def test_a_publisher_does_not_wait_for_a_batch(until):
    a, b = Notifier({}), Notifier({})
    async with Publisher({"a": a, "b": b}) as publisher:
        await publisher.start("127.0.0.1", 0)
        other = Subscriber("b", lambda x: x)
        await other.connect("127.0.0.1", publisher.port)
        joining = Subscriber("a", lambda x: x)
        with held_by_a_batch(a):
            join = asyncio.ensure_future(joining.connect("127.0.0.1", publisher.port))
            b["x"] = 1
            await until(lambda: other.target == {"x": 1})
            await until(lambda: publisher.counters["a"].subscribers == 1)
            publisher.add_notifier("c", a)
            publisher.remove_notifier("c")
            assert publisher.counters["a"].backlog == 0
            a.add_listener(print)
            a.remove_listener(print)
            assert not join.done()
        await join
        assert joining.target == {"half": 1, "whole": 2}
        await joining.close()
        await other.close()


async def test_a_batch_that_is_open_across_awaits_is_not_seen_half_done(until):
    n = Notifier({})
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("n", lambda x: x)
        with n.batch():
            n["half"] = 1
            join = asyncio.ensure_future(subscriber.connect("127.0.0.1", publisher.port))
            await until(lambda: publisher.counters["n"].subscribers == 1)
            assert not join.done()
            n["whole"] = 2
        await join
        assert subscriber.target == {"half": 1, "whole": 2}
        await subscriber.close()


def test_the_structure_stands_still_while_a_snapshot_is_encoded():
    class Slow:
        pass

    n = Notifier({"a": Slow.__name__, "z": 0})
    log = Log(n._structure)
    n._structure.add_sink(log.put, False)
    begun, seen = threading.Event(), []

    def encode(x):
        begun.set()
        in_other.join(0.05)  # it cannot end: it waits for the lock
        return ()

    def change():
        assert begun.wait(PATIENCE)
        n["z"] = 1
        seen.append(n.read["z"])  # a change by it is not postponed, either

    pyon.register([Slow], name="Slow", encode=encode, decode=lambda: "slow")
    in_other = threading.Thread(target=change)
    try:
        n.read["a"] = Slow()
        in_other.start()
        line = b"".join(map(bytes, Cursor(log, Encoding(raw=True)).take()))
        assert b'"z":0},"number":0}' in line
    finally:
        in_other.join()
        pyon.deregister([Slow], "Slow")
    assert seen == [1]


# What callbacks raise.


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, ZeroDivisionError])
def test_an_exception_of_a_listener_stops_nothing(error, caplog):
    n, heard = Notifier({}), []

    def bad(mod):
        raise error

    n.add_listener(bad)
    n.add_listener(heard.append)
    n["x"] = 1
    n["x"] = 2
    assert len(heard) == 2
    assert caplog.text.count("a listener failed") == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_program_is_raised_after_all_listeners(error):
    n, heard = Notifier({}), []

    def bad(mod):
        raise error

    n.add_listener(bad)
    n.add_listener(heard.append)
    with pytest.raises(error):
        n.update(x=1, y=2)
    assert len(heard) == 2


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, ZeroDivisionError])
@pytest.mark.parametrize("slow", [False, True])
async def test_an_exception_of_a_callback_does_not_stop_the_subscription(
    until, error, slow, caplog
):
    n, heard, errors = Notifier({"x": 0}), [], []

    def bad(mod):
        raise error

    async def bad_later(mod):
        await asyncio.sleep(0)
        raise error

    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        callbacks = [bad_later if slow else bad, heard.append]
        subscriber = Subscriber("n", lambda x: x, callbacks, on_error=errors.append)
        await subscriber.connect("127.0.0.1", publisher.port)
        for i in range(3):
            n["x"] = i + 1
            await asyncio.sleep(0)
        await until(lambda: len(heard) == 4)
        assert subscriber.target == {"x": 3}
        assert [type(e) for e in errors] == [error] * 4
        await subscriber.close()


def test_a_callback_that_exits_ends_the_program_after_the_other_callbacks():
    n, heard = Notifier({"x": 0}), []

    def leave(mod):
        if mod["action"] != "init":
            raise SystemExit(3)

    async def main():
        async with Publisher({"n": n}) as publisher:
            await publisher.start("127.0.0.1", 0)
            subscriber = Subscriber("n", lambda x: x, [leave, heard.append])
            await subscriber.connect("127.0.0.1", publisher.port)
            n["x"] = 1
            async with asyncio.timeout(PATIENCE):
                await subscriber.receive_task

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert len(heard) == 2


def test_a_value_that_cannot_be_decoded_stops_no_listener(caplog):
    n, heard = Notifier({}), []

    def decode(x):
        raise ZeroDivisionError

    pyon.register([Gain], name="Gain", encode=lambda x: (5,), decode=decode)
    try:
        n.add_listener(heard.append)
        with n.batch():
            n["gain"] = Gain()
            n["x"] = 1
    finally:
        pyon.deregister([Gain], "Gain")
    assert [mod["key"] for mod in heard] == ["x"]
    assert "a listener failed" in caplog.text


# Forks.

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
forking = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_child(check):
    """Run a check in a forked child; fail if it fails there or hangs."""
    pid = os.fork()
    if not pid:
        signal.alarm(int(PATIENCE))
        status = 1
        try:
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_fork
@forking
async def test_a_forked_child_has_the_structure_for_itself(until):
    n, told = Notifier({"x": 0}), []
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("n", lambda x: x)
        await subscriber.connect("127.0.0.1", publisher.port)
        n.publish = told.append

        def change():
            n["x"] = 1
            with n.batch():
                n["y"] = 2
            return n.read == {"x": 1, "y": 2} and len(told) == 2 and not n._structure.sinks

        with held_by_a_batch(Notifier({})):
            assert in_child(change) == 0
        n["z"] = 3
        await until(lambda: subscriber.target == {"x": 0, "z": 3})
        assert len(told) == 1
        await subscriber.close()


@needs_fork
@forking
def test_a_child_forked_while_another_thread_holds_a_batch_can_make_changes():
    n = Notifier({})

    def change():
        n["x"] = 1
        with n.batch():
            n["x"] = 2
        return n.read["x"] == 2

    with held_by_a_batch(n):
        assert in_child(change) == 0


@needs_fork
@forking
def test_a_child_forked_within_a_batch_or_a_listener_goes_on():
    n, results = Notifier({}), []

    def change():
        n["y"] = 1
        return n.read["y"] == 1

    with n.batch():
        n["x"] = 1
        results.append(in_child(change))
    n.add_listener(lambda mod: results.append(in_child(change)))
    n["x"] = 2
    assert results == [0, 0]
    assert "y" not in n


def test_a_notifier_is_not_kept_alive():
    n = Notifier({"l": []})
    gone = weakref.ref(n._structure)
    del n
    gc.collect()
    assert gone() is None
