"""A controller as a process: signals, exit statuses, and no traces left behind."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from pc_rpc import Client, GenericRemoteException, Server, simple_server_loop

CONTROLLER = """
import signal
import sys
from pc_rpc import simple_server_loop

if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored

class Driver:
    def echo(self, x):
        return x
    def leave(self):
        raise SystemExit(3)

simple_server_loop({"main": Driver()}, "127.0.0.1", 0, "a test",
                   ready_cb=lambda server: print(server.port, flush=True))
print("ended in order", flush=True)
"""


@pytest.fixture
def controller():
    """Start a controller in a process; return the process and its port."""
    processes = []

    def start(**options):
        process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLER], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, **options,
        )  # fmt: skip
        processes.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def ended(process):
    """Wait for the process; return its status and stderr."""
    out, err = process.communicate(timeout=30)
    assert out == "ended in order\n"
    return process.returncode, err


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_controller_in_order(controller, name):
    process, port = controller()
    with Client("127.0.0.1", port, timeout=30) as client:
        assert client.echo(5) == 5
        process.send_signal(getattr(signal, name))
        assert ended(process) == (0, "")


@pytest.mark.parametrize("method", ["terminate", "leave"])
def test_a_client_ends_a_controller_in_order(controller, method):
    process, port = controller()
    with Client("127.0.0.1", port, timeout=30) as client:
        assert client.get_rpc_id() == (["main"], "a test")
        if method == "leave":
            with pytest.raises(GenericRemoteException, match="SystemExit: 3"):
                client.leave()
        else:
            client.terminate()
    assert ended(process) == (0, "")


def test_a_controller_without_stdin_lives(controller):
    process, port = controller(stdin=subprocess.DEVNULL)
    with Client("127.0.0.1", port, timeout=30) as client:
        assert client.echo(5) == 5
        client.terminate()
    assert ended(process) == (0, "")


def test_a_controller_whose_port_is_in_use_fails_with_a_message_that_has_its_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        message = rf"on 127.0.0.1 port {port}: .*(address already in use|Only one usage)"
        with pytest.raises(OSError, match=message) as caught:
            simple_server_loop({"main": object()}, "127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE


def test_a_name_that_cannot_be_looked_up_is_in_the_message():
    with pytest.raises(OSError, match=r"cannot listen on ::1, no.such.host.invalid port 0: "):
        simple_server_loop({"main": object()}, ["::1", "no.such.host.invalid"], 0)


async def test_a_controller_says_that_it_cannot_run_where_a_loop_is_running():
    with pytest.raises(RuntimeError, match=r"an event loop is running in this thread.*Server"):
        simple_server_loop({"main": object()}, "127.0.0.1", 0)


def test_what_the_ready_callback_raises_stops_the_server_and_is_raised():
    ports = []

    def fail(server):
        ports.append(server.port)
        raise LookupError("no lamp to light")

    with pytest.raises(LookupError, match="no lamp to light"):
        simple_server_loop({"main": object()}, "127.0.0.1", 0, ready_cb=fail)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]))


def test_a_controller_logs_where_it_serves_what_and_why_it_ended(caplog):
    class Lamp:
        """A target that is made for each connection."""

    caplog.set_level(logging.INFO, "pc_rpc")
    addresses = []

    def end(server):
        addresses.extend(server.addresses)
        server.terminate()

    simple_server_loop({"main": object(), "lamp": Lamp}, ["127.0.0.1"], 0, ready_cb=end)
    ((host, port),) = addresses
    assert [(r.levelname, r.name, r.getMessage()) for r in caplog.records] == [
        ("INFO", "pc_rpc", f"serving main, lamp on {host} port {port}"),
        ("INFO", "pc_rpc", "stopped serving main, lamp: terminate() was called"),
    ]


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_a_signal_that_comes_before_the_server_has_started_ends_it(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "pc_rpc")

    async def look_up(*_, **__):
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()

    monkeypatch.setattr("pc_rpc._server.Server.start", look_up)
    simple_server_loop({"main": object()}, "slow.name.server", 0)
    assert [r.getMessage() for r in caplog.records] == ["stopped serving main: SIGTERM"]


class SimpleSSLConfig:
    """A double of that of the established stack."""


@pytest.mark.parametrize(
    ("arguments", "options"),
    [([], {"ssl_config": SimpleSSLConfig()}), ([], {"ssl_config": None}),
     ([], {"ssl": SimpleSSLConfig()}), ([None, SimpleSSLConfig()], {}), ([], {"ssl": True})],
)  # fmt: skip
def test_a_program_that_passes_ssl_config_is_told_what_to_write(arguments, options):
    message = r"simple_server_loop\(\) takes .* write ssl=pyon\.tcp\.server_context\("
    with pytest.raises(TypeError, match=message):
        simple_server_loop({"main": object()}, "127.0.0.1", 0, *arguments, **options)


async def test_a_server_that_is_started_with_ssl_config_says_what_to_write():
    server = Server({"main": object()})
    for arguments, options in (((SimpleSSLConfig(),), {}), ((), {"ssl_config": None})):
        with pytest.raises(
            TypeError, match=r"Server\.start\(\) takes .* ssl=pyon\.tcp\.server_con"
        ):
            await server.start("127.0.0.1", 0, *arguments, **options)
    await server.stop()


def test_the_loop_leaves_signal_handlers_as_they_were():
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    seen = []

    def end_at_once(server):
        seen.append(signal.getsignal(signal.SIGTERM))
        server.terminate()

    simple_server_loop({"main": object()}, "127.0.0.1", 0, ready_cb=end_at_once)
    assert seen[0] != handlers[signal.SIGTERM]
    assert {s: signal.getsignal(s) for s in handlers} == handlers


def test_the_loop_runs_in_a_thread_where_no_signal_can_be_handled():
    thread = threading.Thread(
        target=simple_server_loop,
        args=({"main": object()}, "127.0.0.1", 0),
        kwargs={"ready_cb": lambda server: server.terminate()},
    )
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_the_loop_runs_where_there_are_none_of_these_signals(monkeypatch):
    monkeypatch.setattr("pc_rpc._signals.SIGNALS", ("SIGNONE",))
    before = signal.getsignal(signal.SIGINT)
    simple_server_loop({"main": object()}, "127.0.0.1", 0, ready_cb=lambda s: s.terminate())
    assert signal.getsignal(signal.SIGINT) is before


async def test_a_blocking_client_works_where_a_loop_is_running(serve, connect):
    class Driver:
        def echo(self, x):
            return x

    loop = asyncio.get_running_loop()  # as in a notebook
    client = connect(serve({"main": Driver()}).port)
    assert client.echo(5) == 5
    assert asyncio.get_running_loop() is loop


def test_an_asyncio_client_works_after_another_loop_was_closed(serve, asyncio_client):
    class Driver:
        def echo(self, x):
            return x

    port = serve({"main": Driver()}).port

    async def call():
        async with asyncio_client(port) as client:
            return await client.echo(5)

    for _ in range(2):
        loop = asyncio.new_event_loop()
        try:
            assert loop.run_until_complete(call()) == 5
        finally:
            loop.close()


async def test_peers_that_are_gone_without_a_goodbye_are_noticed(serve, connect, asyncio_client):
    class Driver:
        def echo(self, x):
            return x

    thread = serve({"main": Driver()})
    client = connect(thread.port)
    async with asyncio_client(thread.port) as other:
        sockets = [
            client._target._socket._sock,
            other._target.connection.transport.get_extra_info("socket"),
            *thread.do(
                lambda: [c.transport.get_extra_info("socket") for c in thread.server._connections]
            ),
        ]
        assert len(sockets) == 4
        for sock in sockets:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
