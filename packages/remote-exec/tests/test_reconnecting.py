"""Clients that reconnect: functions sent before are gone, and can be sent again."""

import asyncio
import collections
import contextlib

import pytest
from pc_rpc import AsyncioClient, ConnectionLost
from remote_exec import AsyncioRemoteExec, RemoteExec


def helper(x):
    return 2 * x


def double(x):
    """Use another function, which is sent with it, once for each connection."""
    print("doubling", x)
    return helper(x)


def lose_connection(client):
    """Break the connection of a client, as a network does."""
    connection = client._target.connection
    connection._socket.shutdown()
    with contextlib.suppress(ConnectionLost):
        client.ping_rpc()


@pytest.fixture
def client(controller):
    return controller.connect(timeout=30, reconnect=True)


def test_after_a_loss_sent_functions_are_gone_and_can_be_sent_again(client, capsys):
    rexec = RemoteExec(client)
    doubled = rexec.send(double)
    assert doubled(2) == 4
    lose_connection(client)
    with pytest.raises(NameError, match="'double' is not defined in the namespace of this conn"):
        doubled(3)
    doubled = rexec.send(double)
    assert doubled(4) == 8
    assert capsys.readouterr().out == "doubling 2\ndoubling 4\n"
    assert client.get_rpc_connection_count() == 2


def test_a_loss_while_a_function_is_sent_is_an_error(client):
    rexec = RemoteExec(client, output=False)
    requests = rexec._sending(_source())
    next(requests).make(client)
    lose_connection(client)
    with pytest.raises(ConnectionError, match="reconnected while double was being sent"):
        collections.deque((request.make(client) for request in requests), maxlen=0)
    assert rexec.send(double)(4) == 8


def _source():
    from remote_exec._sending import source_of

    return source_of(double)


async def test_after_a_loss_sent_functions_are_gone_for_tasks_as_well(controller, capsys):
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


def test_output_of_a_call_that_reconnects_stays_at_the_controller(client, caplog, capsys):
    rexec = RemoteExec(client)
    rexec.add_code("x = 1")
    client._target.connection._heard = 0.0  # so that the client checks for a loss
    client._target.connection._socket.shutdown()
    rexec.add_code("print('hello')")
    assert "reconnected: the output of this call stayed at the controller" in caplog.text
    rexec.add_code("print('world')")
    assert capsys.readouterr().out.endswith("world\n")
