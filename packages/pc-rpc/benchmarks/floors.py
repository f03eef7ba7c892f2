"""The minimum cost of an exchange: bare sockets and bare protocols that do nothing else.

As a program: ``floors.py KIND`` serves one of them on a free port, which it prints.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import threading
from collections.abc import Callable


class Echo(asyncio.BufferedProtocol):
    """Receives into one buffer, and sends the same bytes back."""

    def __init__(self) -> None:
        self.buffer = bytearray(256 * 1024)
        self.view = memoryview(self.buffer)

    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.view

    def buffer_updated(self, nbytes):
        self.transport.write(bytes(self.view[:nbytes]))


class JsonLines(asyncio.Protocol):
    """Answers each line of JSON with one; a single write for all lines of a read."""

    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        replies = []
        for line in lines:
            request = json.loads(line)
            reply = {"id": request["id"], "status": "ok", "ret": request["args"][0]}
            replies.append(json.dumps(reply).encode() + b"\n")
        self.transport.write(b"".join(replies))


class JsonCalls(Echo):
    """Calls a method for each line of JSON: the minimum of a remote procedure call.

    No time-outs, no ids of its own, no order, no limits, no errors; one line at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.target = Driver()
        self.names = frozenset({"echo"})

    def buffer_updated(self, nbytes):
        request = json.loads(str(self.view[: nbytes - 1], "utf-8"))
        name = request["name"]
        if request["action"] == "call" and name in self.names:
            result = getattr(self.target, name)(*request["args"], **request["kwargs"])
            reply = f'{{"id":{request["id"]},"status":"ok","ret":{json.dumps(result)}}}\n'
            self.transport.write(reply.encode())


class Driver:
    """The object with the method."""

    def echo(self, x):
        return x


def json_calls(sock: socket.socket) -> Callable[[object], object]:
    """Return the blocking client's end of `JsonCalls`."""
    numbers, buffer = itertools.count(), bytearray(64 * 1024)
    view = memoryview(buffer)

    def echo(x: object) -> object:
        number = next(numbers)
        call = f'"action":"call","name":"echo","args":[{json.dumps(x)}],"kwargs":{{}}'
        sock.sendall(f'{{"id":{number},{call}}}\n'.encode())
        size = sock.recv_into(buffer)
        reply = json.loads(str(view[: size - 1], "utf-8"))
        if reply["id"] != number or reply["status"] != "ok":
            raise ValueError(f"not the reply to {number}: {reply}")
        return reply["ret"]

    return echo


class JsonClient(asyncio.Protocol):
    """Sends requests as lines of JSON; the writes of one turn of the loop are batched."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.rest = b""
        self.waiting: dict[int, asyncio.Future] = {}
        self.queue: list[bytes] = []
        self.number = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            reply = json.loads(line)
            self.waiting.pop(reply["id"]).set_result(reply["ret"])

    def flush(self):
        self.transport.write(b"".join(self.queue))
        self.queue.clear()

    def call(self, x):
        self.number += 1
        future = self.waiting[self.number] = self.loop.create_future()
        if not self.queue:
            self.loop.call_soon(self.flush)
        request = {"id": self.number, "action": "call", "name": "echo", "args": [x], "kwargs": {}}
        self.queue.append(json.dumps(request).encode() + b"\n")
        return future


class ArrayEcho(asyncio.BufferedProtocol):
    """Receives a length of 8 bytes and that many bytes, into one array; sends them back."""

    PIECE = 256 * 1024

    def __init__(self) -> None:
        self.data = bytearray(8)
        self.start()

    def start(self):
        self.header = memoryview(bytearray(8))
        self.target, self.filled = self.header, 0

    def connection_made(self, transport):
        self.transport = transport
        self.transport.set_write_buffer_limits(high=0)
        self.outgoing = None

    def get_buffer(self, sizehint):
        return self.target[self.filled :]

    def buffer_updated(self, nbytes):
        self.filled += nbytes
        if self.filled < len(self.target):
            return
        if self.target is self.header:
            size = int.from_bytes(self.header, "big")
            if len(self.data) != size:
                self.data = bytearray(size)
            self.target, self.filled = memoryview(self.data), 0
        else:
            self.outgoing = self.target
            self.writable = True
            self.start()
            self.send()

    def send(self):
        while self.outgoing and self.writable:
            self.transport.write(self.outgoing[: self.PIECE])
            self.outgoing = self.outgoing[self.PIECE :]

    def pause_writing(self):
        self.writable = False

    def resume_writing(self):
        self.writable = True
        self.send()


KINDS: dict[str, Callable] = {
    "echo": Echo,
    "json": JsonLines,
    "calls": JsonCalls,
    "array": ArrayEcho,
}


def serve_threads() -> None:
    """Send all bytes back, in a thread for each connection."""

    def echo(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(65536)
        view = memoryview(buffer)
        while size := sock.recv_into(buffer):
            sock.sendall(view[:size])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()


async def serve(kind: str) -> None:
    server = await asyncio.get_running_loop().create_server(KINDS[kind], "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    serve_threads() if sys.argv[1] == "threads" else asyncio.run(serve(sys.argv[1]))
