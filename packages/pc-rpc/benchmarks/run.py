"""Measure pc-rpc against bare sockets and other packages; show which promises are met.

    python run.py [--against PYTHON] [SECTION...]
    sections: cost small flight clients arrays streams connect blocked idle import

Figures are ratios within one run: the contestants take turns, and the median of the turns counts.
Other packages are measured if they are installed (``pip install --group bench``). With `--against`
the section "cost" also measures the packages that are installed for another Python: an earlier
checkout, for example.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import queue
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import both_ends
import floors
import pc_rpc
import peers
from contest import (
    bare_socket,
    one_core,
    promise,
    server,
    table,
    take_turns,
    timed,
    verdict,
)
from streams import streams


def available() -> list[str]:
    modules = {"managers": "multiprocessing", "pyro5": "Pyro5", "grpc": "grpc"}
    return [n for n in peers.NAMES if importlib.util.find_spec(modules.get(n, n)) is not None]


LINE = b'{"id":123,"action":"call","name":"echo","args":[5],"kwargs":{}}\n'


JSON_ALONE = "lines of JSON, nothing else"


def small(stack: contextlib.ExitStack) -> None:
    """A blocking echo of a number."""
    stack.enter_context(one_core())
    port, _ = stack.enter_context(server("floors.py", "echo"))
    sock, buffer = stack.enter_context(bare_socket(port)), bytearray(65536)

    def bare() -> None:
        sock.sendall(LINE)
        sock.recv_into(buffer)

    contestants = {"bare sockets": timed(bare, 300)}
    port, _ = stack.enter_context(server("floors.py", "calls"))
    least = floors.json_calls(stack.enter_context(bare_socket(port)))
    contestants[JSON_ALONE] = timed(lambda: least(5), 300)
    for name in ["pc_rpc", *available()]:
        port, _ = stack.enter_context(server("peers.py", name))
        echo = getattr(peers, name)(port)
        assert echo(5) == 5
        contestants[name] = timed(lambda echo=echo: echo(5), 300)
    rows = take_turns(contestants, 11)
    table("blocking echo(int)", rows, "us", 1e6)
    floor, ours = rows.pop("bare sockets"), rows.pop("pc_rpc")
    del rows[JSON_ALONE]  # not a peer: the minimum in Python, for comparison
    promise("echo(int): time / bare sockets", ours / floor, "<=", 1.7)
    if rows:
        promise("echo(int): time / fastest peer", ours / min(rows.values()), "<", 1.0)


async def _flight(port: int, json_port: int, peer_rate: float | None) -> None:
    _, bare = await asyncio.get_running_loop().create_connection(
        floors.JsonClient, "127.0.0.1", json_port
    )
    async with pc_rpc.AsyncioClient() as client:
        await client.connect_rpc("127.0.0.1", port)

        async def rate(call: Callable[[int], object]) -> float:
            async def caller() -> None:
                for number in range(100):
                    await call(number)

            began = time.perf_counter()
            await asyncio.gather(*(caller() for _ in range(64)))
            return 6400 / (time.perf_counter() - began)

        results: dict[str, list[float]] = {"bare Protocols, json": [], "pc_rpc": []}
        for _ in range(7):
            results["bare Protocols, json"].append(await rate(bare.call))
            results["pc_rpc"].append(await rate(client.echo))
    bare.transport.close()
    rows = {name: statistics.median(values) for name, values in results.items()}
    if peer_rate is not None:
        rows["fastest peer"] = peer_rate
    table("64 calls in flight on one connection", rows, "calls/s")
    promise("64 in flight: rate / bare", rows["pc_rpc"] / rows["bare Protocols, json"], ">=", 0.6)
    if peer_rate is not None:
        promise("64 in flight: rate / fastest peer", rows["pc_rpc"] / peer_rate, ">=", 6.0)


def flight(stack: contextlib.ExitStack) -> None:
    """64 calls in flight on one AsyncioClient."""
    port, _ = stack.enter_context(server("peers.py", "pc_rpc"))
    json_port, _ = stack.enter_context(server("floors.py", "json"))
    peer_rate = None
    if importlib.util.find_spec("grpc") is not None:  # the only one that pipelines
        grpc_port, _ = stack.enter_context(server("peers.py", "grpc"))
        echo = peers.grpc(grpc_port)
        echo(5)

        def in_flight() -> None:
            for future in [echo.future(5) for _ in range(64)]:
                future.result()

        peer_rate = 64 / statistics.median(timed(in_flight, 10)() for _ in range(5))
    asyncio.run(_flight(port, json_port, peer_rate))


def crowd_of_threads(connect: Callable[[int], Callable], port: int) -> Callable[[], float]:
    """Return a function that measures 20 blocking clients, each in a thread of its own."""
    tasks: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def client() -> None:
        echo = connect(port)  # here: some clients belong to the thread that made them
        done.put(echo(5) == 5)
        while (times := tasks.get()) is not None:
            done.put(all(echo(number) == number for number in range(times)))

    def all_done() -> None:
        assert all(done.get(timeout=60) for _ in range(20))

    for _ in range(20):
        threading.Thread(target=client, daemon=True).start()
    all_done()

    def rate() -> float:
        began = time.perf_counter()
        for _ in range(20):
            tasks.put(25)
        all_done()
        return 500 / (time.perf_counter() - began)

    return rate


async def _crowd(port: int, json_port: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    bare = [(await loop.create_connection(floors.JsonClient, "127.0.0.1", json_port))[1]
            for _ in range(20)]  # fmt: skip
    clients = [pc_rpc.AsyncioClient() for _ in range(20)]
    for client in clients:
        await client.connect_rpc("127.0.0.1", port)

    async def rate(calls: list[Callable[[int], object]]) -> float:
        async def caller(call: Callable[[int], object]) -> None:
            for number in range(200):
                await call(number)

        began = time.perf_counter()
        await asyncio.gather(*map(caller, calls))
        return 4000 / (time.perf_counter() - began)

    results: dict[str, list[float]] = {"bare Protocols, json": [], "pc_rpc": []}
    for _ in range(7):
        results["bare Protocols, json"].append(await rate([b.call for b in bare]))
        results["pc_rpc"].append(await rate([c.echo for c in clients]))
    for b, client in zip(bare, clients, strict=True):
        b.transport.close()
        await client.close_rpc()
    return {name: statistics.median(values) for name, values in results.items()}


BARE_THREADS, THREADS = "bare sockets, 20 threads", "pc_rpc, 20 threads"


def clients(stack: contextlib.ExitStack) -> None:
    """20 clients on one server."""
    port, _ = stack.enter_context(server("peers.py", "pc_rpc"))
    json_port, _ = stack.enter_context(server("floors.py", "json"))
    rows = asyncio.run(_crowd(port, json_port))
    bare_port, _ = stack.enter_context(server("floors.py", "threads"))
    crowds = {
        BARE_THREADS: crowd_of_threads(both_ends.bare, bare_port),
        THREADS: crowd_of_threads(peers.pc_rpc, port),
    }
    for name in available():
        peer_port, _ = stack.enter_context(server("peers.py", name))
        crowds[name] = crowd_of_threads(getattr(peers, name), peer_port)
    rows |= take_turns(crowds, 5)
    table("20 clients on one server", rows, "calls/s")
    promise("20 clients: rate / bare", rows["pc_rpc"] / rows["bare Protocols, json"], ">=", 0.8)
    if others := [rows[name] for name in available()]:
        promise("20 clients: rate / fastest peer", rows["pc_rpc"] / max(others), ">", 1.0)
        promise("20 threads: rate / fastest peer", rows[THREADS] / max(others), ">", 1.0)


def memory(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().split("\n"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def arrays(stack: contextlib.ExitStack) -> None:
    """Echo of arrays of 8 and 64 MiB."""
    import numpy as np

    for mebibytes in (8, 64):
        size = mebibytes * 2**20
        array = np.arange(size // 8, dtype=np.float64)
        with contextlib.ExitStack() as servers:
            bare_port, _ = servers.enter_context(server("floors.py", "array"))
            sock = servers.enter_context(bare_socket(bare_port))
            data, back = memoryview(array).cast("B"), memoryview(bytearray(size))

            def bare(sock=sock, data=data, back=back, size=size) -> None:
                sock.sendall(size.to_bytes(8, "big"))
                sock.sendall(data)
                filled = 0
                while filled < size:
                    filled += sock.recv_into(back[filled:])

            contestants = {"bare sockets": timed(bare, 2)}
            for name in ["pc_rpc", *available()]:
                port, pid = servers.enter_context(server("peers.py", name))
                if name == "pc_rpc":
                    our_pid = pid
                    peers.pc_rpc(port)(array[:1000])
                    idle = memory(pid, "VmRSS")
                echo = peers.ARRAYS.get(name, getattr(peers, name))(port)
                assert np.array_equal(echo(array), array)
                contestants[name] = timed(lambda echo=echo, array=array: echo(array), 2)
            rows = take_turns(contestants, 7)
            used = (memory(our_pid, "VmHWM") - idle) / size
        table(f"echo of {mebibytes} MiB", {n: 2 * size / t for n, t in rows.items()}, "GB/s", 1e-9)
        floor, ours = rows.pop("bare sockets"), rows.pop("pc_rpc")
        promise(f"{mebibytes} MiB: rate / bare sockets", floor / ours, ">=", 0.6)
        if rows:
            promise(f"{mebibytes} MiB: rate / fastest peer", min(rows.values()) / ours, ">=", 2.0)
        promise(f"{mebibytes} MiB: server memory above idle / array", used, "<=", 2.2)


def connect(stack: contextlib.ExitStack) -> None:
    """Connect, first call, close."""
    port, _ = stack.enter_context(server("peers.py", "pc_rpc"))
    bare_port, _ = stack.enter_context(server("floors.py", "echo"))

    def bare() -> None:
        with bare_socket(bare_port) as sock:
            for line in (b"ARTIQ pc_rpc\n", b"main\n", LINE):
                sock.sendall(line)
                sock.recv(65536)

    def ours() -> None:
        with pc_rpc.Client("127.0.0.1", port) as client:
            client.echo(5)

    rows = take_turns({"bare sockets": timed(bare, 30), "pc_rpc": timed(ours, 30)}, 11)
    table("connect, first call, close", rows, "us", 1e6)
    promise("connect, call, close: time / bare", rows["pc_rpc"] / rows["bare sockets"], "<=", 2.5)


def blocked(stack: contextlib.ExitStack) -> None:
    """The waits of other calls while a driver method blocks its worker thread for 2 s."""
    port, _ = stack.enter_context(server("peers.py", "two_targets"))
    slow, other, fast = (
        stack.enter_context(pc_rpc.Client("127.0.0.1", port, name))
        for name in ("slow", "slow", "fast")
    )
    thread = threading.Thread(target=slow.block, args=(2.0,))
    longest = {"ping": 0.0, "call of another target": 0.0}
    actions = {"ping": other.ping_rpc, "call of another target": lambda: fast.echo(5)}
    thread.start()
    while thread.is_alive():
        for name, action in actions.items():
            longest[name] = max(longest[name], timed(action, 1)())
        time.sleep(0.01)
    table("the longest wait, while a method of another target blocks for 2 s", longest, "ms", 1e3)
    for name, value in longest.items():
        promise(f"beside a method that blocks: {name}, ms", value * 1e3, "<=", 50.0)


def idle(stack: contextlib.ExitStack) -> None:
    """Memory of 1,000 idle connections at the server."""
    port, pid = stack.enter_context(server("peers.py", "pc_rpc"))

    def selected() -> socket.socket:
        sock = stack.enter_context(bare_socket(port))
        sock.sendall(b"ARTIQ pc_rpc\n")
        sock.recv(65536)
        sock.sendall(b"main pyon_v2 raw_buffers request_ids exception_details\n")
        sock.recv(65536)
        sock.sendall(LINE)
        sock.recv(65536)
        return sock

    for _ in range(50):
        selected()
    before = memory(pid, "VmRSS")
    for _ in range(1000):
        selected()
    used = (memory(pid, "VmRSS") - before) / 1000
    table("memory of an idle connection", {"pc_rpc": used}, "kB", 1e-3)
    promise("idle connection, kB", used / 1e3, "<=", 15.0)


def imports(stack: contextlib.ExitStack) -> None:
    """The time of imports."""

    def start(code: str) -> Callable[[], float]:
        return timed(lambda: subprocess.run([sys.executable, "-c", code], check=True), 1)

    rows = take_turns(
        {
            "an empty interpreter": start("pass"),
            "import asyncio": start("import asyncio"),
            "import pc_rpc": start("import pc_rpc"),
            "from pc_rpc import Client": start("from pc_rpc import Client"),
            "from pc_rpc import Server": start("from pc_rpc import Server"),
        },
        9,
    )
    table("a fresh process", rows, "ms", 1e3)
    ratio = rows["import pc_rpc"] / rows["import asyncio"]
    promise("import pc_rpc: time / import asyncio", ratio, "<=", 1.3)


SECTIONS = {
    "cost": both_ends.cost,
    "small": small,
    "flight": flight,
    "clients": clients,
    "arrays": arrays,
    "streams": streams,
    "connect": connect,
    "blocked": blocked,
    "idle": idle,
    "import": imports,
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", metavar="PYTHON", help="the Python of another checkout's venv")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=" ".join(SECTIONS))
    options = parser.parse_args()
    both_ends.against = options.against
    for name in options.sections or SECTIONS:
        with contextlib.ExitStack() as stack:
            SECTIONS[name](stack)
    return verdict()


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # some of the other packages keep threads
