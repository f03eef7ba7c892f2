"""Measure what PROTOCOL.md and README.md promise: a table, and a line per promise.

    python benchmarks/run.py [--against PYTHON] [NAME ...]

Each NAME (default: all) takes at most two minutes. Speeds are ratios to a reference in the same
run, interleaved, median of several. Redis and NATS are measured if their servers (Debian:
redis-server, nats-server) and the clients of the dependency group `bench` are installed. The
figures are meaningful only on an otherwise idle machine; publishers and subscribers are two
processes, so two cores are needed.

With ``--against``, "cost" also measures the package that is installed for another Python, such as
an earlier checkout. Its promises hold against the commit c8dc68b.

"Cheap readers" measures the capacity of the publisher: the subscribers, of ours and of the
reference alike, receive everything and parse only line ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

import both_ends
import numpy as np
import psutil
import pyon
import sync_struct
from peers import (
    NAME,
    PUBLISHERS,
    Bare,
    Frames,
    Greeter,
    Ours,
    available,
    subscribers,
    write_pieces,
)
from pyon import wire

REPEATS = 5
MIB = 2**20
verdicts: list[str] = []
against: str | None = None


def show(what, figure):
    progress("")
    print(f"{what:66} {figure}", flush=True)


def progress(text):
    """Print progress."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def promise(what, figure, bound, *, at_most):
    met = figure <= bound if at_most else figure >= bound
    sign = "<=" if at_most else ">="
    verdicts.append(f"{'met   ' if met else 'MISSED'} {what}: {figure:.2f} ({sign} {bound})")


class Child:
    """A process with subscribers."""

    def __init__(self, kind, port, count, per_round=1, **options):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=subscribers, args=(theirs, kind, port, count, per_round, options)
        )
        self.process.start()
        self.loop = asyncio.get_running_loop()
        self.waiting = asyncio.Queue()
        self.loop.add_reader(self.pipe.fileno(), self.hear)

    def hear(self):
        try:
            self.waiting.put_nowait(self.pipe.recv())
        except EOFError:
            self.loop.remove_reader(self.pipe.fileno())
            self.waiting.put_nowait(None)

    async def next(self):
        said = await asyncio.wait_for(self.waiting.get(), 120)
        if said is None:
            raise RuntimeError("the process of the subscribers died")
        return said

    async def stop(self):
        self.pipe.send("stop")
        last = await self.next()
        while last in ("round", "ready"):
            last = await self.next()
        self.loop.remove_reader(self.pipe.fileno())
        self.pipe.send("gone")
        self.process.join()
        return last


HELLO = b'{"sync_struct":1,"notifier":"bench"}\n'


async def small_mods(kind, count, rounds, *, counted=False, batch=10):
    """Return deliveries per second, and the publisher's CPU seconds per delivery.

    With `counted`, the subscribers of all kinds are the same: they only count, so that what they
    cost the machine is no part of the comparison.
    """
    publisher = PUBLISHERS[kind]()
    port = await publisher.start()
    if counted:
        options = {"hello": HELLO, "skip": 2} if kind == "ours" else {}
        child = Child("bare", port, count, batch, **options)
    else:
        child = Child("ours" if kind == "appends" else kind, port, count, batch)
    await child.next()
    await asyncio.sleep(0.2)
    gc.collect()
    began, cpu = time.perf_counter(), time.process_time()
    for i in range(rounds):
        await publisher.emit([(f"key{j}", i * batch + j) for j in range(batch)])
        await child.next()
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    await child.stop()
    await publisher.stop()
    deliveries = rounds * batch * count
    return deliveries / elapsed, cpu / deliveries


async def interleaved(kinds, measure, repeats=REPEATS):
    """Return the medians of each kind's figures, measured in turns."""
    results = {kind: [] for kind in kinds}
    for turn in range(repeats):
        for kind in kinds:
            progress(f"{kind}, {turn + 1} of {repeats}")
            results[kind].append(await measure(kind))
    return {
        kind: [statistics.median(column) for column in zip(*figures, strict=True)]
        for kind, figures in results.items()
    }


async def bench_small50():
    await small(50, 200)


async def bench_small500():
    await small(500, 40)


async def small(count, rounds):
    to = f"to {count} subscribers"
    figures = await interleaved(
        ["ours", "json", "bare"], lambda kind: small_mods(kind, count, 5 * rounds, counted=True)
    )
    for kind, (_, cpu) in figures.items():
        show(f"small mods {to}, {kind}", f"{cpu * 1e6:6.2f} us of publisher CPU each")
    ratio = figures["ours"][1] / figures["bare"][1]
    promise(f"CPU per delivery {to} / bare", ratio, 1.4, at_most=True)
    kinds = [kind for kind in available() if kind != "bare"]
    figures = await interleaved(kinds, lambda kind: small_mods(kind, count, rounds))
    for kind, (rate, _) in figures.items():
        show(f"small mods {to}, {kind}", f"{rate:10,.0f} deliveries/s")
    ours = figures["ours"][0]
    promise(f"deliveries/s {to} / json", ours / figures["json"][0], 0.8, at_most=False)
    for broker in set(figures) & {"redis", "nats"}:
        promise(f"deliveries/s {to} / {broker}", ours / figures[broker][0], 2, at_most=False)


async def bench_append():
    """Appends to a list of the structure, to one subscriber: the use case of NATS."""
    ratio = both_ends.appended_to_set()
    show("an append, in units of an assignment", f"{ratio:.2f}")
    promise("CPU of an append / an assignment", ratio, 1.15, at_most=True)
    kinds = ["appends", *({"nats"} & set(available()))]
    figures = await interleaved(kinds, lambda kind: small_mods(kind, 1, 500), 11)
    for kind, (rate, _) in figures.items():
        show(f"small appends to one subscriber, {kind}", f"{rate:10,.0f} deliveries/s")
    if "nats" in figures:
        ratio = figures["appends"][0] / figures["nats"][0]
        promise("small appends to one subscriber / nats", ratio, 1, at_most=False)


AT_MOST = {
    "setitem": 1.0,
    "append": 1.0,
    "frames of uint16": 1 / 1.3,
    "frames of doubles": 1 / 1.3,
}
"""Maximum CPU times of both ends, relative to the other checkout."""


async def bench_cost(repeats=5):
    """The CPU time of both ends, on one core, compared with another checkout."""
    pythons = {"ours": sys.executable} | ({"before": against} if against else {})
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    both_ends.on_one_core()
    try:
        for kind in both_ends.KINDS:
            times = {name: [] for name in pythons}
            for _ in range(repeats):
                for name, python in pythons.items():
                    times[name].append(both_ends.measure(python, kind))
            medians = {
                name: [statistics.median(column) * 1e6 for column in zip(*rows, strict=True)]
                for name, rows in times.items()
            }
            for name, (here, there) in medians.items():
                figure = f"publisher {here:6.1f} us, subscriber {there:6.1f} us of CPU"
                show(f"one mod, {kind}, {name}", figure)
            if "before" in medians:
                ratio = sum(medians["ours"]) / sum(medians["before"])
                promise(f"CPU of both ends, {kind} / before", ratio, AT_MOST[kind], at_most=True)
    finally:
        if cores:
            os.sched_setaffinity(0, cores)


async def latency(kind, count, mods=300, rate=200):
    """Return the median and 99th percentile of the time from a mod to its callback."""
    publisher = PUBLISHERS[kind]()
    if kind == "bare":
        publisher = PUBLISHERS["json"]()
    child = Child(kind, await publisher.start(), count, latency=True)
    await child.next()
    for _ in range(mods):
        await asyncio.sleep(1 / rate)
        await publisher.emit([("t", time.monotonic())])
    for _ in range(mods):
        await child.next()
    ages = sorted(await child.stop())
    await publisher.stop()
    return ages[len(ages) // 2], ages[len(ages) * 99 // 100]


async def bench_latency():
    kinds = [kind for kind in available() if kind != "bare"]
    for count in (1, 50):
        figures = await interleaved(kinds, lambda kind, c=count: latency(kind, c))
        for kind, (p50, p99) in figures.items():
            show(
                f"one mod at 200/s to {count} subscribers, {kind}",
                f"p50 {p50 * 1e6:6.0f} us  p99 {p99 * 1e6:6.0f} us",
            )
        ours = figures["ours"][0]
        to = f"p50 to {count}"
        promise(f"latency {to} / json", ours / figures["json"][0], 1.4, at_most=True)
        for broker in set(figures) & {"redis", "nats"}:
            promise(f"latency {to} / {broker}", ours / figures[broker][0], 1, at_most=True)


async def relayed(mods=1000, rate=200):
    """Return the median age of the same mods, at a subscriber of the publisher and of a relay."""
    publisher = PUBLISHERS["ours"]()
    port = await publisher.start()
    command = ["-m", "sync_struct._cli", "relay", "127.0.0.1", str(port), NAME]
    relay = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, *command, "--bind", "127.0.0.1"], stdout=subprocess.PIPE, text=True
    )
    far = int(relay.stdout.readline().split()[-1])
    while not publisher.publisher.counters[NAME].subscribers:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)  # for the relay to publish the structure
    children = [Child("ours", where, 1, latency=True) for where in (port, far)]
    for child in children:
        await child.next()
    for _ in range(mods):
        await asyncio.sleep(1 / rate)
        await publisher.emit([("t", time.monotonic())])
    for child in children:
        for _ in range(mods):
            await child.next()
    ages = [statistics.median(await child.stop()) for child in children]
    await publisher.stop()
    relay.terminate()
    relay.wait()
    return ages


async def bench_relay():
    direct, through = await relayed()
    show("from a change to its callback", f"{direct * 1e3:.3f} ms")
    show("the same changes through a relay", f"{through * 1e3:.3f} ms")
    promise("latency through a relay : direct", through / direct, 2.0, at_most=True)


class Stalls:
    """The longest time for which the event loop was blocked."""

    async def __aenter__(self):
        self.longest = 0.0
        self.task = asyncio.ensure_future(self.watch())
        return self

    async def watch(self):
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            self.longest = max(self.longest, time.perf_counter() - before)

    async def __aexit__(self, *exc_info):
        self.task.cancel()


async def joining(kind, structure, count, *, cheap):
    """Return the time for `count` subscribers to join at once, the longest stall, encodings."""
    is_ours = kind == "ours"
    publisher = Ours(structure) if is_ours else Greeter(structure)
    port = await publisher.start()
    encodings = 0
    real = wire.encode_pieces

    def counting(value, **options):
        nonlocal encodings
        encodings += value["action"] == "init"
        return real(value, **options)

    wire.encode_pieces = counting
    gc.collect()
    async with Stalls() as stalls:
        if cheap:
            said = {"hello": HELLO, "lines": 2} if is_ours else {"hello": b"", "lines": 1}
            child = Child("tail-init", port, count, **said)
        else:
            child = Child("ours-init" if is_ours else "json-init", port, count)
        took = await child.next()
    wire.encode_pieces = real
    await child.stop()
    await publisher.stop()
    return took, stalls.longest, encodings


async def bench_join():
    structure = {f"key{i}": [i, i / 3, f"value {i}"] for i in range(200_000)}
    size = len(pyon.encode(structure, version=2))
    ones = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        pyon.encode({"action": "init", "struct": structure}, version=2, buffer_callback=id)
        ones.append(time.perf_counter() - began)
    one = statistics.median(ones)
    show("one encoding of the structure", f"{one * 1e3:.0f} ms")
    for cheap, repeats in ((True, REPEATS), (False, 2)):
        who = "50 cheap readers" if cheap else "50 subscribers"
        figures = await interleaved(
            ["ours", "json"],
            lambda kind, cheap=cheap: joining(kind, structure, 50, cheap=cheap),
            repeats,
        )
        for kind, (took, stall, encodings) in figures.items():
            show(
                f"{size / 1e6:.1f} MB to {who} that join at once, {kind}",
                f"{took:6.2f} s  longest stall {stall * 1e3:4.0f} ms  encodings {encodings:.0f}",
            )
        ours, reference = figures["ours"], figures["json"]
        promise(f"{who} join at once: encodings", ours[2], 1, at_most=True)
        ratio = ours[0] / reference[0]
        promise(f"{who} join at once: total time / json", ratio, 1.2, at_most=True)
        ratio = ours[1] / one
        promise(f"{who} join at once: stall / one encoding", ratio, 1.5, at_most=True)


async def frames(kind, side, number):
    """Return frames per second, with two in flight."""
    frame = np.random.default_rng(1).random((side, side))
    if kind == "bare":
        publisher = Bare()
        child = Child("bare", await publisher.start(), 1, size=frame.nbytes)
    else:
        publisher = Ours() if kind == "ours" else Frames()
        child = Child(kind, await publisher.start(), 1)
    await child.next()

    async def emit():
        if kind == "bare":
            for transport in publisher.transports:
                write_pieces(transport, frame)
        else:
            await publisher.emit([("image", frame)])

    await emit()
    began = time.perf_counter()
    for _ in range(number):
        await emit()
        await child.next()
    elapsed = time.perf_counter() - began
    await child.next()
    await child.stop()
    await publisher.stop()
    return (number / elapsed,)


async def bench_frames():
    """Besides the bare bytes: the minimum work of a replica of frames in Python ("frames")."""
    for side, number in ((150, 1000), (1024, 60)):
        figures = await interleaved(
            ["ours", "frames", "bare"], lambda kind, s=side, n=number: frames(kind, s, n)
        )
        for kind, (rate,) in figures.items():
            gb = rate * side * side * 8 / 1e9
            show(f"{side} x {side} doubles, {kind}", f"{rate:7.0f} frames/s  {gb:.2f} GB/s")
        (ours,), (least,), (bare,) = figures.values()
        promise(f"frames of {side} x {side} / bare", ours / bare, 0.5, at_most=False)
        show(f"{side} x {side}: the least in Python / bare", f"{least / bare:7.2f}")


async def bench_rate():
    """Age of the frames at a subscriber limited to 10/s, beside ten that get 100 frames/s."""
    publisher = Ours({"image": np.zeros((150, 150)), "t": time.monotonic()})
    port = await publisher.start()
    others = Child("ours", port, 10)
    await others.next()
    limited = Child("ours-age", port, 1, max_rate=10.0)
    await limited.next()
    frame = np.zeros((150, 150))
    for _ in range(500):
        await asyncio.sleep(0.01)
        with publisher.notifier.batch():
            publisher.notifier["image"] = frame
            publisher.notifier["t"] = time.monotonic()
    await asyncio.sleep(0.3)
    ages = await limited.stop()
    await others.stop()
    await publisher.stop()
    show("reader limited to 10/s: updates, oldest", f"{len(ages)}  {max(ages) * 1e3:.0f} ms")
    promise("a limited reader is behind by (s)", max(ages), 0.1, at_most=True)


def memory():
    return psutil.Process().memory_info().rss


async def stalled(child, publisher, mods):
    """Return by how much the publisher grows with one stalled subscriber; ages without and with."""
    notifier = publisher.notifier
    texts = [chr(97 + i) * 1_000_000 for i in range(4)]

    async def emit(number):
        """Publish `number` mods, each when the last one has reached all subscribers."""
        peak = 0
        for i in range(number):
            progress(f"mod {i} of {number}")
            with notifier.batch():
                notifier["x"] = texts[i % 4]
                notifier["t"] = time.monotonic()
            await child.next()
            peak = max(peak, memory())
        return peak

    await emit(50)  # not counted: memory is used for the first time
    await emit(usual := mods // 4)
    reader, writer = await asyncio.open_connection("127.0.0.1", publisher.publisher.port)
    writer.write(b"ARTIQ sync_struct\n" + NAME.encode() + b"\n")
    subscribers = publisher.publisher.counters[NAME].subscribers
    while publisher.publisher.counters[NAME].subscribers == subscribers:  # noqa: ASYNC110
        await asyncio.sleep(0)
    gc.collect()
    before = memory()
    grown = await emit(mods) - before
    equal = await catch_up(reader, notifier)
    writer.close()
    await emit(usual)
    ages = await child.stop()
    count = len(ages) // (50 + 2 * usual + mods)
    ages = ages[50 * count :]
    return (
        grown,
        ages[: usual * count] + ages[-usual * count :],
        ages[usual * count :][: mods * count],
        equal,
    )


async def catch_up(reader, notifier):
    """Read as a subscriber that has not read for long; return whether it ends equal."""
    last, target, buffered = notifier.read["t"], None, bytearray()
    while target is None or target["t"] != last:
        buffered += await reader.read(2**20)
        *lines, buffered = buffered.split(b"\n")
        for mod in map(pyon.decode, lines):
            if mod["action"] == "init":
                target = mod["struct"]
            else:
                sync_struct.process_mod(target, mod)
    return notifier == target


def p99(ages):
    return sorted(ages)[len(ages) * 99 // 100]


async def show_stalled(kind, count, mods):
    backlog = 16
    publisher = Ours({"x": "", "t": 0.0}, backlog=backlog * MIB)
    port = await publisher.start()
    child = (
        Child(kind, port, count, hello=HELLO) if kind == "tail-time" else Child(kind, port, count)
    )
    await child.next()
    grown, usual, with_it, equal = await stalled(child, publisher, mods)
    await publisher.stop()
    what = f"{mods} mods of 1 MB to {count}, one more stalled"
    show(what, f"publisher {grown / MIB:+.1f} MiB")
    for when, ages in (("without it", usual), ("with it", with_it)):
        show(
            f"  the others {when}",
            f"p50 {statistics.median(ages) * 1e3:.1f} ms  p99 {p99(ages) * 1e3:.1f} ms  "
            f"worst {max(ages) * 1e3:.1f} ms",
        )
    promise(f"{what}: growth (MiB)", grown / MIB, backlog * 1.2, at_most=True)
    promise(f"{what}: it ends equal", equal, 1, at_most=False)
    ratio = max(with_it) / p99(usual)
    promise(f"{what}: the others' worst / usual p99", ratio, 2, at_most=True)


async def bench_stalled():
    await show_stalled("ours-time", 1, 200)


async def bench_gigabyte():
    """1 GB published, 20 GB over loopback: to cheap readers, or it would take minutes."""
    await show_stalled("tail-time", 20, 1000)


async def bench_idle():
    publisher = Ours({"x": 1})
    port = await publisher.start()
    children = [Child("ours", port, 50)]
    await children[0].next()
    gc.collect()
    before = memory()
    for _ in range(4):
        children.append(Child("ours", port, 500))
        await children[-1].next()
    gc.collect()
    each = (memory() - before) / 2000
    show("2,000 idle subscribers", f"{each / 1000:.1f} kB each at the publisher")
    promise("an idle subscriber (kB)", each / 1000, 15, at_most=True)
    for child in children:
        await child.stop()
    await publisher.stop()


async def bench_snapshot():
    array = np.random.default_rng(1).random(150 * MIB // 8)
    for count in (1, 20):
        publisher = Ours({"a": array})
        port = await publisher.start()
        async with Stalls() as stalls:
            child = Child("ours-init", port, count)
            took = await child.next()
        await child.stop()
        await publisher.stop()
        show(
            f"150 MiB to {count} subscribers",
            f"{took:5.2f} s  {count * array.nbytes / took / 1e9:.2f} GB/s  "
            f"longest stall {stalls.longest * 1e3:.0f} ms",
        )


BENCHES = {
    name.removeprefix("bench_"): function
    for name, function in list(globals().items())
    if name.startswith("bench_")
}


def main():
    """Run the requested measurements; return 1 if a promise was missed."""
    global against
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", metavar="PYTHON", help="that of another checkout's venv")
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(BENCHES))
    options = parser.parse_args()
    against = options.against
    names = options.names or list(BENCHES)
    if len(names) > 1:
        # Each in its own process: memory freed by one would hide the allocations of the next.
        command = [sys.executable, __file__, *(["--against", against] if against else [])]
        return max([subprocess.run([*command, name], check=False).returncode for name in names])
    limit_files()
    asyncio.run(BENCHES[names[0]]())
    print("\n".join(["", *verdicts, ""]), flush=True)
    return int(any(verdict.startswith("MISSED") for verdict in verdicts))


def limit_files():
    with contextlib.suppress(ImportError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
