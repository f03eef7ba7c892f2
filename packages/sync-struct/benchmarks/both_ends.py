"""The CPU time that a change takes at both ends, from the assignment to the callback.

As a program, ``both_ends.py KIND NUMBER`` runs both ends: it publishes, and starts the subscriber
in another process. Each mod is made after the callback of an earlier one. It prints the seconds of
CPU time per mod, of the publisher and of the subscriber. So it can be run by any Python, for
example by one with another checkout installed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time

import numpy as np
import sync_struct

WARM_UP = 500
"""Mods before the measurement."""

SIDE = 150

FRAMES = {
    "frames of uint16": (np.random.default_rng(1).random((SIDE, SIDE)) * 60_000).astype(np.uint16),
    "frames of doubles": np.random.default_rng(1).random((SIDE, SIDE)),
}

KINDS = ("setitem", "append", *FRAMES)


def make(notifier, kind, count):
    """Make one mod."""
    if kind == "setitem":
        notifier["x"] = count
    elif kind == "append":
        notifier["l"].append(count)
    else:
        notifier["image"] = FRAMES[kind]


async def publish(kind, number):
    """Publish `number` mods; return the CPU seconds per mod of each end."""
    notifier = sync_struct.Notifier({"x": 0, "l": [], "image": None})
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    here, there = socket.socketpair()
    count, began, said = 0, 0.0, b""

    def hear():
        nonlocal said
        data = here.recv(100)
        if b"|" in data or said:
            said += data
            if said.endswith(b"\n"):
                loop.remove_reader(here)
                done.set_result(float(said.partition(b"|")[2]))
            return
        for _ in data:
            make_one()

    def make_one():
        nonlocal count, began
        if count == WARM_UP:
            began = time.process_time()
        if count < WARM_UP + number:
            make(notifier, kind, count)
            count += 1

    async with sync_struct.Publisher({"bench": notifier}) as publisher:
        await publisher.start("127.0.0.1", 0)
        command = [__file__, kind, str(number), str(publisher.port), str(there.fileno())]
        with subprocess.Popen(  # noqa: ASYNC220  (quick, and nothing else runs)
            [sys.executable, *command], pass_fds=[there.fileno()]
        ):
            here.setblocking(False)
            await loop.sock_recv(here, 1)
            loop.add_reader(here, hear)
            for _ in range(2 if kind in FRAMES else 1):
                make_one()
            of_subscriber = await done
            of_publisher = (time.process_time() - began) / number
    here.close()
    there.close()
    return of_publisher, of_subscriber


async def subscribe(number, port, sock):
    """Run the subscriber."""
    done = asyncio.get_running_loop().create_future()
    count, began = -1, 0.0

    def told(_):
        nonlocal count, began
        count += 1
        if count == WARM_UP:
            began = time.process_time()
        if count:  # not for the structure
            sock.send(b"x")
        if count == WARM_UP + number:
            done.set_result(None)

    subscriber = sync_struct.Subscriber("bench", lambda structure: structure, told)
    await subscriber.connect("127.0.0.1", port)
    sock.send(b"r")
    await done
    sock.send(b"|%.9f\n" % ((time.process_time() - began) / number))
    await subscriber.close()


def measure(python, kind, number=1500):
    """Return the CPU seconds per mod of both ends, measured by another Python."""
    command = [python, __file__, kind, str(number)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return tuple(map(float, done.stdout.split()))


def appended_to_set(number=20_000, turns=9):
    """Return the ratio of the CPU times of an append to a list and of an assignment."""
    notifier = sync_struct.Notifier({"x": 0, "l": []})
    shortest = []
    for kind in ("append", "setitem"):
        times = []
        for _ in range(turns):
            began = time.process_time()
            for count in range(number):
                make(notifier, kind, count)
            times.append(time.process_time() - began)
            notifier["l"].clear()
        shortest.append(min(times))
    return shortest[0] / shortest[1]


def main(kind, number, *rest):
    """Run one of the two ends."""
    if rest:
        port, fileno = map(int, rest)
        with socket.socket(fileno=fileno) as sock:
            asyncio.run(subscribe(int(number), port, sock))
    else:
        print(*asyncio.run(publish(kind, int(number))), flush=True)


def on_one_core():
    """Bind this process and its children to one core, where the system supports it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


if __name__ == "__main__":
    main(*sys.argv[1:])
