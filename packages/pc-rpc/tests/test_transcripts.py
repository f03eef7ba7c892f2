"""Recorded sessions of the established stack, played against our server and against our clients.

Fragments of 1, 2, 3, 7 and 4096 bytes: what a network may make of them. Deliberate differences are
listed here by the label of the recorded step, and in PROTOCOL.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyon
import pytest
from pc_rpc import GenericRemoteException, IncompatibleServer, simple_server_loop
from pc_rpc._exposure import find_methods
from pc_rpc.discovery import _network

DATA = Path(__file__).parent / "data"
FRAGMENTS = [1, 2, 3, 7, 4096]


def sessions(name: str) -> list[list[dict[str, Any]]]:
    """Return the recorded steps of each connection."""
    steps = json.loads((DATA / name).read_text(encoding="utf-8"))["steps"]
    result: list[list[dict[str, Any]]] = []
    for step in steps:
        if step["label"].startswith(("connect", "reconnect", "several targets: connect")):
            result.append([])
        result[-1].append(step)
    return result


def wire(step: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for piece in step["bytes"]:
        yield from piece.items()


def send_in_fragments(sock: socket.socket, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        sock.sendall(data[start : start + size])


# The driver that was served when the sessions were recorded, as far as it shows on the wire.


class MyError(Exception):
    pass


class MyValueError(ValueError):
    pass


MyError.__module__ = MyValueError.__module__ = "values"

RAISED: dict[str, Callable[[], BaseException]] = {
    "value_error": lambda: ValueError("some message"),
    "value_error_empty": lambda: ValueError(),
    "value_error_two_args": lambda: ValueError("a", "b"),
    "key_error": lambda: KeyError("missing"),
    "key_error_int": lambda: KeyError(3),
    "index_error": lambda: IndexError("list index out of range"),
    "zero_division": lambda: ZeroDivisionError("division by zero"),
    "attribute_error": lambda: AttributeError("'object' object has no attribute 'nope'"),
    "type_error": lambda: TypeError("object of type 'int' has no len()"),
    "assertion": lambda: AssertionError("one is not two"),
    "not_implemented": lambda: NotImplementedError(),
    "os_error": lambda: OSError(5, "Input/output error"),
    "file_not_found": lambda: FileNotFoundError(2, "No such file", "/nope"),
    "connection_reset": lambda: ConnectionResetError("reset by somebody"),
    "timeout_error": lambda: TimeoutError("too slow"),
    "eof_error": lambda: EOFError("the end"),
    "runtime_unicode": lambda: RuntimeError('caf\xe9 \u6f22 \U0001f600 \u2028 "q" \\'),
    "multiline": lambda: RuntimeError("line 1\nline 2\r\n\tline 3"),
    "long_message": lambda: RuntimeError("x" * 50000),
    "stop_async_iteration": lambda: StopAsyncIteration("stop"),
    "custom": lambda: MyError("boom"),
    "custom_subclass_of_builtin": lambda: MyValueError("boom"),
    "custom_no_args": lambda: MyError(),
    "custom_multiline": lambda: MyError("a\nb"),
    "warning": lambda: UserWarning("careful"),
    "generator_exit": lambda: GeneratorExit("ge"),
}


class Target:
    """Target of the conformance suites.

    Second paragraph: caf\xe9.
    """

    def echo(self, x):
        """Returns its argument."""
        return x

    def args(self, a, b=2, *rest, c, d=4, **kw):
        """Doc of args."""
        extra = ",".join(f"tuple[str:{k!r},str:{v!r}]" for k, v in kw.items())
        more = ",".join(f"int:{x}" for x in rest)
        return f"tuple[int:{a},int:{b},tuple[{more}],int:{c},int:{d},list[{extra}]]"

    def plain_args(self, a, b=(1, "x"), c=None): ...
    def no_doc(self): ...

    async def async_echo(self, x):
        return x

    def fail(self, name):
        if name == "unicode_decode":
            return b"\xff".decode()
        if name == "chained":
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise ValueError("outer") from error
        if name == "numpy_error":
            return np.zeros(2) + np.zeros(3)
        raise RAISED[name]()

    async def async_fail(self, name): ...
    def make(self, name): ...
    def mutate(self, lst): ...
    def remember(self, x): ...
    def seen(self, x): ...
    def size(self, x): ...
    async def slow(self, delay, tag): ...
    async def overlap(self, delay): ...
    def returns_function(self): ...
    def drop_me(self): ...

    def unserializable(self):
        return object()

    @staticmethod
    def static_method(x): ...

    @classmethod
    def class_method(cls, x): ...

    def annotated(self, a: int, b: str = "x") -> float: ...

    def _private(self): ...


class Counter:
    def __init__(self):
        self.count = 0

    def inc(self):
        self.count += 1
        return self.count


# Our server and a recorded client.

DIFFERENT_CLASS = {
    # Classes that the recorded client cannot make from a message, or that are no `Exception`s.
    "raises unicode_decode": "UnicodeDecodeError: ",
    "raises generator_exit": "GeneratorExit: ",
}


def assert_same_greeting(ours: bytes, recorded: bytes) -> None:
    got, expected = json.loads(ours), json.loads(recorded)
    offered = got.pop("features")
    assert offered[0] == "pyon_v2"  # the other words are unknown to the recorded client
    expected.pop("features", None)
    assert got == expected


def assert_same_methods(ours: bytes, recorded: bytes) -> None:
    def names(line: bytes) -> set[str]:
        return set(filter(None, (w for w in line.decode().split('"')[1::2])))

    public = {name for name in names(recorded) if not name.startswith("_")}
    got = names(ours) | ({"__jsonclass__"} if b"jsonclass" in recorded else set())
    assert got - {"__jsonclass__"} == public  # ours offers no name with a leading underscore


def assert_same_failure(label: str, ours: bytes, recorded: bytes | dict[str, Any]) -> None:
    if isinstance(recorded, dict):
        begin = recorded["begin"].encode("latin-1")
        assert ours.startswith(begin)
        return
    cut = b'"traceback":'
    got, expected = ours.partition(cut)[0], recorded.partition(cut)[0]
    if label in DIFFERENT_CLASS:
        separator = b": " if b'": ' in expected else b":"
        name = DIFFERENT_CLASS[label][:-2].encode()
        expected = expected.replace(name, b"GenericRemoteException", 1)
        expected = expected.replace(
            b'"message"' + separator + b'"',
            b'"message"' + separator + b'"' + DIFFERENT_CLASS[label].encode(),
        )
    if label == "returns something not encodable":
        got, expected = got.partition(b'"message"')[0], expected.partition(b'"message"')[0]
    assert got == expected


def is_failure(recorded: Any) -> bool:
    text = recorded["begin"] if isinstance(recorded, dict) else recorded
    return '"failed"' in text[:30]


def play_client(
    port: int,
    steps: list[dict[str, Any]],
    fragment: int,
    known: Callable[[bytes], bytes] = bytes,
) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as sock, sock.makefile("rb") as lines:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        previous = None
        for step in steps:
            for direction, data in wire(step):
                if direction == "c2s":
                    if data == "<EOF>":
                        sock.shutdown(socket.SHUT_WR)
                    else:
                        send_in_fragments(sock, data.encode("latin-1"), fragment)
                    previous = data
                    continue
                line = lines.readline()
                if previous != "ARTIQ pc_rpc\n" and line:
                    line = known(line)
                if data == "<EOF>":
                    assert line == b""
                elif previous == "ARTIQ pc_rpc\n":
                    assert_same_greeting(line, data.encode("latin-1"))
                elif is_failure(data):
                    recorded = data if isinstance(data, dict) else data.encode("latin-1")
                    assert_same_failure(step["label"], line, recorded)
                elif not isinstance(data, dict) and "status" not in data:
                    assert_same_methods(line, data.encode("latin-1"))
                else:
                    assert line == data.encode("latin-1"), step["label"]


DESCRIPTION = "conf server \u2603 caf\xe9"


@pytest.mark.parametrize("fragment", FRAGMENTS)
@pytest.mark.parametrize("generation", ["v1", "v2"])
@pytest.mark.parametrize("topic", ["basic", "exceptions-terminate"])
def test_our_server_answers_a_recorded_client(serve, topic, generation, fragment):
    thread = serve({"main": Target()}, description=DESCRIPTION, builtin_terminate=True)
    for steps in sessions(f"rpc-{topic}-{generation}.json"):
        play_client(thread.port, steps, fragment)


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_our_server_offers_targets_to_a_recorded_client(serve, generation):
    one = serve({"main": Target()}, description=DESCRIPTION, builtin_terminate=True)
    beta = Counter()
    several = serve({"alpha": Counter(), "beta": beta, "lam": lambda: Counter(), "percon": Counter})
    for steps in sessions(f"rpc-targets-{generation}.json"):
        port = several.port if steps[0]["label"].startswith("several") else one.port
        play_client(port, steps, 4096)
    assert beta.count == 1


# The same with all options of the server, which such a client does not know.


class Axis:
    def move(self, to): ...


class Full(Target):
    __doc__ = Target.__doc__
    left = False

    def __init__(self):
        self.axis = Axis()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        Full.left = True

    @property
    def power(self):
        raise AssertionError("read")

    def frames(self, count):
        yield from range(count)


ADDED = {"get_power", "axis.move", "frames"}
RECORDED_METHODS = find_methods(Target()).names


async def made_on_the_loop():
    return Full()


def without_added(line: bytes) -> bytes:
    """Return a line of the server without the methods that a recorded one did not have."""
    told = pyon.decode(line)
    version = 2 if line.startswith(b'{"') and b'", "' not in line[:60] else 1
    if isinstance(told, set):
        return line if not ADDED & told else encoded(told - ADDED, version)
    if isinstance(told, dict) and isinstance(told.get("ret"), dict) and "methods" in told["ret"]:
        for name in ADDED:
            del told["ret"]["methods"][name]
        return encoded(told, version)
    return line


def encoded(value: Any, version: int) -> bytes:
    return pyon.encode(value, version=version).encode() + b"\n"


@pytest.mark.parametrize("generation", ["v1", "v2"])
@pytest.mark.parametrize("topic", ["basic", "exceptions-terminate"])
def test_a_server_with_all_of_it_switched_on_answers_a_recorded_client_as_ever(
    monkeypatch, topic, generation
):
    monkeypatch.setattr(_network, "INTERFACES", ["127.0.0.1"])
    monkeypatch.setattr(_network, "LOOPBACK", True)
    started: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    thread = threading.Thread(
        target=simple_server_loop,
        args=({"main": made_on_the_loop}, "127.0.0.1", 0, DESCRIPTION),
        kwargs={
            "properties": True,
            "expose": {"main": RECORDED_METHODS | ADDED},
            "announce": "recorded",
            "ready_cb": lambda server: started.put((server, asyncio.get_running_loop())),
        },
    )
    thread.start()
    server, loop = started.get(timeout=30)
    try:
        for steps in sessions(f"rpc-{topic}-{generation}.json"):
            play_client(server.port, steps, 4096, without_added)
    finally:
        with contextlib.suppress(RuntimeError):  # the recorded client has terminated it
            loop.call_soon_threadsafe(server.terminate)
        thread.join(30)
    assert not thread.is_alive()
    assert Full.left


# Our clients and a recorded server.

ACTIONS: dict[str, Callable[[Any], Any]] = {
    "echo(5)": lambda client: client.echo(5),
    "echo(1)": lambda client: client.echo(1),
    'args(1, 5, 6, 7, c=3, d=9, e="x")': lambda client: client.args(1, 5, 6, 7, c=3, d=9, e="x"),
    "no_doc() returns None": lambda client: client.no_doc(),
    'async_echo("coroutine")': lambda client: client.async_echo("coroutine"),
    "get_rpc_method_list": lambda client: client.get_rpc_method_list(),
    "returns something not encodable": lambda client: client.unserializable(),
    "missing argument": lambda client: client.echo(),
    "terminate()": lambda client: client.terminate(),
    "inc()": lambda client: client.inc(),
    'select "main" later': lambda client: client.select_rpc_target("main"),
    "close": lambda client: client.close_rpc(),
}
TARGETS: dict[str, Any] = {
    "connect, no target": (None,),
    'connect, wrong target "zzz"': ("zzz",),
    'several targets: connect "beta"': ("beta",),
}

SEEN_DIFFERENTLY = {
    # The key itself, not the text of its repr quoted once more.
    "raises key_error": "KeyError: 'missing'",
    "raises key_error_int": "KeyError: 3",
    # An exception that cannot be made from a message, or is no `Exception`, keeps its text.
    "raises unicode_decode": (
        "GenericRemoteException: UnicodeDecodeError: "
        "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    ),
    "raises generator_exit": "GenericRemoteException: GeneratorExit: ge",
    'connect, wrong target "zzz"': (
        "IncompatibleServer: expected the target 'zzz', the server has: main"
    ),
    "several targets: connect, AutoTarget": (
        "ValueError: AutoTarget needs a server with one target, this one has: alpha beta lam percon"
    ),
}


def recorded_server(name: str, fragment: int) -> Callable[[socket.socket, Any], None]:
    """Return a script that expects the recorded bytes of the client and sends the server's."""
    remaining = sessions(name)
    long_reply = json.dumps({"class": "RuntimeError", "message": "x" * 50000, "traceback": ["f"]})

    def script(sock: socket.socket, lines: Any) -> None:
        for step in remaining.pop(0):
            for direction, data in wire(step):
                if direction == "c2s":
                    expected = b"" if data == "<EOF>" else data.encode("latin-1")
                    assert lines.readline() == expected
                elif data == "<EOF>":
                    if step["label"] != "close":
                        return
                elif isinstance(data, dict):
                    reply = f'{{"status": "failed", "exception": {long_reply}}}\n'
                    send_in_fragments(sock, reply.encode(), max(fragment, 4096))
                else:
                    send_in_fragments(sock, data.encode("latin-1"), fragment)

    return script


def perform(client: Any, step: dict[str, Any]) -> None:
    label = step["label"]
    action = ACTIONS.get(label) or (lambda client: client.fail(label.removeprefix("raises ")))
    if not step["raised"]:
        result = action(client)
        if step["client_saw"] not in {None, "None"}:
            assert str(result) in step["client_saw"].replace("\\n", "\n")
        return
    with pytest.raises(Exception) as caught:
        action(client)
    assert_seen(label, caught.value, step["client_saw"])
    assert caught.value.parent_traceback  # type: ignore[attr-defined]


def assert_seen(label: str, error: BaseException, recorded: str) -> None:
    seen = f"{type(error).__name__}: {error}"
    expected = SEEN_DIFFERENTLY.get(label, recorded)
    if label == "raises long_message":  # the recording was cut
        expected = "RuntimeError: " + "x" * 50000
    assert seen == expected


@pytest.mark.parametrize("fragment", FRAGMENTS)
@pytest.mark.parametrize("generation", ["v1", "v2"])
@pytest.mark.parametrize("topic", ["basic", "exceptions-terminate", "targets"])
@pytest.mark.parametrize("reconnect", [False, True], ids=["", "reconnect"])
def test_our_clients_talk_to_a_recorded_server(
    scripted_peer, either_client, topic, generation, fragment, reconnect
):
    name = f"rpc-{topic}-{generation}.json"
    recorded = sessions(name)
    peer = scripted_peer(recorded_server(name, fragment), len(recorded))
    for first, *steps in recorded:
        arguments = TARGETS.get(first["label"], ())
        if first["raised"]:
            with pytest.raises((IncompatibleServer, ValueError)) as caught:
                either_client(peer.port, *arguments, reconnect=reconnect)
            assert_seen(first["label"], caught.value, first["client_saw"])
            continue
        client = either_client(peer.port, *arguments, reconnect=reconnect)
        for step in steps:
            perform(client, step)
        client.close_rpc()


def test_our_clients_talk_to_a_server_of_artiq_4(scripted_peer, either_client):
    peer = scripted_peer(recorded_server("rpc-basic-artiq4.json", 3))
    client = either_client(peer.port)
    assert client.get_rpc_id() == (["main"], DESCRIPTION)
    assert client.echo(5) == 5
    assert client.args(1, 5, 6, 7, c=3, d=9, e="x").startswith("tuple[int:1,int:5")
    assert client.no_doc() is None
    assert client.async_echo("coroutine") == "coroutine"
    with pytest.raises(ConnectionError, match="may have been executed"):
        client.get_rpc_method_list()


def test_a_key_error_of_an_older_server_is_not_quoted_twice(scripted_peer, either_client, greet):
    def script(sock, lines):
        greet(sock, lines)
        for message in (r"\"it's\"", r"'it\\'s'", "<object>"):
            lines.readline()
            pack = f'{{"class":"KeyError","message":"{message}","traceback":[]}}'
            sock.sendall(b'{"status":"failed","exception":%s}\n' % pack.encode())

    client = either_client(scripted_peer(script).port)
    keys = []
    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            client.echo()
        keys.append(caught.value.args[0])
    assert keys == ["it's", "it's", "<object>"]
    assert not isinstance(caught.value, GenericRemoteException)
