"""Publisher and subscriber together, over the loopback interface."""

import asyncio
import contextlib
import json
import math
import socket
import threading

import numpy as np
import pyon
import pytest
from pyon.asyncio_connection import HIGH_WATER
from sync_struct import (
    ModError,
    ModsLost,
    Notifier,
    Publisher,
    Subscriber,
    SubscriptionLost,
    UnknownNotifier,
    process_mod,
)
from sync_struct._log import Log


def identity(x):
    return x


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


@contextlib.asynccontextmanager
async def published(structure, **options):
    notifier = Notifier(structure)
    async with Publisher({"d": notifier}, **options) as publisher:
        await publisher.start("127.0.0.1", 0)
        yield notifier, publisher


@contextlib.asynccontextmanager
async def subscribed(publisher, *args, name="d", build=identity, **options):
    subscriber = Subscriber(name, build, *args, **options)
    await subscriber.connect("127.0.0.1", publisher.port)
    try:
        yield subscriber
    finally:
        await subscriber.close()


async def test_the_target_is_there_when_connect_returns_and_follows(until):
    mods, lost = [], []
    async with published({"l": [1]}) as (n, p):
        async with subscribed(p, mods.append, lambda: lost.append(1)) as s:
            assert s.target == {"l": [1]}
            assert s.state == "live"
            n["l"].append(2)
            n["a"] = np.arange(10_000)
            n["a"][5] = -1
            await until(lambda: len(mods) == 4)
            assert same(s.target, n.read)
            assert mods[0]["action"] == "init"
            assert mods[1] == {"action": "append", "path": ["l"], "x": 2}
        n["l"].append(3)
    assert lost == []
    assert s.state == "closed"


async def test_the_builder_decides_what_the_target_is(until):
    class Model(dict):
        pass

    async with published({"x": 1}) as (n, p), subscribed(p, build=Model) as s:
        assert type(s.target) is Model
        n["y"] = 2
        await until(lambda: s.target == {"x": 1, "y": 2})


async def test_a_builder_that_raises_fails_the_connection():
    async with published({"x": 1}) as (_, p):
        subscriber = Subscriber("d", lambda x: x["no"])
        with pytest.raises(KeyError):
            await subscriber.connect("127.0.0.1", p.port)
        assert subscriber.state == "closed"


async def test_before_receive_cb_is_called_first():
    order = []
    async with published({}) as (_, p):
        s = Subscriber("d", lambda x: order.append("build"), lambda mod: order.append("notify"))
        await s.connect("127.0.0.1", p.port, lambda: order.append("before"))
        assert order == ["before", "build", "notify"]
        await s.close()


async def test_a_mutation_made_from_another_thread_is_delivered_promptly(until):
    async with published({"l": []}) as (n, p), subscribed(p) as s:

        def work():
            for i in range(100):
                n["l"].append(i)

        thread = threading.Thread(target=work)
        thread.start()
        await until(lambda: s.target == {"l": list(range(100))})
        thread.join()


async def test_a_change_by_another_thread_during_a_delivery_is_delivered_once(until, monkeypatch):
    take_snapshot = Log.snapshot
    late = []

    def snapshot(self, *args):  # the moment in which it must come
        if late:
            thread = threading.Thread(target=n["l"].append, args=(late.pop(),))
            thread.start()
            thread.join()
        return take_snapshot(self, *args)

    async with (
        published({"part": {"x": 0}, "l": []}) as (n, p),
        subscribed(p, path=["part"]) as part,
        subscribed(p) as first,
        subscribed(p, raw_buffers=False) as other,
        subscribed(p, path=["part"]) as same_part,
        subscribed(p) as last,
    ):
        monkeypatch.setattr(Log, "snapshot", snapshot)
        late.append("late")
        n["part"] = {"x": 1}
        whole = {"part": {"x": 1}, "l": ["late"]}
        await until(lambda: part.target == same_part.target == {"x": 1})
        await until(lambda: all(s.target == whole for s in (first, other, last)))
        assert late == []


async def test_changes_of_successive_iterations_of_the_loop_arrive_once(until):
    async with published([]) as (n, p), subscribed(p) as one, subscribed(p) as another:
        for i in range(5):
            n.append(i)
            await until(lambda: one.target == another.target == n.read)
        assert one.target == list(range(5))


async def test_changes_of_one_iteration_of_the_loop_are_one_write(until):
    async with published({}) as (n, p):
        reader, writer = await asyncio.open_connection("127.0.0.1", p.port)
        writer.write(b"ARTIQ sync_struct\nd\n")
        await reader.readline()
        for i in range(20):
            n[i] = i
        first = await reader.read(2**16)
        assert first.count(b"\n") == 20
        writer.close()


async def test_a_callback_that_raises_is_logged_once_and_the_others_run(until, caplog):
    mods, errors = [], []

    def bad(mod):
        if mod["action"] != "init":
            raise RuntimeError("oops")

    async with (
        published({}) as (n, p),
        subscribed(p, [bad, mods.append], on_error=errors.append) as s,
    ):
        n["x"] = 1
        n["y"] = 2
        await until(lambda: len(mods) == 3)
        assert s.target == {"x": 1, "y": 2}
    assert [str(error) for error in errors] == ["oops", "oops"]
    assert caplog.text.count("'key': 'x'") == 1


async def test_coroutine_callbacks_keep_the_order(until):
    order, gate = [], asyncio.Event()

    async def slow(mod):
        order.append(("slow", mod.get("key")))
        if mod["action"] != "init":
            await gate.wait()
            if mod["key"] == "x":
                raise RuntimeError("later")
        order.append(("done", mod.get("key")))

    def quick(mod):
        order.append(("quick", mod.get("key")))

    errors = []
    async with published({}) as (n, p), subscribed(p, [slow, quick], on_error=errors.append) as s:
        n["x"] = 1
        await until(lambda: order[-1] == ("slow", "x"))
        n["y"] = 2
        gate.set()
        await until(lambda: order[-1] == ("quick", "y"))
        assert s.target == {"x": 1, "y": 2}
    assert order[3:] == [
        ("slow", "x"),
        ("quick", "x"),
        ("slow", "y"),
        ("done", "y"),
        ("quick", "y"),
    ]
    assert len(errors) == 1


async def test_an_unknown_notifier_is_an_error_that_lists_the_names():
    async with Publisher({"b": Notifier({}), "a": Notifier([])}) as p:
        await p.start("127.0.0.1", 0)
        with pytest.raises(UnknownNotifier, match=r"'nope'.*'a', 'b'") as caught:
            await Subscriber("nope", list).connect("127.0.0.1", p.port)
        assert caught.value.names == ("a", "b")
        with pytest.raises(UnknownNotifier, match="no part"):
            await Subscriber("b", list, path=["x"]).connect("127.0.0.1", p.port)


async def test_a_port_without_a_publisher_is_an_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(OSError):
            await Subscriber("d", list).connect("127.0.0.1", free.getsockname()[1])


async def test_a_publisher_that_never_answers_times_out():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        s = Subscriber("d", list, timeout=0.1)
        with pytest.raises(TimeoutError, match="no reply"):
            await s.connect("127.0.0.1", mute.getsockname()[1])
        assert s.state == "closed"


async def test_notifiers_come_and_go_while_serving(until):
    async with published({"old": 1}) as (n, p):
        ended, errors = [], []
        async with (
            subscribed(p, None, lambda: ended.append(1), on_error=errors.append) as s,
            subscribed(p, state_cb=ended.append) as _,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", p.port)
            writer.write(b"ARTIQ sync_struct\nd\n")
            await reader.readline()
            p.remove_notifier("d")
            await until(lambda: ended.count(1) == 1)
            assert s.state == "closed"
            assert isinstance(errors[0], SubscriptionLost)
            assert "not published any more" in str(errors[0])
            assert await reader.read() == b""
            writer.close()
            n["old"] = 2
            with pytest.raises(KeyError):
                p.remove_notifier("d")
            with pytest.raises(UnknownNotifier):
                await Subscriber("d", list).connect("127.0.0.1", p.port)
        p.add_notifier("d", Notifier({"new": 1}))
        with pytest.raises(ValueError, match="already"):
            p.add_notifier("d", Notifier({}))
        async with subscribed(p) as s:
            assert s.target == {"new": 1}


async def test_removed_and_added_again_there_is_no_stale_stream(until):
    async with published({"old": 1}) as (_, p):
        s = Subscriber("d", identity)
        async with s.following("127.0.0.1", p.port, longest_wait=0.1):
            p.remove_notifier("d")
            p.add_notifier("d", Notifier({"new": 1}))
            await until(lambda: s.target == {"new": 1})


async def test_publisher_stops_and_another_one_takes_its_place(until):
    states, errors, inits = [], [], []
    notifier = Notifier({"x": 1})
    first = Publisher({"d": notifier})
    await first.start("127.0.0.1", 0)
    port = first.port
    s = Subscriber(
        "d",
        identity,
        lambda mod: mod["action"] == "init" and inits.append(1),
        lambda: states.append("lost"),
        state_cb=states.append,
        on_error=errors.append,
    )
    async with s.following("127.0.0.1", port, longest_wait=0.1):
        await first.stop()
        await until(lambda: s.state == "stale")
        notifier["x"] = 2
        second = Publisher({"d": notifier})
        await until(lambda: any(isinstance(e, ConnectionRefusedError) for e in errors))
        await second.start("127.0.0.1", port)
        await until(lambda: s.state == "live")
        assert s.target == {"x": 2}
        await second.stop()
    assert states == ["connecting", "live", "stale", "lost", "live", "stale", "lost", "closed"] or (
        states == ["connecting", "live", "stale", "lost", "live", "closed"]
    )
    assert len(inits) == 2


async def test_network_drops_and_the_missing_mods_are_fetched(until, Relay):
    inits = []
    async with published({"l": []}) as (n, p), Relay(p.port) as relay:
        s = Subscriber("d", identity, lambda mod: mod["action"] == "init" and inits.append(1))
        async with s.following("127.0.0.1", relay.port, longest_wait=0.1):
            for i in range(5):
                relay.refusing = True
                relay.cut()
                await until(lambda: s.state == "stale")
                n["l"].append(i)
                relay.refusing = False
                await until(lambda i=i: s.target == {"l": list(range(i + 1))})
            assert len(inits) == 1
            target = s.target
            await until(lambda: s.state == "live")
            assert s.target is target


async def test_cut_at_any_byte_the_replica_becomes_equal_again(until, Relay):
    async with published({"a": np.arange(3.0)}) as (n, p), Relay(p.port) as relay:
        s = Subscriber("d", identity)
        async with s.following("127.0.0.1", relay.port, longest_wait=0.05):
            for cut in range(1, 2000, 97):
                relay.cut_after = cut
                with n.batch():
                    n["l"] = [cut]
                    n["a"] = np.arange(150.0) + cut
                    n["l"].append(cut)
                n["end"] = cut
                await until(lambda: same(s.target, n.read))
            assert relay.connections > 5


async def test_a_resume_beyond_the_log_is_answered_with_the_structure(until, Relay):
    inits = []
    async with published({"x": 0}, backlog=10_000) as (n, p), Relay(p.port) as relay:
        s = Subscriber("d", identity, lambda mod: mod["action"] == "init" and inits.append(1))
        async with s.following("127.0.0.1", relay.port, longest_wait=0.1):
            relay.refusing = True
            relay.cut()
            await until(lambda: s.state == "stale")
            for i in range(100):
                n["x"] = str(i) * 1000
            relay.refusing = False
            await until(lambda: s.target == n.read)
            assert len(inits) == 2


async def test_a_mod_that_does_not_fit_resynchronises(until, caplog):
    errors, states = [], []
    async with (
        published({"l": [1, 2]}) as (n, p),
        subscribed(p, on_error=errors.append, state_cb=states.append) as s,
    ):
        n["x"] = 1
        await until(lambda: "x" in s.target)
        s.target["l"].clear()  # must not be done
        n["l"].pop(1)
        await until(lambda: s.target == {"l": [1], "x": 1})
        assert s.state == "live"
    assert isinstance(errors[0], ModError)
    assert states == ["connecting", "live", "stale", "live", "closed"]
    assert p.counters["d"].resyncs == 1


async def test_a_target_that_no_mod_fits_ends_the_subscription(until):
    errors, lost = [], []
    async with (
        published({"l": [1, 2]}) as (n, p),
        subscribed(
            p, None, lambda: lost.append(1), build=lambda x: None, on_error=errors.append
        ) as s,
    ):
        n["x"] = 1
        await until(lambda: lost)
        assert s.state == "closed"
        assert [type(error) for error in errors] == [ModError]  # reported once


async def test_a_subscriber_that_never_reads_costs_no_more_than_the_backlog(until):
    async with published({"x": ""}, backlog=2**20) as (n, p):
        reader, writer = await asyncio.open_connection("127.0.0.1", p.port, limit=2**10)
        writer.write(b"ARTIQ sync_struct\nd\n")
        await until(lambda: p.counters["d"].subscribers == 1)
        async with subscribed(p) as s:
            for i in range(400):
                n["x"] = f"{i:5}" * 20_000
                await until(lambda: s.target["x"] == n.read["x"])
            (stalled,) = [c for c in p._channels["d"].connections if c._side.legacy]
            assert stalled.backlog < 1.5 * 2**20
            stream = p._channels["d"].log
            assert sum(entry.size for entry in stream.entries(0)) < 1.2 * 2**20
        replica, last = None, n.read["x"]
        while replica is None or replica["x"] != last:
            line = b""
            while not line.endswith(b"\n"):
                line += await reader.read(2**16)
            for mod in map(json.loads, line.splitlines()):
                if mod["action"] == "init":
                    replica = mod["struct"]
                else:
                    process_mod(replica, mod)
        assert p.counters["d"].resyncs == 1
        writer.close()


async def test_slow_subscribers_can_be_disconnected_instead(until):
    async with published({"x": ""}, backlog=2**20, overflow="disconnect") as (n, p):
        reader, writer = await asyncio.open_connection("127.0.0.1", p.port, limit=2**10)
        writer.write(b"ARTIQ sync_struct\nd\n")
        await until(lambda: p.counters["d"].subscribers == 1)
        for i in range(400):
            n["x"] = f"{i:5}" * 20_000
            await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError):
            while await reader.read(2**20):
                pass
        await until(lambda: p.counters["d"].subscribers == 0)
        writer.close()


async def test_a_structure_of_150_MB(until):
    array = np.arange(150 * 2**20 // 8)
    async with published({"a": array}) as (n, p), subscribed(p) as s:
        assert np.array_equal(s.target["a"], array)
        n["a"][3] = 0
        await until(lambda: s.target["a"][3] == 0)


async def test_close_at_any_time_and_connect_again(until):
    s = Subscriber("d", identity)
    await s.close()
    await s.close()
    async with published({"x": 1}) as (_n, p):
        for _ in range(3):
            await s.connect("127.0.0.1", p.port)
            with pytest.raises(RuntimeError, match="already"):
                await s.connect("127.0.0.1", p.port)
            assert s.target == {"x": 1}
            await s.close()
            await s.close()

        async def close(mod):
            await closing.close()

        told = []
        closing = Subscriber("d", identity, [close, told.append])
        with contextlib.suppress(SubscriptionLost):
            await closing.connect("127.0.0.1", p.port)
        await until(lambda: closing.state == "closed")
        assert told == []


async def test_closed_while_it_waits_to_reconnect_and_connected_again(until):
    told = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = free.getsockname()[1]
    s = Subscriber("d", identity, told.append)
    async with published({"x": 1}) as (n, p):
        for port in (nobody, p.port):
            first = asyncio.ensure_future(s.run("127.0.0.1", port))
            await until(lambda: s.state == ("connecting" if port == nobody else "live"))  # noqa: B023
            await s.close()
            await s.connect("127.0.0.1", p.port)
            await first
            n["x"] += 1
            await until(lambda: s.target == {"x": n["x"]})
            await s.close()
            n["y"] = 0
            heard = len(told)
            await until(lambda: p.counters["d"].subscribers == 0)
            del n["y"]
            assert (s.state, len(told)) == ("closed", heard)


def test_following_in_one_loop_after_the_other():
    s = Subscriber("d", identity)

    async def follow():
        async with published({"x": 1}) as (_, p), s.following("127.0.0.1", p.port):
            assert (s.state, s.target) == ("live", {"x": 1})

    asyncio.run(follow())
    asyncio.run(follow())


async def test_following_leaves_a_subscriber_that_is_connected_alone(until):
    async with published({"x": 1}) as (n, p), subscribed(p) as s:
        entered = False
        with pytest.raises(RuntimeError, match="connecting already"):
            async with s.following("127.0.0.1", p.port):
                entered = True
        n["x"] = 2
        await until(lambda: s.target == {"x": 2})
        assert (entered, s.state) == (False, "live")


async def test_a_removed_part_is_absent_until_it_exists_again(until):
    states, errors, told = [], [], []
    s = Subscriber(
        "d", identity, told.append, path=["a"], state_cb=states.append, on_error=errors.append
    )
    async with (
        published({"a": [1]}) as (n, p),
        s.following("127.0.0.1", p.port, longest_wait=0.01),
    ):
        del n["a"]
        await until(lambda: s.state == "absent")
        assert s.target is None
        n["a"] = [2]
        await until(lambda: s.target == [2])
        assert s.state == "live"
        n["a"].append(3)
        await until(lambda: s.target == [2, 3])
    assert errors == []
    assert states == ["connecting", "live", "absent", "live", "closed"]
    assert [mod["action"] for mod in told] == ["init", "absent", "init", "append"]


@pytest.mark.parametrize("max_rate", [None, math.inf])
async def test_a_part_arrives_as_soon_as_it_is_created(until, max_rate):
    """Six times in six iterations of the loop, too few to reconnect."""
    told = []
    s = Subscriber("d", identity, told.append, path=["data", "plot"], max_rate=max_rate)
    async with published({}) as (n, p), s.following("127.0.0.1", p.port):
        assert (s.state, s.target) == ("absent", None)
        for i in range(6):
            n["data"] = {"plot": [i]}
            await until(lambda i=i: s.target == [i])
            n["data"]["plot"].append(i)
            await until(lambda i=i: s.target == [i, i])
            del n["data"]
            await until(lambda: s.state == "absent")
    assert [mod["action"] for mod in told] == ["absent", *["init", "append", "absent"] * 6]


async def test_connect_can_wait_for_a_part(until):
    async with published({}) as (n, p):
        s = Subscriber("d", identity, path=["a"], may_be_absent=True)
        await s.connect("127.0.0.1", p.port)
        assert s.state == "absent"
        n["a"] = 1
        await until(lambda: s.target == 1)
        await s.close()


async def test_close_while_it_connects():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        s = Subscriber("d", identity)
        connecting = asyncio.ensure_future(s.connect("127.0.0.1", mute.getsockname()[1]))
        running = Subscriber("d", identity)
        run = asyncio.ensure_future(running.run("127.0.0.1", mute.getsockname()[1]))
        await asyncio.sleep(0)
        await s.close()
        await running.close()
        with pytest.raises(SubscriptionLost):
            await connecting
        await run
        assert s.state == running.state == "closed"


async def test_run_can_be_cancelled(until):
    async with published({"x": 1}) as (_, p):
        s = Subscriber("d", identity)
        run = asyncio.ensure_future(s.run("127.0.0.1", p.port))
        await until(lambda: s.state == "live")
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert s.state == "closed"
        await until(lambda: p.counters["d"].subscribers == 0)


async def test_two_publishers_on_one_notifier(until):
    async with published({"x": 1}) as (n, first), Publisher({"e": n}, legacy_version=1) as second:
        await second.start("127.0.0.1", 0)
        async with subscribed(first) as a, subscribed(second, name="e") as b:
            n["x"] = 2
            await until(lambda: a.target == b.target == {"x": 2})
        await first.stop()
        n["x"] = 3
        async with subscribed(second, name="e") as b:
            assert b.target == {"x": 3}


async def test_a_v1_publisher_refuses_values_without_a_v1_form(until, monkeypatch):
    real = pyon.encode

    def narrow(value, *args, version=1, **options):
        if version == 1 and "narrow" in str(value):
            raise pyon.EncodeError("not in v1")
        return real(value, *args, version=version, **options)

    monkeypatch.setattr(pyon, "encode", narrow)
    async with published({}, legacy_version=1) as (n, p), subscribed(p) as s:
        with pytest.raises(pyon.EncodeError):
            n["x"] = "narrow"
        n["x"] = "wide"
        await until(lambda: s.target == n.read == {"x": "wide"})
        await p.stop()
        n["x"] = "narrow"


async def test_a_slow_reader_with_conflation_receives_fewer_values_and_the_last(until):
    seen, gate = [], asyncio.Event()

    async def show(mod):
        seen.append(mod.get("value"))
        if len(seen) == 2:
            await gate.wait()

    async with (
        published({"x": None}) as (n, p),
        subscribed(p, show, max_rate=math.inf) as s,
        subscribed(p) as every,
    ):
        for i in range(1000):
            n["x"] = i
            if i % 10 == 0:
                await until(lambda i=i: every.target["x"] == i)
        gate.set()
        await until(lambda: s.target["x"] == 999)
    assert len(seen) < 100
    assert seen[-1] == 999


async def test_a_rate_is_kept(until):
    times = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with (
        published({"x": 0}) as (n, p),
        subscribed(p, lambda mod: times.append(loop.time()), max_rate=20) as s,
    ):
        for i in range(100):
            n["x"] = i
            await asyncio.sleep(0)
        await until(lambda: s.target["x"] == 99)
        n["x"] = 100
        await until(lambda: s.target["x"] == 100)
    # However long it took: never more than the rate allows, the first and a late one included.
    assert len(times) <= 2 + 20 * (times[-1] - began)


async def test_only_mods_and_no_structure(until, Relay):
    mods, errors = [], []
    async with published({"x": "y" * 2000}, backlog=5_000) as (n, p), Relay(p.port) as relay:
        s = Subscriber("d", identity, mods.append, mods_only=True, on_error=errors.append)
        async with s.following("127.0.0.1", relay.port, longest_wait=0.1):
            n["x"] = 1
            await until(lambda: len(mods) == 1)
            assert s.target is None
            relay.refusing = True
            relay.cut()
            await until(lambda: s.state == "stale")
            n["x"] = 2
            relay.refusing = False
            await until(lambda: len(mods) == 2)
            relay.refusing = True
            relay.cut()
            await until(lambda: s.state == "stale")
            for i in range(100):
                n["x"] = i
            relay.refusing = False
            await until(lambda: any(isinstance(error, ModsLost) for error in errors))
            n["x"] = "last"
            await until(lambda: mods[-1]["value"] == "last")


async def test_a_part_follows_its_place(until):
    async with (
        published({"a": {"l": [1]}, "b": []}) as (n, p),
        subscribed(p, path=["a", "l"]) as s,
        subscribed(p, path=["a", "l", 0]) as leaf,
    ):
        n["b"].append(1)
        n["a"]["l"].append(2)
        n["a"]["l"][0] = 5
        await until(lambda: s.target == [5, 2])
        await until(lambda: leaf.target == 5)
        n["a"] = {"l": [7]}
        await until(lambda: s.target == [7])


@pytest.mark.parametrize("part", [["img", (0, 1)], ["img", (0,)], ["rec", "x"], ["rec", 1]])
async def test_a_part_of_an_array_follows_whatever_is_assigned(until, part):
    structure = {"img": np.zeros((2, 2)), "rec": np.zeros(3, [("x", "f8"), ("y", "f8")])}
    async with (
        published({}, legacy_version=2) as (n, p),
    ):
        n.update(structure)
        async with subscribed(p, path=part) as s:
            n["img"][:] = 5
            n["img"][None] = 6
            n["rec"][1] = (3.0, 4.0)
            n["rec"]["y"] = np.array([7.0, 7.0, 7.0])

            def expected():
                whole = n.copy()
                return whole[part[0]][part[1]]

            await until(lambda: repr(s.target) == repr(expected()))


@pytest.mark.parametrize("part", [["r", "nofield"], ["a", 2**63], ["a", (1, 2, 3)]])
async def test_a_part_that_an_array_cannot_have_is_an_error(part, caplog):
    async with published({"r": np.zeros(3, [("x", "f8")]), "a": np.zeros(3)}) as (_, p):
        with pytest.raises(UnknownNotifier, match="no part"):
            await Subscriber("d", identity, path=part).connect("127.0.0.1", p.port)
    assert "Traceback" not in caplog.text


ARRAY = b'{"__jsonclass__":["nparray",[[2],"|u1","AAA="]]}'

JUNK = {
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\n",
    "binary": bytes(range(256)),
    "no notifier": b'{"sync_struct":1}\n',
    "other version": b'{"sync_struct":99,"notifier":"d"}\n',
    "bad options": b'{"sync_struct":1,"notifier":"d","max_rate":-1}\n',
    "rate beyond floats": b'{"sync_struct":1,"notifier":"d","max_rate":1%s}\n' % (b"0" * 400),
    "version that is an array": b'{"sync_struct":%s}\n' % ARRAY,
    "action that is an array": b'{"sync_struct":1,"notifier":"d"}\n{"action":%s}\n' % ARRAY,
    "bad path": b'{"sync_struct":1,"notifier":"d","path":[[]]}\n',
    "bad resume": b'{"sync_struct":1,"notifier":"d","resume":["x",-1]}\n',
    "deep": b'{"sync_struct":1,"notifier":' + b"[" * 30_000 + b"\n",
    "over-long": b"x" * 200_000 + b"\n",
    "name that is no text": b"ARTIQ sync_struct\n\xff\xfe\n",
    "unknown name": b"ARTIQ sync_struct\nx\n",
    "speaks later": b'{"sync_struct":1,"notifier":"d"}\nhello\n',
    "legacy that speaks": b"ARTIQ sync_struct\nd\nhello\n",
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
async def test_unidentified_clients_are_logged_once_and_disconnected(junk, caplog):
    async with published({"x": 1}) as (_, p):
        reader, writer = await asyncio.open_connection("127.0.0.1", p.port)
        port = writer.get_extra_info("sockname")[1]
        writer.write(junk)
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        assert [r.getMessage().count(str(port)) for r in caplog.records] == [1]
        assert "Traceback" not in caplog.text
        async with subscribed(p) as s:
            assert s.target == {"x": 1}


async def test_a_client_of_a_stopping_publisher_is_told_so_and_may_reconnect(until):
    """`UnknownNotifier` would end the subscription for good."""
    async with published({"x": 1}) as (_, p):
        reader, writer = await asyncio.open_connection("127.0.0.1", p.port)
        await until(lambda: p._connections)
        writer.write(b'{"sync_struct":1,"notifier":"d"}\n')
        await p.stop()
        answer = pyon.decode(await reader.read())
        writer.close()
    assert (answer["error"], answer["message"]) == ("SubscriptionLost", "the publisher stops")


async def test_half_a_handshake_is_not_held_open_for_ever(monkeypatch, caplog):
    monkeypatch.setattr("sync_struct._publisher_connection.BANNER_TIMEOUT", 0.05)
    async with published({}) as (_, p):
        reader, writer = await asyncio.open_connection("127.0.0.1", p.port)
        writer.write(b"ARTIQ sync_struct\nd")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    assert "no valid banner within 0.05 s; closed" in caplog.text


async def test_too_many_half_handshakes_push_each_other_out_and_no_subscriber(
    monkeypatch, until, caplog
):
    monkeypatch.setattr("sync_struct._publisher_connection.MOST_UNIDENTIFIED", 3)
    monkeypatch.setattr("sync_struct._publisher_connection.LEAST_TIME", 0.0)
    async with published({"x": 1}) as (n, p), subscribed(p) as s:
        strangers = []
        for _ in range(5):
            strangers.append(await asyncio.open_connection("127.0.0.1", p.port))
            strangers[-1][1].write(b"ARTIQ sync")
            async with subscribed(p) as another:
                assert another.target == {"x": 1}
        for reader, _ in strangers[:2]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert "no valid banner yet, and 3 clients wait already" in caplog.text
        strangers[-1][1].write(b"_struct\nd\n")
        assert b'"init"' in await strangers[-1][0].readline()
        for _, writer in strangers:
            writer.close()
        n["x"] = 2
        await until(lambda: s.target == {"x": 2})


NONSENSE = {
    "no PYON": b"hello\n",
    "no mod": b"5\n",
    "unknown action": b'{"action":"explode","path":[]}\n',
    "hello without a number": b'{"action":"hello"}\n',
    "refusal": b'{"action":"error","error":"ProtocolError","message":"no"}\n',
    "refusal without a reason": b'{"action":"error"}\n',
    "init without a structure": b'{"action":"init"}\n',
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
async def test_a_publisher_that_sends_invalid_data_is_disconnected(nonsense):
    async def serve(reader, writer):
        await reader.readline()
        writer.write(nonsense)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with pytest.raises(ConnectionError):
            await Subscriber("d", identity).connect(*server.sockets[0].getsockname())


async def test_a_message_beyond_the_limit_is_an_error():
    async with published({"x": "y" * 10_000}) as (_, p):
        with pytest.raises(ConnectionError, match="beyond the limit"):
            await Subscriber("d", identity, limit=1000).connect("127.0.0.1", p.port)


async def test_a_structure_that_cannot_be_encoded_is_an_error_for_the_subscriber(caplog):
    async with published({}) as (n, p):
        n.read["x"] = object()  # not through the notifier
        with pytest.raises(ConnectionError, match="object"):
            await Subscriber("d", identity).connect("127.0.0.1", p.port)
        n["x"] = 1
        async with subscribed(p) as s:
            assert s.target == {"x": 1}


async def test_stop_with_subscribers_connected_returns_and_start_works_again(until):
    async with published({"x": 1}) as (n, p):
        async with subscribed(p) as s, subscribed(p, max_rate=1) as _:
            await p.stop()
            await until(lambda: s.state == "closed")
        await p.stop()
        n["x"] = 2
        await p.start("127.0.0.1", 0)
        async with subscribed(p) as s:
            assert s.target == {"x": 2}
        with pytest.raises(RuntimeError):
            await p.start("127.0.0.1", 0)


async def test_a_port_in_use_is_a_clear_error():
    async with published({}) as (n, p), Publisher({"d": n}) as other:
        with pytest.raises(OSError):
            await other.start("127.0.0.1", p.port)
        n["x"] = 1
        await other.start("127.0.0.1", 0)


async def test_counters(until):
    async with published({"x": 1}) as (n, p):
        assert p.counters["d"] == (0, 0, 0, 0)
        async with subscribed(p) as s, subscribed(p):
            n["x"] = 2
            await until(lambda: s.target == {"x": 2})
            counters = p.counters["d"]
            assert (counters.subscribers, counters.backlog, counters.resyncs) == (2, 0, 0)
            assert counters.sent > 100


async def test_the_structure_is_not_shared_with_local_listeners(until):
    async with published({"l": []}) as (n, p), subscribed(p) as s:
        replica = {"l": []}
        n.add_listener(lambda mod: process_mod(replica, mod))
        n["l"].append([1])
        n["l"][0].append(2)
        await until(lambda: s.target == {"l": [[1, 2]]})
        assert replica == s.target


async def test_a_half_open_connection_is_detected_and_replaced(until, Relay):
    states = []
    async with published({"x": 1}) as (n, p), Relay(p.port) as relay:
        s = Subscriber("d", identity, state_cb=states.append, heartbeat=0.05)
        async with s.following("127.0.0.1", relay.port, longest_wait=0.1):
            assert relay.connections == 1
            relay.held = True
            await until(lambda: s.state == "stale")
            n["x"] = 2
            relay.held = False
            await until(lambda: s.target == {"x": 2})


async def test_silence_alone_is_no_loss(until):
    answers = []
    async with published({"x": 1}) as (_, p), subscribed(p, heartbeat=0.01) as s:
        (subscription,) = p._channels["d"].connections
        send = subscription.send
        subscription.send = lambda line: answers.append(line) or send(line)
        await until(lambda: len(answers) >= 5)
        assert s.state == "live"
    assert set(answers[:5]) == {b'{"action":"pong"}'}


async def test_every_client_has_time_for_its_banner_however_many_come_at_once(monkeypatch):
    for limit, value in (("MOST_UNIDENTIFIED", 10), ("LEAST_TIME", 99.0), ("BANNER_TIMEOUT", 99.0)):
        monkeypatch.setattr(f"sync_struct._publisher_connection.{limit}", value)
    async with published({"x": 1}) as (_, p):
        clients = [await asyncio.open_connection("127.0.0.1", p.port) for _ in range(100)]
        for _, writer in clients:
            writer.write(b"ARTIQ sync_struct\nd\n")
        for reader, writer in clients:
            assert await reader.readline() == b'{"action":"init","struct":{"x":1}}\n'
            writer.close()


async def test_a_subscriber_that_does_not_read_its_pongs_is_not_read_any_further(until):
    async with published({"x": 1}) as (_, p):
        small = socket.create_connection(("127.0.0.1", p.port))
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader, writer = await asyncio.open_connection(sock=small)
        writer.write(b'{"sync_struct":1,"notifier":"d"}\n')
        await reader.readline()
        writer.transport.pause_reading()
        (connection,) = p._channels["d"].connections
        server_end = connection.transport.get_extra_info("socket")
        server_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for _ in range(100):  # 36 MB in all, and as much of answers: more than a network holds
            writer.write(b'{"action":"ping"}\n' * 20_000)
        await until(lambda: connection.backlog > HIGH_WATER)
        for _ in range(300):
            await asyncio.sleep(0)
            assert connection.backlog < 2 * HIGH_WATER
        assert writer.transport.get_write_buffer_size() > HIGH_WATER  # waits at the client
        writer.transport.abort()


async def test_a_subscriber_that_resumes_is_live_when_the_missed_mods_have_arrived(Relay, until):
    n, states = Notifier({"x": 0}), []
    async with Publisher({"d": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        async with Relay(publisher.port) as relay:
            subscriber = Subscriber(
                "d",
                lambda x: x,
                state_cb=lambda state: states.append((state, (subscriber.target or n)["x"])),
            )
            async with subscriber.following("127.0.0.1", relay.port, longest_wait=0.05):
                relay.refusing = True
                relay.cut()
                await until(lambda: subscriber.state == "stale")
                n["x"] = 1
                n["x"] = 2
                relay.refusing = False
                await until(lambda: subscriber.target["x"] == 2 and subscriber.state == "live")
    assert states == [("connecting", 0), ("live", 0), ("stale", 0), ("live", 2), ("closed", 2)]
