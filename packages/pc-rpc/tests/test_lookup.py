"""Look-ups that take long: the time-out includes them."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from pc_rpc import AsyncioClient, BestEffortClient, Client
from pc_rpc._lookup import _under_way, is_numeric


class Driver:
    def echo(self, x):
        return x


@pytest.fixture
def name_server(monkeypatch):
    """A name server that answers on demand; names that end in .lab are this computer."""
    answer, asked = threading.Event(), []
    getaddrinfo = socket.getaddrinfo

    def slow(host, *args, **kwargs):
        asked.append((host, threading.current_thread()))
        if str(host).endswith(".lab"):
            assert answer.wait(30)
            host = "127.0.0.1"
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    slow.answer, slow.asked = answer, asked
    yield slow
    answer.set()
    for _, thread in asked:
        if thread.name.startswith("look-up"):
            thread.join(30)
    assert not _under_way


def test_the_time_out_covers_the_look_up_of_the_name(name_server):
    with pytest.raises(TimeoutError, match=r"no connection to 'main' at laser\.lab:1 within"):
        Client("laser.lab", 1, "main", timeout=0.05)
    client = BestEffortClient("laser.lab", 1, "main", firstcon_timeout=0.05, retry=1000)
    assert client.echo(1) is None
    assert isinstance(client.last_error, TimeoutError)
    client.close_rpc()
    assert len(name_server.asked) == 1  # the second client joined the first look-up


def test_the_time_out_of_an_asyncio_client_covers_it_and_the_loop_ends_at_once(name_server):
    async def connect():
        await AsyncioClient().connect_rpc("laser.lab", 1, timeout=0.05)

    with pytest.raises(TimeoutError, match=r"laser\.lab:1 did not answer within"):
        asyncio.run(connect())
    assert not name_server.answer.is_set()


def test_a_name_that_is_found_in_time_connects(serve, name_server, connect):
    port = serve({"main": Driver()}).port
    name_server.answer.set()
    assert connect(port, host="laser.lab").echo(1) == 1

    async def call():
        async with AsyncioClient() as client:
            await client.connect_rpc("laser.lab", port, timeout=30)
            return await client.echo(2)

    assert asyncio.run(call()) == 2


def test_a_numeric_address_costs_no_thread(serve, name_server, connect):
    connect(serve({"main": Driver()}).port).echo(1)
    asked = [thread for host, thread in name_server.asked if host == "127.0.0.1"]
    assert threading.current_thread() not in asked
    assert not any(thread.name.startswith("look-up") for thread in asked)


@pytest.mark.parametrize(
    ("host", "numeric"),
    [("127.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("localhost", False), ("", False)],
)
def test_numeric_addresses_are_recognised(host, numeric):
    assert is_numeric(host) is numeric


@pytest.mark.parametrize("host", ["a" * 70 + ".lab", "laser..lab"])
@pytest.mark.parametrize("timeout", [None, 30])
def test_an_invalid_name_is_named_in_the_error(host, timeout):
    with pytest.raises(socket.gaierror, match=rf"no connection to {host}:1: .* right\?"):
        Client(host, 1, timeout=timeout)


def test_an_unknown_name_is_named_in_the_error(monkeypatch):
    def unknown(host, *args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for timeout in (None, 30):
        with pytest.raises(socket.gaierror, match=r"no connection to lasr\.lab:1: Name or service"):
            Client("lasr.lab", 1, timeout=timeout)


async def test_addresses_that_do_not_answer_share_the_time_of_an_asyncio_client(serve, monkeypatch):
    port = serve({"main": Driver()}).port
    loop = asyncio.get_running_loop()
    sock_connect, tried = loop.sock_connect, []

    async def connect_or_hang(sock, address):
        tried.append(address[0])
        if address[0] == "127.0.0.2":
            await asyncio.Event().wait()
        await sock_connect(sock, address)

    def two(host, port, **kwargs):
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 0, "", (ip, port)) for ip in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    monkeypatch.setattr(loop, "sock_connect", connect_or_hang)
    async with AsyncioClient() as client:
        await client.connect_rpc("laser.lab", port, timeout=4)
        assert await client.echo(1) == 1
    assert tried == ["127.0.0.2", "127.0.0.1"]
