"""AsyncioRemoteExec: sent code, its output and errors, on an event loop."""

import asyncio
import gc
from functools import reduce

import pytest
from pc_rpc import AsyncioClient, ConnectionLost
from remote_exec import AsyncioRemoteExec, RemoteExec, connect_global_rpc

pytestmark = pytest.mark.usefixtures("either_road")

FACTOR = 3


def triple(x):
    print("tripling", x)
    return reduce(lambda a, b: a + b, [x] * FACTOR)


def fails():
    print("before the end")
    raise ValueError("oops")


@pytest.fixture
async def client(controller):
    async with AsyncioClient() as client:
        await client.connect_rpc("127.0.0.1", controller.port, "main_rexec")
        yield client


async def test_a_function_is_sent_with_what_it_uses_and_its_output_is_shown_here(client, capsys):
    there = await AsyncioRemoteExec(client).send(triple)
    assert there.__name__ == "triple"
    assert await there(14) == 42
    assert await there(x=2) == 6
    assert capsys.readouterr().out == "tripling 14\ntripling 2\n"


async def test_code_is_added_and_called(client, capsys):
    rexec = AsyncioRemoteExec(client)
    await rexec.add_code("def who():\n    return controller_driver.identify()\nprint('ready')\n")
    assert await rexec.call("who") == "driver of the test"
    assert capsys.readouterr().out == "ready\n"


async def test_output_before_an_error_is_shown_and_the_next_call_is_followed(client, capsys):
    rexec = AsyncioRemoteExec(client)
    there = await rexec.send(fails)
    with pytest.raises(ValueError, match="oops"):
        await there()
    assert capsys.readouterr().out == "before the end\n"
    await rexec.add_code("print('next')")
    assert capsys.readouterr().out == "next\n"


async def test_what_cannot_be_sent_is_refused_before_anything_is_awaited(client):
    with pytest.raises(TypeError, match="a lambda has no name"):
        AsyncioRemoteExec(client).send(lambda: 1)


async def test_a_deadline_is_kept(client):
    rexec = AsyncioRemoteExec(client).with_deadline(0.2)
    with pytest.raises(TimeoutError, match="deadline of 0"):
        await rexec.add_code("while True: pass")
    with pytest.raises(ValueError, match="positive number"):
        await rexec.with_deadline(-1).add_code("x = 1")


async def test_tasks_take_turns_and_each_gets_its_result(client, capsys):
    there = await AsyncioRemoteExec(client).send(triple)
    assert await asyncio.gather(*map(there, range(10))) == [3 * n for n in range(10)]
    assert capsys.readouterr().out == "".join(f"tripling {n}\n" for n in range(10))


async def test_a_cancelled_call_has_its_code_interrupted_and_the_next_one_works(controller, client):
    rexec = AsyncioRemoteExec(client)
    await rexec.add_code(
        "def spin():\n"
        "    try:\n"
        "        controller_driver.entered.set()\n"
        "        while True: controller_driver.identify()\n"
        "    finally:\n"
        "        controller_driver.may_leave.set()\n"
    )
    spinning = asyncio.ensure_future(rexec.call("spin"))
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, controller.driver.entered.wait, 60)
    spinning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await spinning
    assert await loop.run_in_executor(None, controller.driver.may_leave.wait, 60)
    await rexec.add_code("x = 1")


async def test_a_lost_connection_is_raised_at_the_caller(client):
    rexec = AsyncioRemoteExec(client)
    await client.close_rpc()
    with pytest.raises(ConnectionLost):
        await rexec.add_code("x = 1")


async def test_a_connection_lost_during_a_call_is_reported_once(controller, client, caplog):
    rexec = AsyncioRemoteExec(client)
    holding = asyncio.ensure_future(rexec.add_code("controller_driver.hold()"))
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, controller.driver.entered.wait, 60)
    await client.close_rpc()
    with pytest.raises(ConnectionLost):
        await holding
    gc.collect()
    assert [r.message for r in caplog.records if r.name == "asyncio" and "never" in r.message] == []


async def test_a_global_client_is_connected(controller, client):
    rexec = AsyncioRemoteExec(client, output=False)
    await rexec.connect_global_rpc(port=controller.port, target="main", name="elsewhere")
    await rexec.add_code("def ask():\n    return elsewhere.get_rpc_id()[0]\n")
    assert "main" in await rexec.call("ask")
    with pytest.raises(ValueError, match="expected an identifier"):
        await rexec.connect_global_rpc(name="no name")


async def test_an_asyncio_client_in_the_blocking_interface_is_an_error_that_names_the_alternative(
    client,
):
    with pytest.raises(TypeError, match=r"use remote_exec\.AsyncioRemoteExec"):
        RemoteExec(client)
    with pytest.raises(TypeError, match=r"use remote_exec\.AsyncioRemoteExec"):
        connect_global_rpc(client)
