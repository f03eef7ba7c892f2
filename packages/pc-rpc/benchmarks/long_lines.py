"""The cost of a long line at each end: peak memory per size of the line, longest stop of the loop.

    python packages/pc-rpc/benchmarks/long_lines.py [MEBIBYTES]

Each end runs in a process of its own, at its default limits (the line is dropped) and with limits
that accept it. A peer of a few lines sends a string of ``x``. The stop of the loop is measured by a
task that only reads the clock; it includes the decoding of the line.
"""

import asyncio
import json
import resource
import socket
import subprocess
import sys
import threading
import time

ENDS = ("server", "client", "asyncio client")


def send(sock, head, size, tail):
    sock.sendall(head)
    piece = b"x" * 2**20
    for _ in range(size // len(piece)):
        sock.sendall(piece)
    sock.sendall(tail + b"\n")


class Driver:
    def size(self, text):
        return len(text)


class Gap:
    """The longest time in which the event loop was blocked."""

    def __init__(self):
        self.longest = 0.0

    async def watch(self):
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def serve(size, options):
    """Run a server; a thread sends it the request."""
    import pc_rpc

    async with pc_rpc.Server({"main": Driver()}, **options) as server:
        await server.start("127.0.0.1", 0)

        def ask():
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                lines = sock.makefile("rb")
                sock.sendall(b"ARTIQ pc_rpc\nmain pyon_v2 request_ids\n")
                lines.readline(), lines.readline()
                send(
                    sock,
                    b'{"id":1,"action":"call","name":"size","args":["',
                    size,
                    b'"],"kwargs":{}}',
                )
                return lines.readline()

        return (await asyncio.to_thread(ask))[:200].decode()


def one_reply(size):
    """Start a server that answers one call; return its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        sock, _ = listener.accept()
        with listener, sock:
            lines = sock.makefile("rb")
            lines.readline()
            greeting = {"targets": ["main"], "description": None, "features": ["pyon_v2"]}
            sock.sendall(json.dumps(greeting).encode() + b"\n")
            lines.readline()
            sock.sendall(b'{"__jsonclass__":["set",[["get"]]]}\n')
            lines.readline()
            send(sock, b'{"status":"ok","ret":"', size, b'"}')
            lines.readline()

    threading.Thread(target=answer, daemon=True).start()
    return listener.getsockname()[1]


def call(size, options):
    import pc_rpc

    with pc_rpc.Client("127.0.0.1", one_reply(size), **options) as client:
        try:
            return f"{len(client.get())} characters"
        except ValueError as error:
            return str(error)


async def call_asyncio(size, options):
    import pc_rpc

    client = pc_rpc.AsyncioClient()
    await client.connect_rpc("127.0.0.1", one_reply(size), **options)
    try:
        return f"{len(await client.get())} characters"
    except ValueError as error:
        return str(error)
    finally:
        await client.close_rpc()


async def watched(run, size, options):
    gap = Gap()
    watching = asyncio.ensure_future(gap.watch())
    said = await run(size, options)
    watching.cancel()
    return said, gap.longest


def measure(end, size, options):
    """Print the cost of one end: in a process of its own."""
    import pc_rpc  # noqa: F401
    import pyon.asyncio_server

    pyon.decode(pyon.encode({"warm": "up"}, version=2))
    before, begun = peak(), time.perf_counter()
    if end == "client":
        said, gap = call(size, options), None
    else:
        run = serve if end == "server" else call_asyncio
        said, gap = asyncio.run(watched(run, size, options))
    print(json.dumps([said, (peak() - before) / size, gap, time.perf_counter() - begun]))


def main(size):
    print(f"one line of {size >> 20} MiB")
    for end in ENDS:
        for limits in ("default", "raised"):
            options = {} if limits == "default" else {"limit": 4 * size, "line_limit": 4 * size}
            done = subprocess.run(
                [sys.executable, __file__, "--measure", end, str(size), json.dumps(options)],
                capture_output=True,
                text=True,
                check=True,
            )
            said, memory, gap, seconds = json.loads(done.stdout)
            stop = "" if gap is None else f", loop stopped for {1e3 * gap:.0f} ms at most"
            print(f"{end}, {limits} limits: {memory:.2f} x the line, {seconds:.1f} s{stop}")
            print(f"    {said}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
    else:
        main(int(sys.argv[1]) * 2**20 if sys.argv[1:] else 2**30)
