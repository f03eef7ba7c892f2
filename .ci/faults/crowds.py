"""Crowds of misbehaving clients of a server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from random import Random

from faults.processes import HOST

RPC = b"ARTIQ pc_rpc\n"
SELECTION = b"driver pyon_v2 raw_buffers request_ids exception_details\n"
SUBSCRIPTION = b'{"sync_struct":1,"notifier":"d","features":["raw_buffers"]}\n'
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2


class Crowd:
    """The connections and the settings of a crowd.

    Parameters
    ----------
    port : int
        Port of the server.
    rng : Random
        Source of random choices.
    kind : str
        Kind of the server: "rpc", "tls" or "publisher".

    Attributes
    ----------
    connections, sent : int
        Numbers of connections made, and of bytes sent.
    long_line : int
        Bytes of a long line.
    received : int
        Size of the receive buffers, in bytes.
    most : int
        Bytes that a client sends that reads nothing.
    """

    def __init__(self, port: int, rng: Random, kind: str) -> None:
        self.port, self.rng, self.kind = port, rng, kind
        self.connections = 0
        self.sent = 0
        self.long_line = 200_000_000
        self.received = 65536
        self.most = 2_000_000
        self.members: list[socket.socket] = []

    async def join(self) -> socket.socket:
        """Return a new connection."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.received)
        self.members.append(sock)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (HOST, self.port))
        self.connections += 1
        return sock

    async def send(self, sock: socket.socket, data: bytes) -> None:
        """Send data, without a time-out."""
        await asyncio.get_running_loop().sock_sendall(sock, data)
        self.sent += len(data)

    async def join_with_handshake(self) -> socket.socket:
        """Return a new connection after its handshake; with TLS, without one."""
        sock = await self.join()
        loop = asyncio.get_running_loop()
        if self.kind == "tls":
            return sock
        if self.kind == "publisher":
            await self.send(sock, SUBSCRIPTION)
            return sock
        for line in (RPC, SELECTION):
            await self.send(sock, line)
            while b"\n" not in (heard := await loop.sock_recv(sock, 65536)):
                if not heard:
                    raise ConnectionResetError("the server has closed the connection")
        return sock

    def leave(self, sock: socket.socket) -> None:
        """Close a connection."""
        self.members.remove(sock)
        sock.close()

    def close(self) -> None:
        """Close all connections."""
        for sock in self.members:
            sock.close()
        self.members.clear()


async def idle(crowd: Crowd, number: int) -> None:
    """Make 2,000 idle connections, 20 at a time."""
    for _ in range(100):
        await crowd.join_with_handshake()


async def never_read(crowd: Crowd, number: int) -> None:
    """Send many requests, and read no reply."""
    sock = await crowd.join_with_handshake()
    asked = [
        b'{"id":%d,"action":"ping"}\n',
        b'{"id":%d,"action":"get_rpc_method_list"}\n',
        b'{"id":%d,"action":"call","name":"fail","args":[],"kwargs":{}}\n',
        b'{"id":%d,"action":"dance"}\n',
    ][number % 4]
    if crowd.kind == "publisher":
        asked = b'{"action":"ping","x":%d}\n'
    for request in range(0, crowd.most // len(asked), 500):
        await crowd.send(sock, b"".join(asked % (request + n) for n in range(500)))
    await asyncio.sleep(3600)


async def drip(crowd: Crowd, number: int) -> None:
    """Send one byte per second of a handshake or a request."""
    sock = await (crowd.join() if number % 2 else crowd.join_with_handshake())
    line = RPC if number % 2 else b'{"id":1,"action":"call","name":"echo","args":["xxxxxxxx"]}\n'
    for byte in line:
        await crowd.send(sock, bytes([byte]))
        await asyncio.sleep(1)


async def come_and_go(crowd: Crowd, number: int) -> None:
    """Open connections and close them at once, about a hundred times per second."""
    while True:
        crowd.leave(await crowd.join())
        await asyncio.sleep(0.01)


async def junk(crowd: Crowd, number: int) -> None:
    """Send random bytes, before and after the handshake."""
    while True:
        sock = await (crowd.join_with_handshake() if number % 2 else crowd.join())
        with contextlib.suppress(OSError):
            await crowd.send(sock, crowd.rng.randbytes(1000) + b"\n")
            await asyncio.sleep(0.02)
        crowd.leave(sock)


async def tls_junk(crowd: Crowd, number: int) -> None:
    """Begin a TLS handshake, and continue with random bytes."""
    while True:
        sock = await crowd.join()
        with contextlib.suppress(OSError):
            await crowd.send(sock, TLS_HELLO + crowd.rng.randbytes(500))
            await asyncio.sleep(0.02)
        crowd.leave(sock)


async def long_lines(crowd: Crowd, number: int) -> None:
    """Send lines of 200 MB."""
    piece = b"x" * 1_000_000
    sock = await crowd.join_with_handshake()
    while True:
        await crowd.send(sock, b'{"id":1,"action":"call","name":"echo","args":["')
        for _ in range(crowd.long_line // len(piece)):
            await crowd.send(sock, piece)
            await asyncio.sleep(0.01)  # the rate of gigabit Ethernet
        await crowd.send(sock, b'"]}\n')


async def announce(crowd: Crowd, number: int) -> None:
    """Announce 65,536 buffers, and send none."""
    sock = await crowd.join_with_handshake()
    size = b"1" if number % 2 else b"100000"
    await crowd.send(
        sock, b'{"buffers":[' + b",".join([size] * 65_536) + b'],"id":1,"action":"x"}\n'
    )
    await asyncio.sleep(3600)


async def mute(crowd: Crowd, number: int) -> None:
    """Call a method whose error has a `__str__` that never returns."""
    sock = await crowd.join_with_handshake()
    await crowd.send(sock, b'{"id":1,"action":"call","name":"mute","args":[],"kwargs":{}}\n')
    await asyncio.sleep(3600)


ALL = frozenset({"rpc", "tls", "publisher"})
PLAIN = frozenset({"rpc", "publisher"})

KINDS: dict[str, tuple[Callable[[Crowd, int], Awaitable[None]], int, frozenset[str]]] = {
    "2,000 idle connections": (idle, 20, ALL),
    "clients that never read": (never_read, 4, PLAIN),
    "clients that say a byte a second": (drip, 100, PLAIN),
    "clients that open and close at once": (come_and_go, 4, ALL),
    "junk": (junk, 6, ALL),
    "TLS junk": (tls_junk, 6, ALL),
    "lines of 200 MB": (long_lines, 1, PLAIN),
    "65,536 buffers that never come": (announce, 20, frozenset({"rpc"})),
}
"""For each crowd: the behaviour and the number of its members, and the kinds of servers."""
