"""The interface for gateways: steps as bytes, positions, attached sockets, addresses."""

import asyncio
import socket
import subprocess
import sys

import numpy as np
import pyon
import pytest
from pyon.asyncio_server import AsyncioServer
from pyon.framing import Message, Receiver
from sync_struct import Notifier, Publisher, Subscriber, SubscriptionLost, _addresses, mirror


def follow(publisher, *steps, **options):
    """Return a subscriber that keeps steps as bytes."""
    subscriber = Subscriber("d", None, *steps, decode=False, raw_buffers=True, **options)
    return subscriber, subscriber.following("127.0.0.1", publisher.port, longest_wait=0.01)


async def test_steps_are_received_as_sent_including_raw_buffers(until):
    n = Notifier({"a": np.zeros(1000), "x": 0})
    steps = []
    async with Publisher({"d": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        _, following = follow(publisher, steps.append)
        async with following:
            with n.batch():
                n["x"] = 1
                n["a"] = np.arange(2000.0)
            await until(lambda: len(steps) == 2)
    init, step = steps
    assert (init.number, step.number) == (0, 2)
    assert [len(part) for part in init.buffers] == [1]
    assert step.mods()[1]["value"].tolist() == list(range(2000))
    receiver = Receiver(raw_buffers=True)
    messages = receiver.feed(b"".join(map(bytes, step.frames)))
    assert [bytes(message.line) for message in messages] == list(step.lines)
    assert bytes(messages[-1].buffers[0]) == np.arange(2000.0).tobytes()


async def test_steps_of_recorders_have_no_raw_buffers(until):
    n = Notifier({"a": np.zeros(1000)})
    steps = []
    async with Publisher({"d": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        subscriber = Subscriber("d", None, steps.append, decode=False)
        await subscriber.connect("127.0.0.1", publisher.port)
        await subscriber.close()
    assert steps[0].buffers == ()
    assert steps[0].frames == [steps[0].lines[0] + b"\n"]


async def test_a_subscriber_resumes_at_the_position_of_another_one(until):
    n = Notifier({"x": 0})
    first, second = [], []
    async with Publisher({"d": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        _, following = follow(publisher, first.append)
        async with following:
            n["x"] = 1
            await until(lambda: len(first) == 2)
        n["x"] = 2
        at = (first[-1].stream, first[-1].number)
        subscriber, following = follow(publisher, second.append, position=at)
        async with following:
            n["x"] = 3
            await until(lambda: second and second[-1].number == 3)
            assert subscriber.state == "live"
    assert [step.action for step in second] == ["mods"] * len(second)


async def test_an_unknown_position_is_answered_with_the_structure(until):
    n = Notifier({"x": 0})
    steps = []
    async with Publisher({"d": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        _, following = follow(publisher, steps.append, position=("another", 7))
        async with following:
            await until(lambda: steps)
    assert steps[0].action == "init"


def test_a_position_is_refused_for_subscribers_with_a_target():
    with pytest.raises(TypeError, match="only with decode=False"):
        Subscriber("d", lambda x: x, position=("s", 1))


async def test_a_publisher_serves_an_attached_socket():
    async with Publisher({"d": Notifier({"x": 1})}) as publisher:
        near, far = socket.socketpair()
        far.setblocking(False)
        await publisher.attach(far)
        reader, writer = await asyncio.open_connection(sock=near)
        writer.write(b'{"sync_struct":1,"notifier":"d"}\n')
        assert pyon.decode(await reader.readline())["action"] == "hello"
        assert pyon.decode(await reader.readline())["struct"] == {"x": 1}
        await publisher.stop()
        assert pyon.decode(await reader.readline())["error"] == "SubscriptionLost"
        assert await reader.read() == b""
        writer.close()


class Greeting(AsyncioServer):
    """A publisher that sends a hello, and then the given lines."""

    says = b""

    async def _handle_connection_cr(self, reader, writer):
        await reader.readline()
        hello = b'"action":"hello","stream":"s","number":3,"resumed":false,"features":[]'
        writer.write(b"{%b}\n%b" % (hello, self.says))
        await reader.read()


async def test_a_subscriber_that_is_closed_while_the_structure_is_awaited_ends_in_order(
    until, caplog
):
    async with Greeting() as server:
        await server.start("127.0.0.1", 0)
        greeted = []
        subscriber = Subscriber("d", lambda x: x)
        connecting = asyncio.ensure_future(
            subscriber.connect("127.0.0.1", server.port, lambda: greeted.append(True))
        )
        await until(lambda: greeted)
        for _ in range(10):  # turns of the loop, until it waits for the structure
            await asyncio.sleep(0)
        await subscriber.close()
        with pytest.raises(SubscriptionLost, match="was closed"):
            await connecting
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_a_subscriber_is_live_when_it_has_caught_up(until):
    def mod(number):
        return b'{"action":"append","path":[],"x":%d,"number":%d}\n' % (number, number)

    class Older(Greeting):
        says = b'{"action":"init","struct":[],"number":1}\n' + mod(2)

    async with Older() as server:
        await server.start("127.0.0.1", 0)
        seen, states = [], []
        subscriber = Subscriber("d", lambda x: x, seen.append, state_cb=states.append)
        connecting = asyncio.ensure_future(subscriber.connect("127.0.0.1", server.port))
        await until(lambda: len(seen) == 2)
        assert not connecting.done()
        assert states == ["connecting"]
        subscriber._subscription.connection.message_received(Message(mod(3)[:-1]))
        await connecting
        assert states == ["connecting", "live"]
        assert subscriber.target == [2, 3]
        await subscriber.close()


# Addresses.


async def test_an_address_with_an_unknown_scheme_is_an_error_that_lists_the_schemes():
    with pytest.raises(ValueError, match="an address with nats://; got ftp://"):
        await Subscriber("d", lambda x: x).connect("ftp://host/d")


async def test_a_host_without_a_port_is_an_error():
    with pytest.raises(TypeError, match="'localhost' is not an address like nats://host/name"):
        await Subscriber("d", lambda x: x).connect("localhost")


def test_a_mirror_needs_a_name_in_its_address():
    with pytest.raises(TypeError, match="the name of a notifier: nats://h:1 has none"):
        mirror("nats://user:secret@h:1")


def test_addresses_are_shown_without_secrets():
    shown = _addresses.without_secrets("nats://me:secret@a:1,b:2/lab?creds=/x")
    assert shown == "nats://a:1,b:2/lab"
    assert _addresses.name_in("nats://a:1,b:2/site%2Flab?creds=/x") == "site/lab"


def test_a_gateway_is_imported_only_when_an_address_needs_it():
    program = (
        "import sync_struct, sync_struct._cli, sync_struct.gateway, sys;"
        "sys.exit(any(name.startswith(('nats', 'sync_struct.nats')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_gateway_without_its_library_says_what_to_install():
    program = (
        "import sys; sys.modules['nats'] = None\n"
        "from sync_struct._cli import main; sys.exit(main(['get', 'nats://127.0.0.1/lab']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert (
        "sync-struct: NATS needs nats-py: pip install nats-py, or the extra [nats]" in done.stderr
    )
