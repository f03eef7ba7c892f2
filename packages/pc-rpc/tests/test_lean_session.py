"""The fast path of a session: when it is taken, and that its guarantees are the same."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pyon
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pc_rpc import _lane, _lean_session, _session, current_peer, immediate
from pc_rpc._lean_session import MOST
from pyon import asyncio_connection
from pyon.framing import SCRATCH_SIZE
from pyon.wire import LINE_SIZE

LIMIT = 20_000
"""Bytes of a message, so that replies beyond it are small."""


@pytest.fixture(autouse=True)
def long_turns(monkeypatch):
    """Turns are not limited in time, except in the tests of that limit."""
    monkeypatch.setattr(_lean_session, "TURN", 60.0)


class Driver:
    """Methods that return and raise in every way."""

    def __init__(self):
        self.notes = []

    def echo(self, *args, **kwargs):
        return [*args, kwargs] if kwargs else args[0] if len(args) == 1 else list(args)

    def peer(self):
        return current_peer() is not None

    def text(self, length):
        return "x" * length

    def structure(self):
        return {"a": (1, 2), "b": {3}, "c": [Fraction(1, 3)], 5: None}

    def array(self, length):
        return np.arange(length)

    def fail(self, text):
        raise ValueError(text)

    def fail_thoroughly(self):
        raise BaseExceptionGroup("both", [KeyError("x"), KeyboardInterrupt()])

    def give_up(self):
        raise asyncio.CancelledError

    def no_value(self):
        return NotImplemented

    def not_quite(self):
        return "\ud83d" + "\ude00"

    def later(self, x):
        return asyncio.sleep(0, x)

    async def wait(self, x):
        await asyncio.sleep(0)
        return x

    async def fail_later(self):
        await asyncio.sleep(0)
        raise OSError(5, "late")

    @immediate
    def at_once(self):
        return "now"

    @immediate
    def soon(self):
        return asyncio.sleep(0, "soon")

    def note(self, x):
        self.notes.append(x)

    def noted(self):
        notes, self.notes = self.notes, []
        return notes


def call(name: str, *args, **kwargs) -> bytes:
    """Return a call as our clients write it, with a place for its id."""
    content = {"action": "call", "name": name, "args": args, "kwargs": kwargs}
    if all(type(x) in {int, str, float, list, dict, type(None)} for x in args):
        content["args"] = list(args)
    return b'{"id":%d,' + pyon.encode(content, version=2).encode()[1:] + b"\n"


REQUESTS = [
    call("echo", 5),
    call("echo", 'caf\xe9 \u2028 \\ " \n', 1.5, None, True),
    call("echo", [1, [2, {"a": []}]], key="word"),
    call("echo", (1, Fraction(1, 2))),
    call("echo", "y" * 300),
    call("echo", "y" * LINE_SIZE),
    call("echo", 10**700),
    call("peer"),
    call("text", LINE_SIZE - 2),
    call("text", LINE_SIZE),
    call("text", LIMIT - 40),
    call("text", LIMIT),
    call("structure"),
    call("array", 3),
    call("array", 1000),
    call("array", LIMIT),
    call("fail", "no"),
    call("fail", "caf\xe9\n" * 3),
    call("fail"),
    call("fail_thoroughly"),
    call("give_up"),
    call("no_value"),
    call("not_quite"),
    call("later", 7),
    call("wait", 8),
    call("fail_later"),
    call("at_once"),
    call("soon"),
    call("note", 1),
    call("noted"),
    call("nothing"),
    call("_private"),
    call("__init__"),
    call("terminate"),
    b'{"id":%d,"action":"ping"}\n',
    b'{"id":%d,"action":"get_rpc_method_list"}\n',
    b'{"id":%d,"action":"dance"}\n',
    b'{"id":%d,"action":["call"],"name":"echo","args":[1],"kwargs":{}}\n',
    b'{"id":%d,"name":"echo","args":[1],"kwargs":{}}\n',
    b'{"id":%d,"action":"call","name":"echo","args":[1]}\n',
    b'{"id":%d,"action":"call","name":"echo","args":{},"kwargs":{}}\n',
    b'{"id":%d,"action":"call","name":"echo","args":[1],"kwargs":[]}\n',
    b'{"id":%d,"action":"call","name":["echo"],"args":[1],"kwargs":{}}\n',
    b'{"id":%d,"action":"call","name":"echo","args":[1],"kwargs":{},"more":1}\n',
    b'{"id":%d,"action":"call","name":"echo","args":[1],"args":[2],"kwargs":{}}\n',
    b'{"action":"call","name":"echo","args":[1],"kwargs":{},"id":%d}\n',
    b'{"action":"call","name":"echo","args":[1],"kwargs":{}}\n',
    b' {"id":%d, "action":"call","name":"echo","args":[1],"kwargs":{}} \n',
    b'{"id":%d,"action":"call","name":"echo","args":["\xc3\xa9"],"kwargs":{}}\n',
    b'{"id":%d,"action":"call","name":"echo","args":[NaN,-0.0,1e400],"kwargs":{}}\n',
    b'{"id":%d,"action":"call","name":"echo","args":[' + b"1" * LIMIT + b'],"kwargs":{}}\n',
    b'{"action":"cancel","request":%d}\n',
    b'{"buffers":[3],"id":%d,"action":"call","name":"echo","args":[{"__jsonclass__":["bytes",[0]]}]'
    b',"kwargs":{}}\nabc',
]
"""Requests that leave the connection open, each with a place for its id."""

LINES = [request for request in REQUESTS if b'"buffers"' not in request]

LAST = [
    b"",
    b"no request\n",
    b"[1]\n",
    b"5\n",
    b"\n",
    b'{"id":%d,"action":"call",\n"name":"note","args":[2],"kwargs":{}}\n',
    b'{"id":%d,"action":"call","name":"note","args":["\n"],"kwargs":{}}\n',
    b'{"id":%d,"action":"call","name":"note","args":[2],"kwargs":{}}{}\n',
    b'{"id":-%d,"action":"call","name":"note","args":[2],"kwargs":{}}\n',
    b'{"id":%d.0,"action":"call","name":"note","args":[2],"kwargs":{}}\n',
    b'{"id":true,"action":"call","name":"note","args":[2],"kwargs":{}}\n',
    b'{"id":1000000000000000000,"action":"call","name":"note","args":[2],"kwargs":{}}\n',
    b'{"id":%d,"action":"call","name":"note","args":[2],"kwargs":{"__jsonclass__":["x",[]]}}\n',
    b'{"id":%d,"action":"call","name":"note","args":[' + b"[" * 3000 + b"\n",
    b"\xff\n",
]
"""Requests after which a connection is closed."""


def numbered(requests: list[bytes]) -> bytes:
    return b"".join(r.replace(b"%d", b"%d" % n) for n, r in enumerate(requests, 1))


def answers(port: int, features: bytes, pieces: list[bytes]) -> bytes:
    """Return all bytes that a server sends in reply to pieces of requests."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock, sock.makefile("rb") as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"ARTIQ pc_rpc\nmain" + features + b"\n")
        said = [stream.readline(), stream.readline()]
        try:
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has closed already
        try:
            said.extend(iter(stream.readline, b""))
        except ConnectionResetError:
            said.append(b"reset")
        return b"".join(said[2:])


@pytest.fixture(params=[False, True], ids=["in turns", "parallel"])
def both_roads(request, serve, monkeypatch):
    """Return the replies of the fast path and of the general path to some requests."""
    options = {"allow_parallel": request.param, "limit": LIMIT, "line_limit": LIMIT}
    for module in (asyncio_connection, _lane, _session, _lean_session):
        monkeypatch.setattr(module, "TURN", 60.0)  # or who is first would be a matter of time
    servers = [serve({"main": Driver()}, **options) for _ in range(2)]

    def ask(features: bytes, pieces: list[bytes]) -> tuple[bytes, bytes]:
        said = []
        for server, lean in zip(servers, [True, False], strict=True):
            monkeypatch.setattr(_session, "LEAN", lean)
            said.append(answers(server.port, features, pieces))
        return said[0], said[1]

    return ask


OURS = b" pyon_v2 request_ids exception_details stop_notices"


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_every_request_is_answered_with_the_same_bytes_on_both_roads(both_roads, request_):
    lean, general = both_roads(OURS + b" raw_buffers", [numbered([request_, REQUESTS[0]])])
    assert lean == general
    assert b'{"id":2,"status":"ok","ret":5}\n' in lean


@pytest.mark.parametrize("last", LAST, ids=range(len(LAST)))
def test_what_closes_a_connection_does_so_on_both_roads_behind_the_same_bytes(both_roads, last):
    requests = [call("note", 1), call("echo", 5), last, call("note", 3)]
    lean, general = both_roads(OURS, [numbered(requests)])
    assert lean == general
    assert b'{"id":2,"status":"ok","ret":5}\n' in lean
    noted = both_roads(OURS, [numbered([call("noted")])])
    assert noted[0] == noted[1]


@pytest.mark.parametrize("features", [b"", b" pyon_v2", b" pyon_v2 request_ids", OURS])
def test_all_requests_at_once_are_answered_with_the_same_bytes_on_both_roads(both_roads, features):
    requests = [r for r in LINES if features or b"NaN" not in r]
    lean, general = both_roads(features, [numbered([*requests, *reversed(requests)])])
    if b"request_ids" in features:  # replies may overtake each other, as the read is cut
        assert sorted(lean.split(b"\n")) == sorted(general.split(b"\n"))
    else:
        assert lean == general
    assert lean.count(b"\n") > len(requests)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_requests_in_any_pieces_are_answered_with_the_same_bytes(both_roads, data):
    requests = data.draw(st.lists(st.sampled_from(LINES), max_size=12))
    whole = numbered(requests)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=4)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    lean, general = both_roads(OURS, pieces)
    assert sorted(lean.split(b"\n")) == sorted(general.split(b"\n"))


class Gate:
    """Methods that end when the test releases them."""

    def __init__(self):
        self.order = []
        self.open = asyncio.Event()
        self.begun = threading.Event()

    def echo(self, x):
        self.order.append(x)
        return x

    def peer(self):
        return current_peer()

    async def hold(self):
        self.begun.set()
        await self.open.wait()
        return "held"


@pytest.fixture
def general_calls(monkeypatch):
    """Record the requests that take the general path."""
    lines = []
    take = _session.Session.message_received

    def message_received(session, message):
        lines.append(bytes(message.line))
        take(session, message)

    monkeypatch.setattr(_session.Session, "message_received", message_received)
    return lines


def test_calls_that_nothing_disturbs_go_the_lean_road(serve, connect, general_calls):
    client = connect(serve({"main": Gate()}).port)
    del general_calls[:]
    assert [client.echo(x) for x in (5, "a", None, [1, 2], {"a": 1}, 1.5)]
    assert client.peer() == current_peer() or ":" in client.peer()
    assert general_calls == []


def test_a_call_of_a_coroutine_method_is_not_read_twice(serve, connect, general_calls):
    gate = Gate()
    thread = serve({"main": gate})
    client = connect(thread.port)
    del general_calls[:]
    with ThreadPoolExecutor() as pool:
        held = pool.submit(client.hold)
        assert gate.begun.wait(30)
        thread.do(gate.open.set)
        assert held.result(30) == "held"
    assert general_calls == []


def test_calls_behind_one_that_waits_go_the_general_road_and_keep_their_order(
    serve, connect, general_calls
):
    gate = Gate()
    thread = serve({"main": gate})
    first = connect(thread.port)
    with socket.create_connection(("127.0.0.1", thread.port)) as sock, sock.makefile("rb") as lines:
        sock.sendall(b"ARTIQ pc_rpc\nmain" + OURS + b"\n")
        lines.readline(), lines.readline()
        sock.sendall(numbered([call("echo", 1), call("hold"), call("echo", 2)]))
        assert lines.readline() == b'{"id":1,"status":"ok","ret":1}\n'
        assert gate.begun.wait(30)
        other = threading.Thread(target=first.echo, args=(3,))
        other.start()
        while not any(b"[3]" in line for line in general_calls):
            thread.do(int)
        sock.sendall(call("echo", 4).replace(b"%d", b"4"))
        while not any(b"[4]" in line for line in general_calls):
            thread.do(int)
        assert gate.order == [1]
        thread.do(gate.open.set)
        assert [lines.readline() for _ in range(3)] == [
            b'{"id":2,"status":"ok","ret":"held"}\n',
            b'{"id":3,"status":"ok","ret":2}\n',
            b'{"id":4,"status":"ok","ret":4}\n',
        ]
        other.join(30)
    assert gate.order == [1, 3, 2, 4]


def test_a_method_on_the_lean_road_knows_its_client(serve, connect):
    port = serve({"main": Gate()}).port
    clients = [connect(port) for _ in range(3)]
    peers = [client.peer() for client in clients * 2]
    assert len(set(peers)) == 3
    assert peers[:3] == peers[3:]


def test_an_error_of_the_call_itself_shows_nothing_of_the_server(serve, connect, either_road):
    client = connect(serve({"main": Driver()}).port)
    with pytest.raises(TypeError, match="positional argument") as caught:
        client.fail()
    assert caught.value.parent_traceback == []
    with pytest.raises(ValueError, match="no") as caught:
        client.fail("no")
    (frame,) = caught.value.parent_traceback
    assert "in fail" in frame


def test_what_one_read_brought_is_answered_in_one_write(serve, monkeypatch):
    writes = []
    thread = serve({"main": Gate()})
    with socket.create_connection(("127.0.0.1", thread.port)) as sock, sock.makefile("rb") as lines:
        sock.sendall(b"ARTIQ pc_rpc\nmain" + OURS + b"\n")
        lines.readline(), lines.readline()
        (session,) = thread.server._shared.sessions
        write = session.transport.write
        monkeypatch.setattr(
            session.transport, "write", lambda data: (writes.append(bytes(data)), write(data))
        )
        sock.sendall(numbered([call("echo", x) for x in range(500)]))
        for number in range(500):
            assert lines.readline() == b'{"id":%d,"status":"ok","ret":%d}\n' % (number + 1, number)
    assert len(writes) <= 3  # as many as reads, if the network cut what was sent


def test_replies_that_nobody_reads_stop_the_lean_road(serve, monkeypatch):
    high_water = 2**15
    for module in (asyncio_connection, _session):
        monkeypatch.setattr(module, "HIGH_WATER", high_water)
    gate, count = Gate(), 3000
    thread = serve({"main": gate})
    with socket.socket() as sock, sock.makefile("rb") as lines:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", thread.port))
        sock.sendall(b"ARTIQ pc_rpc\nmain" + OURS + b"\n")
        assert [lines.readline(), lines.readline()]
        (session,) = thread.server._shared.sessions
        own = session.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        asked = numbered([call("echo", "x" * 1000) for _ in range(count)])
        sender = threading.Thread(target=sock.sendall, args=(asked,))
        sender.start()
        same, before = 0, -1
        while same < 50 or before < high_water // 2:
            now = thread.do(lambda: session.backlog)
            same = same + 1 if now == before else 0
            before = now
        assert before < MOST + 2 * high_water
        assert len(gate.order) < count
        for number in range(count):
            assert lines.readline().startswith(b'{"id":%d,' % (number + 1))
        sender.join(30)
    assert len(gate.order) == count


@contextlib.contextmanager
def lean_session(thread):
    """Return the only session of a server, with a client written by hand."""
    with socket.socket() as sock, sock.makefile("rb") as lines:
        sock.connect(("127.0.0.1", thread.port))
        sock.sendall(b"ARTIQ pc_rpc\nmain" + OURS + b"\n")
        assert [lines.readline(), lines.readline()]
        (session,) = thread.server._shared.sessions
        yield session, lines


def test_one_read_makes_no_more_replies_on_the_lean_road_than_are_counted(serve):
    thread = serve({"main": Driver()})
    asked = numbered([call("text", 4000) for _ in range(100)])
    with lean_session(thread) as (session, lines):
        done = thread.do(lambda: session.lines_received(asked.decode()))
        made = asked[:done].count(b"\n")
        assert MOST // 4000 <= made <= MOST // 4000 + 1
        assert all(len(lines.readline()) > 4000 for _ in range(made))


def test_once_the_server_stops_nothing_begins_on_the_lean_road(serve):
    driver = Driver()
    thread = serve({"main": driver})
    asked = numbered([call("echo", 5)]).decode()
    with lean_session(thread) as (session, lines):
        assert thread.do(lambda: session.lines_received(asked)) == len(asked)
        assert lines.readline() == b'{"id":1,"status":"ok","ret":5}\n'
        thread.do(session.stop_calls)
        assert thread.do(lambda: session.lines_received(asked)) == 0


class Meeting:
    """Lets another client make a call while the first method runs."""

    def __init__(self):
        self.order = []
        self.begun = threading.Event()
        self.other_has_called = threading.Event()
        self.held = threading.Event()
        self.open = asyncio.Event()

    async def hold(self):
        self.held.set()
        await self.open.wait()

    def first(self):
        self.begun.set()
        assert self.other_has_called.wait(30)

    def count(self, x):
        self.order.append(x)


def test_a_client_that_sends_many_calls_does_not_keep_others_waiting(serve, either_road):
    meeting, count = Meeting(), 3 * SCRATCH_SIZE // 50
    port = serve({"main": meeting}).port
    eager, other = (socket.create_connection(("127.0.0.1", port), 30) for _ in range(2))
    with eager, other, eager.makefile("rb") as to_eager, other.makefile("rb") as to_other:
        for sock, lines in ((eager, to_eager), (other, to_other)):
            sock.sendall(b"ARTIQ pc_rpc\nmain" + OURS + b"\n")
            assert [lines.readline(), lines.readline()]
        asked = numbered([call("first"), *[call("count", 0)] * count])
        sender = threading.Thread(target=eager.sendall, args=(asked,))
        sender.start()
        assert meeting.begun.wait(30)
        other.sendall(numbered([call("count", 1)]))
        meeting.other_has_called.set()
        assert to_other.readline() == b'{"id":1,"status":"ok","ret":null}\n'
        for _ in range(count + 1):
            to_eager.readline()
        sender.join(30)
    assert len(meeting.order) == count + 1
    assert meeting.order.index(1) < count


@pytest.mark.parametrize("waits", [False, True])
def test_calls_that_one_read_brought_let_others_have_their_turn(
    serve, either_road, monkeypatch, waits
):
    for module in (asyncio_connection, _lane, _session, _lean_session):
        monkeypatch.setattr(module, "TURN", 0.0)
    meeting, count = Meeting(), 50
    thread = serve({"main": meeting, "other": meeting})
    eager, other = (socket.create_connection(("127.0.0.1", thread.port), 30) for _ in range(2))
    with eager, other, eager.makefile("rb") as to_eager, other.makefile("rb") as to_other:
        for sock, lines, target in ((eager, to_eager, b"main"), (other, to_other, b"other")):
            sock.sendall(b"ARTIQ pc_rpc\n" + target + OURS + b"\n")
            assert [lines.readline(), lines.readline()]
        first = [call("hold")] if waits else []
        eager.sendall(numbered([*first, call("first"), *[call("count", 0)] * count]))
        if waits:
            assert meeting.held.wait(30)
            thread.do(lambda: meeting.open.set())
        assert meeting.begun.wait(30)
        other.sendall(numbered([call("count", 1)]))
        meeting.other_has_called.set()
        assert to_other.readline() == b'{"id":1,"status":"ok","ret":null}\n'
        for _ in range(count + 1 + len(first)):
            to_eager.readline()
    assert len(meeting.order) == count + 1
    assert meeting.order.index(1) < 10


class Nested:
    """Runs the event loop within a method, as some libraries do."""

    def __init__(self):
        self.order = []
        self.nested = False
        self.leave = False

    def end(self):
        self.leave = True

    def run_loop(self):
        loop = asyncio.get_running_loop()
        self.nested = True
        while not self.leave:
            loop._run_once()
        self.order.append("nested")
        return [1, 2]

    def echo(self, x):
        self.order.append(x)
        return x


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_a_method_that_runs_the_loop_keeps_its_turn(serve, monkeypatch, lean, parallel):
    monkeypatch.setattr(_session, "LEAN", lean)
    nested = Nested()
    thread = serve({"main": nested}, allow_parallel=parallel)
    first, second = (socket.create_connection(("127.0.0.1", thread.port)) for _ in range(2))
    with first, second, first.makefile("rb") as one, second.makefile("rb") as two:
        for sock, lines in ((first, one), (second, two)):
            sock.sendall(b"ARTIQ pc_rpc\nmain" + OURS + b"\n")
            lines.readline(), lines.readline()
        first.sendall(numbered([call("run_loop")]))
        while not nested.nested:
            thread.do(int)
        second.sendall(numbered([call("echo", 5), b'{"id":%d,"action":"ping"}\n']))
        first_of_second = two.readline()
        first.sendall(call("echo", 6).replace(b"%d", b"3"))
        thread.do(nested.end)
        answers = {first_of_second, two.readline()}
        assert {one.readline(), one.readline()} == {
            b'{"id":1,"status":"ok","ret":[1,2]}\n',
            b'{"id":3,"status":"ok","ret":6}\n',
        }
    assert answers == {b'{"id":1,"status":"ok","ret":5}\n', b'{"id":2,"status":"ok","ret":null}\n'}
    assert sorted(map(str, nested.order)) == ["5", "6", "nested"]
    assert parallel or nested.order[0] == "nested"
