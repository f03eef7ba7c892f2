"""An experiment on this computer: calls, code next to the driver, live readings, a data file.

    python experiment.py                           starts a controller, and terminates it at the end
    python experiment.py --stay                    leaves it running, for more commands
    python experiment.py HOST PORT READINGS_PORT   uses a running controller

Each step names the package that it shows. Needs all five packages, psutil and rich.
"""

import argparse
import contextlib
import inspect
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyon
from fire_and_forget import FFProxy
from pc_rpc import Client
from remote_exec import RemoteExec
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from sync_struct import mirror

SAMPLES = 1_000_000
LINES = 6  # of the file, to be shown
console = Console(highlight=False)


def main(host, port, readings_port, stay=False):
    """Run the experiment with a controller, and terminate the controller unless it is to stay."""
    step("pc-rpc", "the targets of the server, and their methods")
    with Client(host, port, target_name=None) as server:
        targets, description = server.get_rpc_id()
        show(f"{description!r} serves {', '.join(targets)}")
    with Client(host, port, "machine") as machine, Client(host, port, "machine_rexec") as rexec:
        for name, (spec, doc) in sorted(machine.get_rpc_method_list()["methods"].items()):
            call = f"{name}({', '.join(spec['args'][1:])})"
            show_shortened(f"  {call:<24}{(doc or '').splitlines()[0]}")

        step("pc-rpc", "calls of the driver's methods")
        show(f"cores: {machine.cores()}, load: {machine.load()}")
        show(f"memory: {machine.memory()['available'] / 2**30:.1f} GiB available")
        show(f"busiest core: {machine.cpu_times()[:, :2].sum(axis=1).max():.0f} s busy")
        show(f"network interfaces: {', '.join(machine.network())}")

        step("pc-rpc", f"{SAMPLES:,} samples of timing jitter, measured at the driver and fetched")
        samples, fetched = fetch_samples(machine)

        step("remote-exec", "the same data, reduced next to the driver by code sent there")
        reduced = reduce_remotely(rexec, samples, fetched)

        step("fire-and-forget", "a slow call in the background")
        background = FFProxy(machine)
        started = time.perf_counter()
        background.self_test(2.0)
        show(f"self_test(2.0) returned after {(time.perf_counter() - started) * 1e3:.1f} ms")

        step("sync-struct", "meanwhile, the published readings of the controller")
        last = follow_readings(host, readings_port, seconds=4.0)
        background.ff_join()
        show(f"the slow call has ended: {background.ff_counts()}")

        step("pyon", "the results, in a file that people can read")
        jitter = {"first": samples[:8].tolist(), **reduced}
        spectrum = jitter.pop("histogram")
        store_and_check({"jitter": jitter, "load": last["load"], "spectrum": spectrum})

        if not stay:
            step("pc-rpc", "the client terminates the controller")
            machine.terminate()
    if stay:
        step("your turn", "the controller is still running; in another terminal try")
        show_commands(host, port, readings_port)


def show_commands(host, port, readings_port):
    """Print commands for the running controller, to be copied."""
    programs = Path(sys.executable).parent
    for command in (
        f"pc-rpc list-targets {host} {port}",
        f"pc-rpc call -t machine {host} {port} load",
        f"pc-rpc interactive -t machine {host} {port}",
        f"sync-struct watch {host} {readings_port} readings",
        f"pc-rpc call -t machine {host} {port} terminate",
    ):
        console.print(f"    {programs / command}", markup=False, soft_wrap=True)
    show("The last command ends the controller, and so does Ctrl-C here.")


def fetch_samples(machine):
    """Return a million samples, and their size on the wire in bytes."""
    started = time.perf_counter()
    samples = machine.measure_jitter(SAMPLES)
    seconds = time.perf_counter() - started
    fetched = size_on_the_wire(samples)
    show(f"{samples.dtype} array of shape {samples.shape}: {fetched:,} bytes, {seconds:.2f} s")
    return samples, fetched


def summary(bins):
    """Reduce the samples that the driver keeps. Runs at the controller."""
    return summarize(controller_driver.jitter, bins)  # noqa: F821 - defined at the controller


def summarize(samples, bins):
    """Reduce samples in ns to median, worst case and a histogram of their logarithm."""
    counts, edges = np.histogram(np.log10(np.maximum(samples, 1)), bins, (0.0, 9.0))
    return {
        "median": float(np.median(samples)),
        "worst": int(samples.max()),
        "histogram": (counts, edges),
    }


def reduce_remotely(rexec, samples, fetched):
    """Reduce the samples at the driver and here, compare, and return the result."""
    there = RemoteExec(rexec).send(summary)(12)  # with summarize and the import of numpy
    here = summarize(samples, 12)
    if pyon.encode(there) != pyon.encode(here):
        raise RuntimeError(f"the results differ: {there} there, {here} here")
    code = sum(len(inspect.getsource(function)) for function in (summarize, summary))
    moved = code + size_on_the_wire(there)
    show(f"median {there['median']:.0f} ns, worst {there['worst'] / 1e6:.2f} ms; both ways agree")
    show(f"bytes moved: {fetched:,} to reduce here, {moved:,} to reduce there")
    return there


def follow_readings(host, port, seconds):
    """Show the published readings for a while: as a live table, or as lines in a pipe."""
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        view = stack.enter_context(mirror(host, port, "readings"))
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        while time.monotonic() < end:
            view.wait(timeout=2.0)  # for the next update
            readings = view.read
            if console.is_terminal:
                live.update(table(readings), refresh=True)
            elif readings["updates"] % 4 == 0:
                show(f"update {readings['updates']}: busy {np.round(readings['busy'], 2)}")
    return readings


def table(readings):
    """Return the readings as a table."""
    rows = Table("core", "busy", "", title=f"update {readings['updates']}", min_width=40)
    rows.caption = f"load {readings['load']:.2f}"
    for core, busy in enumerate(readings["busy"]):
        rows.add_row(str(core), ProgressBar(1.0, float(busy), width=30), f"{busy:4.0%}")
    return rows


def store_and_check(results):
    """Store the results in a file, read them back, and check that nothing has changed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.pyon"
        pyon.store_file(file, results)
        again = pyon.load_file(file)
        if pyon.encode(again, pretty=True) != pyon.encode(results, pretty=True):
            raise RuntimeError("the file does not contain the stored results")
        text = file.read_text(encoding="utf-8")
    show(f"{len(text)} characters, read back with equal values and types; the beginning:")
    for line in text.splitlines()[:LINES]:
        show_shortened(line)


def size_on_the_wire(value):
    """Return the size of a value in bytes: its text, and the raw data of arrays."""
    buffers = []
    text = pyon.encode(value, version=2, buffer_callback=buffers.append)
    return len(text) + sum(len(buffer) for buffer in buffers)


def step(package, what):
    """Print the heading of a step."""
    console.print(f"\n[bold]{package}[/bold]: {what}", soft_wrap=True)


def show_shortened(what):
    """Print a result of a step, shortened to one line."""
    width = console.width - 2
    show(what if len(what) <= width else what[: width - 3] + "...")


def show(what):
    """Print a result of a step."""
    console.print(f"  {what}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def controller(stay):
    """Start the controller in another process; yield its address."""
    program = Path(__file__).with_name("controller.py")
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        try:
            _, host, port, readings_port = process.stdout.readline().split()
            yield host, int(port), int(readings_port)
            if process.wait(timeout=None if stay else 60) != 0:
                raise RuntimeError(f"the controller ended with status {process.returncode}")
        finally:
            process.kill()


if __name__ == "__main__":
    logging.basicConfig(format="  %(name)s: %(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stay", action="store_true", help="leave the controller running")
    parser.add_argument("address", nargs="*", metavar="HOST PORT READINGS_PORT")
    arguments = parser.parse_args()
    if arguments.address:
        host, port, readings_port = arguments.address
        main(host, int(port), int(readings_port), arguments.stay)
    else:
        with contextlib.suppress(KeyboardInterrupt), controller(arguments.stay) as address:
            main(*address, arguments.stay)
