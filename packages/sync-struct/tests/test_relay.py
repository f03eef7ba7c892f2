"""Relays: publishers of the notifiers of other publishers."""

import asyncio
import contextlib
import random

import numpy as np
import pyon
from sync_struct import Notifier, Publisher, Subscriber, mirror
from sync_struct._relay import relaying


def plain(structure):
    return pyon.decode(pyon.encode(structure, version=2))


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


class Relay:
    """A relay that can be killed and restarted on its port."""

    def __init__(self, origin, names=("d",)):
        self.origin = origin  # has a port
        self.names = names
        self.port = 0
        self.publisher = None

    async def start(self):
        self.stack = contextlib.AsyncExitStack()
        self.publisher = await self.stack.enter_async_context(Publisher({}))
        await self.publisher.start("127.0.0.1", self.port)
        self.port = self.publisher.port
        await self.stack.enter_async_context(
            relaying(self.publisher, "127.0.0.1", self.origin.port, self.names)
        )

    async def stop(self):
        await self.stack.aclose()

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *exc_info):
        await self.stop()


async def test_a_leaf_follows_through_a_relay_that_preserves_batches(until):
    n = Notifier({"x": 0, "l": [], "a": np.zeros(3), "part": {"y": 1}})
    async with Publisher({"d": n}) as origin:
        await origin.start("127.0.0.1", 0)
        async with Relay(origin) as relay:
            states = []
            leaf = Subscriber("d", lambda x: x, lambda mod: states.append(plain(leaf.target)))
            part = Subscriber("d", lambda x: x, path=["part"], max_rate=1000)
            async with (
                leaf.following("127.0.0.1", relay.port, longest_wait=0.01),
                part.following("127.0.0.1", relay.port, longest_wait=0.01),
            ):
                for i in range(1, 50):
                    with n.batch():
                        n["x"] = i
                        n["l"].append(i)
                        n["a"][i % 3] = i
                    n["part"]["y"] = i
                    await asyncio.sleep(0)
                await until(lambda: same(leaf.target, n.read))
                await until(lambda: part.target == {"y": 49})
                assert all(len(s["l"]) == s["x"] for s in states)
                assert origin.counters["d"].subscribers == 1


async def test_an_origin_that_restarts_reaches_the_leaf_as_differences(until):
    n = Notifier({"x": 1, "big": list(range(1000))})
    origin = Publisher({"d": n})
    await origin.start("127.0.0.1", 0)
    port = origin.port
    async with Relay(origin) as relay:
        told, states = [], []
        leaf = Subscriber("d", lambda x: x, told.append, state_cb=states.append)
        async with leaf.following("127.0.0.1", relay.port, longest_wait=0.01):
            await origin.stop()
            other = Notifier({"x": 2, "big": list(range(1000))})
            async with Publisher({"d": other}) as again:
                await again.start("127.0.0.1", port)
                await until(lambda: leaf.target["x"] == 2)
                other["big"].append(5)
                await until(lambda: leaf.target == other.read)
                assert [mod["action"] for mod in told] == ["init", "setitem", "append"]
                assert states == ["connecting", "live", "stale", "live"]


async def test_a_structure_of_another_type_replaces_the_previous_one(until):
    origin = Publisher({"d": Notifier({"x": 1})})
    await origin.start("127.0.0.1", 0)
    async with origin, Relay(origin) as relay:
        leaf = Subscriber("d", lambda x: x)
        async with leaf.following("127.0.0.1", relay.port, longest_wait=0.01):
            origin.remove_notifier("d")
            origin.add_notifier("d", Notifier([1]))
            await until(lambda: leaf.target == [1])


async def test_a_chain_of_three_with_random_kills_ends_equal(until):
    chance = random.Random(5)
    n = Notifier({"diary": [], "d": {}, "a": np.zeros(5)})
    async with Publisher({"d": n}) as origin:
        await origin.start("127.0.0.1", 0)
        chain = [origin]
        for _ in range(3):
            relay = Relay(chain[-1])
            await relay.start()
            chain.append(relay)
        leaf = Subscriber("d", lambda x: x)
        async with leaf.following("127.0.0.1", chain[-1].port, longest_wait=0.01):
            for i in range(300):
                with n.batch():
                    n["diary"].append(i)
                    n["d"][chance.randrange(5)] = {"x": [i]}
                    n["a"][i % 5] = i
                await asyncio.sleep(0)
                if i % 30 == 0:
                    killed = chance.choice(chain[1:])
                    await killed.stop()
                    await killed.start()
            await until(lambda: leaf.target and same(leaf.target["diary"], n.read["diary"]))
            await until(lambda: leaf.target["d"] == n.read["d"])
        for relay in reversed(chain[1:]):
            await relay.stop()


async def test_leaves_are_stale_while_the_relay_has_lost_its_origin(until):
    origin = Publisher({"d": Notifier({"x": 1})})
    await origin.start("127.0.0.1", 0)
    port = origin.port
    async with Relay(origin) as first, Relay(first) as second:
        leaf = Subscriber("d", lambda x: x)
        part = Subscriber("d", lambda x: x, path=["y"], max_rate=1000)
        async with (
            leaf.following("127.0.0.1", second.port, longest_wait=0.01),
            part.following("127.0.0.1", second.port, longest_wait=0.01),
        ):
            assert (leaf.state, part.state) == ("live", "absent")
            await origin.stop()
            await until(lambda: (leaf.state, part.state) == ("stale", "stale"))
            assert leaf.target == {"x": 1}
            async with Publisher({"d": Notifier({"x": 2, "y": 3})}) as again:
                await again.start("127.0.0.1", port)
                await until(lambda: (leaf.state, part.state) == ("live", "live"))
                assert leaf.target == {"x": 2, "y": 3}
                assert part.target == 3


async def test_a_relay_sends_live_after_the_mods_that_made_it_true(until):
    origin = Publisher({"d": Notifier({"x": 0})})
    await origin.start("127.0.0.1", 0)
    port = origin.port
    async with Relay(origin) as relay:
        seen = []
        leaf = Subscriber(
            "d", lambda x: x, state_cb=lambda state: seen.append((state, leaf.target))
        )
        async with leaf.following("127.0.0.1", relay.port, longest_wait=0.01):
            await origin.stop()
            await until(lambda: leaf.state == "stale")
            async with Publisher({"d": Notifier({"x": 1, "y": "z" * 10**6})}) as again:
                await again.start("127.0.0.1", port)
                del seen[:]
                await until(lambda: seen)
                assert [(state, target["x"], len(target["y"])) for state, target in seen] == [
                    ("live", 1, 10**6)
                ]


async def test_a_subscriber_that_joins_a_stale_relay_is_stale_and_gets_the_last_structure(until):
    origin = Publisher({"d": Notifier({"x": 1})})
    await origin.start("127.0.0.1", 0)
    async with Relay(origin) as relay:
        before = Subscriber("d", lambda x: x)
        async with before.following("127.0.0.1", relay.port):
            await origin.stop()
            await until(lambda: before.state == "stale")
            states = []
            late = Subscriber("d", lambda x: x, state_cb=states.append)
            async with late.following("127.0.0.1", relay.port):
                assert late.target == {"x": 1}
                assert states == ["connecting", "stale"]
            view = await asyncio.to_thread(mirror, "127.0.0.1", relay.port, "d")
            with view:
                assert view == {"x": 1}
                assert view.state == "stale"


async def test_a_structure_of_another_type_from_a_stale_relay_is_stale(until):
    n = Notifier({"x": 1})
    async with Publisher({"d": n}) as origin:
        await origin.start("127.0.0.1", 0)
        origin.set_stale("d", True)
        async with Relay(origin) as relay:
            leaf = Subscriber("d", lambda x: x)
            async with leaf.following("127.0.0.1", relay.port, longest_wait=0.01):
                assert leaf.state == "stale"
                origin.remove_notifier("d")
                origin.add_notifier("d", Notifier([1]))
                origin.set_stale("d", True)
                await until(lambda: leaf.target == [1])
                assert leaf.state == "stale"
                origin.set_stale("d", False)
                await until(lambda: leaf.state == "live")


async def test_every_kind_of_subscriber_is_told_that_its_structure_is_stale(until):
    n = Notifier({"x": 0})
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscribers = [
            Subscriber("n", lambda x: x),
            Subscriber("n", lambda x: x, path=["x"]),
            Subscriber("n", lambda x: x, mods_only=True),
            Subscriber("n", lambda x: x, max_rate=1000),
            Subscriber("n", None, decode=False),
        ]
        for subscriber in subscribers:
            await subscriber.connect("127.0.0.1", publisher.port)
        publisher.set_stale("n", True)
        await until(lambda: {s.state for s in subscribers} == {"stale"})
        n["x"] = 1
        publisher.set_stale("n", False)
        await until(lambda: {s.state for s in subscribers} == {"live"})
        assert subscribers[0].target == {"x": 1}
        assert subscribers[3].target == {"x": 1}
        for subscriber in subscribers:
            await subscriber.close()


async def test_a_subscriber_that_reconnects_to_a_stale_publisher_is_never_live_meanwhile(until):
    n, states = Notifier({"x": 0}), []
    subscriber = Subscriber("n", lambda x: x, state_cb=states.append)
    async with Publisher({"n": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        port = publisher.port
        async with subscriber.following("127.0.0.1", port, longest_wait=0.01):
            await publisher.stop()
            await until(lambda: subscriber.state == "stale")
            publisher.set_stale("n", True)
            n["x"] = 1
            await publisher.start("127.0.0.1", port)
            await until(lambda: subscriber.target == {"x": 1})
            assert states == ["connecting", "live", "stale"]
            publisher.set_stale("n", False)
            await until(lambda: subscriber.state == "live")
