"""Measure what PROTOCOL.md and README.md promise: a table, and a line per promise.

    python benchmarks/run.py [NAME ...]

Speeds are ratios against something else in the same run, interleaved, median of several. Redis and
NATS are measured where their servers (Debian: redis-server, nats-server) and the clients of the
dependency group `bench` are installed. Figures are worth something on a machine that is otherwise
idle; publishers and subscribers are two processes, so two cores are needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import multiprocessing
import statistics
import sys
import time

import numpy as np
import psutil
import pyon
import sync_struct
from peers import NAME, PUBLISHERS, Bare, Ours, available, subscribers

REPEATS = 5
MIB = 2**20
rows: list[tuple[str, str]] = []
verdicts: list[str] = []


def show(what, figure):
    rows.append((what, figure))
    print(f"{what:66} {figure}", flush=True)


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
        self.loop.add_reader(self.pipe.fileno(), lambda: self.waiting.put_nowait(self.pipe.recv()))

    async def next(self):
        return await asyncio.wait_for(self.waiting.get(), 120)

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
        child = Child(kind, port, count, batch)
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


async def interleaved(kinds, measure):
    """Return the medians of each kind's figures, measured in turns."""
    results = {kind: [] for kind in kinds}
    for _ in range(REPEATS):
        for kind in kinds:
            results[kind].append(await measure(kind))
    return {
        kind: [statistics.median(column) for column in zip(*figures, strict=True)]
        for kind, figures in results.items()
    }


async def bench_small():
    for count, rounds in ((50, 200), (500, 40)):
        to = f"to {count} subscribers"
        figures = await interleaved(
            ["ours", "bare"],
            lambda kind, c=count, r=rounds: small_mods(kind, c, r, counted=True),
        )
        for kind, (_, cpu) in figures.items():
            show(f"small mods {to}, {kind}", f"{cpu * 1e6:6.2f} us of publisher CPU each")
        ratio = figures["ours"][1] / figures["bare"][1]
        promise(f"CPU per delivery {to} / bare", ratio, 1.4, at_most=True)
        kinds = [kind for kind in available() if kind != "bare"]
        figures = await interleaved(kinds, lambda kind, c=count, r=rounds: small_mods(kind, c, r))
        for kind, (rate, _) in figures.items():
            show(f"small mods {to}, {kind}", f"{rate:10,.0f} deliveries/s")
        ours = figures["ours"][0]
        promise(f"deliveries/s {to} / json", ours / figures["json"][0], 0.8, at_most=False)
        for broker in set(figures) & {"redis", "nats"}:
            promise(f"deliveries/s {to} / {broker}", ours / figures[broker][0], 2, at_most=False)


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


class Stalls:
    """The longest time that the loop did not turn."""

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


async def joining(kind, structure, count):
    """Return the time until `count` that join at once have it, the longest stall, encodings."""
    if kind == "ours":
        publisher = Ours(structure)
    else:
        line = json.dumps({"key": "struct", "value": structure}).encode() + b"\n"
        publisher = Bare(line)
    port = await publisher.start()
    # Processes and imports are not what is measured: a first subscriber, of nothing, waits.
    encodings = 0
    real = pyon.encode

    def counting(value, *args, **options):
        nonlocal encodings
        encodings += isinstance(value, dict) and value.get("action") == "init"
        return real(value, *args, **options)

    pyon.encode = counting
    async with Stalls() as stalls:
        child = Child("ours-init" if kind == "ours" else "json-init", port, count)
        took = await child.next()
    pyon.encode = real
    await child.stop()
    await publisher.stop()
    return took, stalls.longest, encodings


async def bench_join():
    structure = {f"key{i}": [i, i / 3, f"value {i}"] for i in range(200_000)}
    size = len(pyon.encode(structure, version=2))
    began = time.perf_counter()
    pyon.encode({"action": "init", "struct": structure}, version=2, buffer_callback=id)
    one = time.perf_counter() - began
    figures = await interleaved(["ours", "json"], lambda kind: joining(kind, structure, 50))
    for kind, (took, stall, encodings) in figures.items():
        show(
            f"{size / 1e6:.1f} MB to 50 that join at once, {kind}",
            f"{took:6.2f} s  longest stall {stall * 1e3:4.0f} ms  encodings {encodings:.0f}",
        )
    show("one encoding of it", f"{one * 1e3:.0f} ms")
    ours, reference = figures["ours"], figures["json"]
    promise("50 join at once: encodings", ours[2], 1, at_most=True)
    promise("50 join at once: total time / json", ours[0] / reference[0], 1.2, at_most=True)
    promise("50 join at once: stall / one encoding", ours[1] / one, 1.5, at_most=True)


async def frames(kind, side, number):
    """Return frames per second, two on their way at a time."""
    frame = np.random.default_rng(1).random((side, side))
    if kind == "ours":
        publisher = Ours()
        child = Child("ours", await publisher.start(), 1)
    else:
        publisher = Bare()
        child = Child("bare", await publisher.start(), 1, size=frame.nbytes)
    await child.next()

    async def emit():
        if kind == "ours":
            await publisher.emit([("image", frame)])
        else:
            (transport,) = publisher.transports
            for i in range(0, frame.nbytes, 2**18):
                transport.write(memoryview(frame).cast("B")[i : i + 2**18])

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
    for side, number in ((150, 1000), (1024, 60)):
        figures = await interleaved(
            ["ours", "bare"], lambda kind, s=side, n=number: frames(kind, s, n)
        )
        for kind, (rate,) in figures.items():
            gb = rate * side * side * 8 / 1e9
            show(f"{side} x {side} doubles, {kind}", f"{rate:7.0f} frames/s  {gb:.2f} GB/s")
        ratio = figures["ours"][0] / figures["bare"][0]
        promise(f"frames of {side} x {side} / bare", ratio, 0.5, at_most=False)


async def bench_rate():
    """100 frames/s to ten subscribers, and one that takes 10/s: how old is what it sees?"""
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


async def stalled(mods, size, count, backlog):
    """Return by how much the publisher grows with one stalled subscriber; p99 with and without."""
    publisher = Ours({"x": "", "t": 0.0}, backlog=backlog)
    port = await publisher.start()
    child = Child("ours-time", port, count)
    await child.next()
    texts = [chr(97 + i % 26) * size for i in range(4)]

    async def emit(i):
        with publisher.notifier.batch():
            publisher.notifier["x"] = texts[i % 4]
            publisher.notifier["t"] = time.monotonic()
        await child.next()

    for i in range(20):
        await emit(i)
    for _ in range(mods // 2):
        await emit(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
    writer.write(b"ARTIQ sync_struct\n" + NAME.encode() + b"\n")
    while publisher.publisher.counters[NAME].subscribers != count + 1:  # noqa: ASYNC110
        await asyncio.sleep(0)
    gc.collect()
    before, peak = memory(), 0
    for i in range(mods):
        await emit(i)
        peak = max(peak, memory())
    last, target = publisher.notifier.read["t"], None
    buffered = bytearray()
    while target is None or target["t"] != last:
        buffered += await reader.read(2**20)
        *lines, rest = buffered.split(b"\n")
        buffered = bytearray(rest)
        for mod in map(pyon.decode, lines):
            if mod["action"] == "init":
                target = mod["struct"]
            else:
                sync_struct.process_mod(target, mod)
    writer.close()
    ages = await child.stop()
    await publisher.stop()
    without, with_it = ages[: len(ages) // 3], ages[len(ages) // 3 :]
    return (peak - before) / MIB, p99(without), max(with_it), publisher.notifier == target


def p99(ages):
    return sorted(ages)[len(ages) * 99 // 100]


async def bench_stalled():
    backlog = 16
    for mods, size, count in ((200, 1_000_000, 1), (1000, 1_000_000, 20)):
        grown, usual, worst, equal = await stalled(mods, size, count, backlog * MIB)
        what = f"{mods} mods of 1 MB to {count}, one more stalled"
        show(what, f"+{grown:.1f} MiB  p99 {usual * 1e3:.1f} ms  worst {worst * 1e3:.1f} ms")
        promise(f"{what}: growth (MiB)", grown, backlog * 1.2, at_most=True)
        promise(f"{what}: it ends equal", equal, 1, at_most=False)
        promise(f"{what}: the others' worst / usual p99", worst / usual, 2, at_most=True)


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
    limit_files()
    for name in sys.argv[1:] or BENCHES:
        asyncio.run(BENCHES[name]())
    print()
    print("\n".join(verdicts))


def limit_files():
    with contextlib.suppress(ImportError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
