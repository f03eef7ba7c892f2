"""Clients that connect again: lost calls raise, no request is sent twice, the next call works."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from pc_rpc import (
    AsyncioClient,
    Client,
    ConnectionLost,
    IncompatibleServer,
    LeaseLost,
    current_peer,
)
from pc_rpc._attempts import Attempts
from pc_rpc._lasting import LastingConnection
from pc_rpc._methods import RemoteMethods

LONG = 30.0

pytestmark = pytest.mark.usefixtures("either_road")


class Driver:
    def __init__(self):
        self.calls = []
        self.holding = threading.Event()

    def echo(self, x):
        self.calls.append(x)
        return x

    def who(self):
        return str(current_peer())

    def fail(self):
        raise AttributeError("of the instrument")

    async def hold(self):
        self.holding.set()
        await asyncio.Event().wait()


class Counting(Driver):
    def count(self, stop):
        yield from range(stop)


class Moving(Driver):
    def move(self):
        return "moved"


class Turning(Driver):
    def turn(self):
        return "turned"


class States:
    """Records what a client says about its state, and waits for it."""

    def __init__(self):
        self._changed = threading.Condition()
        self.seen = []

    def __call__(self, state):
        with self._changed:
            self.seen.append(state)
            self._changed.notify_all()

    def wait_for(self, *seen):
        with self._changed:
            self._changed.wait_for(lambda: self.seen == [*seen], LONG)
            assert self.seen == [*seen]


class InLoop:
    """An `AsyncioClient` whose loop runs in a thread, called like a blocking client."""

    def __init__(self, client, loop):
        self._client, self._loop = client, loop

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if isinstance(found, RemoteMethods):
            return InLoop(found, self._loop)
        return partial(self._call, found) if callable(found) else found

    def _call(self, function, *args, **kwargs):
        async def run():
            result = function(*args, **kwargs)
            return await result if hasattr(type(result), "__await__") else result

        result = asyncio.run_coroutine_threadsafe(run(), self._loop).result(LONG)
        return InLoop(result, self._loop) if isinstance(result, RemoteMethods) else result

    def __repr__(self):
        return repr(self._client)

    def __dir__(self):
        return dir(self._client)


@pytest.fixture(params=["Client", "AsyncioClient"])
def lasting(request):
    """Make clients of both kinds that connect again; called like blocking ones."""
    with contextlib.ExitStack() as stack:
        if request.param == "AsyncioClient":
            loop = asyncio.new_event_loop()
            stack.callback(loop.close)
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(loop.call_soon_threadsafe, loop.stop)

        def make(port, target="main", **options):
            options.setdefault("timeout", LONG)
            if request.param == "Client":
                client = Client("127.0.0.1", port, target, reconnect=True, **options)
            else:
                client = InLoop(AsyncioClient(), loop)
                client.connect_rpc("127.0.0.1", port, target, reconnect=True, **options)
            stack.callback(client.close_rpc)
            return client

        yield make


@pytest.fixture(autouse=True)
def watchful(monkeypatch):
    """Have blocking clients check the connection before each call, also right after a reply."""
    monkeypatch.setattr("pc_rpc._lean_call.FRESH", -1)


@pytest.fixture
def when_failed(monkeypatch):
    """Run each action once, after the next failed attempt: ``when_failed(action)``."""
    actions = []
    failed = Attempts.failed

    def then_do(attempts, now, error):
        failed(attempts, now, error)
        if actions:
            actions.pop(0)()

    monkeypatch.setattr(Attempts, "failed", then_do)
    return actions.append


def test_the_next_call_connects_again(serve, lasting):
    states, drivers = States(), [Driver(), Driver()]
    thread = serve({"main": drivers[0]})
    client = lasting(thread.port, state_cb=states)
    assert client.echo(1) == 1
    thread.stop()
    serve({"main": drivers[1]}, port=thread.port)
    if "Asyncio" in repr(client):
        states.wait_for("connected", "lost")
    assert client.echo(2) == 2
    states.wait_for("connected", "lost", "connected")
    client.close_rpc()
    client.close_rpc()
    states.wait_for("connected", "lost", "connected", "closed")
    assert [driver.calls for driver in drivers] == [[1], [2]]
    assert client.get_rpc_connection_count() == 2


def test_a_call_in_flight_at_a_loss_raises_and_is_not_made_again(scripted_peer, lasting, greet):
    requests = []

    def script(sock, lines):
        greet(sock, lines)
        requests.append(lines.readline())
        if len(requests) == 2:
            sock.sendall(b'{"status":"ok","ret":2}\n')
            assert lines.readline() == b""

    client = lasting(scripted_peer(script, connections=2).port)
    with pytest.raises(ConnectionLost, match="may have been executed; the next call connects") as e:
        client.echo("first")
    assert e.value.sent
    assert client.echo("second") == 2
    client.close_rpc()
    assert [b"first" in line for line in requests] == [True, False]


def test_a_call_that_a_server_did_not_begin_when_it_stopped_is_not_made_again(serve, lasting):
    drivers = [Driver(), Driver()]
    thread = serve({"main": drivers[0]})
    client = lasting(thread.port)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(client.hold)
        assert drivers[0].holding.wait(LONG)
        waiting = pool.submit(client.echo, "waiting")
        client.ping_rpc()  # what was sent before is there
        thread.stop()
        serve({"main": drivers[1]}, port=thread.port)
        errors = [one.exception(LONG) for one in (held, waiting)]
    assert [(type(error), error.sent) for error in errors] == [
        (ConnectionLost, True),
        (ConnectionLost, False),
    ]
    assert client.echo("next") == "next"
    assert [driver.calls for driver in drivers] == [[], ["next"]]


def test_a_call_waits_for_a_server_that_returns_within_its_time(
    serve, lasting, when_failed, free_port
):
    thread = serve({"main": Driver()}, port=free_port)
    client = lasting(free_port)
    thread.stop()
    for _ in range(2):
        when_failed(bool)
    when_failed(partial(serve, {"main": Driver()}, port=free_port))
    with contextlib.suppress(ConnectionLost):  # it may be noticed by this
        client.ping_rpc()
    assert client.echo(5) == 5


def test_without_a_server_the_error_says_what_was_tried(serve, lasting, free_port, when_failed):
    failed = threading.Event()
    when_failed(failed.set)
    thread = serve({"main": Driver()}, port=free_port)
    states = States()
    client = lasting(free_port, timeout=0.2, state_cb=states)
    thread.stop()
    with contextlib.suppress(ConnectionLost):
        client.ping_rpc()
    states.wait_for("connected", "lost")
    while True:
        tried = failed.is_set()
        with pytest.raises(ConnectionLost) as caught:
            client.with_rpc_timeout(0.3).echo(1)
        text = str(caught.value)
        assert f"connection to 'main' at 127.0.0.1:{free_port} lost: " in text
        assert " within " in text
        assert "the call of echo() was not sent" in text
        assert not caught.value.sent
        if tried:
            break
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert "is the server running?" in str(caught.value.__cause__)
    with pytest.raises(ConnectionLost, match="the request ping was not sent"):
        client.ping_rpc()
    assert states.seen == ["connected", "lost"]


def test_without_time_left_there_is_no_attempt(serve, lasting):
    thread = serve({"main": Driver()})
    states = States()
    client = lasting(thread.port, state_cb=states)
    thread.stop()
    with pytest.raises(ConnectionLost):
        client.with_rpc_timeout(0.1).echo(1)
    states.wait_for("connected", "lost")
    with pytest.raises(ConnectionLost, match=r"the call of echo\(\) was not sent"):
        client.with_rpc_timeout(0).echo(1)


def test_one_attempt_serves_all_callers(serve, lasting):
    thread = serve({"main": Driver()})
    states = States()
    client = lasting(thread.port, state_cb=states)
    thread.stop()
    with contextlib.suppress(ConnectionLost):
        client.with_rpc_timeout(0.1).echo(1)
    states.wait_for("connected", "lost")
    serve({"main": Driver()}, port=thread.port)
    with ThreadPoolExecutor(16) as pool:
        ends = list(pool.map(lambda _: client.who(), range(16)))
    assert len(set(ends)) == 1
    assert states.seen == ["connected", "lost", "connected"]


def test_each_caller_waits_until_its_own_deadline(serve, lasting, free_port, monkeypatch):
    thread = serve({"main": Driver()}, port=free_port)
    client = lasting(free_port)
    thread.stop()
    impatient_left = threading.Event()
    # The thread that connects is busy meanwhile, without a lock.
    monkeypatch.setattr(LastingConnection, "_has_failed", lambda *_: impatient_left.wait(LONG))
    with ThreadPoolExecutor() as pool:
        with contextlib.suppress(ConnectionLost):
            client.with_rpc_timeout(0.01).echo("lost")
        patient = pool.submit(client.echo, "patient")
        with pytest.raises(ConnectionLost):
            client.with_rpc_timeout(0.1).echo("impatient")
        impatient_left.set()
        driver = Driver()
        serve({"main": driver}, port=free_port)
        assert patient.result(LONG) == "patient"
    assert driver.calls == ["patient"]


def test_closing_ends_the_wait_for_a_server_at_once(serve, lasting, free_port, when_failed):
    thread = serve({"main": Driver()}, port=free_port)
    states = States()
    client = lasting(free_port, timeout=1000, state_cb=states)
    thread.stop()
    failed = threading.Event()
    when_failed(failed.set)

    def call():
        while True:
            try:
                client.echo(1)
            except ConnectionLost as error:
                if not error.sent:
                    return error

    with ThreadPoolExecutor() as pool:
        call = pool.submit(call)
        assert failed.wait(LONG)
        client.close_rpc()
        assert "closed by close_rpc(); the call of echo() was not sent" in str(call.result(LONG))
    with pytest.raises(ConnectionLost, match="closed by close_rpc"):
        client.echo(1)
    states.wait_for("connected", "lost", "closed")


def restarted(client, serve, thread, targets, states):
    """Replace a server by another one, and have a client notice that."""
    thread.stop()
    with contextlib.suppress(ConnectionLost):
        client.with_rpc_timeout(0.01).echo("lost")
    states.wait_for("connected", "lost")
    return serve(targets, port=thread.port)


def test_methods_that_were_added_and_removed(serve, lasting):
    states = States()
    thread = serve({"main": Moving()})
    client = lasting(thread.port, state_cb=states)
    move, methods, echo = client.move, client.__rpc__, client.echo
    assert move() == "moved"
    restarted(client, serve, thread, {"main": Turning()}, states)
    assert echo(1) == 1
    for gone in (move, partial(move, x=1)):
        with pytest.raises(AttributeError, match=r"'move' in 'main' at .* any more: the server"):
            gone()
    with pytest.raises(AttributeError, match="no remote method 'move'"):
        client.move
    with pytest.raises(AttributeError, match="of the instrument"):
        client.fail()
    assert client.turn() == methods.turn() == "turned"
    assert "turn" in dir(client.__rpc__)
    assert "move" not in dir(client.__rpc__)


def test_a_blocking_client_looks_for_new_methods_before_it_says_that_there_is_none(serve):
    thread = serve({"main": Moving()})
    with Client("127.0.0.1", thread.port, timeout=LONG, reconnect=True) as client:
        assert client.move() == "moved"
        thread.stop()
        thread = serve({"main": Turning()}, port=thread.port)
        assert client.turn() == "turned"
        thread.stop()
        with pytest.raises(AttributeError, match="no remote method 'wait'"):
            with_little_time(client).wait()


def with_little_time(client):
    """Return the methods of a client with a short time-out."""
    client._target.timeout = 0.01
    return client


def test_a_server_without_the_target_is_an_error_at_once(serve, lasting):
    states = States()
    thread = serve({"main": Driver()})
    client = lasting(thread.port, timeout=1000, state_cb=states)
    thread = restarted(client, serve, thread, {"other": Driver()}, states)
    with pytest.raises(
        IncompatibleServer, match=r"expected the target 'main'.* has: other; the call of echo\(\)"
    ):
        client.echo(1)
    thread.stop()
    serve({"main": Driver(), "other": Driver()}, port=thread.port)
    assert client.echo(2) == 2


def test_what_auto_target_has_chosen_stays(serve, lasting):
    from pc_rpc import AutoTarget

    states = States()
    thread = serve({"main": Driver()})
    client = lasting(thread.port, AutoTarget, state_cb=states)
    thread = restarted(client, serve, thread, {"other": Driver()}, states)
    with pytest.raises(IncompatibleServer, match="expected the target 'main'"):
        client.echo(1)
    assert client.get_selected_target() == "main"


def test_a_target_that_is_selected_later_is_selected_again(serve, lasting):
    states = States()
    thread = serve({"main": Driver(), "other": Driver()})
    client = lasting(thread.port, None, state_cb=states)
    client.select_rpc_target("main")
    restarted(client, serve, thread, {"main": Moving(), "other": Driver()}, states)
    client.ping_rpc()
    assert client.move() == "moved"
    assert client.get_rpc_id() == (["main", "other"], None)
    assert "echo" in client.get_rpc_method_list()["methods"]
    assert client.get_local_host() == "127.0.0.1"


def test_a_server_of_the_first_generation_after_one_of_the_second(scripted_peer, lasting, greet):
    requests = []

    def script(sock, lines):
        if not requests:
            greet(sock, lines)
            requests.append(lines.readline())
            return
        assert lines.readline() == b"ARTIQ pc_rpc\n"
        sock.sendall(b'{"targets":["main"],"description":null}\n')
        assert lines.readline() == b"main\n"
        sock.sendall(b'{"echo"}\n')
        requests.append(lines.readline())
        sock.sendall(b'{"status": "ok", "ret": (1, 2)}\n')
        lines.readline()

    client = lasting(scripted_peer(script, connections=2).port)
    with pytest.raises(ConnectionLost):
        client.echo((1, 2))
    assert client.echo((1, 2)) == (1, 2)
    assert requests[1].startswith(b'{"action": "call", "name": "echo", "args": ((1, 2')
    with pytest.raises(AttributeError, match="any more"):
        client.other()
    client.close_rpc()


def test_over_tls(serve, lasting, contexts):
    states, context = States(), contexts("server", "client", server=True)
    thread = serve({"main": Driver()}, ssl=context)
    client = lasting(thread.port, ssl=contexts(), state_cb=states)
    thread.stop()
    with contextlib.suppress(ConnectionLost):
        client.with_rpc_timeout(0.01).echo("lost")
    states.wait_for("connected", "lost")
    serve({"main": Driver()}, port=thread.port, ssl=context)
    assert client.echo(1) == 1


def test_a_callback_that_fails_is_logged_and_does_no_harm(serve, lasting, caplog):
    seen = []

    def fail(state):
        seen.append(state)
        raise RuntimeError("callback")

    client = lasting(serve({"main": Driver()}).port, state_cb=fail)
    assert client.echo(5) == 5
    client.close_rpc()
    assert seen == ["connected", "closed"]
    assert caplog.text.count("the callback for the state of a client failed") == 2


def test_a_callback_may_call_the_client(serve):
    thread, seen = serve({"main": Driver()}), []

    def set_up(state):
        seen.append(state)
        if state == "connected" and clients:
            seen.append(clients[0].echo("set up"))
        if state == "lost":
            serve({"main": Driver()}, port=thread.port)
            seen.append(clients[0].echo("in the callback"))

    clients = []
    with Client("127.0.0.1", thread.port, timeout=LONG, reconnect=True, state_cb=set_up) as client:
        clients.append(client)
        thread.stop()
        assert client.echo(1) == 1
    assert seen == ["connected", "lost", "in the callback", "connected", "set up", "closed"]


def test_the_first_connection_is_made_when_the_object_is(lasting, free_port):
    with pytest.raises(ConnectionRefusedError):
        lasting(free_port)


def test_a_state_callback_without_reconnect_is_refused(free_port):
    with pytest.raises(TypeError, match="needs reconnect=True"):
        Client("127.0.0.1", free_port, state_cb=print)


async def test_a_state_callback_without_reconnect_is_refused_by_asyncio_clients(free_port):
    with pytest.raises(TypeError, match="needs reconnect=True"):
        await AsyncioClient().connect_rpc("127.0.0.1", free_port, state_cb=print)


def test_a_target_that_cannot_be_made_yet_is_waited_for(serve, lasting, when_failed):
    states, broken = States(), [True]

    class Later(Driver):
        def __init__(self):
            super().__init__()
            if broken:
                raise RuntimeError("no instrument")

    thread = serve({"main": Driver()})
    client = lasting(thread.port, state_cb=states)
    when_failed(broken.clear)
    restarted(client, serve, thread, {"main": Later}, states)
    assert client.echo(1) == 1
    assert not broken


def test_ctrl_c_while_it_waits_leaves_the_client_usable(serve, when_failed, free_port):
    thread = serve({"main": Driver()}, port=free_port)
    with Client("127.0.0.1", free_port, timeout=LONG, reconnect=True) as client:
        thread.stop()
        when_failed(partial(os.kill, os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            client.echo(1)
        serve({"main": Driver()}, port=free_port)
        assert client.echo(2) == 2


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_a_signal_handler_may_call_while_it_waits(serve, when_failed, free_port):
    thread, driver, seen = serve({"main": Driver()}, port=free_port), Driver(), []

    def handle(number, frame):
        serve({"main": driver}, port=free_port)
        seen.append(client.echo("handler"))

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with Client("127.0.0.1", free_port, timeout=LONG, reconnect=True) as client:
            thread.stop()
            when_failed(partial(os.kill, os.getpid(), signal.SIGUSR1))
            assert client.echo("call") == "call"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["handler"]
    assert sorted(driver.calls) == ["call", "handler"]


async def test_cancellation_while_it_waits_leaves_the_client_usable(when_failed, serve, free_port):
    thread = serve({"main": Driver()}, port=free_port)
    lost = asyncio.Event()
    async with AsyncioClient() as client:
        await client.connect_rpc(
            "127.0.0.1", free_port, timeout=LONG, reconnect=True,
            state_cb=lambda state: state == "lost" and lost.set(),
        )  # fmt: skip
        await asyncio.to_thread(thread.stop)
        await lost.wait()
        first, second = (asyncio.ensure_future(client.echo(n)) for n in range(2))
        when_failed(first.cancel)
        with pytest.raises(asyncio.CancelledError):
            await first
        await asyncio.to_thread(serve, {"main": Driver()}, port=free_port)
        assert await second == 1
        assert await client.echo(3) == 3


async def test_an_asyncio_client_may_be_connected_by_hand_as_well(serve):
    states, port = States(), serve({"main": Driver()}).port
    thread = serve({"main": Driver()})
    lost = asyncio.Event()
    async with AsyncioClient() as client:
        await client.connect_rpc(
            "127.0.0.1", thread.port, reconnect=True,
            state_cb=lambda state: (states(state), state == "lost" and lost.set()),
        )  # fmt: skip
        with pytest.raises(RuntimeError, match="connected already"):
            await client.connect_rpc("127.0.0.1", port)
        await asyncio.to_thread(thread.stop)
        await lost.wait()
        await client.connect_rpc("127.0.0.1", port)
        assert await client.echo(1) == 1
    assert states.seen == ["connected", "lost", "closed"]


def test_the_search_ends_when_no_call_waits_and_the_client_is_freed(serve, free_port, when_failed):
    thread, searching = serve({"main": Driver()}, port=free_port), []
    client = Client("127.0.0.1", free_port, timeout=LONG, reconnect=True)
    thread.stop()
    when_failed(lambda: searching.append(threading.current_thread()))
    while not searching:
        with pytest.raises(ConnectionLost):
            client.with_rpc_timeout(0.2).echo(1)
    searching[0].join(LONG)
    assert not searching[0].is_alive()
    with pytest.warns(ResourceWarning, match="was not closed"):
        del client


def test_in_the_block_of_a_lost_lease_no_call_is_made_on_a_new_connection(serve):
    thread, drivers = serve({"main": Driver()}), [Driver()]
    with Client("127.0.0.1", thread.port, timeout=LONG, reconnect=True) as client:
        with client.lease("scan 4711"):
            assert client.echo(1) == 1
            thread.stop()
            serve({"main": drivers[0]}, port=thread.port)
            for _ in range(2):
                with pytest.raises(LeaseLost, match=r"lost, and with it the lease for 'scan 4711'"):
                    client.echo(2)
        assert client.echo(3) == 3
        with client.lease("scan 4712"):
            assert client.echo(4) == 4
    assert drivers[0].calls == [3, 4]


def test_taking_a_lease_connects_again(serve):
    thread = serve({"main": Driver()})
    with Client("127.0.0.1", thread.port, timeout=LONG, reconnect=True) as client:
        thread.stop()
        serve({"main": Driver()}, port=thread.port)
        with client.lease("scan 4711"):
            assert client.get_rpc_lease()["purpose"] == "scan 4711"


async def test_in_the_block_of_a_lost_lease_no_task_calls_on_a_new_connection(serve):
    thread, driver, lost = serve({"main": Driver()}), Driver(), asyncio.Event()
    async with AsyncioClient() as client:
        await client.connect_rpc(
            "127.0.0.1", thread.port, timeout=LONG, reconnect=True,
            state_cb=lambda state: state == "lost" and lost.set(),
        )  # fmt: skip
        async with client.lease("scan 4711"):
            await asyncio.to_thread(thread.stop)
            await asyncio.to_thread(serve, {"main": driver}, port=thread.port)
            await lost.wait()
            with pytest.raises(LeaseLost, match=r"lost, and with it the lease for 'scan 4711'"):
                await client.echo(2)
        async with client.lease("scan 4712"):
            assert await client.echo(3) == 3
    assert driver.calls == [3]


def test_a_stream_ends_with_its_connection_and_the_next_one_connects_again(serve):
    thread = serve({"main": Counting()})
    with Client("127.0.0.1", thread.port, timeout=LONG, reconnect=True) as client:
        count = client.count
        stream = count(10**9)
        assert next(stream) == 0
        thread.stop()
        serve({"main": Counting()}, port=thread.port)
        with pytest.raises(ConnectionLost):
            collections.deque(stream, maxlen=0)
        assert list(stream) == []
        assert list(count(3)) == [0, 1, 2]


async def test_a_stream_of_a_task_ends_with_its_connection_and_the_next_one_connects_again(serve):
    thread, lost = serve({"main": Counting()}), asyncio.Event()
    async with AsyncioClient() as client:
        await client.connect_rpc(
            "127.0.0.1", thread.port, timeout=LONG, reconnect=True,
            state_cb=lambda state: state == "lost" and lost.set(),
        )  # fmt: skip
        count = client.count
        stream = count(10**9)
        assert await anext(stream) == 0
        await asyncio.to_thread(thread.stop)
        await lost.wait()
        with pytest.raises(ConnectionLost):
            async for _ in stream:
                pass
        await asyncio.to_thread(serve, {"main": Counting()}, port=thread.port)
        async with count(3) as again:
            assert [n async for n in again] == [0, 1, 2]
            await again.aclose()
            assert [n async for n in again] == []
        async with count(3) as unread:
            pass
        assert [n async for n in unread] == []
        assert [n async for n in count(2)] == [0, 1]


@pytest.mark.parametrize("tls", [False, True])
def test_closing_ends_an_attempt_whose_server_does_not_answer(serve, contexts, free_port, tls):
    context = {"ssl": contexts("server", "client", server=True)} if tls else {}
    thread = serve({"main": Driver()}, port=free_port, **context)
    options = {"ssl": contexts()} if tls else {}
    client = Client("127.0.0.1", free_port, timeout=1000, reconnect=True, **options)
    thread.stop()
    with socket.socket() as silent, ThreadPoolExecutor() as pool:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(("127.0.0.1", free_port))
        silent.listen()
        call = pool.submit(client.echo, 1)
        with silent.accept()[0] as sock:
            assert sock.recv(1)  # the client has begun
            searching = client._target.thread
            client.close_rpc()
            with pytest.raises(ConnectionLost, match="closed by close_rpc"):
                call.result(LONG)
            searching.join(LONG)
            assert not searching.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_ends_its_thread_does_no_harm(serve):
    thread, seen = serve({"main": Driver()}), []

    def leave(state):
        seen.append(state)
        if seen == ["connected", "lost", "connected"]:
            raise SystemExit

    with Client("127.0.0.1", thread.port, timeout=LONG, reconnect=True, state_cb=leave) as client:
        for number in range(3):
            thread.stop()
            thread = serve({"main": Driver()}, port=thread.port)
            assert client.echo(number) == number
    assert seen == ["connected", *["lost", "connected"] * 3, "closed"]
