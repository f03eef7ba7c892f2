"""Measure sync-struct over NATS, compared with direct connections, relays and NATS alone.

    python benchmarks/over_nats.py [NAME ...] [--minutes 30]

NAMEs: latency, steps, throughput, fanout, joining, growth. The first two measure speed, and take
two minutes; they need an idle machine. The program needs `nats-server` and the dependency group
`bench`. Everything runs on this machine: publisher, bridges, relays, engine and readers are
separate processes, so two cores share the work of several machines. Processor times are those of
the named process, as counted by the system.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from bisect import bisect_right

from nats_ends import HOST, MARK, Engine, Far, command, cpu, memory, publish, read
from sync_struct import Subscriber
from sync_struct.nats._connecting import connect
from sync_struct.nats._jetstream import JetStreamError
from sync_struct.nats._layout import Manifest, subjects
from sync_struct.nats._pull import Pull

MIB = 2**20


def show(what, figure):
    print(f"{what:60} {figure}", flush=True)


ROUTES = ("direct", "relay", "two relays", "NATS bare", "NATS memory", "NATS file")


def latency(_):
    """Latency from a change to its callback, over each route, interleaved."""
    names = {route: route.replace(" ", "_") for route in ROUTES}
    engine, processes = Engine(), []
    publisher, reader, sender = Far(publish, list(names.values()), 1000), Far(read), Far(read)
    port = publisher.pipe.recv()
    reader.pipe.recv(), sender.pipe.recv()

    def start(*arguments):
        process, served = command(*arguments)
        processes.append(process)
        return served

    one = start("relay", HOST, port, names["relay"], "--bind", HOST)
    first = start("relay", HOST, port, names["two relays"], "--bind", HOST)
    two = start("relay", HOST, first, names["two relays"], "--bind", HOST)
    for storage in ("memory", "file"):
        name = names[f"NATS {storage}"]
        start("bridge", "out", HOST, port, name, "--nats", engine.address, "--storage", storage)
    places = {"direct": (HOST, port), "relay": (HOST, one), "two relays": (HOST, two)}
    delays = {route: [] for route in ROUTES}
    for _ in range(5):
        for route in ROUTES:
            if route == "NATS bare":
                reader.ask("bare", engine.address, "bare")
                sender.ask("bare_pulse", engine.address, "bare", 300, 0.005)
                delays[route] += reader.ask("leave_bare")
                continue
            reader.ask("follow", names[route], *places.get(route, (engine.address, 0)))
            publisher.ask("pulse", names[route], 300, 0.005)
            time.sleep(0.2)
            delays[route] += reader.ask("leave")[-300:]
    for route, found in delays.items():
        found.sort()
        middle, high = statistics.median(found) * 1e6, found[int(0.99 * len(found))] * 1e6
        show(f"change to callback, {route}", f"{middle:6.0f} us median, {high:6.0f} us p99")
    _close(engine, processes, publisher, reader, sender)


def _close(engine, processes, *fars):
    for process in processes:
        process.kill()
        process.wait()
    for far in fars:
        far.close()
    engine.close()


def steps(_):
    """Lag of the last replica at 5,000 small steps a second through the bridges.

    It is measured at the end of each second; growth is reported.
    """
    rate, seconds = 5000, 15
    for storage in ("memory", "file"):
        engine = Engine()
        publisher, readers = Far(publish, ["d"], 1000), [Far(read), Far(read)]
        port = publisher.pipe.recv()
        for reader in readers:
            reader.pipe.recv()
        out, _ = command(
            "bridge", "out", HOST, port, "d", "--nats", engine.address, "--storage", storage
        )
        into, served = command("bridge", "in", "d", "--nats", engine.address, "--bind", HOST)
        readers[0].ask("follow", "d", engine.address, 0)
        time.sleep(1)  # the other bridge has the structure then
        readers[1].ask("follow", "d", HOST, served)
        begin, made = publisher.ask("noted_steps", "d", rate, seconds)
        for reader in readers:
            reader.ask("reached", len(made) * MARK)
        came = [reader.ask("arrivals") for reader in readers]
        show(
            f"{storage}: steps a second, in {seconds} s", f"{len(made) * MARK / seconds:,.0f} made"
        )
        _show_lag(storage, [begin + second for second in range(1, seconds + 1)], made, came)
        _close(engine, [out, into], publisher, *readers)


def _show_lag(storage, ends, made, came):
    behind = [
        MARK * max(bisect_right(made, end) - bisect_right(one, end) for one in came) for end in ends
    ]
    late = sorted(max(times) - at for at, *times in zip(made, *came, strict=True))
    show(
        f"{storage}: step to the last of two replicas",
        f"{statistics.median(late) * 1e3:.1f} ms median, {late[int(0.99 * len(late))] * 1e3:.1f} "
        "ms p99",
    )
    show(f"{storage}: steps behind at the end of each second", ", ".join(map(str, behind)))
    third = len(behind) // 3
    first, last = statistics.median(behind[:third]), statistics.median(behind[-third:])
    grows = last > 2 * first + GROWTH
    verdict = "FALLS BEHIND" if grows else "keeps up: that does not grow"
    show(f"{storage}: the last replica", f"{verdict} ({first:.0f}, then {last:.0f} steps)")


GROWTH = 250
"""Steps by which the lag of the last third may exceed twice that of the first third: 50 ms."""


def throughput(_):
    """Steps and frames through the bridges: lag, and processor time of each process."""
    for storage in ("memory", "file"):
        engine = Engine()
        publisher, reader = Far(publish, ["d"], 1000), Far(read)
        port = publisher.pipe.recv()
        reader.pipe.recv()
        bridge, _ = command(
            "bridge", "out", HOST, port, "d", "--nats", engine.address, "--storage", storage
        )
        reader.ask("follow", "d", engine.address, 0)
        watched = {
            "publisher": publisher.process,
            "bridge out": bridge,
            "nats-server": engine.process,
            "replica": reader.process,
        }
        before = {name: cpu(process) for name, process in watched.items()}
        made = publisher.ask("single_steps", "d", 5000, 10.0)
        end = time.perf_counter()
        lag = reader.ask("reached", made) - end
        used = {name: (cpu(process) - before[name]) / made for name, process in watched.items()}
        show(
            f"{storage}: steps a second made, lag of the replica at the end",
            f"{made / 10:.0f}, {lag * 1e3:.1f} ms",
        )
        for name, seconds in used.items():
            show(f"{storage}: processor time per step, {name}", f"{seconds * 1e6:6.1f} us")
        for size, interval, count in ((180_000, 0.02, 250), (8_000_000, 0.5, 12)):
            before = {name: cpu(process) for name, process in watched.items()}
            reader.ask("leave")
            reader.ask("follow", "d", engine.address, 0)
            publisher.ask("frames", "d", size, count, interval)
            time.sleep(1)
            found = sorted(reader.ask("leave")[-count:])
            used = {
                name: (cpu(process) - before[name]) / count for name, process in watched.items()
            }
            reader.ask("follow", "d", engine.address, 0)
            what = f"{storage}: frames of {size / 1e6:g} MB at {size / interval / 1e6:.0f} MB/s"
            show(f"{what}, change to callback", f"{statistics.median(found) * 1e3:.1f} ms median")
            for name, seconds in used.items():
                show(f"{what}, processor time, {name}", f"{seconds * 1e3:6.2f} ms a frame")
        _close(engine, [bridge], publisher, reader)


def crowd(pipe, ports, count):
    """Run many subscribers that receive everything and decode nothing."""

    async def main():
        banner = b'{"sync_struct":1,"notifier":"d","features":["raw_buffers","growing_arrays"]}\n'
        received = 0

        class Cheap(asyncio.Protocol):
            def connection_made(self, transport):
                transport.write(banner)

            def data_received(self, data):
                nonlocal received
                received += len(data)

        loop = asyncio.get_running_loop()
        for i in range(count):
            await loop.create_connection(Cheap, HOST, ports[i % len(ports)])
            if i % 50 == 0:
                await asyncio.sleep(0.02)
        pipe.send("ready")
        said = asyncio.Event()
        loop.add_reader(pipe.fileno(), said.set)
        await said.wait()

    asyncio.run(main())


def fanout(_):
    """Cost of subscribers behind bridges: for the publisher, and for the bridges."""
    engine = Engine()
    publisher = Far(publish, ["d"], 100_000)
    port = publisher.pipe.recv()
    out, _ = command("bridge", "out", HOST, port, "d", "--nats", engine.address)
    bridges, ports = [], []
    for _ in range(3):
        process, served = command("bridge", "in", "d", "--nats", engine.address, "--bind", HOST)
        bridges.append(process)
        ports.append(served)
    time.sleep(3)
    for count, behind, rate in CROWDS:
        far = Far(crowd, ports[:behind], count)
        far.pipe.recv()
        time.sleep(2)
        before, others = cpu(publisher.process), sum(map(cpu, bridges))
        publisher.ask("single_steps", "d", rate, 10.0)
        used, theirs = cpu(publisher.process) - before, sum(map(cpu, bridges)) - others
        what = f"{count} subscribers of {behind} bridges, {rate} steps a second"
        show(
            f"{what}: publisher",
            f"{10 * used:.1f} % of a core, {memory(publisher.process):.0f} MiB",
        )
        show(f"{what}: bridges", f"{10 * theirs:.1f} % of a core together")
        far.close()
    _close(engine, [out, *bridges], publisher)


CROWDS = ((1, 3, 50), (100, 3, 50), (3000, 3, 50), (2000, 1, 50), (2000, 1, 500))
"""Subscribers, bridges that serve them, and steps per second."""


def joiners(pipe, address, count, whole):
    """Join at the same time; as replicas, or only receiving all parts of the snapshot."""

    async def receive():
        js = await connect(address)
        names = subjects("d")
        manifest = Manifest.read((await js.last(names.stream, names.manifest)).data)
        begin, size = manifest.begin, 0
        while size < manifest.size:
            pull = await Pull.open(js, names.stream, [names.part], begin)
            with contextlib.suppress(JetStreamError):  # a time-out: so many share two cores
                while size < manifest.size:
                    for entry in await pull.next():
                        begin, size = entry.seq + 1, size + len(entry.data)
            await pull.close()
        await js.close()

    async def join():
        subscriber = Subscriber("d", lambda x: x, timeout=None)
        await subscriber.connect(address)
        await subscriber.close()

    async def main():
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        await asyncio.gather(*[join() if whole else receive() for _ in range(count)])
        pipe.send("joined")

    asyncio.run(main())


def joining(_):
    """Time of fifty subscribers that join at once, and the cost for the publisher."""
    for size, whole in ((10 * 10**6, True), (10 * 10**6, False), (150 * 10**6, False)):
        engine = Engine()
        publisher = Far(publish, ["d"], size)
        port = publisher.pipe.recv()
        out, _ = command("bridge", "out", HOST, port, "d", "--nats", engine.address)
        time.sleep(5)
        far = Far(joiners, engine.address, 50, whole)
        far.pipe.recv()
        watched = [publisher.process, engine.process, out]
        before, begin = [cpu(process) for process in watched], time.perf_counter()
        far.ask("go")
        seconds = time.perf_counter() - begin
        used = [cpu(process) - at for process, at in zip(watched, before, strict=True)]
        kind = "replicas" if whole else "who receive all parts"
        show(
            f"50 {kind} at once, {size / 1e6:.0f} MB",
            f"{seconds:.1f} s; publisher {used[0]:.2f} s, nats-server {used[1]:.1f} s, "
            f"bridge {used[2]:.2f} s of processor time",
        )
        far.process.kill()
        _close(engine, [out], publisher)


def growth(options):
    """Size of the stream and of the processes during a long run of 1,000 steps a second."""
    engine = Engine()
    publisher, reader = Far(publish, ["d"], 100_000), Far(read)
    port = publisher.pipe.recv()
    reader.pipe.recv()
    out, _ = command("bridge", "out", HOST, port, "d", "--nats", engine.address)
    into, _ = command("bridge", "in", "d", "--nats", engine.address, "--bind", HOST)
    reader.ask("follow", "d", engine.address, 0)
    watched = {"nats-server": engine.process, "bridge out": out, "bridge in": into}

    async def size():
        js = await connect(engine.address)
        found = await js.state("sync_struct-d")
        await js.close()
        return found.size / MIB

    made, largest = 0, 0.0
    for minute in range(options.minutes * 4):
        made += publisher.ask("single_steps", "d", 1000, 15.0)
        largest = max(largest, asyncio.run(size()))
        if minute in (3, options.minutes * 2 - 1, options.minutes * 4 - 1):
            figures = ", ".join(f"{name} {memory(p):.0f} MiB" for name, p in watched.items())
            show(
                f"after {(minute + 1) / 4:.0f} min, {made} steps",
                f"stream {largest:.1f} MiB at most; {figures}",
            )
    _close(engine, [out, into], publisher, reader)


SECTIONS = {one.__name__: one for one in (latency, steps, throughput, fanout, joining, growth)}


def main():
    parser = argparse.ArgumentParser(description="Measure sync-struct over NATS.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SECTIONS))
    parser.add_argument("--minutes", type=int, default=30, help="of growth")
    options = parser.parse_args()
    for name in options.names or SECTIONS:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
