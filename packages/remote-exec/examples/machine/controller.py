"""A controller whose instrument is the computer itself.

    python controller.py

It serves a driver (pc-rpc), accepts code and runs it next to the driver (remote-exec), and
publishes live readings (sync-struct), until a client terminates it or you press Ctrl-C. The first
line of its output has the ports. Needs the packages named, and psutil.
"""

import argparse
import asyncio
import functools
import time

import numpy as np
import psutil
from pc_rpc import Server
from remote_exec import RemoteExecServer
from sync_struct import Notifier, Publisher


class Machine:
    """Readings of this computer, taken from its operating system."""

    def __init__(self):
        self.jitter = np.empty(0, np.int64)

    def cores(self) -> int:
        """Return the number of processor cores."""
        return psutil.cpu_count() or 1

    def cpu_times(self) -> np.ndarray:
        """Return seconds spent since the start: a row per core, columns user, system, idle."""
        return np.array([(t.user, t.system, t.idle) for t in psutil.cpu_times(percpu=True)])

    def load(self) -> tuple:
        """Return the load averages over 1, 5 and 15 minutes: the number of runnable processes."""
        return psutil.getloadavg()

    def memory(self) -> dict:
        """Return bytes of memory, total and available."""
        memory = psutil.virtual_memory()
        return {"total": memory.total, "available": memory.available}

    def network(self) -> dict:
        """Return bytes sent and received since the start, for each network interface."""
        counters = psutil.net_io_counters(pernic=True)
        return {name: (c.bytes_sent, c.bytes_recv) for name, c in counters.items()}

    def measure_jitter(self, samples: int) -> np.ndarray:
        """Read the clock repeatedly; return the nanoseconds between readings.

        The driver keeps the samples in `jitter`, for sent code.
        """
        clock = time.perf_counter_ns
        readings = np.fromiter((clock() for _ in range(samples + 1)), np.int64, samples + 1)
        self.jitter = np.diff(readings)
        return self.jitter

    def self_test(self, seconds: float) -> float:
        """Keep one core busy; return million additions per second. Slow on purpose."""
        additions, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            additions += sum(1 for _ in range(10_000))
        return additions / seconds / 1e6


async def publish_readings(driver, readings, period=0.25):
    """Update the published structure at intervals, for ever."""
    before = driver.cpu_times()
    while True:
        await asyncio.sleep(period)
        now = driver.cpu_times()
        spent = now - before
        before = now
        readings["busy"] = 1 - spent[:, 2] / np.maximum(spent.sum(axis=1), 1e-9)
        readings["load"] = driver.load()[0]
        readings["memory"]["available"] = driver.memory()["available"]
        readings["updates"] += 1


async def main(host, port):
    driver = Machine()
    readings = Notifier(
        {"busy": np.zeros(driver.cores()), "load": 0.0, "memory": driver.memory(), "updates": 0}
    )
    targets = {
        "machine": driver,
        # An instance for each connection. Its namespace contains the driver.
        "machine_rexec": functools.partial(RemoteExecServer, {"controller_driver": driver}),
    }
    server = Server(
        targets,
        description="This computer",
        builtin_terminate=True,
        worker_threads=True,  # a slow method delays neither other targets nor the readings
    )
    publisher = Publisher({"readings": readings})
    async with server, publisher:
        await server.start(host, port)
        await publisher.start(host, 0)
        print(f"serving {host} {server.port} {publisher.port}", flush=True)
        publishing = asyncio.create_task(publish_readings(driver, readings))
        await server.wait_terminate()
        publishing.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port of the driver; 0: any")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.bind, arguments.port))
    except KeyboardInterrupt:
        pass
