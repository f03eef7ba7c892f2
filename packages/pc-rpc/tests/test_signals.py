"""Signals while a controller is busy: log records, and ending it at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from pc_rpc import Client
from pc_rpc._signals import TerminationSignals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of another kind")

CONTROLLER = '''
import multiprocessing
import os
import signal
import sys
import threading

import pc_rpc

class Laser:
    def lock(self):
        """Wait for a line, on the event loop."""
        print("locking", flush=True)
        return self._wait()

    def _wait(self):
        sys.stdin.readline()

    def count(self):
        print("counting", flush=True)
        while True:
            pass

    def fork(self):
        """Start a process, end it as multiprocessing does, and return its exit status."""
        receiver, sender = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_wait_in_child, args=(sender,))
        child.start()
        receiver.recv()
        child.terminate()
        child.join()
        return child.exitcode

def _wait_in_child(sender):
    sender.send("ready")
    threading.Event().wait()

pc_rpc.simple_server_loop({"laser": Laser()}, "127.0.0.1", 0, worker_threads="-w" in sys.argv,
                          ready_cb=lambda server: print(server.port, flush=True))
print("ended in order", flush=True)
'''


@pytest.fixture
def controller(tmp_path, request):
    """A controller as a process, and its port."""
    (tmp_path / "controller.py").write_text(CONTROLLER)
    process = subprocess.Popen(
        [sys.executable, "controller.py", *getattr(request, "param", [])],
        cwd=tmp_path, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    yield process, int(process.stdout.readline())
    process.kill()
    process.communicate()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of another kind")
async def test_a_signal_that_does_not_interrupt_the_wait_of_the_loop_ends_it_all_the_same():
    """Like a signal just before the wait, which would be noticed only at the next call."""
    came, main = asyncio.Event(), threading.get_ident()

    def take_it():
        while sys._current_frames()[main].f_code.co_name != "select":
            pass
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        ended.wait(60)

    ended, other = threading.Event(), threading.Thread(target=take_it)
    with TerminationSignals() as signals:
        signals.call(came.set)
        asyncio.get_running_loop().call_soon(other.start)
        try:
            async with asyncio.timeout(20):
                await came.wait()
        finally:
            ended.set()
            other.join(30)
    assert signals.received == "SIGTERM"
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("method", ["lock", "count"])
def test_a_controller_that_is_asked_to_end_says_which_method_it_waits_for(
    controller, name, method, thread_of
):
    process, port = controller
    thread_of(port, method)
    assert process.stdout.readline() == f"{method}ing\n"
    process.send_signal(getattr(signal, name))
    assert re.fullmatch(
        rf"{name}: waiting for Laser\.{method} \(controller\.py, line \d+\) to return; "
        r"Ctrl-C ends at once\n",
        process.stderr.readline(),
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")


@pytest.fixture
def thread_of():
    """Call a method in a thread, which ends with the connection."""
    import threading

    threads = []

    def start(port, method):
        def call():
            with (
                contextlib.suppress(ConnectionError),
                Client("127.0.0.1", port, timeout=60) as client,
            ):
                getattr(client, method)()

        threads.append(threading.Thread(target=call))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("controller", [["-w"]], indirect=True, ids=["worker"])
def test_a_loop_that_is_idle_is_not_taken_for_a_method(controller, thread_of):
    process, port = controller
    thread_of(port, "lock")
    assert process.stdout.readline() == "locking\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(
        timeout=60
    )  # a second at most: the server logs the method that it waits for
    assert (process.returncode, out, err) == (0, "ended in order\n", "")


def test_a_second_signal_of_another_kind_changes_nothing(controller, thread_of):
    process, port = controller
    thread_of(port, "lock")
    assert process.stdout.readline() == "locking\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("SIGTERM: waiting for Laser.lock")
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate("\n", timeout=60)
    assert (process.returncode, out, err) == (0, "ended in order\n", "")


@pytest.mark.parametrize("controller", [[], ["-w"]], indirect=True, ids=["loop", "worker"])
def test_a_process_that_a_method_forks_can_be_ended_by_a_signal(controller):
    process, port = controller
    with Client("127.0.0.1", port, timeout=60) as client:
        assert client.fork() == -signal.SIGTERM
        client.terminate()
    assert process.communicate(timeout=60)[0] == "ended in order\n"


FORKING = """
import asyncio, os, signal
from pc_rpc._signals import TerminationSignals

if hasattr(os, "sched_setaffinity"):  # so that most children begin to run behind the signal
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

def end_one():
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        signal.pause()
    os.kill(pid, signal.SIGTERM)
    return pid

async def main():
    with TerminationSignals() as signals:
        pids = [end_one() for _ in range(20)]
        print({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids}, signals.received)
        os.kill(os.getpid(), signal.SIGTERM)
        print(signals.received)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_signal_ends_a_child_that_was_forked_just_now():
    output = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", FORKING], text=True, timeout=60
    )
    assert output.split() == [f"{{{-signal.SIGTERM}}}", "None", "SIGTERM"]
