"""A call that interrupts another one on its own thread: signal handlers, finalisers, tracers."""

from __future__ import annotations

import asyncio
import contextlib
import dis
import gc
import itertools
import signal
import socket
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from pc_rpc import Client, ConnectionLost, RpcError

pytestmark = pytest.mark.usefixtures("either_road")

CHECKED_BEHIND = ("CALL", "PRECALL", "RESUME", "JUMP_BACKWARD")
"""What instructions begin with that the interpreter looks behind whether there is a signal."""

posix = pytest.mark.skipif(sys.platform == "win32", reason="a signal for one thread needs POSIX")


def disturbed(step, action, disturb):
    """Run an action, and another one at the given one of all moments at which a signal can come.

    Only moments within the package count. Return whether there was such a moment, and the result.
    """
    left, behind = step, {}

    def trace(frame, event, arg):
        nonlocal left
        if frame.f_globals.get("__package__") not in {"pc_rpc", "pyon"}:
            return None
        if frame.f_code.co_name == "__del__":  # of another client: exceptions in it are lost
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= behind.get(frame, False)
            if left == 0:
                left = -1
                disturb()
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            behind[frame] = name.startswith(CHECKED_BEHIND)
        return trace

    previous = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # before, or Python 3.12 leaves them out at first
    gc.disable()  # it would free clients of other tests in here, where exceptions are lost
    sys.settrace(trace)
    try:
        result = action()
    finally:
        sys.settrace(previous)
        gc.enable()
    return left < 0, result


def outcome(method, *args):
    """Return what a method returns, or the error that says that the connection is lost."""
    try:
        return method(*args)
    except ConnectionLost as error:
        return error


class Instrument:
    def __init__(self):
        self.on = asyncio.Event()
        self.measuring = threading.Event()

    def echo(self, x):
        return x

    async def measure(self):
        self.measuring.set()
        await self.on.wait()
        return "measured"

    async def off(self):
        self.on.set()
        return "off"

    async def interrupted(self, number):
        signal.pthread_kill(threading.main_thread().ident, number)
        await self.on.wait()
        return "measured"


@pytest.fixture(params=["ours", "in order", "TLS"])
def client(request, serve, scripted_peer, connect, greet, contexts):
    def in_order(sock, lines):
        greet(sock, lines)
        while request := lines.readline():
            number = request.rpartition(b"[[")[2].partition(b"]]")[0]
            sock.sendall(b'{"status":"ok","ret":%s}\n' % number)

    if request.param == "ours":
        yield connect(serve({"main": Instrument()}).port)
    elif request.param == "TLS":
        port = serve({"main": Instrument()}, ssl=contexts("server", "client", server=True)).port
        yield connect(port, ssl=contexts())
    else:
        client = connect(scripted_peer(in_order).port)
        yield client
        client.close_rpc()


def test_a_call_and_one_that_interrupts_it_at_any_moment_get_their_own_replies(client):
    refused = 0
    for step in itertools.count(1):
        inner = []

        def call(step=step, inner=inner):
            with contextlib.suppress(RpcError):
                inner.append(client.echo(-step))

        came, result = disturbed(step, lambda step=step: client.echo(step), call)
        assert result == step
        assert inner in ([-step], [])
        refused += came and not inner
        if not came:
            break
    assert step > 30
    assert 0 < refused < step / 2  # only in the middle of a message


def test_a_refused_call_says_why_and_that_it_was_not_sent(client):
    refusals = []
    for step in itertools.count(1):

        def call():
            try:
                client.echo(0)
            except RpcError as error:
                refusals.append(error)

        if not disturbed(step, lambda: client.echo(0), call)[0]:
            break
    assert {type(error) for error in refusals} == {RpcError}
    assert "signal handler or finaliser in the middle of a message" in str(refusals[0])


@pytest.mark.parametrize("disturb", ["ping_rpc", "close_rpc"])
def test_a_ping_or_close_at_any_moment_leaves_no_call_waiting(serve, disturb):
    port = serve({"main": Instrument()}).port
    for step in itertools.count(1, 3):
        with Client("127.0.0.1", port, timeout=30) as client:

            def act(client=client):
                with contextlib.suppress(RpcError):
                    getattr(client, disturb)()

            came, heard = disturbed(step, lambda client=client: outcome(client.echo, 1), act)
            assert heard == 1 or (disturb == "close_rpc" and "closed by close_rpc()" in str(heard))
            assert came or step > 50
            if not came:
                break


class Late(Exception):
    """Raised by a time-out that is an exception, as that of a test runner."""


def test_a_handler_that_raises_leaves_a_client_that_works_or_says_that_it_is_lost(serve):
    port = serve({"main": Instrument()}).port
    lost = 0

    def fail():
        raise Late

    client = Client("127.0.0.1", port, timeout=30)
    for step in itertools.count(1):
        came = True
        with contextlib.suppress(Late):
            came, _ = disturbed(step, lambda client=client: client.echo(1), fail)
        heard = outcome(client.echo, step)
        if heard != step:
            assert not heard.sent
            assert "interrupted by Late in the middle of a message" in str(heard)
            client.close_rpc()
            client, lost = Client("127.0.0.1", port, timeout=30), lost + 1
        if not came:
            break
    client.close_rpc()
    assert lost < step / 2
    assert lost == 0 or not client._target.lean


@contextlib.contextmanager
def handling(number, handler):
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


def signal_in_the_wait(client, number):
    """Have a signal come when the main thread begins to wait for the next reply."""
    sock = client._target._socket
    wait = sock.wait_readable

    def interrupted(timeout):
        if timeout:
            sock.wait_readable = wait
            signal.raise_signal(number)
        return wait(timeout)

    sock.wait_readable = interrupted


if sys.platform != "win32":
    SIGNALS = [signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
else:
    SIGNALS = []


@posix
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_handler_calls_the_client_that_the_main_thread_waits_in(serve, connect, number):
    client = connect(serve({"main": Instrument()}, allow_parallel=True).port)
    heard = []
    signal_in_the_wait(client, number)
    with handling(number, lambda *_: heard.append(client.off())):
        assert client.measure() == "measured"
    assert heard == ["off"]
    assert client.echo(1) == 1


@posix
def test_a_signal_handler_calls_another_client_than_the_one_that_waits(serve, connect):
    port = serve({"main": Instrument()}, allow_parallel=True).port
    first, second = connect(port), connect(port)
    signal_in_the_wait(first, signal.SIGUSR1)
    with handling(signal.SIGUSR1, lambda *_: second.off()):
        assert first.measure() == "measured"
    assert (first.echo(1), second.echo(2)) == (1, 2)


@posix
def test_a_signal_handler_closes_the_client_that_the_main_thread_waits_in(serve, connect):
    client = connect(serve({"main": Instrument()}).port)
    with (
        handling(signal.SIGUSR1, lambda *_: client.close_rpc()),
        pytest.raises(ConnectionLost, match="closed by close_rpc"),
    ):
        client.interrupted(int(signal.SIGUSR1))


@posix
def test_a_handler_in_the_middle_of_a_large_message_is_refused_at_once(
    scripted_peer, connect, greet
):
    handled = threading.Event()
    refusals = []

    def script(sock, lines):
        greet(sock, lines)
        sock.recv(1, socket.MSG_PEEK)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        assert handled.wait(30)
        sock.sendall(b'{"status":"ok","ret":%d}\n' % len(lines.readline()))

    def handle(*_):
        with pytest.raises(RpcError, match="in the middle of a message") as caught:
            client.echo("inner")
        refusals.append(caught.value)
        handled.set()

    client = connect(scripted_peer(script).port)
    with handling(signal.SIGUSR1, handle):
        assert client.echo("x" * 30_000_000) > 30_000_000
    assert type(refusals[0]) is RpcError


@posix
def test_a_handler_that_takes_long_does_not_stop_the_other_threads_of_the_client(serve, connect):
    client = connect(serve({"main": Instrument()}, allow_parallel=True).port)
    done = []
    with ThreadPoolExecutor(4) as pool:

        def handle(*_):  # the main thread leads, and is held up here
            done.extend(future.result(30) for future in [pool.submit(client.echo, n) for n in "ab"])
            client.off()

        signal_in_the_wait(client, signal.SIGUSR1)
        with handling(signal.SIGUSR1, handle):
            assert client.measure() == "measured"
    assert done == ["a", "b"]


def test_a_finaliser_that_the_garbage_collector_runs_in_the_middle_of_a_call(serve, connect):
    client = connect(serve({"main": Instrument()}).port)
    outcomes = []

    class Shutter:
        def __init__(self):
            self.itself = self

        def __del__(self):
            if threading.current_thread() is not threading.main_thread():
                return  # collected by the thread of the server, which cannot answer itself
            try:
                outcomes.append(client.echo("closed"))
            except RpcError as error:
                outcomes.append(error)

    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(200):
            Shutter()
            assert client.echo(number) == number
    finally:
        gc.set_threshold(*thresholds)
    assert "closed" in outcomes
    assert all(outcome == "closed" or type(outcome) is RpcError for outcome in outcomes)


def test_a_callback_of_a_weak_reference_in_the_arguments_closes_the_client(serve, connect):
    client = connect(serve({"main": Instrument()}).port)

    class Sample(dict):
        def __init__(self):
            super().__init__()
            self.itself = self

    references = [weakref.ref(Sample(), lambda _: client.close_rpc())]
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        heard = [outcome(client.echo, number) for number in range(100)]
    finally:
        gc.set_threshold(*thresholds)
    assert "closed by close_rpc" in str(heard[-1])
    assert references[0]() is None


@posix
async def test_a_signal_handler_of_the_loop_calls_the_client_that_tasks_wait_in(
    serve, asyncio_client
):
    port = serve({"main": Instrument()}, allow_parallel=True).port
    async with asyncio_client(port) as client:
        calls = []
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(
            signal.SIGUSR1, lambda: calls.append(asyncio.ensure_future(client.off()))
        )
        try:
            assert await client.interrupted(int(signal.SIGUSR1)) == "measured"
            assert await calls[0] == "off"
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)


@posix
@pytest.mark.parametrize("step", range(1, 120, 7))
async def test_a_plain_signal_handler_may_close_an_asyncio_client_at_any_moment(serve, step):
    from pc_rpc import AsyncioClient

    client = AsyncioClient()
    await client.connect_rpc("127.0.0.1", serve({"main": Instrument()}).port, timeout=30)
    left = step

    def trace(frame, event, arg):
        nonlocal left
        if frame.f_globals.get("__package__") not in {"pc_rpc", "pyon"}:
            return None
        left -= 1
        if left == 0:
            client.close_rpc()
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(ConnectionLost, match=r"closed by close_rpc\(\)"):
            await asyncio.gather(*(client.echo(number) for number in range(20)))
    finally:
        sys.settrace(previous)
        await client.close_rpc()
    assert left <= 0
