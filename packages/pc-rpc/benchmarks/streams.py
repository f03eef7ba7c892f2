"""Streams, compared with a loop of calls and with other packages.

As a program: ``streams.py NAME`` serves one of `SERVERS` on a free port.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, __file__.rpartition("/")[0])

from contest import promise, server, table, take_turns

SMALL, TURNS = 1_000_000, 3
FRAMES, FRAME_TURNS = 2_000, 5
CALLS = 5_000
"""Calls, and items of other packages, in one turn."""

FRAME_CALLS = 300


class Camera:
    """Yields small tuples, and images; as bytes for packages without arrays."""

    def __init__(self) -> None:
        import numpy as np

        self._frame = np.arange(512 * 512, dtype=np.uint16).reshape(512, 512)

    def pairs(self, n):
        for number in range(n):
            yield (number, 0.5)

    def pair(self, number):
        return (number, 0.5)

    def frames(self, n):
        for _ in range(n):
            yield self._frame

    def frame(self):
        return self._frame

    def frames_as_bytes(self, n):
        for _ in range(n):
            yield self._frame.tobytes()


def say(port: int) -> None:
    print(port, flush=True)


def serve_pc_rpc(**options: Any) -> None:
    from pc_rpc import simple_server_loop

    simple_server_loop(
        {"camera": Camera()}, "127.0.0.1", 0, ready_cb=lambda s: say(s.port), **options
    )


def serve_threads() -> None:
    serve_pc_rpc(worker_threads=True)


def serve_pyro5() -> None:
    import Pyro5.api

    daemon = Pyro5.api.Daemon("127.0.0.1", 0)
    daemon.register(Pyro5.api.expose(Camera)(), "camera")
    say(int(daemon.locationStr.rpartition(":")[2]))
    daemon.requestLoop()


def serve_zerorpc() -> None:
    import zerorpc

    class Streaming(Camera):
        pairs = zerorpc.stream(Camera.pairs)
        frames_as_bytes = zerorpc.stream(Camera.frames_as_bytes)

    streaming = zerorpc.Server(Streaming())
    streaming.bind("tcp://127.0.0.1:*")
    say(int(streaming._events._socket.getsockopt_string(32).rpartition(":")[2]))
    streaming.run()


def pyro5(port: int) -> Any:
    import Pyro5.api

    Pyro5.config.SERIALIZER = "marshal"  # the default one is slower, and does not send bytes
    return Pyro5.api.Proxy(f"PYRO:camera@127.0.0.1:{port}")


def zerorpc(port: int) -> Any:
    import zerorpc

    return zerorpc.Client(f"tcp://127.0.0.1:{port}", timeout=60)


PEERS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "pyro5": ("Pyro5", pyro5),
    "zerorpc": ("zerorpc", zerorpc),
}


def read(make: Callable[[int], Iterator[Any]], n: int, pid: int) -> Callable[[], float]:
    """Return a function that reads `n` items and returns the CPU time of both ends per item."""
    at_server = (~pid << 3) | 2  # the clock of another process, as clock_getcpuclockid gives it

    def used() -> float:
        return time.process_time() + time.clock_gettime(at_server)

    def run() -> float:
        began, count = used(), 0
        for _ in make(n):
            count += 1
        assert count == n
        return (used() - began) / n

    return run


def calls(call: Callable[[int], Any]) -> Callable[[int], Iterator[Any]]:
    return lambda n: map(call, range(n))


def as_frames(make: Callable[[int], Iterator[bytes]]) -> Callable[[int], Iterator[Any]]:
    import numpy as np

    def frames(n: int) -> Iterator[Any]:
        for data in make(n):
            yield np.frombuffer(data, np.uint16).reshape(512, 512)

    return frames


def streams(stack: contextlib.ExitStack) -> None:
    """Streams of small tuples, and of images of 512 x 512: the CPU time of both ends."""
    from pc_rpc import Client

    small: dict[str, Callable[[], float]] = {}
    large: dict[str, Callable[[], float]] = {}
    for name in ("pc_rpc", "threads"):
        port, pid = stack.enter_context(server("streams.py", name))
        client = stack.enter_context(Client("127.0.0.1", port))
        label = "pc_rpc" if name == "pc_rpc" else "pc_rpc, worker_threads"
        small[label] = read(client.pairs, SMALL, pid)
        large[label] = read(client.frames, FRAMES, pid)
        if name == "pc_rpc":
            frame = calls(lambda _, c=client: c.frame())
            small["a loop of calls"] = read(calls(client.pair), CALLS, pid)
            large["a loop of calls"] = read(frame, FRAME_CALLS, pid)
    for name, (module, connect) in PEERS.items():
        if importlib.util.find_spec(module) is not None:
            port, pid = stack.enter_context(server("streams.py", name))
            peer = connect(port)
            small[name] = read(peer.pairs, CALLS, pid)
            large[name] = read(as_frames(peer.frames_as_bytes), FRAME_CALLS, pid)
    _report("a stream of small tuples", "item", take_turns(small, TURNS))
    _report("a stream of 512 x 512 uint16", "frame", take_turns(large, FRAME_TURNS))


def _report(title: str, item: str, rows: dict[str, float]) -> None:
    table(title, rows, f"us per {item}", 1e6)
    ours = rows["pc_rpc"]
    bound = 1.0 if item == "item" else 1.25  # an image costs what its bytes cost, either way
    promise(f"{title}: CPU time / calls", ours / rows["a loop of calls"], "<", bound)
    peers = [rows[name] for name in PEERS if name in rows]
    if peers:
        promise(f"{title}: CPU time / fastest peer", ours / min(peers), "<", 1.0)


if __name__ == "__main__":
    globals()[f"serve_{sys.argv[1]}"]()
