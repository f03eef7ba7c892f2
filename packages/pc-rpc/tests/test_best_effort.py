"""BestEffortClient, with servers that come and go."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pc_rpc import AutoTarget, BestEffortClient, IncompatibleServer
from pc_rpc._best_effort import _Reconnecting

pytestmark = pytest.mark.usefixtures("either_road")


class Driver:
    def echo(self, x):
        return x

    def fail(self):
        raise ConnectionResetError("the instrument's, not ours")

    def get_rpc_id(self):
        return "the remote one"


class States:
    """Records what a client says about its state, and waits for it."""

    def __init__(self):
        self._changed = threading.Condition()
        self.seen = []

    def __call__(self, connected):
        with self._changed:
            self.seen.append(connected)
            self._changed.notify_all()

    def wait_for(self, number):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= number, 30)


@pytest.fixture
def best_effort():
    clients = []

    def make(port, target="main", **options):
        options.setdefault("retry", 0.02)
        clients.append(BestEffortClient("127.0.0.1", port, target, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close_rpc()


def test_while_connected_it_is_like_a_client(serve, best_effort):
    thread = serve({"main": Driver()})
    client = best_effort(thread.port)
    assert client.connected
    assert client.last_error is None
    assert client.echo(5) == 5
    assert client.get_rpc_id() == (["main"], None)
    assert client.get_selected_target() == "main"
    assert client.get_local_host() == "127.0.0.1"
    assert "echo" in client.get_rpc_method_list()["methods"]
    assert client.__rpc__.get_rpc_id() == "the remote one"
    assert client.with_rpc_timeout(30).echo(6) == 6
    assert "echo" in dir(client)
    assert (
        repr(client) == f"<pc_rpc.BestEffortClient of 'main' at 127.0.0.1:{thread.port}, connected>"
    )


def test_errors_of_the_program_are_raised(serve, best_effort):
    client = best_effort(serve({"main": Driver()}).port)
    with pytest.raises(TypeError):
        client.echo(object())
    with pytest.raises(TypeError, match="positional argument"):
        client.echo()
    with pytest.raises(AttributeError, match="did you mean 'echo'"):
        client.ecko()
    with pytest.raises(ConnectionResetError, match="the instrument's"):
        client.fail()
    assert client.connected
    assert client.echo(5) == 5


def test_a_server_that_is_down_at_the_start_gives_none_and_one_warning(
    best_effort, serve, caplog, free_port
):
    states = States()
    client = best_effort(free_port, state_cb=states)
    for _ in range(10):
        assert client.whatever_it_is_called(1, x=2) is None
    assert client.get_rpc_id() is None
    assert client.get_selected_target() is None
    assert client.get_local_host() is None
    assert client.get_rpc_method_list() is None
    assert isinstance(client.last_error, ConnectionRefusedError)
    with pytest.raises(AttributeError):
        client._private
    serve({"main": Driver()}, port=free_port)
    states.wait_for(1)
    assert client.echo(5) == 5
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len([r for r in warnings if r.name.startswith("pc_rpc")]) == 1


def test_a_server_that_dies_and_returns(serve, best_effort, caplog):
    states = States()
    thread = serve({"main": Driver()})
    client = best_effort(thread.port, state_cb=states)
    assert client.echo(1) == 1
    thread.stop()
    assert [client.echo(2) for _ in range(5)] == [None] * 5
    assert not client.connected
    serve({"main": Driver()}, port=thread.port)
    states.wait_for(3)
    assert client.echo(3) == 3
    assert states.seen == [True, False, True]
    assert client.get_rpc_connection_count() == 2
    assert len([r for r in caplog.records if r.name.startswith("pc_rpc")]) == 1


def test_a_server_that_hangs_counts_as_lost(scripted_peer, best_effort, greet):
    states = States()

    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        lines.readline()  # ends when the client has given up

    client = best_effort(scripted_peer(script).port, timeout=0.1, state_cb=states, retry=1000)
    assert client.echo(1) is None
    assert states.seen == [True, False]
    assert isinstance(client.last_error, TimeoutError)


def test_the_time_out_of_connecting_does_not_apply_to_calls(scripted_peer, best_effort, greet):
    asked, answer = threading.Event(), threading.Event()

    def script(sock, lines):
        greet(sock, lines)
        lines.readline()
        asked.set()
        assert answer.wait(30)
        sock.sendall(b'{"status":"ok","ret":{"docstring":null,"methods":{}}}\n')
        lines.readline()

    client = best_effort(scripted_peer(script).port, firstcon_timeout=30)
    with ThreadPoolExecutor() as pool:
        methods = pool.submit(client.get_rpc_method_list)
        assert asked.wait(30)
        assert client._target.connection.timeout is None
        answer.set()
        assert methods.result(30) == {"docstring": None, "methods": {}}


def test_closing_is_instant_even_while_it_waits_for_a_server(best_effort, free_port):
    client = best_effort(free_port, retry=1000)
    thread = client._target.thread
    client.close_rpc()
    client.close_rpc()
    thread.join(30)
    assert not thread.is_alive()
    assert client.echo(1) is None


def test_a_callback_that_fails_is_logged_and_does_no_harm(serve, best_effort, caplog):
    def fail(connected):
        raise RuntimeError("callback")

    client = best_effort(serve({"main": Driver()}).port, state_cb=fail)
    assert client.echo(5) == 5
    assert "the callback for the state of a client failed" in caplog.text


def test_the_wrong_target_is_an_error_at_once(serve, best_effort):
    port = serve({"main": Driver(), "other": Driver()}).port
    with pytest.raises(IncompatibleServer, match=r"expected the target 'zzz'.* has: main other"):
        best_effort(port, "zzz")
    with pytest.raises(ValueError, match="AutoTarget needs a server with one target"):
        best_effort(port, AutoTarget)


def test_a_target_that_is_missing_after_a_restart_is_an_error_in_the_log(
    serve, best_effort, caplog, monkeypatch
):
    refused = threading.Event()
    note_error = _Reconnecting._note_error

    def noting(core, error):
        note_error(core, error)
        if isinstance(error, IncompatibleServer):
            refused.set()

    monkeypatch.setattr(_Reconnecting, "_note_error", noting)
    thread = serve({"main": Driver()})
    client = best_effort(thread.port)
    thread.stop()
    assert client.echo(1) is None
    serve({"renamed": Driver()}, port=thread.port)
    assert refused.wait(30)
    thread = client._target.thread
    client.close_rpc()
    thread.join(30)
    assert client.echo(1) is None
    assert "has: renamed" in str(client.last_error)
    ours = [r for r in caplog.records if r.module == "_best_effort"]
    assert [r.levelno for r in ours] == [logging.WARNING, logging.ERROR]
