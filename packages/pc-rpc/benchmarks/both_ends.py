"""The CPU time of a call at both ends together, compared with floors and an earlier checkout.

As a program: ``both_ends.py KIND NAME PORT PID`` is the client of one contestant, whose server has
that process id. Each line of its input is a number of calls. It makes these calls and prints the
CPU time of one of them at both ends, in seconds. So each contestant has two processes of its own,
for which any Python can be used: one with another checkout installed, for example.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

sys.path.insert(0, __file__.rpartition("/")[0])

import contest
import floors
import peers

CROWD = 20
"""Number of clients in the kinds with many clients."""

FLIGHT = 64
"""Number of calls in flight together."""

LINE = b'{"id":123,"action":"call","name":"echo","args":[5],"kwargs":{}}\n'

Turn = Callable[[int], object]
"""Makes that many calls."""


def in_a_loop(echo: Callable[[object], object]) -> Turn:
    def turn(calls: int) -> None:
        for number in range(calls):
            assert echo(number) == number

    return turn


def in_threads(connect: Callable[[int], Callable[[object], object]]) -> Callable[[int], Turn]:
    """Yield a function that makes calls with a client in each of many threads."""

    def contestant(port: int) -> Turn:
        tasks: queue.SimpleQueue[int] = queue.SimpleQueue()
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def client() -> None:
            try:
                turn = in_a_loop(connect(port))  # here: some clients belong to their thread
                done.put(None)
                while True:
                    turn(tasks.get())
                    done.put(None)
            except BaseException as error:
                done.put(error)

        def all_done() -> None:
            for _ in range(CROWD):
                if (error := done.get(timeout=60)) is not None:
                    raise error

        def turn(calls: int) -> None:
            for _ in range(CROWD):
                tasks.put(calls // CROWD)
            all_done()

        for _ in range(CROWD):
            threading.Thread(target=client, daemon=True).start()
        all_done()
        return turn

    return contestant


def bare(port: int) -> Callable[[object], object]:
    sock, buffer = contest.bare_socket(port), bytearray(65536)

    def echo(x: object) -> object:
        sock.sendall(LINE)
        sock.recv_into(buffer)
        return x

    return echo


def json_lines(port: int) -> Callable[[object], object]:
    return floors.json_calls(contest.bare_socket(port))


async def many(calls: list[Callable[[object], Coroutine]], times: int) -> None:
    async def caller(call: Callable[[object], Coroutine]) -> None:
        for number in range(times):
            assert await call(number) == number

    await asyncio.gather(*map(caller, calls))


runner: asyncio.Runner


async def json_client(port: int) -> floors.JsonClient:
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(floors.JsonClient, "127.0.0.1", port))[1]


async def asyncio_client(port: int) -> Any:
    import pc_rpc

    client = pc_rpc.AsyncioClient()
    await client.connect_rpc("127.0.0.1", port)
    return client


def json_flight(port: int) -> Turn:
    client = runner.run(json_client(port))
    return lambda calls: runner.run(many([client.call] * FLIGHT, calls // FLIGHT))


def flight(port: int) -> Turn:
    client = runner.run(asyncio_client(port))

    async def turn(calls: int) -> None:
        async def caller() -> None:
            for number in range(calls // FLIGHT):
                assert await client.echo(number) == number

        await asyncio.gather(*(caller() for _ in range(FLIGHT)))

    return lambda calls: runner.run(turn(calls))


def json_tasks(port: int) -> Turn:
    clients = [runner.run(json_client(port)) for _ in range(CROWD)]
    return lambda calls: runner.run(many([c.call for c in clients], calls // CROWD))


def tasks(port: int) -> Turn:
    clients = [runner.run(asyncio_client(port)) for _ in range(CROWD)]
    return lambda calls: runner.run(many([c.echo for c in clients], calls // CROWD))


def bare_connect(port: int) -> Turn:
    def turn(calls: int) -> None:
        for _ in range(calls):
            with contest.bare_socket(port) as sock:
                for line in (b"ARTIQ pc_rpc\n", b"main\n", LINE):
                    sock.sendall(line)
                    sock.recv(65536)

    return turn


def connect(port: int) -> Turn:
    import pc_rpc

    def turn(calls: int) -> None:
        for _ in range(calls):
            with pc_rpc.Client("127.0.0.1", port) as client:
                assert client.echo(5) == 5

    return turn


BARE, JSON, MANAGERS, OURS = "bare sockets", "lines of JSON", "managers", "pc_rpc"
UVLOOP = "pc_rpc, asyncio ends on uvloop"

KINDS: dict[str, dict[str, tuple[str, str, Callable[[int], Turn]]]] = {
    "blocking echo(int)": {
        BARE: ("floors.py", "echo", lambda port: in_a_loop(bare(port))),
        JSON: ("floors.py", "calls", lambda port: in_a_loop(json_lines(port))),
        MANAGERS: ("peers.py", "managers", lambda port: in_a_loop(peers.managers(port))),
        OURS: ("peers.py", "pc_rpc", lambda port: in_a_loop(peers.pc_rpc(port))),
        UVLOOP: ("peers.py", "uvloop", lambda port: in_a_loop(peers.pc_rpc(port))),
    },
    "64 in flight": {
        JSON: ("floors.py", "json", json_flight),
        OURS: ("peers.py", "pc_rpc", flight),
        UVLOOP: ("peers.py", "uvloop", flight),
    },
    "20 asyncio clients": {
        JSON: ("floors.py", "json", json_tasks),
        OURS: ("peers.py", "pc_rpc", tasks),
        UVLOOP: ("peers.py", "uvloop", tasks),
    },
    "20 threads": {
        BARE: ("floors.py", "threads", in_threads(bare)),
        MANAGERS: ("peers.py", "managers", in_threads(peers.managers)),
        OURS: ("peers.py", "pc_rpc", in_threads(peers.pc_rpc)),
    },
    "connect, call, close": {
        BARE: ("floors.py", "echo", bare_connect),
        OURS: ("peers.py", "pc_rpc", connect),
    },
}
"""Program and name of the server, and the client's end, of each contestant of each kind."""

BEFORE = "pc_rpc, other checkout"

against: str | None = None
"""The Python with the other checkout, if there is one."""

CALLS = {"64 in flight": 6400, "20 asyncio clients": 4000, "20 threads": 2000,
         "connect, call, close": 100}  # fmt: skip
"""Calls of a turn, if not 1,000."""

PROMISES = [
    ("blocking echo(int)", JSON, "<=", 1.35),
    # Values pickled and unpickled in C; no limits, no ids, no order of calls, no Ctrl-C in a call.
    ("blocking echo(int)", MANAGERS, "<=", 1.1),
    ("64 in flight", JSON, "<", 1.0),
    ("blocking echo(int)", BEFORE, "<=", 0.62),
    ("64 in flight", BEFORE, "<=", 1 / 2.2),
    ("20 asyncio clients", BEFORE, "<=", 1 / 1.5),
    ("20 threads", BEFORE, "<=", 1 / 1.5),  # the established stack: 1 / 1.38
    ("connect, call, close", BEFORE, "<=", 0.85),
]
"""Upper bounds of our time, as a multiple of the time of another contestant. Those for another
checkout hold against the commit c8dc68b, in which calls had one road only."""


@contextlib.contextmanager
def contestant(kind: str, name: str, python: str) -> Iterator[Callable[[], float]]:
    """Run both ends; yield a function that makes a turn and returns the CPU time of one call."""
    program, serves, _ = KINDS[kind][name]
    with contest.server(program, serves, python) as (port, pid):
        command = [python, __file__, kind, name, str(port), str(pid)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client:

            def turn() -> float:
                print(CALLS.get(kind, 1000), file=client.stdin, flush=True)
                return float(client.stdout.readline())

            try:
                turn()  # to warm up
                yield turn
            finally:
                client.kill()


def cost(stack: contextlib.ExitStack, turns: int = 15) -> None:
    """The CPU time of both ends together, on one core."""
    if not hasattr(os, "sched_setaffinity"):
        print("\nthe CPU time of both ends is measured on Linux only")
        return
    stack.enter_context(contest.one_core())
    for kind, names in KINDS.items():
        with contextlib.ExitStack() as ends:
            contestants = {
                name: ends.enter_context(contestant(kind, name, sys.executable))
                for name in names
                if name != UVLOOP or importlib.util.find_spec("uvloop") is not None
            }
            if against is not None:
                contestants[BEFORE] = ends.enter_context(contestant(kind, OURS, against))
            rows = contest.take_turns(contestants, turns)
        contest.table(f"{kind}: CPU time of both ends", rows, "us", 1e6)
        for of, other, relation, bound in PROMISES:
            if of == kind and other in rows:
                text = f"{kind}: CPU time / {other}"
                contest.promise(text, rows[OURS] / rows[other], relation, bound)


def main(kind: str, name: str, port: str, pid: str) -> None:
    global runner
    if name == UVLOOP:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    else:
        runner = asyncio.Runner()
    turn = KINDS[kind][name][2](int(port))
    at_server = ~int(pid) << 3 | 2  # Linux: the clock of the CPU time of a process

    def spent() -> float:
        return time.process_time() + time.clock_gettime(at_server)

    for line in sys.stdin:
        began = spent()
        turn(int(line))
        print((spent() - began) / int(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
