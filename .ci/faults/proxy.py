"""A TCP proxy that injects faults, each at a byte that follows from the seed.

The one idea to keep in mind: a plan belongs to one direction of one connection, and follows from
the seed, the number of the connection and the direction. It says after which byte a fault occurs;
the time depends on the traffic.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Self

CHUNK = 65536
RESET = struct.pack("ii", 1, 0)
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Fault:
    """A fault in one direction of a connection.

    Attributes
    ----------
    kind : str
        A key of `KINDS`.
    at : int
        Bytes of this direction that pass before it.
    size : int
        Bytes that are affected, for some kinds.
    seconds : float
        Duration, for some kinds.
    """

    kind: str
    at: int
    size: int
    seconds: float


@dataclass(frozen=True)
class Weather:
    """The frequencies of faults.

    Attributes
    ----------
    weights : dict
        Relative frequencies of the kinds.
    gap : tuple of float
        Decimal logarithms of the fewest and the most bytes between two faults.
    pause : float
        Longest delay, in seconds; a stall takes up to ten times as long.
    """

    weights: Mapping[str, float]
    gap: tuple[float, float] = (0.0, 5.0)
    pause: float = 0.02

    def plan(self, seed: int, connection: int, direction: str) -> Iterator[Fault]:
        """Yield the faults of one direction of a connection, in order and without end."""
        rng = Random(f"{seed}/{connection}/{direction}")
        kinds, weights = list(self.weights), list(self.weights.values())
        at = 0
        while True:
            at += int(10 ** rng.uniform(*self.gap))
            (kind,) = rng.choices(kinds, weights)
            seconds = rng.uniform(0, self.pause) * (10 if kind == "stall" else 1)
            yield Fault(kind, at, int(10 ** rng.uniform(0, 2.5)), seconds)


FAIR = Weather({"split": 1, "merge": 1})
ROUGH = Weather(
    {
        "split": 6,
        "merge": 6,
        "delay": 6,
        "throttle": 3,
        "stall": 1,
        "half_close": 0.4,
        "reset": 0.6,
        "cut": 0.6,
    }
)
ROUGH_TLS = Weather({**ROUGH.weights, "corrupt": 0.5})
"""Only TLS detects a flipped bit: the proxy's TCP connection has a valid checksum."""


class Ended(Exception):  # noqa: N818
    """A fault has ended the connection."""


class Flow:
    """One direction of one connection.

    Parameters
    ----------
    proxy : Proxy
        Counts injected faults, and switches them off.
    source, sink : socket.socket
        The connections to read from and to write to.
    plan : iterator of Fault
        The faults.
    first_line : callable, optional
        Returns the replacement of the first line.
    """

    def __init__(
        self,
        proxy: Proxy,
        source: socket.socket,
        sink: socket.socket,
        plan: Iterator[Fault],
        first_line: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.proxy, self.source, self.sink = proxy, source, sink
        self._loop = asyncio.get_running_loop()
        self._plan = plan
        self._next = next(plan)
        self._passed = 0
        self._first_line = first_line

    async def run(self, tap: Callable[[bytes], None] | None) -> None:
        """Forward data until the end."""
        if self._first_line is not None:
            await self._replace_first_line(self._first_line)
        while data := await self._received():
            if tap is not None:
                tap(data)
            await self.pass_on(data)
        self.sink.shutdown(socket.SHUT_WR)

    async def _received(self) -> bytes:
        """Receive data; wait while the network is partitioned, without losing data, as TCP does."""
        try:
            return await self._loop.sock_recv(self.source, CHUNK)
        finally:
            await self.proxy.passable.wait()

    async def _replace_first_line(self, replace: Callable[[bytes], bytes]) -> None:
        data = b""
        while b"\n" not in data:
            more = await self._loop.sock_recv(self.source, CHUNK)
            if not more:
                break
            data += more
        line, end, rest = data.partition(b"\n")
        await self.pass_on(replace(line) + end + rest if end else data)

    async def pass_on(self, data: bytes) -> None:
        """Send data, with the faults that are due in it."""
        while data:
            room = self._next.at - self._passed
            if room >= len(data) or self.proxy.calm:
                await self.send(data)
                return
            head, data = data[: max(room, 0)], data[max(room, 0) :]
            await self.send(head)
            fault, self._next = self._next, next(self._plan)
            self.proxy.injected[fault.kind] += 1
            data = await KINDS[fault.kind](self, fault, data)

    async def send(self, data: bytes) -> None:
        """Send data unchanged."""
        self._passed += len(data)
        await self.proxy.passable.wait()
        if data:
            await self._loop.sock_sendall(self.sink, data)

    def available(self) -> bytes:
        """Return data that can be received without waiting."""
        try:
            return self.source.recv(CHUNK)
        except BlockingIOError:
            return b""


async def split(flow: Flow, fault: Fault, data: bytes) -> bytes:
    """Send bytes one by one."""
    for byte in data[: fault.size]:
        await flow.send(bytes([byte]))
        await asyncio.sleep(0)
    return data[fault.size :]


async def merge(flow: Flow, fault: Fault, data: bytes) -> bytes:
    """Hold data until more has arrived, and send it together."""
    await asyncio.sleep(fault.seconds)
    return data + flow.available()


async def pause(flow: Flow, fault: Fault, data: bytes) -> bytes:
    """Neither read nor send for a while: a delay, or a stall if it is long."""
    await asyncio.sleep(fault.seconds)
    return data


async def throttle(flow: Flow, fault: Fault, data: bytes) -> bytes:
    """Send a few bytes at a time, slowly."""
    piece = fault.size // 8 + 1
    for _ in range(8):
        await flow.send(data[:piece])
        data = data[piece:]
        await asyncio.sleep(fault.seconds / 8)
    return data


async def half_close(flow: Flow, fault: Fault, data: bytes) -> bytes:
    """End this direction; the other one goes on."""
    flow.sink.shutdown(socket.SHUT_WR)
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(flow.source, CHUNK):
        pass
    raise Ended


async def reset(flow: Flow, fault: Fault, data: bytes) -> bytes:
    """Reset both connections."""
    for sock in (flow.source, flow.sink):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    raise Ended


async def cut(flow: Flow, fault: Fault, data: bytes) -> bytes:
    """Close both connections after this byte; drop data received meanwhile."""
    flow.sink.shutdown(socket.SHUT_WR)
    while flow.available():
        pass
    raise Ended


async def corrupt(flow: Flow, fault: Fault, data: bytes) -> bytes:
    """Flip a bit."""
    return bytes([data[0] ^ 1 << fault.size % 8]) + data[1:]


KINDS: dict[str, Callable[[Flow, Fault, bytes], Awaitable[bytes]]] = {
    "split": split,
    "merge": merge,
    "delay": pause,
    "throttle": throttle,
    "stall": pause,
    "half_close": half_close,
    "reset": reset,
    "cut": cut,
    "corrupt": corrupt,
}


class Proxy:
    """A listening port that forwards connections to a target, with faults. On one event loop.

    Parameters
    ----------
    target : int
        Port of the server, on the loopback address.
    seed : int
        Seed of the plans.
    weather : Weather, optional
        Frequencies of the faults.
    first_line : callable, optional
        Returns the replacement of the server's first line.
    tap : callable, optional
        Called with each piece of data: number of the connection, "up" or "down", the bytes.

    Attributes
    ----------
    port : int
        Port for clients.
    calm : bool
        True: no more faults are injected.
    passable : asyncio.Event
        Not set: a partition. Nothing passes, not even the end of a connection.
    injected : Counter
        Faults by kind.
    errors : list of Exception
        Errors of the proxy itself.
    """

    def __init__(
        self,
        target: int,
        seed: int,
        weather: Weather = ROUGH,
        *,
        first_line: Callable[[bytes], bytes] | None = None,
        tap: Callable[[int, str, bytes], None] | None = None,
    ) -> None:
        self.target, self.seed, self.weather = target, seed, weather
        self.calm = False
        self.passable = asyncio.Event()
        self.passable.set()
        self.injected: Counter[str] = Counter()
        self.connections = 0
        self.errors: list[BaseException] = []
        self._first_line, self._tap = first_line, tap
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server((HOST, 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._keep(self._accept())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        self._listener.close()

    def _keep(self, coroutine: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(self._listener)
            self._keep(self._serve(near, self.connections))
            self.connections += 1

    async def _serve(self, near: socket.socket, number: int) -> None:
        far = socket.socket()
        with near, far:
            for sock in (near, far):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self.passable.wait()
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_connect(far, (HOST, self.target))
                await self._pass_on(near, far, number)

    async def _pass_on(self, near: socket.socket, far: socket.socket, number: int) -> None:
        plans = {way: self.weather.plan(self.seed, number, way) for way in ("up", "down")}
        up = Flow(self, near, far, plans["up"])
        down = Flow(self, far, near, plans["down"], self._first_line)
        flows = [
            self._keep(flow.run(self._tap_of(number, way)))
            for flow, way in ((up, "up"), (down, "down"))
        ]
        try:
            await asyncio.wait(flows, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for flow in flows:
                flow.cancel()
            ends = await asyncio.gather(*flows, return_exceptions=True)
            usual = (OSError, Ended, asyncio.CancelledError, type(None))
            self.errors += [end for end in ends if not isinstance(end, usual)]

    def _tap_of(self, number: int, way: str) -> Callable[[bytes], None] | None:
        tap = self._tap
        return None if tap is None else lambda data: tap(number, way, data)


class Network:
    """Proxies on an event loop in another thread, for clients of any kind."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network")
        self._thread.start()
        self._proxies: list[Proxy] = []
        return self

    def __exit__(self, *exc_info: object) -> None:
        for proxy in self._proxies:
            self._do(proxy.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def proxy(self, target: int, seed: int, weather: Weather = ROUGH, **options: Any) -> Proxy:
        """Start a proxy; the parameters are those of `Proxy`."""
        proxy = Proxy(target, seed, weather, **options)
        self._do(proxy.__aenter__())
        self._proxies.append(proxy)
        return proxy

    def calm(self) -> None:
        """Stop injecting faults."""
        for proxy in self._proxies:
            proxy.calm = True
        self.heal()

    def part(self, proxies: Sequence[Proxy]) -> None:
        """Partition the network: some proxies pass nothing, and close nothing, until `heal`."""
        for proxy in proxies:
            self._loop.call_soon_threadsafe(proxy.passable.clear)

    def heal(self) -> None:
        """End all partitions."""
        for proxy in self._proxies:
            self._loop.call_soon_threadsafe(proxy.passable.set)

    @property
    def proxies(self) -> list[Proxy]:
        """All started proxies."""
        return list(self._proxies)

    @property
    def injected(self) -> Counter[str]:
        """Faults of all proxies, by kind."""
        return sum((proxy.injected for proxy in self._proxies), Counter())

    @property
    def errors(self) -> list[BaseException]:
        """Errors of the proxies themselves."""
        return [error for proxy in self._proxies for error in proxy.errors]
