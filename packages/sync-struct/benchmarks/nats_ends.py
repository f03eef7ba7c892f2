"""The processes of the measurements over NATS: engine, publisher, readers, and the commands.

Each is a process of its own, so that its processor time and memory are its own. `perf_counter` is
one clock for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import multiprocessing
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from sync_struct import Notifier, Publisher, Subscriber
from sync_struct.nats._connecting import connect

MIB = 2**20
HOST = "127.0.0.1"
COMMAND = [sys.executable, "-m", "sync_struct._cli"]
SPAWN = multiprocessing.get_context("spawn")
MARK = 10
"""Every so many steps, the time of a step is recorded."""


class Engine:
    """A `nats-server` with its own folder."""

    def __init__(self):
        beside = str(Path(sys.executable).parent)
        program = shutil.which("nats-server") or shutil.which("nats-server", path=beside)
        self.folder = tempfile.TemporaryDirectory()
        ports = Path(self.folder.name, "ports")
        ports.mkdir()
        options = ["-a", HOST, "-p", "-1", "-js", "-sd", self.folder.name]
        options += ["--ports_file_dir", str(ports)]
        self.process = subprocess.Popen([program, *options], stderr=subprocess.DEVNULL)
        while not (found := [file for file in ports.iterdir() if file.stat().st_size]):
            time.sleep(0.01)
        (self.address,) = json.loads(found[0].read_text())["nats"]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def command(*arguments):
    """Start the command; return its process and the port that it serves, if any."""
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    while True:
        line = process.stdout.readline()
        found = re.search(r" port (\d+)$", line)
        if found or ": live" in line:
            return process, int(found[1]) if found else 0


def cpu(process):
    """Return the processor time that a process has used."""
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def memory(process):
    return psutil.Process(process.pid).memory_info().rss / MIB


class Far:
    """A function of this file that runs in its own process and receives commands over a pipe."""

    def __init__(self, function, *arguments):
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=function, args=(theirs, *arguments), daemon=True)
        self.process.start()

    def ask(self, *what):
        self.pipe.send(what)
        return self.pipe.recv()

    def close(self):
        self.pipe.send(("stop",))
        self.process.join(10)
        self.process.kill()


def listen(pipe, doing):
    """Run coroutine functions of one object on an event loop, as named by the pipe."""
    logging.disable(logging.WARNING)  # of subscribers that reconnect during the shutdown

    async def main():
        loop, said = asyncio.get_running_loop(), asyncio.Queue()
        loop.add_reader(pipe.fileno(), lambda: said.put_nowait(pipe.recv()))
        async with contextlib.AsyncExitStack() as stack:
            work = await doing.begin(stack)
            pipe.send(work)
            while (what := await said.get())[0] != "stop":
                pipe.send(await getattr(doing, what[0])(*what[1:]))

    asyncio.run(main())


class Publishing:
    """The process of the publisher."""

    def __init__(self, names, size):
        filler = np.random.default_rng(1).bytes(size)
        self.notifiers = {
            name: Notifier({"t": 0.0, "i": 0, "filler": np.frombuffer(filler, np.uint8)})
            for name in names
        }

    async def begin(self, stack):
        publisher = await stack.enter_async_context(Publisher(self.notifiers))
        await publisher.start(HOST, 0)
        return publisher.port

    async def pulse(self, name, count, interval):
        """Make changes at a regular rate, each with its time."""
        notifier, due = self.notifiers[name], time.perf_counter()
        for _ in range(count):
            due += interval
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            notifier["t"] = time.perf_counter()

    async def steps(self, name, rate, seconds):
        """Make small steps at a rate; return their number."""
        notifier, begin, made = self.notifiers[name], time.perf_counter(), 0
        while (elapsed := time.perf_counter() - begin) < seconds:
            while made < elapsed * rate:
                made += 1
                notifier["i"] = made
                if made % 20 == 0:
                    await asyncio.sleep(0)  # makes these separate steps, in few messages
            await asyncio.sleep(0.001)
        return made

    async def single_steps(self, name, rate, seconds):
        """Do the same, with each step in its own iteration of the loop."""
        notifier, begin, made = self.notifiers[name], time.perf_counter(), 0
        while (elapsed := time.perf_counter() - begin) < seconds:
            while made < elapsed * rate:
                made += 1
                notifier["i"] = made
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await asyncio.sleep(0.0005)
        return made

    async def noted_steps(self, name, rate, seconds):
        """Do the same; return the time of every `MARK`th step."""
        notifier, begin, made, marks = self.notifiers[name], time.perf_counter(), 0, []
        while (elapsed := time.perf_counter() - begin) < seconds:
            while made < elapsed * rate:
                made += 1
                notifier["i"] = made
                if made % MARK == 0:
                    marks.append(time.perf_counter())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await asyncio.sleep(0.0005)
        return begin, marks

    async def frames(self, name, size, count, interval):
        """Set images at a regular rate; return the last number."""
        notifier, due = self.notifiers[name], time.perf_counter()
        images = [np.full(size // 8, float(i)) for i in range(2)]
        for i in range(count):
            due += interval
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            with notifier.batch():
                notifier["image"] = images[i % 2]
                notifier["t"] = time.perf_counter()
        return count


def publish(pipe, names, size):
    listen(pipe, Publishing(names, size))


class Reading:
    """A process with one replica at a time."""

    async def begin(self, stack):
        self.stack = stack

    async def follow(self, name, host, port):
        self.delays, self.told, self.marks = [], 0, []
        self.subscriber = Subscriber(name, lambda x: x, self.take)
        self.following = self.subscriber.following(host, port)
        await self.following.__aenter__()

    def take(self, mod):
        self.told += 1
        if mod.get("key") == "t":
            self.delays.append(time.perf_counter() - mod["value"])
        elif mod.get("key") == "i" and mod["value"] % MARK == 0:
            self.marks.append(time.perf_counter())

    async def arrivals(self):
        """Return the time of arrival of every `MARK`th step."""
        return self.marks

    async def count(self):
        return self.told

    async def reached(self, number):
        while self.subscriber.target["i"] < number:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return time.perf_counter()

    async def leave(self):
        await self.following.__aexit__(None, None, None)
        return self.delays

    async def bare(self, address, subject):
        """Subscribe to NATS directly."""
        self.delays = []
        self.js = await connect(address)

        async def take(message):
            self.delays.append(time.perf_counter() - float(message.data))

        await self.js.subscribe(subject, take)

    async def leave_bare(self):
        await self.js.close()
        return self.delays

    async def bare_pulse(self, address, subject, count, interval):
        """Publish to NATS directly."""
        js, due = await connect(address), time.perf_counter()
        for _ in range(count):
            due += interval
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await js.publish(subject, b"%.9f" % time.perf_counter())
        await asyncio.sleep(0.1)
        await js.close()


def read(pipe):
    listen(pipe, Reading())
