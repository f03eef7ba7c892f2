"""The peers that are compared: our publisher and subscribers, lower bounds, and two brokers.

Publishers run in the benchmark's own process; each has `start`, `emit` and `stop`. Subscribers run
in a child process (`subscribers`), which reports over a pipe.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import json
import re
import shutil
import socket
import subprocess
import tempfile
import time

import numpy as np
import sync_struct

NAME = "bench"


class Ours:
    """Publisher of sync-struct."""

    def __init__(self, structure=None, **options):
        self.notifier = sync_struct.Notifier({} if structure is None else structure)
        self.publisher = sync_struct.Publisher({NAME: self.notifier}, **options)

    async def start(self):
        await self.publisher.start("127.0.0.1", 0)
        return self.publisher.port

    async def emit(self, items):
        for key, value in items:
            self.notifier[key] = value

    async def stop(self):
        await self.publisher.stop()


class Appending(Ours):
    """The same, with a list that grows."""

    def __init__(self, **options):
        super().__init__({"l": []}, **options)

    async def emit(self, items):
        for item in items:
            self.notifier["l"].append(item[1])


class Bare:
    """Floor: an asyncio Protocol that writes lines encoded in advance, one write per batch."""

    greeting = b""

    def __init__(self):
        self.transports = set()
        self.lines = {}

    async def start(self):
        owner = self

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                owner.transports.add(transport)
                if owner.greeting:
                    transport.write(owner.greeting)

            def connection_lost(self, exc):
                owner.transports.discard(self.transport)

        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(Server, "127.0.0.1", 0, backlog=1024)
        return self.server.sockets[0].getsockname()[1]

    def encode(self, items):
        # Encoded in advance: only the writing is measured.
        key = len(items)
        if key not in self.lines:
            self.lines[key] = Json.encode(self, items)
        return self.lines[key]

    async def emit(self, items):
        data = self.encode(items)
        for transport in self.transports:
            transport.write(data)

    async def stop(self):
        self.server.close()
        for transport in list(self.transports):
            transport.abort()
        await asyncio.sleep(0)


class Greeter(Bare):
    """The json reference for joining: the structure, encoded once, for the first subscriber."""

    def __init__(self, structure):
        super().__init__()
        self.structure = structure

    @functools.cached_property
    def greeting(self):
        return json.dumps({"key": "struct", "value": self.structure}).encode() + b"\n"


class Frames(Bare):
    """Floor of frames: the minimum work of a publisher that copies, keeps and numbers them."""

    def __init__(self, backlog=32 * 2**20):
        super().__init__()
        self.log, self.room, self.number = collections.deque(), backlog, 0

    async def emit(self, items):
        ((key, array),) = items
        array = array.copy()
        self.number += 1
        self.log.append(array)
        self.room -= array.nbytes
        while self.room < 0:
            self.room += self.log.popleft().nbytes
        mod = {"size": array.nbytes, "action": "setitem", "path": [], "key": key}
        mod |= {"shape": array.shape, "dtype": array.dtype.str, "number": self.number}
        line = json.dumps(mod).encode() + b"\n"
        for transport in self.transports:
            transport.write(line)
            write_pieces(transport, array)


def write_pieces(transport, array):
    """Write an array's bytes, in pieces that asyncio does not copy repeatedly."""
    data = memoryview(array).cast("B")
    for i in range(0, len(data), 2**18):
        transport.write(data[i : i + 2**18])


class Json(Bare):
    """The same with json at both ends."""

    def encode(self, items):
        lines = [
            json.dumps({"action": "setitem", "path": [], "key": key, "value": value})
            for key, value in items
        ]
        return ("\n".join(lines) + "\n").encode()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Broker:
    """A message broker of Debian, started here."""

    command: tuple[str, ...]

    async def start(self):
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(  # noqa: ASYNC220  (quick, and nothing else runs)
            [part.format(port=self.port, folder=self.folder.name) for part in self.command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            await asyncio.sleep(0.05)
        await self.connect()
        return self.port

    async def stop(self):
        await self.disconnect()
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Redis(Broker):
    """Redis pub/sub."""

    command = ("redis-server", "--port", "{port}", "--save", "", "--dir", "{folder}")

    async def connect(self):
        from redis.asyncio import Redis as Client

        self.client = Client(host="127.0.0.1", port=self.port)

    async def emit(self, items):
        pipeline = self.client.pipeline(transaction=False)
        for item in items:
            pipeline.publish(NAME, json.dumps(item))
        await pipeline.execute()

    async def disconnect(self):
        await self.client.aclose()


class Nats(Broker):
    """NATS."""

    command = ("nats-server", "-a", "127.0.0.1", "-p", "{port}")

    async def connect(self):
        import nats

        self.client = await nats.connect(f"nats://127.0.0.1:{self.port}")

    async def emit(self, items):
        for item in items:
            await self.client.publish(NAME, json.dumps(item).encode())
        await self.client.flush()

    async def disconnect(self):
        await self.client.close()


PUBLISHERS = {
    "ours": Ours,
    "appends": Appending,
    "bare": Bare,
    "json": Json,
    "redis": Redis,
    "nats": Nats,
}


def available():
    """Return the kinds that can be compared here."""
    kinds = ["ours", "bare", "json"]
    for kind, server in (("redis", "redis-server"), ("nats", "nats-server")):
        try:
            __import__(kind)
        except ImportError:
            continue
        if shutil.which(server):
            kinds.append(kind)
    return kinds


class CountClient(asyncio.Protocol):
    """Only counts mods; sends its banner, and skips the first lines."""

    def __init__(self, told, hello, skip):
        self.told, self.hello, self.skip = told, hello, skip

    def connection_made(self, transport):
        transport.write(self.hello)

    def data_received(self, data):
        while self.skip and data:
            self.skip -= b"\n" in data
            data = data.partition(b"\n")[2]
        for _ in range(data.count(b'"path"')):
            self.told(None)


class TailClient(asyncio.BufferedProtocol):
    """Reads megabytes as cheaply as possible, and parses only the end of every line.

    `told` is called with the time that is written there (a mod of the key ``"t"`` is the last), or
    with None.
    """

    TAIL = 128

    def __init__(self, told, hello):
        self.told, self.hello = told, hello
        self.memory = bytearray(self.TAIL + 2**18)  # the end of the last read, and the next one
        self.view = memoryview(self.memory)

    def connection_made(self, transport):
        transport.write(self.hello)

    def get_buffer(self, sizehint):
        return self.view[self.TAIL :]

    def buffer_updated(self, nbytes):
        end = self.TAIL + nbytes
        at = self.memory.find(b"\n", self.TAIL, end)
        while at >= 0:
            time = re.search(rb'"t","value":([0-9.]+)', self.view[at - self.TAIL : at])
            self.told(time and float(time[1]))
            at = self.memory.find(b"\n", at + 1, end)
        self.view[: self.TAIL] = self.view[end - self.TAIL : end].tobytes()


class LineClient(asyncio.Protocol):
    """Decodes mods and applies them."""

    def __init__(self, told):
        self.told, self.rest, self.target = told, b"", {}

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            mod = json.loads(line)
            self.target[mod["key"]] = mod["value"]
            self.told(mod["value"])


class BytesClient(asyncio.BufferedProtocol):
    """Counts frames of a known size, received into the same memory."""

    def __init__(self, told, size):
        self.told, self.buffer, self.filled = told, memoryview(bytearray(size)), 0

    def get_buffer(self, sizehint):
        return self.buffer[self.filled :]

    def buffer_updated(self, nbytes):
        self.filled += nbytes
        if self.filled == len(self.buffer):
            self.filled = 0
            self.told(None)


class FrameClient(asyncio.BufferedProtocol):
    """The minimum work of a subscriber of frames: each in its own memory, assigned to its key."""

    def __init__(self, told):
        self.told, self.target = told, {}
        self.memory = bytearray(2**18)
        self.view, self.end = memoryview(self.memory), 0
        self.frame = None  # the frame being received

    def get_buffer(self, sizehint):
        return self.view[self.end :] if self.frame is None else self.frame[self.filled :]

    def buffer_updated(self, nbytes):
        start = 0
        if self.frame is None:
            self.end += nbytes
        else:
            self.filled += nbytes
        while True:
            if self.frame is None:
                at = self.memory.find(b"\n", start, self.end)
                if at < 0:
                    break
                self.mod = json.loads(self.memory[start:at])
                self.frame = np.empty(self.mod["size"], np.uint8).data
                self.filled = min(self.end - at - 1, len(self.frame))
                start = at + 1 + self.filled
                self.frame[: self.filled] = self.view[at + 1 : start]
            if self.filled < len(self.frame):
                break
            array = np.asarray(self.frame).view(self.mod["dtype"]).reshape(self.mod["shape"])
            self.target[self.mod["key"]] = array
            self.frame = None
            self.told(array)
        rest = self.memory[start : self.end]
        self.view[: len(rest)] = rest
        self.end = len(rest)


async def join(kind, port, told, options, keep):
    """Connect one subscriber; `told` is called with the value of every mod."""
    loop = asyncio.get_running_loop()
    if kind == "ours":

        def notify(mod):
            if mod["action"] != "init":
                told(mod["x" if mod["action"] == "append" else "value"])

        build = options.pop("build", lambda x: x)
        subscriber = sync_struct.Subscriber(NAME, build, notify, **options)
        await subscriber.connect("127.0.0.1", port)
        keep.append(subscriber)
    elif kind == "tail":
        factory = lambda: TailClient(told, options["hello"])  # noqa: E731
        keep.append(await loop.create_connection(factory, "127.0.0.1", port))
    elif kind == "frames":
        keep.append(await loop.create_connection(lambda: FrameClient(told), "127.0.0.1", port))
    elif kind in ("bare", "json"):
        if size := options.get("size"):
            factory = lambda: BytesClient(told, size)  # noqa: E731
        elif kind == "json":
            factory = lambda: LineClient(told)  # noqa: E731
        else:
            hello, skip = options.get("hello", b""), options.get("skip", 0)
            factory = lambda: CountClient(told, hello, skip)  # noqa: E731
        keep.append(await loop.create_connection(factory, "127.0.0.1", port))
    elif kind == "redis":
        from redis.asyncio import Redis as Client

        pubsub = Client(host="127.0.0.1", port=port).pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe(NAME)
        await pubsub.get_message(ignore_subscribe_messages=False, timeout=5)

        async def listen():
            async for message in pubsub.listen():
                told(json.loads(message["data"])[1])

        keep.append((pubsub, asyncio.ensure_future(listen())))
    else:
        import nats

        client = await nats.connect(f"nats://127.0.0.1:{port}")

        async def received(message):
            told(json.loads(message.data)[1])

        await client.subscribe(NAME, cb=received)
        await client.flush()
        keep.append(client)


def subscribers(pipe, kind, port, count, per_round, options):
    """Run `count` subscribers in this process; report every complete round over the pipe.

    The kind may have a suffix: ``-init`` reports the seconds until all have the structure; with
    ``-age`` and ``-time`` the structure has a time ``"t"``, and how old it was at each update is
    reported at the end. The kind ``tail`` is cheap readers (`TailClient`) of whatever publisher.
    """
    kind, _, mode = kind.partition("-")
    options = dict(options)
    ages = []
    received = 0

    def told(value):
        nonlocal received
        if mode == "age" or options.get("latency"):
            ages.append(time.monotonic() - value)
        if mode == "time":
            if not isinstance(value, float):
                return
            ages.append(time.monotonic() - value)
        received += 1
        if received % (per_round * count) == 0:
            pipe.send("round")

    async def main():
        keep = []
        began = time.perf_counter()
        if mode == "init":
            await initialise(kind, port, count, keep, options)
        else:
            ours = {key: value for key, value in options.items() if key != "latency"}
            joined = (join(kind, port, told, dict(ours), keep) for _ in range(count))
            if mode == "age":
                joined = [follow_age(port, ages, ours, keep)]
            await asyncio.gather(*joined)
        pipe.send(time.perf_counter() - began if mode == "init" else "ready")
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        loop.add_reader(pipe.fileno(), lambda: over.done() or over.set_result(pipe.recv()))
        await over
        pipe.send(ages)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
    pipe.recv()


async def initialise(kind, port, count, keep, options):
    """Run `count` subscribers that receive the structure and drop it."""
    loop = asyncio.get_running_loop()
    if kind == "tail":
        lines, over = options["lines"] * count, loop.create_future()

        def told(_):
            nonlocal lines
            lines -= 1
            if not lines:
                over.set_result(None)

        await asyncio.gather(*(join(kind, port, told, options, keep) for _ in range(count)))
        await over
        return
    if kind == "ours":
        for _ in range(count):
            keep.append(sync_struct.Subscriber(NAME, lambda x: None))
        await asyncio.gather(*(s.connect("127.0.0.1", port) for s in keep))
        return
    got = asyncio.Semaphore(0)
    for _ in range(count):
        keep.append(
            loop.create_connection(lambda: InitClient(lambda: got.release()), "127.0.0.1", port)
        )
    keep[:] = await asyncio.gather(*keep)
    for _ in range(count):
        await got.acquire()


class InitClient(asyncio.BufferedProtocol):
    """Receives one line of any length, and decodes it."""

    def __init__(self, done):
        self.done, self.scratch, self.parts = done, memoryview(bytearray(2**18)), []

    def get_buffer(self, sizehint):
        return self.scratch

    def buffer_updated(self, nbytes):
        part = bytes(self.scratch[:nbytes])
        self.parts.append(part)
        if part.endswith(b"\n"):
            json.loads(b"".join(self.parts))
            self.parts.clear()
            self.done()


async def follow_age(port, ages, options, keep):
    """Run one subscriber that reads its structure at every update."""
    subscriber = sync_struct.Subscriber(
        NAME,
        lambda x: x,
        lambda mod: mod.get("key") == "t" and ages.append(time.monotonic() - mod["value"]),
        **options,
    )
    await subscriber.connect("127.0.0.1", port)
    keep.append(subscriber)
