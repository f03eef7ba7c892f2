"""Ctrl-C at any moment: the client stays usable, and its replies are right."""

from __future__ import annotations

import dis
import gc
import itertools
import signal
import socket
import sys
import threading

import pytest

pytestmark = pytest.mark.usefixtures("either_road")

CHECKED_BEHIND = ("CALL", "PRECALL", "RESUME", "JUMP_BACKWARD")
"""What instructions begin with that the interpreter looks behind whether there is a signal."""


def interrupted(step, action):
    """Run an action, with Ctrl-C at the given one of all moments at which the package allows it.

    Return whether there was such a moment.
    """
    left, behind = step, {}

    def trace(frame, event, arg):
        nonlocal left
        if frame.f_globals.get("__package__") not in {"pc_rpc", "pyon"}:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= behind.get(frame, False)
            if left == 0:
                left = -1
                signal.raise_signal(signal.SIGINT)
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            behind[frame] = name.startswith(CHECKED_BEHIND)
        return trace

    previous = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # before, or Python 3.12 leaves them out at first
    gc.disable()  # it would free clients of other tests in here, where exceptions are lost
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        assert left < 0
        return True
    finally:
        sys.settrace(previous)
        gc.enable()
    assert left > 0, "Ctrl-C was lost"
    return False


class Driver:
    def echo(self, x):
        return x


def in_order(greet):
    """Script of an established server: every request is answered, in order."""

    def script(sock, lines):
        greet(sock, lines)
        while request := lines.readline():
            number = request.rpartition(b"[[")[2].partition(b"]]")[0]
            sock.sendall(b'{"status":"ok","ret":%s}\n' % number)

    return script


@pytest.fixture(params=["ours", "in order", "TLS"])
def client(request, serve, scripted_peer, connect, greet, contexts):
    if request.param == "ours":
        yield connect(serve({"main": Driver()}).port)
    elif request.param == "TLS":
        port = serve({"main": Driver()}, ssl=contexts("server", "client", server=True)).port
        yield connect(port, ssl=contexts())
    else:
        client = connect(scripted_peer(in_order(greet)).port)
        yield client
        client.close_rpc()


def test_the_call_after_an_interrupt_at_any_moment_gets_its_own_reply(client):
    handler = signal.getsignal(signal.SIGINT)
    for step in itertools.count(1):
        came = interrupted(step, lambda step=step: client.echo(-step))
        assert signal.getsignal(signal.SIGINT) is handler
        assert client.echo(step) == step
        if not came:
            break
    assert step > 30


posix = pytest.mark.skipif(sys.platform == "win32", reason="a signal for one thread needs POSIX")


@posix
def test_a_call_that_is_interrupted_while_it_is_sent_leaves_the_stream_whole(
    scripted_peer, connect, greet
):
    interrupted = threading.Event()
    sizes = []

    def script(sock, lines):
        greet(sock, lines)
        sock.recv(1, socket.MSG_PEEK)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert interrupted.wait(30)
        for _ in range(2):
            sizes.append(len(lines.readline()))
            sock.sendall(b'{"status":"ok","ret":%d}\n' % sizes[-1])

    client = connect(scripted_peer(script).port)
    with pytest.raises(KeyboardInterrupt):
        client.echo("x" * 30_000_000)
    interrupted.set()
    assert client.echo("yy") == sizes[1]
    assert sizes[0] > 30_000_000


@posix
def test_a_handler_of_the_programs_own_is_called_once_and_may_close_the_client(
    scripted_peer, connect, greet
):
    calls = []

    def handle(number, frame):
        calls.append(number)
        client.close_rpc()

    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert lines.readline() == b""

    client = connect(scripted_peer(script).port)
    previous = signal.signal(signal.SIGINT, handle)
    try:
        with pytest.raises(ConnectionError, match="closed by close_rpc"):
            client.echo(1)
        assert signal.getsignal(signal.SIGINT) is handle
    finally:
        signal.signal(signal.SIGINT, previous)
    assert calls == [signal.SIGINT]
