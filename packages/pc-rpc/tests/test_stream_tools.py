"""Streams in the method list, in stubs and in the command."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import types
import typing
from collections.abc import AsyncIterator, Generator, Iterable, Iterator

import pytest
from pc_rpc import Client, ConnectionLost
from pc_rpc._cli import main
from pc_rpc._cli_prompt import Prompt
from pc_rpc._exposure import find_methods
from pc_rpc._method_list import method_list
from pc_rpc._stubs import stub_module

LONG = 30.0


class Stage:
    """Moves, and yields its progress."""

    def __init__(self):
        self.closed = threading.Semaphore(0)

    def move(self, steps: int) -> Iterator[float]:
        """Move; give the fraction that is done."""
        try:
            for step in range(steps):
                yield (step + 1) / steps
        finally:
            self.closed.release()

    async def scan(self, n: int = 3) -> AsyncIterator[tuple[int, float]]:
        for number in range(n):
            yield number, 0.5

    def position(self) -> float:
        return 0.0

    def fail(self):
        yield "begun"
        raise ValueError("the stage is stuck")

    def interrupted(self):
        """Give an item, press Ctrl-C, and wait."""
        try:
            yield 1
            while not self.is_waited_for():
                pass
            os.kill(os.getpid(), signal.SIGINT)
            assert self.may_end.wait(LONG)
        finally:
            self.closed.release()

    may_end = threading.Event()


def functions():
    def generator(self):
        yield

    async def asynchronous(self):
        yield

    async def coroutine(self): ...

    @types.coroutine
    def awaited(self):
        yield

    @functools.wraps(generator)
    def wrapper(self):
        return list(generator(self))

    def says(self) -> Iterator[int]: ...

    def says_typing(self) -> typing.AsyncIterator[int]: ...

    def says_bare(self) -> Generator: ...

    def returns_iterable(self) -> Iterable[int]: ...

    def names_alike(self) -> IteratorFactory: ...  # noqa: F821

    async def awaited_iterator(self) -> AsyncIterator[int]: ...

    for function in list(locals().values()):
        function.__annotations__ = {  # as in a module without postponed evaluation
            name: typing.get_type_hints(function).get(name, value)
            if "Factory" not in str(value)
            else value
            for name, value in function.__annotations__.items()
        }
    return {
        "generator": generator,
        "asynchronous": asynchronous,
        "says": says,
        "says_typing": says_typing,
        "says_bare": says_bare,
        "awaited_iterator": awaited_iterator,
        "partial": functools.partial(generator, None),
        "static": staticmethod(generator),
    }, {
        "coroutine": coroutine,
        "awaited": awaited,
        "wrapper": wrapper,
        "returns_iterable": returns_iterable,
        "names_alike": names_alike,
        "builtin": len,
    }


def test_methods_that_return_streams_are_found_without_calling_them():
    streams, others = functions()
    target = type("Target", (), {**streams, **others})()
    assert find_methods(target).streams == set(streams)
    postponed = type("Target", (), {"move": Stage.move, "scan": Stage.scan, "x": Stage.position})
    assert find_methods(postponed()).streams == {"move", "scan"}
    assert find_methods(Stage(), hide=["move"]).streams == {"scan", "fail", "interrupted"}


def test_the_method_list_says_which_methods_are_streams(serve, connect):
    client = connect(serve({"stage": Stage()}).port)
    listed = client.get_rpc_method_list()
    assert listed["streams"] == ["fail", "interrupted", "move", "scan"]
    assert listed["methods"]["move"][1] == "Move; give the fraction that is done."
    assert str(client.move.__signature__) == "(steps: int) -> Iterator[float]"
    assert repr(client.move).startswith("<remote method move(steps: int) -> Iterator[float] of")
    assert repr(client.move(5)) == "<stream of move()>"


class Oddly:
    """Has streams with the names of imports in stubs."""

    def Iterator(self) -> Iterator[int]:
        yield 1

    def plain(self):
        yield 1

    def named(self) -> typing.Generator[tuple[int, float], None, str]:
        yield 1, 2.0


def test_stubs_have_iterators(tmp_path):
    described = {
        name: method_list(
            target, find_methods(target), builtin_terminate=False, version=2, streams=True
        )
        for name, target in {"stage": Stage(), "iterator": Oddly()}.items()
    }
    text = stub_module("s:1", '"s", 1', described)
    assert "    def move(self, steps: int) -> Iterator[float]:" in text
    assert "    def scan(self, n: int = ...) -> Iterator[tuple[int, float]]:" in text
    assert "    def scan(self, n: int = ...) -> AsyncIterator[tuple[int, float]]:" in text
    assert "    def fail(self) -> AsyncIterator[Any]:" in text
    assert "    async def position(self) -> float:" in text
    assert "class TargetIterator(Protocol):" in text
    assert "    def named(self) -> _Iterator[tuple[int, float]]:" in text
    path = tmp_path / "stub.py"
    path.write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_command_prints_items_one_by_one(serve, capsys):
    port = str(serve({"stage": Stage()}).port)
    assert main(["call", "127.0.0.1", port, "move", "4"]) == 0
    assert capsys.readouterr().out == "0.25\n0.5\n0.75\n1.0\n"
    assert main(["call", "127.0.0.1", port, "scan(n=2)", "--json"]) == 0
    assert [line[:15] for line in capsys.readouterr().out.splitlines()] == ['{"__jsonclass__'] * 2
    assert main(["call", "127.0.0.1", port, "fail"]) == 1
    shown = capsys.readouterr()
    assert shown.out == '"begun"\n'
    assert "ValueError: the stage is stuck" in shown.err


def test_ctrl_c_ends_the_command_and_the_generator(serve):
    stage = Stage()
    port = str(serve({"stage": stage}).port)
    command = [sys.executable, "-m", "pc_rpc", "call", "127.0.0.1", port, "move", "1000000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"1e-09\n"
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == b""
    assert process.returncode == 130
    assert stage.closed.acquire(timeout=LONG)


def test_the_prompt_shows_items_as_they_arrive(serve, connect):
    port = serve({"stage": Stage()}).port
    said = []
    prompt = Prompt(lambda target: connect(port), connect(port), str, bool, LONG, said.append)
    assert prompt.run("move 2") == ""
    assert said == ["0.5", "1.0"]
    prompt.client._target.close()
    assert prompt.run("move 1") == ""
    assert said == ["0.5", "1.0", "1.0"]


def test_ctrl_c_while_an_item_is_waited_for_ends_the_generator(serve, connect):
    stage = Stage()
    stage.may_end = threading.Event()
    taken = []
    stage.is_waited_for = lambda: taken and stream._used
    client = connect(serve({"stage": stage}, worker_threads=True).port)
    stream = client.interrupted()
    taken.append(next(stream))
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    stage.may_end.set()
    assert stage.closed.acquire(timeout=LONG)
    assert client.position() == 0.0
    assert next(stream, "the end") == "the end"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_no_streams_and_leaves_those_of_its_parent(serve):
    stage = Stage()
    port = serve({"stage": stage}).port
    program = f"""
import os
from pc_rpc import Client, ConnectionLost
with Client("127.0.0.1", {port}) as client:
    stream = client.move(5000)
    first = next(stream)
    child = os.fork()
    if not child:
        status = 1
        try:
            list(stream)
        except ConnectionLost as error:
            status = 0 if "made in another process" in str(error) else 2
        del stream
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert [first, *stream] == [(step + 1) / 5000 for step in range(5000)]
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_may_end_in_the_middle_of_a_stream(serve):
    stage = Stage()
    program = f"""
from pc_rpc import Client
client = Client("127.0.0.1", {serve({"stage": stage}).port})
stream = client.move(10**9)
next(stream)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert stage.closed.acquire(timeout=LONG)


def test_a_signal_handler_may_read_another_stream(serve):
    port = serve({"stage": Stage()}).port
    program = f"""
import signal
from pc_rpc import Client
with Client("127.0.0.1", {port}) as client:
    counts = []
    def handler(*_):
        counts.append(len(list(client.move(50))))
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    total = 0
    while len(counts) < 20:
        total += len(list(client.move(2000)))
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert total % 2000 == 0
    assert set(counts) == {{50}}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    ours = done.returncode == 0 or "by a signal handler or finaliser in the middle" in done.stderr
    assert ours, done.stderr


def test_a_lost_connection_ends_a_stream_after_the_items_that_arrived(serve):
    thread = serve({"stage": Stage()})
    with Client("127.0.0.1", thread.port, timeout=LONG) as client:
        stream = client.move(10**6)
        got = [next(stream)]
        thread.do(lambda: [s.abort() for s in list(thread.server._shared.sessions)])
        with pytest.raises(ConnectionLost, match=r"the stream of move\(\) may have been executed"):
            got.extend(stream)
    assert got == [(step + 1) / 10**6 for step in range(len(got))]


class Parted:
    """Has a stream of a part."""

    def __init__(self):
        self.axis = Stage()

    def position(self) -> int:
        return 1


def test_a_method_of_a_part_may_be_a_stream(serve, connect):
    driver = Parted()
    port = serve({"driver": driver}, expose={"driver": ["axis.move", "position"]}).port
    client = connect(port)
    assert list(client.axis.move(4)) == [0.25, 0.5, 0.75, 1.0]
    described = client.get_rpc_method_list()
    assert described["streams"] == ["axis.move"]
    stub = stub_module("s:1", '"s", 1', {"driver": described})
    assert "        def move(self, steps: int) -> Iterator[float]:" in stub
