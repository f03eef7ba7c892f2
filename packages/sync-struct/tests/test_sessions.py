"""The recorded sessions of real peers of the established stack, both ways.

One line of the recordings is not repeated: the mod of "d" that the old publishers wrote to the
connection of a subscriber that had closed it, which the recording shows in the session of "l".
"""

import asyncio
import json
from pathlib import Path

import numpy as np
import pyon
import pytest
from pyon.framing import Receiver
from sync_struct import Notifier, Publisher, Subscriber, SubscriptionLost
from sync_struct._replica import Replica

DATA = Path(__file__).parent / "data"
FRAGMENTS = [1, 2, 3, 7, 4096]


class Session:
    """One connection of a recording."""

    def __init__(self, sent, received):
        self.sent = sent
        self.received = received


def recorded(tag):
    steps = json.loads((DATA / f"sync-{tag}.json").read_text())["steps"]
    sessions = []
    for step in steps:
        for move in step["bytes"]:
            for direction, text in move.items():
                data = text.encode("latin-1")
                if direction == "c2s" and text != "<EOF>":
                    sessions.append(Session(data, b""))
                elif direction == "s2c" and text != "<EOF>":
                    sessions[-1].received += data
    of_l = sessions[1].received.splitlines(keepends=True)
    sessions[1].received = b"".join(line for line in of_l if b"setitem" not in line)
    assert len(of_l) == 3
    return sessions


def structure():
    return {"list": [1, 2], "n": {"x": {}}, "arr": np.zeros(3)}


def modify(n):
    """Make the modifications of the recordings, as spelled by their label."""
    n["k"] = []
    n["k"].append(1)
    n["k"].append((2, 3))
    n["k"].insert(0, {"z": 1})
    n["k"].insert(-1, None)
    n["k"][0]["z"] = [4, 5]
    n["k"][0]["z"].pop()
    n["k"].pop(1)
    n["k"][:] = [9, 8, 7]
    n["k"][1:2] = []
    del n["k"][0]
    n[1] = "int key"
    n[(1, 2)] = {"t": 1}
    n[(1, 2)]["t"] = 2
    n[None] = np.array(5)
    n[2.5] = {1, 2}
    n["arr"][0] = 10
    n["arr"][1:] = 3.5
    n["u\xe9"] = "\u6f22"
    del n[1]
    n.pop(None)
    n["n"]["x"]["deep"] = {"er": []}
    n["n"]["x"]["deep"]["er"].append(1j)


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


def modified():
    expected = Notifier(structure())
    modify(expected)
    return expected.read


@pytest.mark.parametrize("size", FRAGMENTS)
@pytest.mark.parametrize(("tag", "version"), [("v1", 1), ("v2", 2)])
async def test_the_publisher_answers_as_recorded(tag, version, size):
    notifier, empty = Notifier(structure()), Notifier([])
    named = {"d": notifier, "l": empty, "\xe9": Notifier({})}
    acts = [lambda: modify(notifier), lambda: empty.append("mark1"), lambda: None, lambda: None]
    async with Publisher(named, legacy_version=version) as publisher:
        await publisher.start("127.0.0.1", 0)
        for session, act in zip(recorded(tag), acts, strict=True):
            reader, writer = await asyncio.open_connection("127.0.0.1", publisher.port)
            for i in range(0, len(session.sent), size):
                writer.write(session.sent[i : i + size])
                await asyncio.sleep(0)
            if not session.received:
                assert await reader.read() == b""
            else:
                first = session.received.index(b"\n") + 1
                assert await reader.readexactly(first) == session.received[:first]
                act()
                rest = len(session.received) - first
                assert await reader.readexactly(rest) == session.received[first:]
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("size", FRAGMENTS)
@pytest.mark.parametrize("tag", ["v1", "v2", "artiq4"])
def test_a_replica_follows_the_recorded_publisher(tag, size):
    replica = Replica(lambda received: received)
    replica.connected(legacy=True)
    receiver = Receiver()
    data = recorded(tag)[0].received
    told = []
    for i in range(0, len(data), size):
        for message in receiver.feed(data[i : i + size]):
            told += replica.receive(message)
    assert same(replica.target, modified())
    assert len(told) == 24
    assert told[-1] == {"action": "append", "path": ["n", "x", "deep", "er"], "x": 1j}


class OldPublisher:
    """Sends what a recorded publisher sent, in fragments; accepts only the established banner."""

    def __init__(self, sessions, size):
        self.sessions = {session.sent.split(b"\n")[1]: session for session in sessions}
        self.size = size
        self.heard = []

    async def __call__(self, reader, writer):
        banner = await reader.readline()
        if banner == b"ARTIQ sync_struct\n":
            name = await reader.readline()
            self.heard.append(banner + name)
            received = self.sessions[name[:-1]].received
            for i in range(0, len(received), self.size):
                writer.write(received[i : i + self.size])
                await asyncio.sleep(0)
            if received:
                assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("size", FRAGMENTS)
@pytest.mark.parametrize("tag", ["v1", "v2", "artiq4"])
async def test_the_subscriber_asks_as_recorded(tag, size, until):
    sessions = recorded(tag)
    old = OldPublisher(sessions, size)
    server = await asyncio.start_server(old, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        told = []
        subscriber = Subscriber("d", lambda received: received, told.append)
        await subscriber.connect("127.0.0.1", port)
        await until(lambda: len(told) == 24)
        assert same(subscriber.target, modified())
        await subscriber.close()
        subscriber = Subscriber("l", list)
        await subscriber.connect("127.0.0.1", port)
        await until(lambda: subscriber.target == ["mark1"])
        await subscriber.close()
        with pytest.raises(SubscriptionLost, match="nope"):
            await Subscriber("nope", list).connect("127.0.0.1", port)
        subscriber = Subscriber("\xe9", dict)
        await subscriber.connect("127.0.0.1", port)
        assert subscriber.target == {}
        await subscriber.close()
    assert old.heard == [session.sent for session in sessions]


async def test_parts_are_cut_from_what_an_old_publisher_sends(until):
    sessions = recorded("v2")
    server = await asyncio.start_server(OldPublisher(sessions, 4096), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        told = []
        subscriber = Subscriber("d", lambda x: x, told.append, path=["n", "x"])
        await subscriber.connect("127.0.0.1", port)
        await until(lambda: subscriber.target == {"deep": {"er": [1j]}})
        assert [mod["action"] for mod in told] == ["init", "setitem", "append"]
        await subscriber.close()
        replaced = Subscriber("d", lambda x: x, path=["arr", 0])
        await replaced.connect("127.0.0.1", port)
        await until(lambda: replaced.target == 10)
        await replaced.close()
        mods_only = Subscriber("d", lambda x: x, told.append, mods_only=True)
        told.clear()
        await mods_only.connect("127.0.0.1", port)
        await until(lambda: len(told) == 23)
        assert mods_only.target is None
        await mods_only.close()
