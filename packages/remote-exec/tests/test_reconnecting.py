"""Clients that connect again: what was sent is gone then, which is told, and may be sent again."""

import asyncio
import collections
import contextlib

import pytest
from pc_rpc import AsyncioClient, ConnectionLost
from remote_exec import AsyncioRemoteExec, RemoteExec


def helper(x):
    return 2 * x


def double(x):
    """Use another function, which is sent along, once for each connection."""
    print("doubling", x)
    return helper(x)


def lose_connection(client):
    """Have the connection of a client end, as a network does."""
    connection = client._target.connection
    connection._socket.shutdown()
    with contextlib.suppress(ConnectionLost):
        client.ping_rpc()


@pytest.fixture
def lasting(controller):
    return controller.connect(timeout=30, reconnect=True)


def test_what_was_sent_is_gone_after_a_loss_and_may_be_sent_again(lasting, capsys):
    rexec = RemoteExec(lasting)
    doubled = rexec.send(double)
    assert doubled(2) == 4
    lose_connection(lasting)
    with pytest.raises(NameError, match="'double' is not defined in the namespace of this conn"):
        doubled(3)
    doubled = rexec.send(double)
    assert doubled(4) == 8
    assert capsys.readouterr().out == "doubling 2\ndoubling 4\n"
    assert lasting.get_rpc_connection_count() == 2


def test_a_loss_in_the_middle_of_sending_is_told(lasting):
    rexec = RemoteExec(lasting, output=False)
    requests = rexec._sending(_source())
    next(requests).make(lasting)
    lose_connection(lasting)
    with pytest.raises(ConnectionError, match="connected again while double was being sent"):
        collections.deque((request.make(lasting) for request in requests), maxlen=0)
    assert rexec.send(double)(4) == 8


def _source():
    from remote_exec._sending import source_of

    return source_of(double)


async def test_what_was_sent_is_gone_for_tasks_as_well(controller, capsys):
    lost = asyncio.Event()
    async with AsyncioClient() as client:
        await client.connect_rpc(
            "127.0.0.1", controller.port, "main_rexec", timeout=30, reconnect=True,
            state_cb=lambda state: state == "lost" and lost.set(),
        )  # fmt: skip
        rexec = AsyncioRemoteExec(client)
        doubled = await rexec.send(double)
        assert await doubled(2) == 4
        client._target.connection.abort()
        await lost.wait()
        with pytest.raises(NameError, match="'double' is not defined"):
            await doubled(3)
        doubled = await rexec.send(double)
        assert await doubled(4) == 8
        assert client.get_rpc_connection_count() == 2
    assert capsys.readouterr().out == "doubling 2\ndoubling 4\n"


def test_what_a_call_prints_that_connects_again_stays_at_the_controller(lasting, caplog, capsys):
    rexec = RemoteExec(lasting)
    rexec.add_code("x = 1")
    lasting._target.connection._heard = 0.0  # so that the loss is looked for
    lasting._target.connection._socket.shutdown()
    rexec.add_code("print('hello')")
    assert "connected again: what this call has printed stayed at the controller" in caplog.text
    rexec.add_code("print('world')")
    assert capsys.readouterr().out.endswith("world\n")
