"""Errors of callers and log records when a server stops while calls run and wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pc_rpc import AsyncioClient, Client, ConnectionLost, Server

pytestmark = pytest.mark.usefixtures("either_road")


class Driver:
    """Methods that end when the test releases them, or when they are cancelled."""

    def __init__(self):
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ran = []

    def block(self):
        self.begun.set()
        assert self.may_end.wait(30)

    async def work(self):
        self.begun.set()
        await asyncio.Event().wait()

    async def swallow(self):
        """Ignore a cancellation."""
        self.begun.set()
        while not self.may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.to_thread(self.may_end.wait, 30)

    async def go_on(self):
        """Ignore all cancellations."""
        self.begun.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def tidy_up(self):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "tidied up"

    async def note(self, x):
        self.ran.append(x)


OPTIONS = {
    "work": {},
    "block": {"worker_threads": True},
    "swallow": {},
}


def stop_during(thread, call):
    """Stop the server; return the outcome of the call."""
    thread.loop.call_soon_threadsafe(thread.server.terminate)
    return call.exception(30)


@pytest.mark.parametrize("method", OPTIONS)
def test_the_caller_of_a_call_that_a_stop_cuts_off_hears_that_it_may_have_been_executed(
    serve, either_client, method
):
    driver = Driver()
    thread = serve({"main": driver}, **OPTIONS[method])
    client = either_client(thread.port)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(getattr(client, method))
        assert driver.begun.wait(30)
        error = stop_during(thread, call)
        driver.may_end.set()
    assert isinstance(error, ConnectionLost)
    assert error.sent
    assert str(error) == (
        f"connection to 127.0.0.1:{thread.port} lost: the server stopped; "
        f"the call of {method}() may have been executed"
    )
    thread.join()


@pytest.mark.parametrize("method", OPTIONS)
@pytest.mark.parametrize("parallel", [False, True])
async def test_calls_that_wait_when_the_server_stops_were_not_executed(method, parallel):
    driver = Driver()
    async with Server({"main": driver}, **OPTIONS[method]) as server, AsyncioClient() as client:
        await server.start("127.0.0.1", 0)
        await client.connect_rpc("127.0.0.1", server.port)
        running = asyncio.ensure_future(getattr(client, method)())
        assert await asyncio.to_thread(driver.begun.wait, 30)
        waiting = [asyncio.ensure_future(client.note(x)) for x in range(3)]
        await client.ping_rpc()
        async with AsyncioClient() as other:  # waits for the calls of the first
            await other.connect_rpc("127.0.0.1", server.port)
            waiting.append(asyncio.ensure_future(other.note(3)))
            await other.ping_rpc()
            stopping = asyncio.ensure_future(server.stop())
            results = await asyncio.gather(running, *waiting, return_exceptions=True)
            driver.may_end.set()
            await stopping
    assert all(isinstance(error, ConnectionLost) for error in results)
    assert [error.sent for error in results] == [True, False, False, False, False]
    assert all("note() was not executed" in str(error) for error in results[1:])
    assert driver.ran == []


async def test_what_a_cancelled_method_returns_in_time_is_its_result():
    driver = Driver()
    async with Server({"main": driver}) as server, AsyncioClient() as client:
        await server.start("127.0.0.1", 0)
        await client.connect_rpc("127.0.0.1", server.port)
        call = asyncio.ensure_future(client.tidy_up())
        assert await asyncio.to_thread(driver.begun.wait, 30)
        await server.stop()
        assert await call == "tidied up"


def test_a_method_that_never_ends_when_cancelled_does_not_keep_the_event_loop(serve, connect):
    driver = Driver()
    thread = serve({"main": driver})
    with ThreadPoolExecutor() as pool:
        call = pool.submit(connect(thread.port).go_on)
        assert driver.begun.wait(30)
        assert isinstance(stop_during(thread, call), ConnectionLost)
    thread.join()  # `asyncio.run` returns


def test_a_call_is_cut_off_by_another_clients_terminate(serve, connect):
    driver = Driver()
    thread = serve({"main": driver}, builtin_terminate=True)
    client, other = connect(thread.port), connect(thread.port)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(client.work)
        assert driver.begun.wait(30)
        assert other.terminate() is None
        error = call.exception(30)
    assert isinstance(error, ConnectionLost)
    assert "the server stopped" in str(error)


@pytest.mark.parametrize("words", [b"", b" pyon_v2", b" pyon_v2 request_ids"])
def test_to_an_older_client_the_connection_is_closed(serve, words):
    driver = Driver()
    thread = serve({"main": driver})
    with socket.create_connection(("127.0.0.1", thread.port), 30) as sock:
        sock.sendall(b"ARTIQ pc_rpc\nmain" + words + b"\n")
        sock.sendall(b'{"id":1,"action":"call","name":"work","args":[],"kwargs":{}}\n')
        assert driver.begun.wait(30)
        thread.loop.call_soon_threadsafe(thread.server.terminate)
        _greeting, _methods, *replies = sock.makefile("rb").read().splitlines()
    assert replies == []


def test_a_remote_cancelled_error_of_a_server_that_does_not_stop_stays_one(serve, either_client):
    class Cancelling:
        async def cancel(self):
            raise asyncio.CancelledError

    client = either_client(serve({"main": Cancelling()}).port)
    with pytest.raises(Exception, match="CancelledError") as caught:
        client.cancel()
    assert not isinstance(caught.value, ConnectionLost)


@pytest.mark.parametrize("method", ["work", "block"])
def test_a_server_that_stops_says_in_the_log_what_it_waits_for(serve, connect, caplog, method):
    caplog.set_level(logging.INFO)
    driver = Driver()
    thread = serve({"stage": driver}, worker_threads=True)
    client = connect(thread.port)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(getattr(client, method))
        assert driver.begun.wait(30)
        stop_during(thread, call)
        driver.may_end.set()
    thread.stop()
    assert f"stopping: waiting for stage.{method}() to end" in caplog.text


def test_a_server_that_waits_for_nothing_says_nothing(serve, connect, caplog):
    caplog.set_level(logging.INFO)
    thread = serve({"main": Driver()})
    with Client("127.0.0.1", thread.port, timeout=30) as client:
        client.note(5)
        thread.stop()
    assert "waiting" not in caplog.text
