"""Subscribers with publishers of every kind, and with callbacks of every kind."""

import asyncio
import contextlib
import json
import os
import socket
import struct
import threading

import numpy as np
import pyon
import pytest
from pyon.asyncio_server import AsyncioServer
from pyon.framing import Message
from sync_struct import (
    ModError,
    ModsLost,
    Notifier,
    Publisher,
    Subscriber,
    SubscriptionLost,
    SyncStructError,
    Undecodable,
    process_mod,
)
from sync_struct._subscriber_connection import WAITING_SIZE, SubscriberConnection
from sync_struct._undecodable import decode_around


def identity(x):
    return x


@contextlib.asynccontextmanager
async def published(structure):
    notifier = Notifier(structure)
    async with Publisher({"d": notifier}) as publisher:
        await publisher.start("127.0.0.1", 0)
        yield notifier, publisher.port


class Peer(AsyncioServer):
    """A publisher that sends given lines; `heard` has the first line of each connection."""

    def __init__(self, serve):
        super().__init__()
        self.serve = serve
        self.heard = []

    async def _handle_connection_cr(self, reader, writer):
        self.heard.append(await reader.readline())
        await self.serve(self, reader, writer)


@contextlib.asynccontextmanager
async def peer(serve):
    async with Peer(serve) as server:
        await server.start("127.0.0.1", 0)
        yield server


def line(message):
    return json.dumps(message).encode() + b"\n"


HELLO = line({"action": "hello", "stream": "s", "number": 0, "resumed": False, "features": []})
OURS = b'{"sync_struct":1'


async def test_a_connection_closed_before_the_structure_arrives_logs_nothing(until, caplog):
    async def serve(server, reader, writer):
        writer.write(HELLO)
        await reader.read()

    async with peer(serve) as server:
        subscriber = Subscriber("d", identity)
        connecting = asyncio.ensure_future(subscriber.connect("127.0.0.1", server.port))
        await until(lambda: server.heard)
        for _ in range(20):
            await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        for _ in range(20):
            await asyncio.sleep(0)
    assert subscriber.state == "closed"
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def established(server, reader, writer):
    """Act as a publisher of the established stack."""
    if server.heard[-1] == b"ARTIQ sync_struct\n":
        await reader.readline()
        writer.write(line({"action": "init", "struct": {"x": 1}}))
        await reader.read()


# Which protocol is spoken.


async def test_an_established_publisher_is_recognised_with_a_warning(caplog, until):
    async with peer(established) as server:
        subscriber = Subscriber("d", identity)
        await subscriber.connect("127.0.0.1", server.port)
        assert subscriber.target == {"x": 1}
        assert subscriber.legacy
        assert "only the established protocol" in caplog.text
        assert [heard.startswith(OURS) for heard in server.heard] == [True, True, False, True]
        await subscriber.close()


@pytest.mark.parametrize("closed", [1, 2, 3])
async def test_a_tunnel_whose_target_is_starting_does_not_cause_a_fallback(closed, until):
    async with published({"x": 1}) as (n, port):

        async def serve(server, reader, writer):
            if len(server.heard) > closed:
                far_reader, far = await asyncio.open_connection("127.0.0.1", port)
                far.write(server.heard[-1])
                up = asyncio.ensure_future(pipe(reader, far))
                await pipe(far_reader, writer)
                await up

        async def pipe(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
            writer.close()

        async with peer(serve) as tunnel:
            subscriber = Subscriber("d", identity)
            async with subscriber.following("127.0.0.1", tunnel.port, longest_wait=0.01):
                assert subscriber.target == {"x": 1}
                assert not subscriber.legacy
                n["x"] = 2
                await until(lambda: subscriber.target == {"x": 2})


async def test_the_established_protocol_is_never_used_where_ours_was_spoken(until):
    async def serve(server, reader, writer):
        if len(server.heard) == 1:
            writer.write(HELLO + line({"action": "init", "struct": {}, "number": 0}))

    async with peer(serve) as server:
        subscriber = Subscriber("d", identity)
        async with subscriber.following("127.0.0.1", server.port, longest_wait=0.01):
            await until(lambda: len(server.heard) > 8)
        assert all(heard.startswith(OURS) for heard in server.heard)


async def test_a_reset_is_no_refusal():
    heard = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                heard.append(sock.recv(1000))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()  # without lingering: a reset

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(SubscriptionLost, match=str(port)):
            await Subscriber("d", identity).connect("127.0.0.1", port)
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert all(line.startswith(OURS) for line in heard)


async def test_the_error_of_a_closed_connection_names_all_possible_causes():
    async def serve(server, reader, writer):
        pass

    async with peer(serve) as server:
        with pytest.raises(SubscriptionLost, match=r"closed .* no notifier 'd'.*TLS"):
            await Subscriber("d", identity).connect("127.0.0.1", server.port)


async def test_an_error_of_the_connection_names_the_address():
    with pytest.raises(ConnectionRefusedError, match=r"127.0.0.1 port 1\b.*refused"):
        await Subscriber("d", identity).connect("127.0.0.1", 1)
    with pytest.raises(OSError, match=r"nowhere\.invalid port 1\b"):
        await Subscriber("d", identity).connect("nowhere.invalid", 1)


async def test_a_part_of_an_established_publisher_comes_and_goes(until):
    go_on = asyncio.Event()
    mods = [
        {"action": "setitem", "path": [], "key": "y", "value": 1},
        {"action": "setitem", "path": [], "key": "a", "value": {"b": [1]}},
        {"action": "append", "path": ["a", "b"], "x": 2},
        {"action": "delitem", "path": [], "key": "a"},
        {"action": "setitem", "path": [], "key": "a", "value": {"b": [3]}},
    ]

    async def serve(server, reader, writer):
        if server.heard[-1] == b"ARTIQ sync_struct\n":
            writer.write(line({"action": "init", "struct": {"x": 1}}))
            await go_on.wait()
            writer.writelines(map(line, mods))
            await reader.read()

    told = []
    async with peer(serve) as server:
        s = Subscriber("d", identity, told.append, path=["a", "b"], may_be_absent=True)
        await s.connect("127.0.0.1", server.port)
        assert (s.state, s.target) == ("absent", None)
        go_on.set()
        await until(lambda: s.target == [3])
        assert [mod["action"] for mod in told] == ["absent", "init", "append", "absent", "init"]
        await s.close()


# Callbacks.


async def test_mods_that_an_established_publisher_made_meanwhile_are_reported_as_lost(until):
    cut = asyncio.Event()

    async def serve(server, reader, writer):
        if server.heard[-1] == b"ARTIQ sync_struct\n":
            writer.write(line({"action": "init", "struct": []}))
            writer.write(line({"action": "append", "path": [], "x": len(server.heard)}))
            await cut.wait()
            cut.clear()

    told, errors, states = [], [], []
    async with peer(serve) as server:
        subscriber = Subscriber(
            "d",
            identity,
            told.append,
            mods_only=True,
            on_error=errors.append,
            state_cb=states.append,
        )
        async with subscriber.following("127.0.0.1", server.port, longest_wait=0.01):
            await until(lambda: len(told) == 1)
            assert errors == []
            cut.set()
            await until(lambda: len(told) == 2)
            assert [type(error) for error in errors] == [ModsLost]
            assert states == ["connecting", "live", "stale", "live"]


async def test_mods_without_an_end_are_bounded_and_an_error(monkeypatch, until):
    monkeypatch.setattr("sync_struct._conversation.MOST_PENDING", 100)
    mod = line({"action": "setitem", "path": [], "key": "x", "value": 1})

    async def serve(server, reader, writer):
        writer.write(HELLO + line({"action": "init", "struct": {}, "number": 0}))
        with contextlib.suppress(OSError):
            while True:
                writer.write(mod * 50)
                await writer.drain()

    errors, lost = [], []
    async with peer(serve) as server:
        subscriber = Subscriber("d", identity, None, lambda: lost.append(1), on_error=errors.append)
        await subscriber.connect("127.0.0.1", server.port)
        await until(lambda: lost)
        assert [type(error) for error in errors] == [ModError]
        assert "100 mods" in str(errors[0])


@pytest.fixture
async def held():
    """Return a held connection, the messages that it passed on, and its calls to pause."""
    told, paused = [], []
    connection = SubscriberConnection(
        lambda _, message: told.append(bytes(message.line[:1])),
        lambda _, lines: told.append(lines) or len(lines),
        lambda _: told.append("lost"),
        "d",
        "here",
        [],
        limit=2**30,
        line_limit=2**30,
    )
    connection.pause_reading = lambda: paused.append("paused")
    connection.resume_reading = lambda: paused.append("resumed")
    connection.hold()
    return connection, told, paused


async def test_queued_messages_are_handled_in_order_and_before_the_end(held):
    connection, told, _ = held
    connection.ready.set_result(None)
    for line in (b"1", b"2", b"3"):
        connection.message_received(Message(line))
    assert connection.lines_received("4\n") == 0  # nor is it overtaken on the fast path
    connection.connection_closed(None)
    assert told == []
    connection.release()
    assert told == [b"1", b"2", b"3", "lost"]


async def test_messages_queued_for_callbacks_are_bounded(held):
    connection, told, paused = held
    for line in (b"1", b"2"):
        connection.message_received(Message(line * (WAITING_SIZE // 2)))
    assert paused == []
    connection.message_received(Message(b"3"))
    assert paused == ["paused"]
    connection.release()
    assert (told, paused) == ([b"1", b"2", b"3"], ["paused", "resumed"])


async def test_mods_belong_to_the_callbacks(until):
    async with published({}) as (n, port):
        kept, sorted_ = [], []

        def spoil(mod):
            sorted_.append(mod)
            if isinstance(mod.get("value"), list):
                mod["value"].clear()
                mod["path"].append("no")

        subscriber = Subscriber("d", identity, [spoil, kept.append])
        await subscriber.connect("127.0.0.1", port)
        with n.batch():
            n["s"] = []
            n["s"].append([1])
            n["s"][0].append(2)
            n["a"] = np.zeros(3)
            n["a"][0] = 7
        n["s"].append(3)
        await until(lambda: subscriber.target.get("s") == [[1, 2], 3])
        await subscriber.close()
    model = None
    for mod in kept:
        if mod["action"] == "init":
            model = mod["struct"]
        else:
            process_mod(model, mod)
    assert model["s"] == subscriber.target["s"] == [[1, 2], 3]
    assert model["a"].tolist() == subscriber.target["a"].tolist() == [7, 0, 0]


async def test_callbacks_can_be_added_and_removed_while_subscribed(until):
    async with published({"x": 0}) as (n, port):
        first, second = [], []
        subscriber = Subscriber("d", identity, first.append)
        await subscriber.connect("127.0.0.1", port)
        subscriber.notify_cbs.append(second.append)
        n["x"] = 1
        await until(lambda: len(second) == 1)
        subscriber.notify_cbs.clear()
        n["x"] = 2
        await until(lambda: subscriber.target == {"x": 2})
        assert (len(first), len(second)) == (2, 1)
        await subscriber.close()


async def test_the_receive_task_is_done_when_the_subscription_has_ended():
    async with published({"x": 0}) as (_, port):
        subscriber = Subscriber("d", identity)
        await subscriber.connect("127.0.0.1", port)
        task = subscriber.receive_task
        assert not task.done()
    await asyncio.wait([task], timeout=30)
    assert task.done()
    assert subscriber.state == "closed"


async def test_lag_is_the_delay_of_slow_callbacks(until):
    gate = asyncio.Event()

    async def slow(mod):
        if mod["action"] != "init":
            await gate.wait()

    async with published({"x": 0}) as (n, port):
        subscriber = Subscriber("d", identity, slow, heartbeat=0.2)
        await subscriber.connect("127.0.0.1", port)
        assert subscriber.lag == 0.0
        for i in range(100):
            n["x"] = i
            await asyncio.sleep(0)
        await until(lambda: subscriber.lag > 0.5)  # longer than the heartbeat waits
        assert subscriber.target["x"] < 99
        assert subscriber.state == "live"
        gate.set()
        await until(lambda: subscriber.target == {"x": 99})
        await until(lambda: subscriber.lag == 0.0)
        await subscriber.close()


class Own(BaseException):
    pass


RAISED = [asyncio.CancelledError, GeneratorExit, Own, ValueError]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("raised", RAISED)
async def test_no_exception_of_a_callback_stops_the_subscription(raised, slow, until):
    told, errors = [], []

    def quick(mod):
        raise raised("oops")

    async def later(mod):
        await asyncio.sleep(0)
        raise raised("oops")

    async with published({"x": 0}) as (n, port):
        subscriber = Subscriber(
            "d",
            identity,
            [later if slow else quick, told.append],
            state_cb=quick,
            on_error=lambda error: (errors.append(error), quick(error)),
        )
        await subscriber.connect("127.0.0.1", port)
        for i in range(3):
            n["x"] = i
            await until(lambda i=i: told[-1].get("value") == i)
        assert subscriber.state == "live"
        assert len(errors) >= 4
        await subscriber.close()


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_an_exception_that_ends_the_program_leaves_a_consistent_state(raised, until):
    told = []

    def leave(mod):
        if mod["action"] != "init":
            raise raised(3)

    async def main():
        async with published({"x": 0}) as (n, port):
            subscriber = Subscriber("d", identity, [leave, told.append])
            await subscriber.connect("127.0.0.1", port)
            n["x"] = 1
            await until(lambda: False)

    with pytest.raises(raised):
        asyncio.run(main())
    assert told[-1]["value"] == 1


@pytest.mark.parametrize("raised", RAISED)
async def test_no_exception_of_a_builder_hangs_or_looks_like_a_cancellation(raised):
    def build(structure):
        raise raised("oops")

    async with published({"x": 0}) as (_, port):
        with pytest.raises((ValueError, SyncStructError), match="oops"):
            await Subscriber("d", build).connect("127.0.0.1", port)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="asks for a system that forks")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
async def test_in_a_forked_child_a_subscriber_is_closed_and_the_parents_lives_on(until):
    async with published({"x": 0}) as (n, port):
        lost = []
        subscriber = Subscriber("d", identity, None, lambda: lost.append(1))
        await subscriber.connect("127.0.0.1", port)
        child = os.fork()
        if not child:
            os._exit(0 if subscriber.state == "closed" and subscriber.target == {"x": 0} else 1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        n["x"] = 1
        await until(lambda: subscriber.target == {"x": 1})
        assert subscriber.state == "live"
        assert lost == []
        await subscriber.close()


# Values that cannot be decoded.

ODD = {"__jsonclass__": ["Odd", [5]]}


async def test_one_value_that_cannot_be_decoded_does_not_affect_others(until):
    array = {"__jsonclass__": ["nparray", [[2], "|u1", 0]]}
    struct = {"a": {"b": ODD, "c": 1}, "t": {"__jsonclass__": ["tuple", [[1, ODD]]]}, "n": array}
    append = {"action": "append", "path": ["a", "d"], "x": ODD}
    mods = [
        {"action": "setitem", "path": ["a"], "key": "c", "value": 2, "number": 1},
        {"action": "setitem", "path": ["a"], "key": "d", "value": [1, ODD], "number": 2},
        {"action": "mods", "mods": [append], "number": 3},
        {"action": "setitem", "path": [], "key": "end", "value": 1, "number": 4},
    ]
    go_on = asyncio.Event()

    async def serve(server, reader, writer):
        hello = json.loads(HELLO) | {"features": ["raw_buffers"]}
        writer.write(line(hello))
        init = {"buffers": [2], "action": "init", "struct": struct, "number": 0}
        writer.write(
            line(init).replace(b'"buffers": ', b'"buffers":').replace(b"2], ", b"2],") + b"ab"
        )
        await go_on.wait()
        writer.writelines(map(line, mods))
        await reader.read()

    errors, states = [], []
    async with peer(serve) as server:
        s = Subscriber("d", identity, on_error=errors.append, state_cb=states.append)
        await s.connect("127.0.0.1", server.port)
        assert isinstance(s.target["a"]["b"], Undecodable)
        assert s.target["a"]["c"] == 1
        assert s.target["t"] == (1, s.target["a"]["b"])
        assert s.target["n"].tolist() == [97, 98]
        assert "root['a']['b']" in str(errors[0])
        assert "'Odd'" in str(errors[0])
        go_on.set()
        await until(lambda: s.target.get("end") == 1)
        assert s.target["a"]["d"][0] == 1
        assert [type(x) for x in s.target["a"]["d"]] == [int, Undecodable, Undecodable]
        assert "root['a']['d'][1]" in str(errors[2])
        assert len(errors) == 4
        assert states == ["connecting", "live"]
        assert "no type is called 'Odd'" in repr(s.target["a"]["b"])
        await s.close()


class Odd:
    """A type that the relay does not know."""


async def test_a_value_that_a_relay_cannot_decode_arrives_behind_it(until):
    pyon.register(Odd, name="Odd", encode=lambda _: (5,), decode=lambda _: Odd())
    text = pyon.encode({"x": Odd()}, version=2)
    pyon.deregister(Odd, "Odd")
    with pytest.raises(pyon.DecodeError) as caught:
        pyon.decode(text)
    passed = pyon.encode(decode_around(text.encode(), (), caught.value).message, version=2)
    assert isinstance(pyon.decode(passed)["x"], Undecodable)
    pyon.register(Odd, name="Odd", encode=lambda _: (5,), decode=lambda _: Odd())
    try:
        assert isinstance(pyon.decode(passed)["x"], Odd)
    finally:
        pyon.deregister(Odd, "Odd")


@pytest.mark.parametrize("line", [b"{", b"[" * 10_000, b'{"a":1', b"(1, x)", b'{"a":NaNa}'])
def test_an_invalid_message_fails_as_a_whole(line):
    with pytest.raises(pyon.DecodeError) as caught:
        pyon.decode(line)
    with pytest.raises(pyon.DecodeError):
        decode_around(line, (), caught.value)


# Many at once.


async def test_of_many_subscribers_at_once_none_uses_the_wrong_protocol(monkeypatch, until):
    """More clients than the publisher keeps without a banner."""
    monkeypatch.setattr("sync_struct._publisher_connection.MOST_UNIDENTIFIED", 10)
    monkeypatch.setattr("sync_struct._publisher_connection.LEAST_TIME", 0.0)
    async with published({"x": 1}) as (n, port), asyncio.TaskGroup() as group:
        many = [Subscriber("d", identity) for _ in range(60)]
        running = [group.create_task(s.run("127.0.0.1", port, longest_wait=0.2)) for s in many]
        await until(lambda: all(s.state == "live" for s in many))
        assert not any(s.legacy for s in many)
        n["x"] = 2
        await until(lambda: all(s.target == {"x": 2} for s in many))
        for s in many:
            await s.close()
        assert len(running) == 60
