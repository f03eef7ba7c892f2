"""Small mods have the same result on the fast path and on the general path."""

import asyncio
import contextlib
import json
import re

import numpy as np
import pyon
import pytest
from pyon.asyncio_server import AsyncioServer
from sync_struct import Notifier, Publisher, Subscriber, _lean_steps
from sync_struct._subscription import Subscription

HELLO = {
    "action": "hello",
    "stream": "s",
    "number": 0,
    "resumed": False,
    "features": ["raw_buffers"],
}
INIT = {"action": "init", "struct": {"x": 0, "l": [1], "d": {"e": {}}}, "number": 0}
END = {"action": "setitem", "path": [], "key": "end", "value": True}


def encoded(message):
    return message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"


class Scripted(AsyncioServer):
    """A publisher that sends given lines in one write, and a structure on request."""

    def __init__(self):
        super().__init__()
        self.heard = []

    async def _handle_connection_cr(self, reader, writer):
        self.writer = writer
        await reader.readline()
        writer.write(encoded(HELLO) + encoded(INIT))
        while line := await reader.readline():
            self.heard.append(json.loads(line)["action"])
            if self.heard[-1] == "resync":
                writer.write(encoded({**INIT, "struct": {"end": True}, "number": 100}))


def mod(action, path=(), **fields):
    return {"action": action, "path": list(path), **fields}


def numbered(messages):
    """Return the messages as lines; mods without a number get one."""
    counted = [
        {**message, "number": number} if isinstance(message, dict) else message
        for number, message in enumerate(messages, 1)
    ]
    return b"".join(map(encoded, counted))


def with_array(array, end=b',"number":3}', **fields):
    """Return a mod that sets an item to an array, with the array's bytes behind the line."""
    buffers = []
    message = {"action": "setitem", "path": [], "key": "x", "value": array, **fields}
    text = pyon.encode(message, version=2, buffer_callback=buffers.append).encode()
    sizes = b",".join(b"%d" % len(buffer) for buffer in buffers)
    first = b'"buffers":[%b],' % sizes if buffers else b""
    return b"{%b%b%b\n" % (first, text[1:-1], end) + b"".join(buffers)


FRAME = np.random.default_rng(1).integers(0, 60_000, (100, 120), np.uint16)
TWO = [FRAME, FRAME + 1]

BEFORE = [mod("setitem", key="x", value=1), mod("append", ["l"], x=2)]
AFTER = [
    mod("setitem", ["d", "e"], key="y", value=[1, [2]]),
    mod("append", ["d", "e", "y", 1], x=3),
]

LINES = {
    "nothing else": [],
    "insert": [mod("insert", ["l"], i=0, x={"a": 1})],
    "pop": [mod("pop", ["l"], i=-1)],
    "delitem": [mod("delitem", ["d"], key="e"), mod("setitem", ["d"], key="e", value={})],
    "index": [mod("setitem", ["l"], key=0, value=None)],
    "key that is no name": [mod("setitem", ["d"], key=1.5, value=2)],
    "not ASCII": ['{"action":"append","path":["l"],"x":"µ","number":3}\n'.encode()],
    "tag": [mod("setitem", key="x", value={"__jsonclass__": ["tuple", [[1]]]})],
    "slice": [mod("setitem", ["l"], key={"__jsonclass__": ["slice", [0, 1, None]]}, value=[7, 8])],
    "escapes": [mod("setitem", key="x", value='\\ " \n \u1234')],
    "long": [mod("setitem", key="x", value="y" * 10_000)],
    "batch": [{"action": "mods", "mods": [mod("append", ["l"], x=5), mod("append", ["l"], x=6)]}],
    "half a step": [b'{"action":"append","path":["l"],"x":9}\n'],
    "number that is none": [b'{"action":"append","path":["l"],"x":9,"number":true}\n'],
    "spaces": [b' { "action" : "append", "path":["l"] , "x":9,"number":3 } \n'],
    "not to the end": [b'{"action":"append","path":["l"],"x":9,"number":3} 1\n'],
    "line end inside": [b'{"action":"append","path":["l"],\n"x":9,"number":3}\n'],
    "no JSON": [b"nonsense\n"],
    "no object": [b"[1, 2]\n"],
    "empty line": [b"\n"],
    "no action": [{"path": []}],
    "odd action": [{"action": ["append"], "path": []}],
    "unknown action": [mod("explode")],
    "no path": [{"action": "append", "x": 1}],
    "path that leads nowhere": [mod("append", ["l", 7], x=1)],
    "path into a number": [mod("append", ["x"], x=1)],
    "path of a list": [mod("append", [["l"]], x=1)],
    "no field": [mod("append", ["l"])],
    "key of a list": [mod("setitem", key=[1], value=1)],
    "index beyond": [mod("setitem", ["l"], key=9, value=1)],
    "pop of nothing": [mod("pop", ["d", "e"], i="a")],
    "index that is none": [mod("insert", ["l"], i="a", x=1)],
    "array": [with_array(FRAME)],
    "arrays": [with_array(FRAME), with_array(FRAME.astype(float)), with_array(FRAME)],
    "array in a part": [with_array(FRAME, path=["d", "e"])],
    "array in a list": [with_array(FRAME, path=["l"], key=0)],
    "part of an array": [with_array(FRAME), with_array(FRAME[0], path=["x"], key=1)],
    "array that is appended": [
        with_array(FRAME),
        with_array(FRAME, action="append", path=["l"], key=0, x=FRAME),
    ],
    "array under an odd key": [with_array(FRAME, key=(1, 2))],
    "array of complex numbers": [with_array(FRAME * 1j)],
    "array of another order": [with_array(FRAME.astype(">u2"))],
    "array of columns": [with_array(np.asfortranarray(FRAME))],
    "two arrays": [with_array(TWO)],
    "array in a tuple": [with_array((FRAME, 1))],
    "array without a number": [with_array(FRAME, end=b"}")],
    "array with two numbers": [with_array(FRAME, end=b',"number":3,"number":4}')],
    "array with zeros before its number": [with_array(FRAME, end=b',"number":03}')],
    "array with more": [with_array(FRAME, more=1)],
    "array with spaces": [with_array(FRAME, end=b' , "number": 3 }')],
    "array that leads nowhere": [with_array(FRAME, path=["l", 7])],
    "array beyond": [with_array(FRAME, path=["l"], key=9)],
    "array in a long line": [with_array(FRAME, key="k" * 5000)],
    "array of a size that does not fit": [
        with_array(FRAME).replace(b"[100,120]", b"[100,121]"),
    ],
    "array of no type": [with_array(FRAME).replace(b'"<u2"', b'"nonsense"')],
    "pong": [{"action": "pong"}],
    "stale and live": [{"action": "stale"}, mod("append", ["l"], x=3), {"action": "live"}],
    "gap": [{"action": "gap"}],
    "absent": [{"action": "absent"}, mod("append", ["l"], x=3), INIT],
    "another structure": [INIT],
    "refusal": [{"action": "error", "error": "SubscriptionLost", "message": "no more"}],
}


class Reader:
    """A subscriber with a record of all its callbacks."""

    def __init__(self, callbacks):
        self.told, self.states, self.errors = [], [], []
        self.subscriber = Subscriber(
            "d",
            lambda structure: structure,
            CALLBACKS[callbacks](self),
            state_cb=self.states.append,
            on_error=lambda error: self.errors.append(re.sub("port [0-9]+", "", repr(error))),
        )

    def keep(self, what):
        self.told.append(json.dumps(what, default=repr))

    def fail(self, what):
        self.keep(what)
        raise ValueError("a callback that fails")

    def spoil(self, what):
        """Change all that a callback can reach; it is its own."""
        self.keep(what)
        for value in what.values():
            if isinstance(value, list):
                value.clear()
            elif isinstance(value, np.ndarray):
                value[...] = 0

    def add(self, what):
        """Have another callback called, from the next mod on."""
        self.keep(what)
        self.subscriber.notify_cbs.append(self.keep)

    async def keep_later(self, what):
        await asyncio.sleep(0)
        self.keep(what)

    async def close(self, what):
        self.keep(what)
        if what.get("x") == 2:
            await self.subscriber.close()


CALLBACKS = {
    "none": lambda reader: None,
    "one": lambda reader: reader.keep,
    "one that fails": lambda reader: reader.fail,
    "one that spoils what it gets": lambda reader: reader.spoil,
    "one that adds another": lambda reader: reader.add,
    "two": lambda reader: [reader.keep, reader.keep],
    "coroutine": lambda reader: reader.keep_later,
    "one that closes": lambda reader: reader.close,
}


async def outcome(lines, callbacks, until):
    """Return the result of a structure followed by some lines."""
    reader = Reader(callbacks)
    subscriber = reader.subscriber
    async with Scripted() as server:
        await server.start("127.0.0.1", 0)
        await subscriber.connect("127.0.0.1", server.addresses[0][1])
        target = subscriber.target
        server.writer.write(numbered([*BEFORE, *lines, *AFTER, END]))
        await until(lambda: "end" in (subscriber.target or {}) or subscriber.state == "closed")
        with contextlib.suppress(TypeError):
            await until(lambda: subscriber.lag == 0.0)
        state, end = subscriber.state, subscriber.target
        await subscriber.close()
    states = [state for state in reader.states if state != "closed"]
    seen = [repr(target), repr(end), *map(writeable, (target, end))]
    return seen, state, states, reader.told, reader.errors, server.heard


def writeable(structure):
    """Tell of which arrays are writable, on the first level."""
    return [
        value.flags.writeable and value.flags.aligned
        for value in (structure or {}).values()
        if isinstance(value, np.ndarray)
    ]


@pytest.mark.parametrize("callbacks", CALLBACKS)
@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
async def test_both_paths_have_the_same_result(lines, callbacks, until, monkeypatch):
    lean = await outcome(lines, callbacks, until)
    monkeypatch.setattr("sync_struct._lean_steps.LEAN", False)
    assert lean == await outcome(lines, callbacks, until)


@pytest.mark.parametrize(("callbacks", "messages"), [("one", 0), ("none", 0), ("two", 5)])
async def test_usual_mods_take_the_fast_path(callbacks, messages, until, monkeypatch):
    received = []
    real = Subscription.receive

    def receive(self, connection, message):
        received.append(bytes(message.line))
        real(self, connection, message)

    monkeypatch.setattr(Subscription, "receive", receive)
    await outcome([], callbacks, until)
    assert len([line for line in received if b'"number"' in line]) == messages + 2


async def test_usual_arrays_take_the_fast_path(until, monkeypatch):
    taken = []
    real = _lean_steps.take_array

    def take_array(*arguments):
        taken.append(real(*arguments))
        return taken[-1]

    monkeypatch.setattr("sync_struct._subscription.take_array", take_array)
    lines = [with_array(FRAME), with_array(FRAME, path=["d", "e"]), with_array((FRAME, 1))]
    await outcome(lines, "one", until)
    assert taken == [True, True, False]


@pytest.mark.parametrize("lean", [True, False])
async def test_mods_with_arrays_have_only_the_fields_of_a_mod(lean, until, monkeypatch):
    monkeypatch.setattr(_lean_steps, "LEAN", lean)
    told, notifier = [], Notifier({"x": np.zeros(5000)})
    async with Publisher({"d": notifier}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("d", lambda structure: structure, told.append)
        async with subscriber.following("127.0.0.1", publisher.port):
            notifier["x"] = FRAME
            notifier["x"][0] = FRAME[1]
            await until(lambda: len(told) == 3)
    assert told[0].keys() == {"action", "struct"}
    assert told[1].keys() == told[2].keys() == {"action", "path", "key", "value"}


async def test_a_step_that_began_in_an_earlier_read_is_applied_whole_and_in_order(until):
    async with Scripted() as server:
        await server.start("127.0.0.1", 0)
        subscriber = Subscriber("d", lambda structure: structure)
        await subscriber.connect("127.0.0.1", server.port)
        server.writer.write(encoded(mod("append", ["l"], x=2)))
        replica = subscriber._subscription.replica
        await until(lambda: replica.pending)
        assert subscriber.target["l"] == [1]
        server.writer.write(numbered([mod("append", ["l"], x=3)]))
        await until(lambda: replica.number == 1)
        assert subscriber.target["l"] == [1, 2, 3]
        await subscriber.close()
