"""The fast path of an asyncio call: when it is taken, and that its guarantees are the same."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from pc_rpc import ConnectionLost, ProtocolError, _asyncio_connection
from pc_rpc._asyncio_connection import AsyncioConnection
from pyon.asyncio_connection import HIGH_WATER
from pyon.wire import LINE_SIZE

GREETING = b'{"targets":["main"],"description":null,"features":["pyon_v2","request_ids"]}\n'
METHODS = b'{"__jsonclass__":["set",[["echo"]]]}\n'


class Echo:
    def echo(self, x):
        return x

    def fail(self):
        raise ValueError("out of range")

    async def later(self, x):
        await asyncio.sleep(0)
        return x

    async def forever(self):
        await asyncio.Event().wait()


@pytest.fixture
def general_calls(monkeypatch):
    """Count the replies that take the general path."""
    calls = []
    result = AsyncioConnection.result
    monkeypatch.setattr(
        AsyncioConnection, "result", lambda *args: calls.append(args[1].what) or result(*args)
    )
    return calls


@contextlib.asynccontextmanager
async def peer(answer):
    """Run a server with ids: `answer` gets reader and writer after the handshake."""

    async def serve(reader, writer):
        with contextlib.closing(writer):
            await reader.readline()
            writer.write(GREETING)
            await reader.readline()
            writer.write(METHODS)
            await answer(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**30) as server:
        yield server.sockets[0].getsockname()[1]


async def test_calls_that_nothing_disturbs_take_the_fast_path(serve, asyncio_client, general_calls):
    async with asyncio_client(serve({"main": Echo()}, allow_parallel=True).port) as client:
        del general_calls[:]
        assert await asyncio.gather(*map(client.echo, range(100))) == list(range(100))
        assert await asyncio.gather(*map(client.later, "abc")) == list("abc")
        assert await client.with_rpc_timeout(30).echo(5) == 5
        assert general_calls == []
        with pytest.raises(ValueError, match="out of range"):
            await client.fail()
        assert general_calls == ["call of fail()"]


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize(
    "value",
    [5, -1.5, None, "a\nb", "\x1b€", [1, [2.0, "x"]], {"a": 1}, {1, 2}, (1, 2), 2**70, 1j,
     "x" * (3 * LINE_SIZE), "__jsonclass__", ',"status":"ok","ret":', 10**1000],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
async def test_a_value_comes_back_on_both_paths(serve, asyncio_client, monkeypatch, lean, value):
    monkeypatch.setattr(_asyncio_connection, "LEAN", lean)
    array = np.arange(3000.0)
    async with asyncio_client(serve({"main": Echo()}).port) as client:
        results = await asyncio.gather(
            client.echo(value),
            client.echo(array),
            client.echo(x=value),
            client.fail(),
            client.echo(5),
            return_exceptions=True,
        )
    assert [results[0], results[2], results[4]] == [value, value, 5]
    assert np.array_equal(results[1], array)
    assert str(results[3]) == "out of range"


@pytest.mark.parametrize("lean", [True, False])
async def test_a_request_is_the_same_on_the_wire_on_both_paths(asyncio_client, monkeypatch, lean):
    monkeypatch.setattr(_asyncio_connection, "LEAN", lean)
    requests = []

    async def answer(reader, writer):
        for number in (1, 2):
            requests.append(await reader.readline())
            writer.write(b'{"id":%d,"status":"ok","ret":null}\n' % number)

    async with peer(answer) as port, asyncio_client(port) as client:
        assert await asyncio.gather(client.echo(5, "a", 1.5), client.echo()) == [None, None]
    assert requests == [
        b'{"id":1,"action":"call","name":"echo","args":[5,"a",1.5],"kwargs":{}}\n',
        b'{"id":2,"action":"call","name":"echo","args":[],"kwargs":{}}\n',
    ]


REPLIES = b'{"id":2,"status":"ok","ret":"b"}\n{"id":1,"status":"ok","ret":"a"}\n'


@pytest.mark.parametrize("size", range(1, len(REPLIES)))
async def test_replies_in_pieces_are_put_together(asyncio_client, size):
    first_read = asyncio.Event()

    async def answer(reader, writer):
        await reader.readline()
        await reader.readline()
        writer.write(REPLIES[:size])
        await first_read.wait()
        writer.write(REPLIES[size:])
        await reader.readline()

    async with peer(answer) as port, asyncio_client(port) as client:
        connection = client._target.connection
        updated = connection.buffer_updated

        def noting(nbytes):
            updated(nbytes)
            first_read.set()

        connection.buffer_updated = noting
        assert await asyncio.gather(client.echo(1), client.echo(2)) == ["a", "b"]
        del connection.buffer_updated


@pytest.mark.parametrize(
    "reply",
    [
        b'{"id":7,"status":"ok","ret":1}\n',
        b'{"id":1,"status":"ok","ret":[1,\n2]}\n',
        b'{"id":1,"status":"ok","ret":"\n"}\n',
        b'{"id":1,"status":"ok","ret":1,}\n',
        b'{"id":1,"status":"ok","ret":}\n',
        b"\xff\n",
    ],
)
async def test_an_invalid_reply_is_the_same_error_as_on_the_general_path(
    asyncio_client, monkeypatch, reply
):
    async def answer(reader, writer):
        await reader.readline()
        writer.write(reply)
        await reader.readline()

    said = []
    for lean in (True, False):
        monkeypatch.setattr(_asyncio_connection, "LEAN", lean)
        async with peer(answer) as port, asyncio_client(port) as client:
            with pytest.raises((ConnectionLost, ProtocolError)) as caught:
                await client.echo(1)
            said.append((type(caught.value), str(caught.value).replace(str(port), "PORT")))
    assert said[0] == said[1]


@pytest.mark.parametrize("give_up", ["cancel", "time-out"])
async def test_a_call_that_is_given_up_is_cancelled_and_its_reply_dropped(asyncio_client, give_up):
    requests = []

    async def answer(reader, writer):
        requests.append(await reader.readline())
        asked.set()
        requests.append(await reader.readline())
        requests.append(await reader.readline())
        writer.write(b'{"id":1,"status":"ok","ret":1}\n{"id":2,"status":"ok","ret":2}\n')
        await reader.readline()

    asked = asyncio.Event()
    async with peer(answer) as port, asyncio_client(port) as client:
        methods = client.with_rpc_timeout(0.01 if give_up == "time-out" else None)
        task = asyncio.ensure_future(methods.echo(1))
        await asked.wait()
        if give_up == "cancel":
            task.cancel()
        with pytest.raises((asyncio.CancelledError, TimeoutError)) as caught:
            await task
        assert await client.echo(2) == 2
        assert client._target.connection.waiting == {}
    assert requests[1] == b'{"action":"cancel","request":1}\n'
    if give_up == "time-out":
        said = f"no reply to the call of echo() from 127.0.0.1:{port} within 0.01 s"
        assert (type(caught.value), str(caught.value)) == (TimeoutError, said)


async def test_a_call_that_is_cancelled_behind_its_reply_is_not_cancelled_at_the_server(
    serve, asyncio_client, monkeypatch
):
    async with asyncio_client(serve({"main": Echo()}).port) as client:
        connection = client._target.connection
        sent = []
        monkeypatch.setattr(connection, "send_chunks", sent.extend)
        lines_received = connection.lines_received

        def cancelling(text):
            done = lines_received(text)
            task.cancel()
            return done

        connection.lines_received = cancelling
        task = asyncio.ensure_future(client.echo(1))
        with pytest.raises(asyncio.CancelledError):
            await task
        connection.lines_received = lines_received
        assert sent == []
        assert await client.echo(2) == 2


async def test_calls_that_wait_when_the_connection_ends_say_so(serve, asyncio_client):
    async with asyncio_client(serve({"main": Echo()}).port) as client:
        calls = [asyncio.ensure_future(client.forever()) for _ in range(3)]
        await client.ping_rpc()
        calls[1].cancel()
        await client.close_rpc()
        for call in (calls[0], calls[2]):
            with pytest.raises(ConnectionLost, match=r"forever\(\) may have been executed") as lost:
                await call
            assert lost.value.sent
        with pytest.raises(ConnectionLost, match=r"echo\(\) was not sent") as lost:
            await client.echo(1)
        assert not lost.value.sent


async def test_a_client_with_small_limits_takes_the_general_path(serve, asyncio_client):
    async with asyncio_client(serve({"main": Echo()}).port, limit=2000) as client:
        assert await client.echo("x" * 1900) == "x" * 1900
        with pytest.raises(ValueError, match=r"the call of echo\(\) has .* the limit of 2000"):
            await client.echo("x" * 2000)
        assert await client.echo(5) == 5


async def test_a_call_is_not_sent_while_the_server_does_not_read(asyncio_client):
    read_on = asyncio.Event()

    async def answer(reader, writer):
        await read_on.wait()
        for number in (1, 3):
            await reader.readline()
            writer.write(b'{"id":%d,"status":"ok","ret":null}\n' % number)
        await reader.read()

    async with peer(answer) as port, asyncio_client(port) as client:
        connection = client._target.connection
        large = asyncio.ensure_future(client.echo("x" * 32 * HIGH_WATER))
        await asyncio.sleep(0)
        small = asyncio.ensure_future(client.echo(5))
        await asyncio.sleep(0)
        backlog = connection.backlog
        assert len(connection.waiting) == 1
        read_on.set()
        assert await asyncio.gather(large, small) == [None, None]
        assert backlog > HIGH_WATER


async def test_a_call_with_keywords_is_not_queued_while_the_server_does_not_read(asyncio_client):
    read_on = asyncio.Event()

    async def answer(reader, writer):
        await read_on.wait()
        for _ in range(2):
            head = (await reader.readline())[:40].partition(b",")[0]
            writer.write(head + b',"status":"ok","ret":null}\n')
        await reader.read()

    async with peer(answer) as port, asyncio_client(port) as client:
        connection = client._target.connection
        large = asyncio.ensure_future(client.echo("x" * 32 * HIGH_WATER))
        await asyncio.sleep(0)
        backlog = connection.backlog
        assert backlog > HIGH_WATER
        other = asyncio.ensure_future(client.echo(x="y" * 8 * HIGH_WATER))
        await asyncio.sleep(0)
        after = connection.backlog
        read_on.set()
        assert await asyncio.gather(large, other) == [None, None]
        assert after <= backlog
