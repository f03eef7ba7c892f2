"""Clients as objects: their attributes, and their end without references."""

from __future__ import annotations

import asyncio
import copy
import gc
import subprocess
import sys
import threading
import warnings
from functools import partial

import pytest
from pc_rpc import AsyncioClient, BestEffortClient, Client

LASTING = partial(Client, reconnect=True)


class Laser:
    def __init__(self):
        self.value = 0.1

    @property
    def power(self):
        return self.value

    def get_power(self):
        return self.value

    def set_power(self, value):
        self.value = value

    def measure(self):
        return 1


CLIENTS = ["Client", "BestEffortClient", "AsyncioClient"]


@pytest.fixture(params=CLIENTS)
def client(request, serve):
    port = serve({"laser": Laser()}).port
    if request.param == "AsyncioClient":
        client = AsyncioClient()
        with asyncio.Runner() as runner:
            runner.run(client.connect_rpc("127.0.0.1", port, "laser", timeout=30))
            yield client
            runner.run(asyncio.wait_for(client.close_rpc(), 30))
    else:
        make = {"Client": Client, "BestEffortClient": BestEffortClient}[request.param]
        with make("127.0.0.1", port, "laser", timeout=30) as client:
            yield client


def test_assigning_to_a_client_names_the_target_and_the_method_that_sets(client):
    with pytest.raises(AttributeError, match=r"cannot set 'power' of 'laser' at .*; use set_power"):
        client.power = 5.0
    assert not hasattr(client, "power")
    for thing in (client, client.__rpc__, client.with_rpc_timeout(1)):
        with pytest.raises(AttributeError, match="cannot set 'set_power' of 'laser'"):
            thing.set_power = 3
        with pytest.raises(AttributeError, match="cannot delete 'set_power' of 'laser'"):
            del thing.set_power
    with pytest.raises(AttributeError, match="cannot set 'close_rpc' of 'laser'"):
        client.close_rpc = None
    with pytest.raises(AttributeError, match="cannot set 'unit' of the remote method measure of"):
        client.measure.unit = "W"
    with pytest.raises(AttributeError, match="cannot delete '__name__' of the remote method"):
        del client.measure.__name__
    assert callable(client.set_power)


def test_reading_a_property_of_the_driver_names_the_methods_to_use(client):
    with pytest.raises(
        AttributeError,
        match=r"no remote method 'power' in 'laser' at .*; use get_power\(\) or set",
    ):
        client.power


def test_nothing_destructive_is_suggested(serve, connect):
    client = connect(serve({"laser": Laser()}, builtin_terminate=True).port)
    for name in ("terminat", "rate", "Terminate", "terminated"):
        with pytest.raises(AttributeError) as caught:
            getattr(client, name)
        assert "did you mean 'terminate'" not in str(caught.value)


def test_a_class_derived_from_a_client_may_have_attributes_of_its_own(serve):
    class Named(Client):
        _label = "none"

        @property
        def nickname(self):
            return self._label

        @nickname.setter
        def nickname(self, value):
            self._label = value

    with Named("127.0.0.1", serve({"laser": Laser()}).port, timeout=30) as client:
        client.nickname = "blue"
        assert client.nickname == "blue"


# Without references.


class Listening:
    """A server that notes when its clients have left."""

    def __init__(self, serve):
        left = self.left = threading.Event()

        class Counted(Laser):
            def fail(self):
                raise ValueError("no light")

            def close(self):
                left.set()

        self.port = serve({"laser": Counted}).port


@pytest.fixture
def listening(serve):
    gc.disable()  # the last reference that goes is to do it
    yield Listening(serve)
    gc.enable()


@pytest.mark.parametrize("make", [Client, LASTING, BestEffortClient])
def test_a_client_without_references_is_closed_at_once_with_a_warning(listening, make):
    def measure():
        return make("127.0.0.1", listening.port, "laser", timeout=30).measure()

    where = rf"client of 'laser' at 127\.0\.0\.1:{listening.port}"
    with pytest.warns(ResourceWarning, match=where):
        assert measure() == 1
    assert listening.left.wait(30)


async def test_an_asyncio_client_without_references_is_closed_with_a_warning(listening):
    async def measure():
        client = AsyncioClient()
        await client.connect_rpc("127.0.0.1", listening.port, "laser", timeout=30)
        return await client.measure()

    with pytest.warns(ResourceWarning, match="client of 'laser' at 127"):
        assert await measure() == 1
    assert await asyncio.to_thread(listening.left.wait, 30)


@pytest.mark.parametrize("make", [Client, LASTING, BestEffortClient])
def test_a_call_that_raised_does_not_keep_its_client(listening, make):
    def measure():
        with pytest.raises(ValueError, match="no light"):
            make("127.0.0.1", listening.port, "laser", timeout=30).fail()

    with pytest.warns(ResourceWarning, match="client of 'laser' at 127"):
        measure()
    assert listening.left.wait(30)


async def test_a_call_that_raised_does_not_keep_its_asyncio_client(listening):
    async def measure():
        client = AsyncioClient()
        await client.connect_rpc("127.0.0.1", listening.port, "laser", timeout=30)
        with pytest.raises(ValueError, match="no light"):
            await client.fail()

    with pytest.warns(ResourceWarning, match="client of 'laser' at 127"):
        await measure()
    assert await asyncio.to_thread(listening.left.wait, 30)


@pytest.mark.parametrize("make", [Client, LASTING, BestEffortClient])
def test_a_method_that_is_kept_keeps_the_connection(listening, make):
    measure = make("127.0.0.1", listening.port, "laser", timeout=30).measure
    methods = measure._target and make("127.0.0.1", listening.port, "laser", timeout=30).__rpc__
    assert (measure(), methods.measure()) == (1, 1)
    with pytest.warns(ResourceWarning):
        del measure
    with pytest.warns(ResourceWarning):
        del methods
    assert listening.left.wait(30)


@pytest.mark.parametrize("make", [Client, LASTING, BestEffortClient])
def test_after_close_or_loss_there_is_no_warning(serve, listening, make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = make("127.0.0.1", listening.port, "laser", timeout=30)
        kept = client.measure
        client.close_rpc()
        del client, kept
        thread = serve({"laser": Laser()})
        client = Client("127.0.0.1", thread.port, timeout=30)
        thread.stop()
        with pytest.raises(ConnectionError):
            client.measure()
        del client
    assert listening.left.wait(30)


def test_the_thread_of_a_best_effort_client_ends_with_it(free_port):
    client = BestEffortClient("127.0.0.1", free_port, "laser", retry=1000)
    thread = client._target.thread
    with pytest.warns(ResourceWarning):
        del client
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("options", [[], ["-W", "error"]])
def test_an_open_client_at_the_exit_of_the_interpreter_gives_no_warning(serve, options):
    code = """
import pc_rpc, sys
client = pc_rpc.Client("127.0.0.1", int(sys.argv[1]), timeout=30)
other = pc_rpc.BestEffortClient("127.0.0.1", int(sys.argv[1]), "laser")
print(client.measure(), other.measure())
"""
    port = str(serve({"laser": Laser()}).port)
    ended = subprocess.run(
        [sys.executable, *options, "-c", code, port], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("1 1\n", "", 0)


def test_a_remote_method_is_copied_as_a_function_is(client):
    assert copy.copy(client.measure) is client.measure
    assert copy.deepcopy([client.measure]) == [client.measure]


def test_a_class_method_of_clients_is_no_attribute_of_one(client):
    assert "find" not in dir(client)
    assert not hasattr(client, "find")
