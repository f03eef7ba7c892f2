"""Connections that end, stall or cannot be made: the errors of their callers."""

from __future__ import annotations

import asyncio
import errno
import math
import re
import socket
import struct
import threading
import time

import pytest
from pc_rpc import (
    AsyncioClient,
    BestEffortClient,
    Client,
    ConnectionLost,
    ProtocolError,
    _connecting,
)
from pc_rpc._connecting import _connect_any

pytestmark = pytest.mark.usefixtures("either_road")

REPLY = b'{"status":"ok","ret":"caf\xc3\xa9"}\n'


class Echo:
    def echo(self, x):
        return x


def reset(sock):
    """Close so that the other end gets a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def close(sock):
    sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("greeting", [b"", b'{"targets":["ma'])
def test_closed_before_or_in_the_greeting(scripted_peer, either_client, end, greeting):
    def script(sock, lines):
        lines.readline()
        sock.sendall(greeting)
        end(sock)

    with pytest.raises(ConnectionLost, match=r"connection to 127\.0\.0\.1:\d+ lost"):
        either_client(scripted_peer(script).port)


@pytest.mark.parametrize("end", [close, reset])
def test_closed_after_the_greeting(scripted_peer, either_client, end):
    def script(sock, lines):
        lines.readline()
        sock.sendall(b'{"targets":["main"],"description":null,"features":[]}\n')
        lines.readline()
        end(sock)

    with pytest.raises(ConnectionLost, match=r"connection to 127\.0\.0\.1:\d+ lost"):
        either_client(scripted_peer(script).port)


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("size", [0, 1, 10, 27, len(REPLY) - 1])
def test_closed_in_the_middle_of_a_reply(scripted_peer, either_client, greet, end, size):
    received = threading.Event()

    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        sock.sendall(REPLY[:size])
        end(sock)
        received.set()

    client = either_client(scripted_peer(script).port)
    with pytest.raises(ConnectionLost, match=r"the call of echo\(\) may have been executed") as e:
        client.echo(1)
    assert e.value.sent
    assert isinstance(e.value, ConnectionError)
    assert e.value.__cause__ is not None
    assert received.wait(30)
    with pytest.raises(ConnectionLost, match=r"the call of echo\(\) was not sent") as e:
        client.echo(2)
    assert not e.value.sent


def test_a_server_that_left_between_two_calls_did_not_get_the_second(scripted_peer, connect, greet):
    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        sock.sendall(REPLY)

    peer = scripted_peer(script)
    client = connect(peer.port)
    assert client.echo(1) == "caf\xe9"
    peer.finish()
    with pytest.raises(ConnectionLost, match="was not sent") as caught:
        client.echo(2)
    assert not caught.value.sent


def test_a_stream_in_single_bytes_is_put_together(scripted_peer, either_client, greet):
    def script(sock, lines):
        greet(sock, lines)
        for _ in range(2):
            lines.readline()
            for byte in REPLY:
                sock.sendall(bytes([byte]))

    client = either_client(scripted_peer(script).port)
    assert [client.echo(i) for i in range(2)] == ["caf\xe9"] * 2


def test_a_reply_to_no_request_ends_the_connection(scripted_peer, either_client, greet):
    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        sock.sendall(REPLY + REPLY)
        lines.readline()

    client = either_client(scripted_peer(script).port)
    client.echo(1)
    with pytest.raises(ConnectionLost, match="a reply to no request"):
        client.echo(2)


def test_a_peer_that_is_not_an_rpc_server(scripted_peer, either_client):
    def script(sock, lines):
        lines.readline()
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with pytest.raises(ProtocolError, match="expected the greeting of an RPC server, got b'HTTP"):
        either_client(scripted_peer(script).port)


@pytest.fixture
def silent_port():
    """The port of a server that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_server_that_never_answers_runs_into_the_time_out(silent_port):
    with pytest.raises(TimeoutError, match=r"127\.0\.0\.1:\d+ did not answer"):
        Client("127.0.0.1", silent_port, timeout=0.1)

    async def connect():
        await AsyncioClient().connect_rpc("127.0.0.1", silent_port, timeout=0.1)

    with pytest.raises(TimeoutError, match=r"127\.0\.0\.1:\d+ did not answer"):
        asyncio.run(connect())
    with BestEffortClient("127.0.0.1", silent_port, "main", firstcon_timeout=0.1) as client:
        assert not client.connected
        assert isinstance(client.last_error, TimeoutError)


def test_the_time_to_connect_is_that_of_all_steps_together(serve, monkeypatch):
    deadlines = []
    take_step = _connecting._take_step

    def noting(*args):
        deadlines.append(args[-1])
        take_step(*args)

    monkeypatch.setattr(_connecting, "_take_step", noting)
    Client("127.0.0.1", serve({"main": Echo()}).port, timeout=30).close_rpc()
    greeting, selection = deadlines
    assert greeting == selection is not None


def test_addresses_that_do_not_answer_share_the_time(monkeypatch):
    waited = []

    class Silent:
        def close(self):
            pass

        def settimeout(self, timeout):
            waited.append(timeout)

        def connect(self, address):
            raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "socket", lambda *_: Silent())
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{n}", 1)) for n in range(4)]
    with pytest.raises(TimeoutError):
        _connect_any(found, time.monotonic() + 100)
    assert waited == pytest.approx([25, 100 / 3, 50, 100], rel=0.1)
    with pytest.raises(TimeoutError):
        _connect_any(found, time.monotonic() - 1)
    assert len(waited) == 4


@pytest.mark.parametrize("timeout", [3e6, 1e12, math.inf])
def test_a_time_out_longer_than_any_system_can_wait_is_none(serve, connect, timeout):
    client = connect(serve({"main": Echo()}).port, timeout=timeout)
    assert client.echo(1) == 1
    assert client.with_rpc_timeout(timeout).echo(2) == 2


async def test_an_asyncio_client_that_is_closed_while_it_connects_does_not_connect(serve):
    client = AsyncioClient()
    connecting = asyncio.ensure_future(
        client.connect_rpc("127.0.0.1", serve({"main": Echo()}).port)
    )
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="connected already"):
        await client.connect_rpc("127.0.0.1", 1)
    await client.close_rpc()
    with pytest.raises(ConnectionLost, match="closed by close_rpc"):
        await connecting


@pytest.mark.parametrize("target", ["main", None])
def test_a_port_without_a_server(target, free_port):
    port = free_port
    where = f"'main' at 127.0.0.1:{port}" if target else f"127.0.0.1:{port}"
    refused = re.escape(f"no connection to {where}: Connection refused; is the server running?")
    with pytest.raises(ConnectionRefusedError, match=refused) as caught:
        Client("127.0.0.1", port, target, timeout=30)
    assert caught.value.errno == errno.ECONNREFUSED

    async def connect():
        await AsyncioClient().connect_rpc("127.0.0.1", port, target, timeout=30)

    with pytest.raises(ConnectionRefusedError, match=refused):
        asyncio.run(connect())


async def test_an_asyncio_client_that_is_not_connected_says_so():
    client = AsyncioClient()
    with pytest.raises(RuntimeError, match="not connected: await connect_rpc"):
        client.get_rpc_id()
    assert client.get_selected_target() is None
    client.close_rpc()
    await client.close_rpc()


async def test_an_asyncio_client_can_connect_again(serve, asyncio_client):
    class Driver:
        def echo(self, x):
            return x

    port = serve({"main": Driver()}).port
    async with asyncio_client(port) as client:
        with pytest.raises(RuntimeError, match="connected already"):
            await client.connect_rpc("127.0.0.1", port)
        await client.close_rpc()
        await client.connect_rpc("127.0.0.1", port)
        assert await client.echo(5) == 5


def test_a_client_without_a_time_out_of_its_own_waits(scripted_peer, greet):
    let_go = threading.Event()

    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        let_go.wait(30)
        sock.sendall(REPLY)

    with Client("127.0.0.1", scripted_peer(script).port) as client:
        threading.Timer(0.1, let_go.set).start()
        assert client.echo() == "caf\xe9"


def test_a_time_out_of_zero_gives_up_at_once(serve, connect):
    class Driver:
        def echo(self, x):
            return x

    client = connect(serve({"main": Driver()}).port)
    with pytest.raises(TimeoutError):
        client.with_rpc_timeout(0).echo(1)
    assert client.echo(2) == 2


class Full:
    """A connected socket that takes so many bytes and then fails."""

    def __init__(self, taken):
        self.taken = taken

    def __call__(self, data, *flags):
        if self.taken:
            taken, self.taken = self.taken, 0
            return taken
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@pytest.mark.parametrize("taken", [0, 1, 20])
def test_a_write_that_fails_says_whether_anything_went_out(serve, connect, monkeypatch, taken):
    client = connect(serve({"main": Echo()}).port)
    sock = client._target._socket
    sock.send = Full(taken)
    monkeypatch.setattr(type(sock), "write", lambda *_: sock.send(b""))
    with pytest.raises(ConnectionLost, match="Broken pipe") as caught:
        client.echo(1)
    assert caught.value.sent is bool(taken)
    said = "may have been executed" if taken else "was not sent"
    assert f"the call of echo() {said}; make a new client to connect again" in str(caught.value)


@pytest.mark.parametrize("reply", [b'{"hello":1}\n', b"\n", b'{"status":"maybe"}\n'])
def test_a_ping_takes_no_malformed_reply_for_an_answer(scripted_peer, either_client, greet, reply):
    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        sock.sendall(reply)
        lines.readline()
        sock.sendall(
            b'{"status":"failed","exception":{"class":"ValueError",'
            b'"message":"Unknown action: ping","traceback":[]}}\n'
        )

    client = either_client(scripted_peer(script).port)
    with pytest.raises(ProtocolError, match="expected a reply to the ping"):
        client.ping_rpc()
    client.ping_rpc()  # an established server knows none, but it has answered


def test_a_reply_that_drips_in_does_not_stretch_the_time_out(scripted_peer, either_client, greet):
    given_up = threading.Event()

    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        for byte in REPLY[:-1]:
            sock.sendall(bytes([byte]))
        assert given_up.wait(30)
        sock.sendall(REPLY[-1:])
        lines.readline()
        sock.sendall(b'{"status":"ok","ret":2}\n')

    client = either_client(scripted_peer(script).port, timeout=0.2)
    with pytest.raises(TimeoutError, match=r"no reply to the call of echo\(\)"):
        client.echo(1)
    given_up.set()
    assert client.with_rpc_timeout(30).echo(2) == 2
