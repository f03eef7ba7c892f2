"""Misbehaving targets and clients do not affect others."""

import asyncio
import dataclasses
import json
import logging

import pyon
import pytest
from pc_rpc import (
    AsyncioClient,
    AutoTarget,
    Client,
    ConnectionLost,
    GenericRemoteException,
    Server,
)

pytestmark = pytest.mark.usefixtures("either_road")


class Odd:
    """A result whose registered form cannot encode it."""


class Secretive(Exception):
    @property
    def args(self):
        raise RuntimeError("no arguments for you")


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no text for you")


class Both(Exception):
    """An exception whose attributes cannot be read."""

    @property
    def args(self):
        raise Speechless


@dataclasses.dataclass(frozen=True)
class Unlocked(Exception):
    """An exception whose attributes cannot be set, not even traceback and cause."""

    power: float


class Silencing(Exception):
    def __str__(self):
        raise SystemExit(3)


@pytest.fixture(params=[RuntimeError, Speechless])
def odd_form(request):
    def refuse(value):
        raise request.param("cannot be taken apart")

    pyon.register(Odd, name="Odd", encode=refuse, decode=Odd)
    yield
    pyon.deregister(Odd, "Odd")


class Target:
    def echo(self, x):
        return x

    def huge(self):
        raise OSError(10**60_000, "an errno that cannot be encoded")

    async def huge_later(self):
        self.huge()

    def secretive(self):
        raise Secretive

    def both(self):
        raise Both

    async def both_later(self):
        raise Both

    def unlocked(self):
        raise Unlocked(0.5)

    async def unlocked_later(self):
        raise Unlocked(0.5)

    def silencing(self):
        raise Silencing

    def stop_iteration(self):
        raise StopIteration(5)

    def odd(self):
        return Odd()

    async def odd_later(self):
        return Odd()


METHODS = [
    "huge", "huge_later", "secretive", "both", "both_later", "odd", "odd_later", "unlocked",
    "unlocked_later", "silencing",
]  # fmt: skip


@pytest.mark.parametrize("worker_threads", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_result_that_cannot_be_encoded_is_an_error_of_its_caller_only(
    serve, connect, odd_form, method, worker_threads
):
    server = serve({"main": Target()}, worker_threads=worker_threads)
    first, second = connect(server.port), connect(server.port)
    with pytest.raises((GenericRemoteException, RuntimeError)):
        getattr(first, method)()
    assert first.echo(1) == 1
    assert second.echo(2) == 2


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_a_factory_that_wants_to_end_the_process_costs_its_connection_only(error, caplog):
    def factory():
        raise error

    async with Server({"bad": factory, "good": Target()}) as server:
        await server.start("127.0.0.1", 0)
        client = AsyncioClient()
        with pytest.raises(GenericRemoteException, match=error.__name__):
            await client.connect_rpc("127.0.0.1", server.port, "bad")
        await client.close_rpc()
        assert "cannot be made" in caplog.text
        if error is SystemExit:
            await server.wait_terminate()
        await client.connect_rpc("127.0.0.1", server.port, "good")
        assert await client.echo(5) == 5
        await client.close_rpc()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
async def test_a_target_whose_close_raises_anything_is_logged(error, caplog):
    closed = asyncio.Event()

    class Closing(Target):
        def close(self):
            closed.set()
            raise error

    async with Server({"main": Closing}) as server:
        await server.start("127.0.0.1", 0)
        for _ in range(2):
            client = AsyncioClient()
            await client.connect_rpc("127.0.0.1", server.port, "main")
            assert await client.echo(5) == 5
            await client.close_rpc()
            await closed.wait()
            closed.clear()
    assert caplog.text.count("closing its target failed") == 2


async def test_calls_that_wait_are_not_begun_when_the_server_stops():
    begun = []
    first = asyncio.Event()

    class Slow:
        async def work(self, number):
            begun.append(number)
            first.set()
            await asyncio.Event().wait()

    server = Server({"main": Slow()})
    await server.start("127.0.0.1", 0)
    clients = [AsyncioClient() for _ in range(3)]
    for client in clients:
        await client.connect_rpc("127.0.0.1", server.port, "main")
    calls = [asyncio.ensure_future(client.work(n)) for n, client in enumerate(clients)]
    await first.wait()
    await server.stop()
    assert len(begun) == 1
    assert not server._shared.tasks
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, Exception)
    for client in clients:
        await client.close_rpc()


@pytest.fixture
async def conversation():
    """Speak with a server line by line."""
    async with Server({"main": Target()}, builtin_terminate=True) as server:
        await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

        async def say(line):
            writer.write(line.encode() + b"\n")
            return await asyncio.wait_for(reader.readline(), 30)

        await say("ARTIQ pc_rpc")
        await say("main pyon_v2 request_ids")
        yield server, say
        writer.close()


ARRAY = '{"__jsonclass__":["nparray",[[2],"|i1","AAA="]]}'


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ('{"id":1,"action":"call","name":' + ARRAY + ',"args":[],"kwargs":{}}', "TypeError"),
        ('{"id":1,"action":' + ARRAY + "}", "ValueError"),
        ('{"id":1,"action":[1]}', "ValueError"),
        ('{"id":1,"action":[' + "9" * 5000 + "]}", "ValueError"),
        ('{"id":1}', "KeyError"),
        ('{"id":1,"action":"call","name":"echo","args":5,"kwargs":{}}', "TypeError"),
    ],
)
async def test_requests_of_odd_types_are_answered(conversation, caplog, request_, expected):
    _, say = conversation
    reply = json.loads(await say(request_))
    assert reply["id"] == 1
    assert reply["exception"]["class"] == expected
    assert b'"ret":7' in await say('{"id":2,"action":"call","name":"echo","args":[7],"kwargs":{}}')
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_cancelling_what_is_no_request_does_nothing(conversation):
    _, say = conversation
    reply = await say(
        '{"action":"cancel","request":[1]}\n{"id":3,"action":"call","name":"echo","args":[1],"kwargs":{}}'
    )
    assert json.loads(reply) == {"id": 3, "status": "ok", "ret": 1}


@pytest.mark.parametrize("number", ["[1]", "true", "-1", "9" * 5000, "[" + "9" * 5000 + "]"])
async def test_an_id_that_is_no_number_ends_the_connection_only(conversation, caplog, number):
    server, say = conversation
    assert await say('{"id":' + number + ',"action":"ping"}') == b""
    assert "expected a request with a number as its id" in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert not server._shared.terminated.is_set()


async def test_only_a_call_of_terminate_terminates(conversation):
    server, say = conversation
    await say('{"id":1,"action":"get_rpc_method_list","name":"terminate"}')
    assert not server._shared.terminated.is_set()
    await say('{"id":2,"action":"call","name":"terminate","args":[],"kwargs":{}}')
    assert server._shared.terminated.is_set()


def test_questions_before_a_target_is_selected_are_errors_here(serve):
    server = serve({"main": Target(), "other": Target()})
    with Client("127.0.0.1", server.port, None, timeout=30) as client:
        for ask in (client.get_rpc_method_list, client.ping_rpc):
            with pytest.raises(RuntimeError, match="no target has been selected"):
                ask()
        client.select_rpc_target("main")
        assert client.echo(5) == 5
    with pytest.raises(ConnectionLost):
        client.get_local_host()


async def test_a_remote_stop_iteration_arrives_at_a_task_as_what_it_was(serve, asyncio_client):
    async with asyncio_client(serve({"main": Target()}).port) as client:
        with pytest.raises(GenericRemoteException, match=r"^StopIteration: 5$") as caught:
            await client.stop_iteration()
        assert isinstance(caught.value.__cause__, StopIteration)
        assert await client.echo(5) == 5


async def test_the_local_host_of_a_connection_that_was_closed_is_lost(serve, asyncio_client):
    async with asyncio_client(serve({"main": Target()}).port) as client:
        assert client.get_local_host() == "127.0.0.1"
        await client.close_rpc()
        with pytest.raises(ConnectionLost):
            client.get_local_host()


def test_auto_target_may_be_written_with_parentheses(serve, either_client):
    assert either_client(serve({"main": Target()}).port, AutoTarget()).echo(5) == 5


@pytest.mark.parametrize(
    "answer",
    [b'"text"', b"5", b"[1]", b'{"methods":5,"values":7}', b'{"methods":[1],"values":"x"}'],
)
def test_a_malformed_method_list_is_ignored(scripted_peer, either_client, greet, answer):
    def script(sock, lines):
        greet(sock, lines)
        while lines.readline():
            sock.sendall(b'{"status":"ok","ret":' + answer + b"}\n")

    client = either_client(scripted_peer(script).port)
    client.get_rpc_method_list()
    proxy = getattr(client, "_client", client)
    assert "echo" in dir(proxy)
    assert proxy.echo.__doc__ is None
    with pytest.raises(AttributeError, match="did you mean 'echo'"):
        proxy.ehco
