"""The proxy of the suite of faults: each fault has its effect, and follows from the seed."""

import asyncio
import itertools
import socket

import pytest
from faults.proxy import KINDS, ROUGH, ROUGH_TLS, Proxy, Weather

TEXT = bytes(range(256)) * 40


class Peer:
    """A server that sends TEXT to each client, and keeps the data that it receives."""

    def __init__(self):
        self.received = b""
        self.pieces = 0
        self.ended = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info):
        self._server.close()
        await self._server.wait_closed()

    async def serve(self, reader, writer):
        writer.write(TEXT)
        try:
            while data := await reader.read(65536):
                self.received += data
                self.pieces += 1
        except OSError as error:
            self.received = error
        writer.close()
        self.ended.set()


async def talk(weather, seed=1):
    """Exchange TEXT through a proxy; return the data received at each end, and the proxy."""
    async with asyncio.timeout(60), Peer() as peer, Proxy(peer.port, seed, weather) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(TEXT)
        if not proxy.weather.weights.keys() & {"half_close"}:
            writer.write_eof()
        try:
            heard = await reader.read()
        except OSError as error:
            heard = error
        writer.close()
        await peer.ended.wait()
        assert proxy.errors == []
        return heard, peer, proxy


def one(kind, **options):
    return Weather({kind: 1}, **{"gap": (2.0, 3.0), "pause": 0.001, **options})


@pytest.mark.parametrize("kind", ["split", "merge", "delay", "throttle", "stall"])
async def test_faults_that_keep_a_connection_keep_every_byte(kind):
    heard, peer, proxy = await talk(one(kind))
    assert heard == peer.received == TEXT
    assert set(proxy.injected) == {kind}


async def test_every_byte_can_be_a_piece_of_its_own():
    heard, peer, proxy = await talk(one("split", gap=(0.0, 0.0)))
    assert heard == peer.received == TEXT
    assert proxy.injected["split"] > 50


@pytest.mark.parametrize("kind", ["half_close", "cut"])
async def test_a_direction_ends_at_the_byte_that_follows_from_the_seed(kind):
    weather = one(kind)
    heard, peer, _ = await talk(weather)
    at = {way: next(weather.plan(1, 0, way)).at for way in ("up", "down")}
    ends = [heard == TEXT[: at["down"]], peer.received == TEXT[: at["up"]]]
    assert all(ends) if kind == "half_close" else any(ends)


async def test_a_reset_reaches_both_ends():
    heard, peer, _ = await talk(one("reset"))
    assert isinstance(heard, ConnectionResetError)
    assert isinstance(peer.received, ConnectionResetError)


async def test_corruption_flips_single_bits():
    heard, peer, proxy = await talk(one("corrupt"))
    for received in (heard, peer.received):
        assert len(received) == len(TEXT)
        assert received != TEXT
    flipped = sum(a != b for a, b in zip(heard + peer.received, TEXT + TEXT, strict=True))
    assert flipped == proxy.injected["corrupt"]


async def test_a_calm_proxy_injects_nothing():
    async with Peer() as peer, Proxy(peer.port, 1) as proxy:
        proxy.calm = True
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write_eof()
        assert await reader.read() == TEXT
        writer.close()
        assert not proxy.injected


@pytest.mark.parametrize("weather", [ROUGH, ROUGH_TLS])
def test_a_plan_follows_from_its_seed(weather):
    def first(seed, connection, way):
        return list(itertools.islice(weather.plan(seed, connection, way), 50))

    assert first(7, 3, "up") == first(7, 3, "up")
    different = [first(7, 3, "up"), first(8, 3, "up"), first(7, 4, "up"), first(7, 3, "down")]
    assert all(a != b for a, b in itertools.combinations(different, 2))
    assert {fault.kind for plan in different for fault in plan} <= KINDS.keys()
    assert all(a.at < b.at for plan in different for a, b in itertools.pairwise(plan))


async def test_the_connection_ends_if_the_server_is_not_running():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        async with Proxy(reserved.getsockname()[1], 1) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await reader.read() == b""
            writer.close()
