"""The fast path of a blocking call: when it is taken, and that its guarantees are the same."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pc_rpc import ConnectionLost, _connection, _receiving
from pc_rpc._connection import BlockingConnection
from pc_rpc._deadlines import RECHECK
from pc_rpc._lean_call import READ_SIZE

GREETING = b'{"targets":["main"],"description":null,"features":["pyon_v2","request_ids"]}\n'
METHODS = b'{"__jsonclass__":["set",[["echo"]]]}\n'


class Echo:
    def echo(self, x):
        return x

    def fail(self):
        raise ValueError("out of range")


class Slow(Echo):
    def __init__(self):
        self.gate = asyncio.Event()

    async def hold(self):
        return await self.gate.wait()

    def let_go(self):
        self.gate.set()


@pytest.fixture
def general_calls(monkeypatch):
    """Count the calls that take the general path."""
    calls = []
    send, wait = BlockingConnection._send, BlockingConnection._wait
    monkeypatch.setattr(
        BlockingConnection, "_send", lambda *args: calls.append("send") or send(*args)
    )
    monkeypatch.setattr(
        BlockingConnection, "_wait", lambda *args: calls.append("wait") or wait(*args)
    )
    return calls


def in_thread(action, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action, *args).result()


def with_ids(answer):
    """Return a script of a server with ids: `answer` gets the socket and the first request."""

    def script(sock, lines):
        lines.readline()
        sock.sendall(GREETING)
        lines.readline()
        sock.sendall(METHODS)
        answer(sock, lines.readline())
        lines.readline()  # until the client leaves

    return script


@pytest.mark.parametrize("run", [lambda do, *args: do(*args), in_thread])
def test_a_call_that_nothing_disturbs_takes_the_fast_path(serve, connect, general_calls, run):
    client = connect(serve({"main": Echo()}).port)
    del general_calls[:]
    for _ in range(100):
        assert run(client.echo, 5) == 5
        if not general_calls:
            break
        general_calls.clear()  # a server that is held up for long answers on the general one
    assert general_calls == []


@pytest.mark.parametrize("run", [lambda do, *args: do(*args), in_thread])
@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize(
    "value",
    [5, -1.5, None, "a\nb", [1, [2.0, "x"]], {"a": 1}, {1, 2}, "x" * (3 * READ_SIZE)],
    ids=["int", "float", "None", "str", "list", "dict", "set", "long"],
)
def test_a_value_comes_back_on_both_paths(serve, connect, monkeypatch, lean, value, run):
    monkeypatch.setattr(_connection, "LEAN", lean)
    client = connect(serve({"main": Echo()}).port)
    for _ in range(3):
        assert run(client.echo, value) == value
    with pytest.raises(ValueError, match="out of range"):
        run(client.fail)
    array = np.arange(2 * READ_SIZE, dtype=np.float64)
    assert np.array_equal(run(client.echo, array), array)
    assert np.array_equal(run(client.echo, array[:3]), array[:3])


@pytest.mark.parametrize("lean", [True, False])
def test_a_request_is_the_same_on_the_wire_on_both_paths(scripted_peer, connect, monkeypatch, lean):
    monkeypatch.setattr(_connection, "LEAN", lean)
    requests = []

    def answer(sock, request):
        requests.append(request)
        sock.sendall(b'{"id":1,"status":"ok","ret":null}\n')

    client = connect(scripted_peer(with_ids(answer)).port)
    assert client.echo(5, "a", 1.5) is None
    assert requests == [b'{"id":1,"action":"call","name":"echo","args":[5,"a",1.5],"kwargs":{}}\n']


@pytest.mark.parametrize("run", [lambda do, *args: do(*args), in_thread])
def test_a_reply_in_pieces_is_put_together(scripted_peer, connect, run):
    first_read = threading.Event()

    def answer(sock, request):
        sock.sendall(b'{"id":1,"status":"ok",')
        assert first_read.wait(60)
        sock.sendall(b'"ret":7}\n')

    client = connect(scripted_peer(with_ids(answer)).port)
    take_in = client._target._take_in_read

    def taken_in(data):
        take_in(data)
        first_read.set()

    client._target._take_in_read = taken_in
    try:
        assert run(client.echo, 1) == 7
    finally:
        first_read.set()
        del client._target._take_in_read


@pytest.mark.parametrize("run", [lambda do, *args: do(*args), in_thread])
def test_a_request_that_the_socket_takes_in_parts_is_sent_whole(serve, connect, run):
    client = connect(serve({"main": Echo()}).port)
    sock = client._target._socket
    whole = sock.send
    sock.send = lambda data, *flags: whole(data[:20], *flags)
    assert run(client.echo, 1) == 1
    sock.send = whole
    assert run(client.echo, 2) == 2


def test_a_peer_that_has_closed_long_ago_is_noticed_before_anything_is_sent(scripted_peer, connect):
    closed = threading.Event()

    def answer(sock, request):
        sock.sendall(b'{"id":1,"status":"ok","ret":null}\n')
        sock.shutdown(socket.SHUT_WR)
        closed.set()

    client = connect(scripted_peer(with_ids(answer)).port)
    assert client.echo(1) is None
    assert closed.wait(60)
    assert client._target._socket.wait_readable(60)
    client._target._received_at = 0.0
    with pytest.raises(ConnectionLost, match="was not sent") as caught:
        client.echo(2)
    assert not caught.value.sent


@pytest.mark.parametrize("reply", [b'{"id":2,"status":"ok","ret":1}\n', b""])
@pytest.mark.parametrize("run", [lambda do, *args: do(*args), in_thread])
def test_a_reply_to_another_question_ends_the_connection(scripted_peer, connect, run, reply):
    def answer(sock, request):
        sock.sendall(reply)
        sock.shutdown(socket.SHUT_WR)

    client = connect(scripted_peer(with_ids(answer)).port)
    said = "reply to no request" if reply else "closed by the server"
    with pytest.raises(ConnectionLost, match=said):
        run(client.echo, 1)


def test_a_thread_that_waits_for_long_does_not_keep_others_from_their_replies(serve, connect):
    client = connect(serve({"main": Slow()}, allow_parallel=True).port)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.hold)
        assert [client.echo(n) for n in range(50)] == list(range(50))
        assert in_thread(client.echo, 5) == 5
        client.let_go()
        assert held.result() is True


def test_threads_that_wait_for_long_check_the_state_less_often(serve, connect, monkeypatch):
    pauses, looked_often = defaultdict(list), threading.Event()

    def at_once(deadline, longest):
        pauses[threading.get_ident()].append(longest)
        if len(pauses) == 3 and min(map(len, pauses.values())) > 8:
            looked_often.set()
        return 0.001

    monkeypatch.setattr(_receiving, "within", at_once)
    port = serve({"main": Slow()}, allow_parallel=True).port
    client, other = connect(port), connect(port)
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(client.hold) for _ in range(2)]
        pool.submit(lambda: (looked_often.wait(30), other.let_go()))
        assert client.hold() is True
        assert [one.result() for one in held] == [True, True]
    assert set(pauses.pop(threading.get_ident())) == {RECHECK}  # where signal handlers may call
    for others in pauses.values():
        assert others[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.6, 1.6]


def test_the_rest_of_an_earlier_message_goes_before_the_next(scripted_peer, connect):
    lines_read = []

    def script(sock, lines):
        lines.readline()
        sock.sendall(GREETING)
        lines.readline()
        sock.sendall(METHODS)
        lines_read.extend([lines.readline(), lines.readline()])
        sock.sendall(b'{"id":1,"status":"ok","ret":5}\n')
        lines.readline()

    client = connect(scripted_peer(script).port)
    rest = b'{"action":"cancel","request":77}\n'
    client._target._unsent.append(rest)
    assert client.echo(1) == 5
    assert lines_read == [rest, b'{"id":1,"action":"call","name":"echo","args":[1],"kwargs":{}}\n']


def test_a_small_request_beyond_the_limit_is_an_error_and_not_sent(serve, connect):
    client = connect(serve({"main": Echo()}).port, limit=2 * READ_SIZE)
    assert client.echo("x" * READ_SIZE) == "x" * READ_SIZE
    with pytest.raises(
        ValueError, match=rf"^the call of echo\(\) has .* the limit of {2 * READ_SIZE} "
    ):
        client.echo("x" * 2 * READ_SIZE)
    assert client.echo(5) == 5


def test_when_the_leader_has_its_reply_it_wakes_the_next_leader(serve, connect, monkeypatch):
    waiting, both_wait = set(), threading.Event()

    def for_ever(deadline, longest):
        waiting.add(threading.get_ident())
        if len(waiting) == 2:
            both_wait.set()
        return 60.0

    class Slow:
        def __init__(self):
            self.gates = {"a": asyncio.Event(), "b": asyncio.Event()}

        async def hold(self, name):
            await self.gates[name].wait()
            return name

        def let_go(self, name):
            self.gates[name].set()

    monkeypatch.setattr(_receiving, "within", for_ever)
    port = serve({"main": Slow()}, allow_parallel=True).port
    client, other = connect(port), connect(port)
    with ThreadPoolExecutor(2) as pool:
        held = {name: pool.submit(client.hold, name) for name in "ab"}
        assert both_wait.wait(30)
        for name, future in held.items():
            other.let_go(name)
            assert future.result(30) == name
