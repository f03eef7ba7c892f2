"""A publisher, NATS and subscribers, with a real server, which is killed in some tests."""

import asyncio
import contextlib
import json
import random
import signal

import numpy as np
import pyon
import pytest
from pyon.asyncio_server import AsyncioServer
from sync_struct import (
    Notifier,
    Publisher,
    Subscriber,
    SyncStructError,
    UnknownNotifier,
    mirror,
)
from sync_struct._replay import state_at
from sync_struct.nats import (
    AnotherBridge,
    JetStreamError,
    _inlet,
    bridging_in,
    bridging_out,
    read_history,
)
from sync_struct.nats._connecting import connect
from sync_struct.nats._jetstream import JetStream
from sync_struct.nats._layout import Label, Manifest, subjects
from sync_struct.nats._ledger import LEAST_STEPS
from sync_struct.nats._outlet import Outlet
from sync_struct.nats._pull import Pull, read_snapshot

# By nats-py when it reconnects: a transport that is closed without waiting.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")

QUICK = 0.25
"""Seconds between beacons."""

STEADY = 1.0
"""The same, where a loaded machine must not look like a message that was lost."""


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


class Replica:
    """A subscriber that records the actions of its mods, and its states."""

    def __init__(self, name="d", **options):
        self.actions, self.states, self.errors, self.seen = [], [], [], []
        self.subscriber = Subscriber(
            name,
            lambda x: x,
            self.take,
            state_cb=self.states.append,
            on_error=self.errors.append,
            **options,
        )

    def take(self, mod):
        self.actions.append(mod["action"])
        target = self.subscriber.target
        if isinstance(target, dict) and "diary" in target:
            self.seen.append(target["diary"][-1] if target["diary"] else 0)

    @property
    def target(self):
        return self.subscriber.target

    @property
    def live(self):
        return self.subscriber.state == "live"

    def equals(self, notifier):
        """Tell whether it is live, and is what the notifier is."""
        return self.live and same(self.target, notifier.read)

    def following(self, address):
        return self.subscriber.following(address, longest_wait=0.05)


class Site:
    """A publisher and a bridge out; both can be stopped and restarted."""

    def __init__(self, engine, notifier, **options):
        self.engine, self.notifier, self.options = engine, notifier, options
        self.port = 0
        self.errors, self.states = [], []

    async def __aenter__(self):
        await self.start_publisher()
        await self.start_bridge()
        return self

    async def __aexit__(self, *exc_info):
        await self.stop_bridge()
        await self.publisher.stop()

    async def start_publisher(self):
        self.publisher = Publisher({"d": self.notifier})
        await self.publisher.start("127.0.0.1", self.port)
        self.port = self.publisher.port

    async def start_bridge(self):
        self.stack = contextlib.AsyncExitStack()
        options = {"interval": QUICK, **self.options}
        await self.stack.enter_async_context(
            bridging_out(
                "127.0.0.1",
                self.port,
                ["d"],
                self.engine.address,
                on_error=lambda _, error: self.errors.append(error),
                on_state=lambda _, state: self.states.append(state),
                **options,
            )
        )

    async def stop_bridge(self):
        await self.stack.aclose()


async def has(engine):
    """Wait until the engine has a snapshot."""
    js = await connect(engine.address)
    names = subjects("d")
    async with asyncio.timeout(30):
        while await js.last(names.stream, names.manifest) is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return js


async def settled(engine):
    await (await has(engine)).close()


def structure():
    return {"diary": [], "x": 0, "a": np.zeros(3000), "part": {"y": 0}, "grows": np.zeros(0)}


def change(n, i):
    """Make a batch of changes, with a diary that shows order, losses and duplicates."""
    with n.batch():
        n["diary"].append(i)
        n["x"] = i
        if i % 3 == 0:
            n["a"][i % 3000] = i
        if i % 5 == 0:
            n["a"] = np.full(3000, float(i))
        n["grows"].append(float(i))
    n["part"]["y"] = i


# Guarantees.


async def test_steps_over_nats_arrive_complete_and_in_order(engine, until):
    n = Notifier(structure())
    async with Site(engine, n, interval=STEADY):
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            for i in range(1, 300):
                change(n, i)
                if i % 7 == 0:
                    await asyncio.sleep(0)
            await until(lambda: replica.equals(n))
        assert replica.actions.count("init") == 1
        assert replica.seen == sorted(replica.seen)
        assert replica.errors == []
        late = Replica()
        async with late.following(f"{engine.address}/d"):
            assert late.equals(n)  # a late joiner has everything when it has joined


async def test_a_part_at_a_rate_over_nats(engine, until):
    n = Notifier(structure())
    async with Site(engine, n):
        await settled(engine)
        part, old = Replica(path=["part"], max_rate=1000.0), Replica(raw_buffers=False)
        async with part.following(engine.address), old.following(engine.address):
            for i in range(1, 100):
                change(n, i)
                await asyncio.sleep(0)
            await until(lambda: part.target == {"y": 99} and part.live)
            await until(lambda: old.equals(n))


async def test_mods_only_over_nats(engine, until):
    n = Notifier(structure())
    async with Site(engine, n):
        await settled(engine)
        change(n, 1)
        seen = []
        subscriber = Subscriber("d", None, seen.append, mods_only=True, decode=False)
        mods = Subscriber("d", lambda x: x, seen.append, mods_only=True)
        await subscriber.connect(engine.address)
        await subscriber.close()
        async with mods.following(engine.address):
            change(n, 2)
            await until(lambda: len(seen) >= 3)
    assert next(mod["x"] for mod in seen if mod["action"] == "append") == 2


async def test_a_mirror_has_everything_when_it_returns(engine):
    n = Notifier(structure())
    async with Site(engine, n):
        await settled(engine)
        for i in range(1, 500):
            change(n, i)
        seen = await asyncio.to_thread(mirror, f"{engine.address}/d")
        await asyncio.to_thread(seen.wait, lambda d: d["x"] == 499, 30)
        assert same(seen.read, n.read)
        seen.close()


async def test_steps_larger_than_the_maximum_payload_are_split(engine, until):
    n = Notifier({"image": np.zeros(2), "i": 0})
    async with Site(engine, n):
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            for i in range(4):
                with n.batch():
                    n["i"] = i
                    n["image"] = np.full((1000, 1000), float(i))  # 8 MB
                await until(lambda: replica.equals(n))
            late = Replica()
            async with late.following(engine.address):
                assert late.equals(n)


async def test_an_unknown_name_is_an_error_that_lists_the_names(engine):
    async with Site(engine, Notifier({})):
        await settled(engine)
        with pytest.raises(UnknownNotifier, match="no notifier 'nope'; there is 'd'") as caught:
            await Subscriber("nope", lambda x: x).connect(engine.address)
        assert caught.value.names == ("d",)


async def test_an_engine_that_cannot_be_reached_is_an_error(engine):
    engine.kill()
    with pytest.raises(JetStreamError, match=f"{engine.address}: .*Connect call failed"):
        await Subscriber("d", lambda x: x).connect(engine.address)
    with pytest.raises(JetStreamError, match="Connect call failed"):
        async with bridging_out("127.0.0.1", 1, ["d"], engine.address):
            pass


async def test_an_engine_without_jetstream_says_so(engine):
    engine.kill()
    engine.start(jetstream=False)
    with pytest.raises(SyncStructError, match="is JetStream on"):
        await Subscriber("d", lambda x: x).connect(engine.address)


# Reconnecting.


async def test_a_subscriber_resumes_where_it_was(engine, until):
    n = Notifier(structure())
    async with Site(engine, n, interval=STEADY):
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            change(n, 1)
            await until(lambda: replica.equals(n))
            replica.subscriber._subscription.connection.drop()
            change(n, 2)
            await until(lambda: replica.equals(n) and "stale" in replica.states)
    assert replica.actions.count("init") == 1


async def test_a_bridge_goes_on_where_the_stream_ends(engine, until):
    n = Notifier(structure())
    async with Site(engine, n, interval=STEADY) as site:
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            change(n, 1)
            await until(lambda: replica.equals(n))
            await site.stop_bridge()
            await until(lambda: replica.subscriber.state == "stale")
            change(n, 2)
            await site.start_bridge()
            await until(lambda: replica.equals(n))
    assert replica.actions.count("init") == 1


async def test_a_restarted_publisher_replaces_the_structure(engine, until):
    n = Notifier(structure())
    async with Site(engine, n) as site:
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            change(n, 1)
            await until(lambda: replica.equals(n))
            await site.publisher.stop()
            await until(lambda: replica.subscriber.state == "stale")
            site.notifier = n = Notifier(structure() | {"new": True})
            await site.start_publisher()
            await until(lambda: replica.equals(n))
            change(n, 1)
            await until(lambda: replica.equals(n))
    assert replica.actions.count("init") == 2


async def test_a_bridge_that_lags_by_more_than_the_backlog_writes_the_structure(engine, until):
    n = Notifier(structure())
    async with Site(engine, n) as site:
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            await site.stop_bridge()
            site.publisher._channels["d"].log.backlog = 10_000
            for i in range(1, 200):
                change(n, i)
                await asyncio.sleep(0)
            await site.start_bridge()
            await until(lambda: replica.equals(n))
    assert replica.actions.count("init") == 2


# One writer.


async def test_a_second_bridge_stands_by_and_takes_over(engine, until):
    n = Notifier(structure())
    async with Site(engine, n, interval=STEADY) as site:
        await settled(engine)
        other = Site(engine, n, interval=STEADY)
        other.port = site.port
        await other.start_bridge()
        try:
            await until(lambda: "standby" in other.states)
            assert isinstance(other.errors[0], AnotherBridge)
            replica = Replica()
            async with replica.following(engine.address):
                change(n, 1)
                await until(lambda: replica.equals(n))
                await site.stop_bridge()
                change(n, 2)
                await until(lambda: replica.equals(n) and "live" in other.states)
                await site.start_bridge()
                await until(lambda: "standby" in site.states)
                change(n, 3)
                await until(lambda: replica.equals(n))
            assert replica.actions.count("init") == 1
        finally:
            await other.stop_bridge()


async def test_a_foreign_message_in_the_stream_displaces_the_bridge_and_it_comes_back(
    engine, until
):
    n = Notifier(structure())
    async with Site(engine, n, interval=STEADY) as site:
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            old = await has(engine)
            entry = await old.last("sync_struct-d", subjects("d").manifest)
            await old.publish(subjects("d").manifest, entry.data)
            change(n, 1)
            await until(lambda: replica.equals(n))
            await old.close()
        assert any("another writer is at work" in str(error) for error in site.errors)
        assert replica.actions.count("init") == 1


# What fails.


class TornGreeting(AsyncioServer):
    """An engine that greets once and closes; its later greetings are incomplete."""

    connections = 0

    async def _handle_connection_cr(self, reader, writer):
        self.connections += 1
        if self.connections > 1:
            writer.write(b"INFO")
            return
        writer.write(b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
                return


async def test_a_client_that_does_not_reconnect_is_detected():
    async with TornGreeting() as server:
        await server.start("127.0.0.1", 0)
        js = await connect(f"nats://127.0.0.1:{server.port}")
        async with asyncio.timeout(15):  # less than without a look at why
            await js.lost()
        await js.close()


class Closed:
    """A client whose transport has just been closed, in the state of the library."""

    tasks = frozenset()

    async def fail(self, *arguments, **options):
        raise AttributeError("'NoneType' object has no attribute '_add_writer'")

    request = publish = subscribe = close = unsubscribe = fail


async def test_a_transport_that_has_just_been_closed_is_a_lost_connection():
    js = JetStream(Closed(), "nats://here")
    for call in (js.state("s"), js.publish("s", b""), js.subscribe("s", None)):
        with pytest.raises(JetStreamError, match="nats://here: "):
            await call
    assert await js.ask("s", 1.0) is None
    await js.unsubscribe(Closed())
    await js.close()


async def test_a_bridge_that_fails_starts_again(engine, until, monkeypatch, caplog):
    take = Outlet._read_tail
    failures = [LookupError("unforeseen")]

    async def fail_once(self):
        if failures:
            raise failures.pop()
        return await take(self)

    monkeypatch.setattr(Outlet, "_read_tail", fail_once)
    n = Notifier(structure())
    async with Site(engine, n) as site:
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            await until(lambda: replica.equals(n))
        assert "unforeseen" in str(site.errors)
    assert "a bridge has failed; it starts again" in caplog.text


async def test_an_engine_whose_greeting_is_cut_is_an_error():
    async with TornGreeting() as server:
        await server.start("127.0.0.1", 0)
        server.connections = 1
        with pytest.raises(JetStreamError, match=f"nats://127.0.0.1:{server.port}: "):
            await connect(f"nats://127.0.0.1:{server.port}")


@pytest.mark.parametrize("storage", ["file", "memory"])
async def test_an_engine_that_is_killed_and_comes_back(engine, until, storage):
    n = Notifier(structure())
    async with Site(engine, n, storage=storage):
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            for round in range(3):
                for i in range(100):
                    change(n, 100 * round + i)
                    await asyncio.sleep(0)
                engine.kill()
                for i in range(50):
                    change(n, 1000 * round + i)
                await until(lambda: replica.subscriber.state == "stale")
                engine.start()
                await until(lambda: replica.equals(n))


async def test_a_bridge_without_an_engine_does_not_delay_the_publisher_and_catches_up(
    engine, until
):
    n = Notifier(structure())
    async with Site(engine, n) as site:
        await settled(engine)
        engine.signal(signal.SIGSTOP)
        direct = Replica()
        async with direct.subscriber.following("127.0.0.1", site.port):
            for i in range(3000):
                change(n, i)
                if i % 50 == 0:
                    await asyncio.sleep(0)
            await until(lambda: direct.equals(n))
        engine.signal(signal.SIGCONT)
        replica = Replica()
        async with replica.following(engine.address):
            await until(lambda: replica.equals(n))


async def test_a_message_lost_in_transit_to_a_reader_is_detected(engine, until, monkeypatch):
    dropped = []
    receive = Pull._receive

    async def lossy(self, message):
        if message.subject.endswith(".step") and random.random() < 0.02:
            dropped.append(message)
        else:
            await receive(self, message)

    monkeypatch.setattr(Pull, "_receive", lossy)
    n = Notifier(structure())
    async with Site(engine, n, interval=STEADY):
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            for i in range(1, 500):
                change(n, i)
                await asyncio.sleep(0)
            await until(lambda: replica.equals(n) and dropped)
    assert replica.actions.count("init") == 1
    assert replica.seen == sorted(replica.seen)


async def test_a_reader_joins_again_if_steps_announced_by_a_beacon_do_not_arrive(
    engine, until, monkeypatch
):
    deaf = []

    async def receive(self, message):
        if not deaf or not message.subject.endswith(".step"):
            await original(self, message)
        else:
            self._count += 1

    original, _ = Pull._receive, monkeypatch.setattr(Pull, "_receive", receive)
    n = Notifier(structure())
    async with Site(engine, n):
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            deaf.append(True)
            change(n, 1)
            await until(lambda: replica.subscriber.state == "stale")
            await until(lambda: replica.actions.count("init") == 2)
            deaf.clear()
            await until(lambda: replica.equals(n))


async def test_a_reader_joins_again_after_a_purge(engine, until):
    n = Notifier({"diary": [], "x": ""})
    async with Site(engine, n):
        js = await has(engine)
        replica = Replica()
        async with replica.following(engine.address):
            release = replica.subscriber._subscription.connection
            release.pause_reading()
            for i in range(1, 50):
                n["diary"].append(i)
                n["x"] = chr(65 + i % 26) * 500_000
                await asyncio.sleep(0)
            first = (await js.api("STREAM.INFO.sync_struct-d"))["state"]["first_seq"]
            async with asyncio.timeout(30):
                while (await js.api("STREAM.INFO.sync_struct-d"))["state"]["first_seq"] == first:
                    n["x"] += "!"
            release.resume_reading()
            await until(lambda: replica.equals(n))
        await js.close()


async def joins(engine, until, notifier):
    """Wait until a new subscriber equals the notifier."""
    late = Replica()
    async with asyncio.timeout(60), late.following(engine.address):
        await until(lambda: late.equals(notifier))


async def test_a_structure_that_the_engine_has_lost_is_written_again_though_nothing_changes(
    engine, until
):
    n = Notifier(structure())
    async with Site(engine, n, storage="memory"):
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            engine.kill()
            engine.start()
            await joins(engine, until, n)
            await until(lambda: replica.equals(n))


@pytest.mark.parametrize("deleted", ["everything", "the structure", "the stream"])
async def test_a_structure_that_was_deleted_is_written_again_though_nothing_changes(
    engine, until, deleted
):
    n = Notifier(structure())
    async with Site(engine, n):
        js, names = await has(engine), subjects("d")
        if deleted == "the stream":
            await js.api(f"STREAM.DELETE.{names.stream}")
            await js.make_stream(names, "file", 1)
        else:
            manifest = await js.last(names.stream, names.manifest)
            before = {} if deleted == "everything" else {"seq": manifest.seq}
            await js.api(f"STREAM.PURGE.{names.stream}", before)
        await joins(engine, until, n)
        await js.close()


async def test_a_reader_that_receives_the_structure_of_a_restarted_publisher_joins_again(
    engine, until, monkeypatch
):
    n, m = Notifier(structure()), Notifier(structure())
    for i in range(100):
        change(n, i)
    m["x"] = "another"
    async with Site(engine, n) as site:
        js = await has(engine)
        names = subjects("d")
        before = Manifest.read((await js.last(names.stream, names.manifest)).data)

        async def late(js, names, manifest):
            if manifest != before:
                return await read_snapshot(js, names, manifest)
            if site.notifier is n:
                await site.publisher.stop()
                site.notifier = m
                await site.start_publisher()
            newest = manifest
            while newest == before:
                newest = Manifest.read((await js.last(names.stream, names.manifest)).data)
            return None  # its parts have been deleted meanwhile

        monkeypatch.setattr(_inlet, "read_snapshot", late)
        await joins(engine, until, m)
        await js.close()


async def test_a_reader_does_not_reread_the_structure_endlessly_if_a_step_is_missing(
    engine, until, monkeypatch
):
    read, heard = [], []

    async def count(*arguments):
        read.append(arguments)
        return await read_snapshot(*arguments)

    async def hear(message):
        heard.append(message)

    monkeypatch.setattr(_inlet, "read_snapshot", count)
    monkeypatch.setattr(_inlet, "RETRY_WAIT", 3600.0)
    n = Notifier(structure())
    async with Site(engine, n) as site, Replica().following(engine.address):
        js, names = await has(engine), subjects("d")
        change(n, 1)
        await until(lambda: site.states[-1] == "live")
        step = None
        while step is None:
            step = await js.last(names.stream, names.step)
        await js.api(f"STREAM.MSG.DELETE.{names.stream}", {"seq": step.seq})
        change(n, 2)
        late = Replica()
        coming = asyncio.ensure_future(late.subscriber.run(engine.address))
        await js.subscribe(names.beacon, hear)
        await until(lambda: len(heard) > 8)
        assert len(read) < 6
        await late.subscriber.close()
        await coming
        await js.close()


async def test_parts_of_another_snapshot_at_the_same_sequences_are_rejected(engine):
    js, names = await connect(engine.address), subjects("d")
    await js.make_stream(names, "memory", 1)
    for stream, number in (("s", 4), ("s", 5), ("t", 5)):
        label = str(Label(stream, number, number))
        await js.publish(names.part, b"abc", {"Sync-Struct": label})
    async with asyncio.timeout(30):
        while (await js.state(names.stream)).last < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
    found = [await read_snapshot(js, names, Manifest("s", 5, i, i, 3, 4)) for i in (1, 2, 3)]
    assert found == [None, [b"abc"], None]
    await js.close()


async def test_the_stream_is_bounded(engine, until):
    n = Notifier({"x": "", "i": 0})
    async with Site(engine, n, interval=STEADY):
        js = await has(engine)
        replica = Replica()
        sizes = []
        async with replica.following(engine.address):
            for i in range(200):
                with n.batch():
                    n["x"] = "ab" * 150_000
                    n["i"] = i
                if i % 10 == 0:
                    await until(lambda: replica.equals(n))
                    sizes.append((await js.state("sync_struct-d")).size)
        await js.close()
    assert max(sizes) < 4 * LEAST_STEPS
    assert replica.actions.count("init") == 1  # readers that do not need a snapshot ignore it
    assert len(sizes) == 20


async def test_a_structure_whose_parts_are_lost_in_transit_arrives_nevertheless(
    engine, until, monkeypatch
):
    receive, dropped = Pull._receive, []

    async def lossy(self, message):
        if message.subject.endswith(".part") and random.random() < 0.2:
            dropped.append(message)
        else:
            await receive(self, message)

    monkeypatch.setattr(Pull, "_receive", lossy)
    n = Notifier({"big": "x" * 20_000_000, "i": 0})
    async with Site(engine, n, interval=STEADY):
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            await until(lambda: replica.equals(n))
        assert dropped
    assert replica.actions.count("init") == 1


async def test_a_structure_arrives_complete_while_steps_are_made(engine, until):
    n = Notifier({"diary": [], "big": "x" * 5_000_000, "blob": ""})
    stop = asyncio.Event()

    async def work():
        i = 0
        while not stop.is_set():
            i += 1
            with n.batch():
                n["diary"].append(i)
                n["blob"] = "y" * 20_000
            await asyncio.sleep(0)

    async with Site(engine, n):
        await settled(engine)
        working = asyncio.ensure_future(work())
        replicas = [Replica() for _ in range(4)]
        async with contextlib.AsyncExitStack() as stack:
            for replica in replicas:
                await stack.enter_async_context(replica.following(engine.address))
                await until(lambda: len(replica.actions) > 500)  # noqa: B023
            stop.set()
            await working
            for replica in replicas:
                await until(lambda: replica.equals(n))  # noqa: B023
                assert replica.seen == sorted(replica.seen)
                assert replica.target["diary"] == list(range(1, len(n["diary"]) + 1))


# The other bridge, and publishers of others.


async def test_a_bridge_in_publishes_the_notifiers_of_the_engine(engine, until):
    n = Notifier(structure())
    async with Site(engine, n) as site, Publisher({}) as publisher:
        await publisher.start("127.0.0.1", 0)
        await settled(engine)
        async with bridging_in(publisher, engine.address, ["d"]):
            leaf, part = Replica(), Replica(path=["part"])
            async with contextlib.AsyncExitStack() as stack:
                for replica in (leaf, part):
                    await stack.enter_async_context(
                        replica.subscriber.following("127.0.0.1", publisher.port, longest_wait=0.05)
                    )
                for i in range(1, 100):
                    change(n, i)
                    await asyncio.sleep(0)
                await until(lambda: leaf.equals(n) and part.target == {"y": 99})
                await site.stop_bridge()
                await until(lambda: leaf.subscriber.state == "stale")
                await site.start_bridge()
                await until(lambda: leaf.equals(n))


class Established(AsyncioServer):
    """A publisher of the established protocol."""

    async def _handle_connection_cr(self, reader, writer):
        if await reader.readline() == b"ARTIQ sync_struct\n":
            await reader.readline()
            writer.write(b'{"action":"init","struct":{"x":1}}\n')
            await reader.read()


async def test_a_publisher_without_numbers_is_refused_with_advice(engine, until):
    errors = []
    async with Established() as server:
        await server.start("127.0.0.1", 0)
        async with bridging_out(
            "127.0.0.1",
            server.port,
            ["d"],
            engine.address,
            interval=QUICK,
            on_error=lambda _, error: errors.append(error),
        ):
            await until(lambda: any("put `sync-struct relay` between" in str(e) for e in errors))


async def test_the_contents_of_a_stream_can_be_replayed(engine, until):
    n = Notifier(structure())
    async with Site(engine, n) as site:
        await settled(engine)
        replica = Replica()
        async with replica.following(engine.address):
            for i in range(1, 50):
                change(n, i)
                await asyncio.sleep(0)
            await until(lambda: replica.equals(n))
            await site.publisher.stop()
            site.notifier = n = Notifier(structure())
            await site.start_publisher()
            change(n, 100)
            await until(lambda: replica.equals(n))
        records = await read_history(f"{engine.address}/d", None)
    times = [record.time for record in records]
    assert times == sorted(times)
    some = records[: len(records) // 2]
    diary = [mod["x"] for record in some for mod in record.mods if mod.get("path") == ["diary"]]
    assert diary == list(range(1, len(diary) + 1))
    assert state_at(some)["diary"] == diary  # this makes the structure of the first record another
    inits = [i for i, record in enumerate(records) if record.mods[0]["action"] == "init"]
    assert same(state_at(records[inits[-1] :]), n.read)


async def test_no_task_or_connection_is_left_behind(engine, until):
    n = Notifier(structure())
    before = asyncio.all_tasks()
    async with Site(engine, n):
        await settled(engine)
        for options in ({}, {"path": ["part"]}):
            replica = Replica(**options)
            async with replica.following(engine.address):
                await until(lambda: replica.live)  # noqa: B023
    await until(lambda: asyncio.all_tasks() == before)


async def test_a_beacon_is_json(engine, until):
    found = []

    async def hear(message):
        found.append(json.loads(message.data))

    async with Site(engine, Notifier({})):
        js = await has(engine)
        await js.subscribe(subjects("d").beacon, hear)
        await until(lambda: found and found[-1]["live"])
        await js.close()
    assert (found[-1]["sync_struct"], found[-1]["interval"]) == (1, QUICK)
