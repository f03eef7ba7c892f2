"""An experiment on this computer: calls, code next to the driver, live readings, a data file.

    python experiment.py                           starts the controller, and has it end at the end
    python experiment.py --stay                    leaves it running, for you to try more
    python experiment.py HOST PORT READINGS_PORT   uses the controller that runs there

Each step says which package it shows. Needs all five packages, psutil and rich.
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
LINES = 6  # of the file, that are shown
console = Console(highlight=False)


def main(host, port, readings_port, stay=False):
    """Run the experiment against a controller; in the end have it end, or stay."""
    step("pc-rpc", "who is there, and what can it do?")
    with Client(host, port, target_name=None) as server:
        targets, description = server.get_rpc_id()
        say(f"{description!r} serves {', '.join(targets)}")
    with Client(host, port, "machine") as machine, Client(host, port, "machine_rexec") as rexec:
        for name, (spec, doc) in sorted(machine.get_rpc_method_list()["methods"].items()):
            call = f"{name}({', '.join(spec['args'][1:])})"
            say_shortly(f"  {call:<24}{(doc or '').splitlines()[0]}")

        step("pc-rpc", "the driver's methods, as if the driver were here")
        say(f"cores: {machine.cores()}, load: {machine.load()}")
        say(f"memory: {machine.memory()['available'] / 2**30:.1f} GiB available")
        say(f"busiest core: {machine.cpu_times()[:, :2].sum(axis=1).max():.0f} s at work")
        say(f"network interfaces: {', '.join(machine.network())}")

        step("pc-rpc", f"{SAMPLES:,} samples of timing jitter, measured on the spot and fetched")
        samples, fetched = fetch_samples(machine)

        step("remote-exec", "the same data, reduced next to the driver by code sent there")
        reduced = reduce_remotely(rexec, samples, fetched)

        step("fire-and-forget", "a slow call in the background")
        background = FFProxy(machine)
        started = time.perf_counter()
        background.self_test(2.0)
        say(f"self_test(2.0) returned after {(time.perf_counter() - started) * 1e3:.1f} ms")

        step("sync-struct", "meanwhile, the readings that the controller publishes")
        last = follow_readings(host, readings_port, seconds=4.0)
        background.ff_join()
        say(f"the slow call has ended: {background.ff_counts()}")

        step("pyon", "what was found, in a file that people can read")
        jitter = {"first": samples[:8].tolist(), **reduced}
        spectrum = jitter.pop("histogram")
        store_and_check({"jitter": jitter, "load": last["load"], "spectrum": spectrum})

        if not stay:
            step("pc-rpc", "the controller ends when it is told to")
            machine.terminate()
    if stay:
        step("your turn", "the controller goes on; in another terminal try")
        show_commands(host, port, readings_port)


def show_commands(host, port, readings_port):
    """Print what can be tried with a controller that goes on, as it can be copied."""
    programs = Path(sys.executable).parent
    for command in (
        f"pc-rpc list-targets {host} {port}",
        f"pc-rpc call -t machine {host} {port} load",
        f"pc-rpc interactive -t machine {host} {port}",
        f"sync-struct watch {host} {readings_port} readings",
        f"pc-rpc call -t machine {host} {port} terminate",
    ):
        console.print(f"    {programs / command}", markup=False, soft_wrap=True)
    say("The last one ends it; Ctrl-C here does, too.")


def fetch_samples(machine):
    """Return a million samples and how many bytes they were on the wire."""
    started = time.perf_counter()
    samples = machine.measure_jitter(SAMPLES)
    seconds = time.perf_counter() - started
    fetched = size_on_the_wire(samples)
    say(f"{samples.dtype} array of shape {samples.shape}: {fetched:,} bytes, {seconds:.2f} s")
    return samples, fetched


def summary(bins):
    """Reduce the samples that the driver keeps. Sent to the controller, and run there."""
    return summarize(controller_driver.jitter, bins)  # noqa: F821 - a name of the namespace there


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
    there = RemoteExec(rexec).send(summary)(12)  # summarize and numpy go along
    here = summarize(samples, 12)
    if pyon.encode(there) != pyon.encode(here):
        raise RuntimeError(f"the results differ: {there} there, {here} here")
    code = sum(len(inspect.getsource(function)) for function in (summarize, summary))
    moved = code + size_on_the_wire(there)
    say(f"median {there['median']:.0f} ns, worst {there['worst'] / 1e6:.2f} ms; both ways agree")
    say(f"bytes moved: {fetched:,} to reduce here, {moved:,} to reduce there")
    return there


def follow_readings(host, port, seconds):
    """Show the published readings for a while: a table that lives, or lines in a pipe."""
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
                say(f"update {readings['updates']}: busy {np.round(readings['busy'], 2)}")
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
            raise RuntimeError("what was read back is not what was stored")
        text = file.read_text(encoding="utf-8")
    say(f"{len(text)} characters, read back equal, types and all; the beginning:")
    for line in text.splitlines()[:LINES]:
        say_shortly(line)


def size_on_the_wire(value):
    """Return how many bytes a value takes: its text, and the data of arrays as it is."""
    buffers = []
    text = pyon.encode(value, version=2, buffer_callback=buffers.append)
    return len(text) + sum(len(buffer) for buffer in buffers)


def step(package, what):
    """Announce a step."""
    console.print(f"\n[bold]{package}[/bold]: {what}", soft_wrap=True)


def say_shortly(what):
    """Print a result of a step, shortened to what fits into a line."""
    width = console.width - 2
    say(what if len(what) <= width else what[: width - 3] + "...")


def say(what):
    """Print a result of a step."""
    console.print(f"  {what}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def controller(stay):
    """Start the controller in a process of its own; give its address."""
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
