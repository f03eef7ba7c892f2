"""Methods that fork processes: the server and its clients are not affected."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from pc_rpc import Client, ConnectionLost

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

CONTROLLER = """
import asyncio, multiprocessing, os, signal, sys, threading, warnings
import pc_rpc
from pc_rpc import _session

_session.LEAN = sys.argv[2] == "lean"
warnings.simplefilter("ignore", DeprecationWarning)

class Driver:
    def start_process(self):
        context = multiprocessing.get_context("fork")
        child = context.Process(target=signal.pause, daemon=True)
        child.start()
        return child.pid

    async def start_process_later(self):
        await asyncio.sleep(0)
        return self.start_process()

    def fork(self):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        return pid

    def fork_and_return(self):
        return os.fork()

    def fork_and_raise(self):
        pid = os.fork()
        if pid == 0:
            raise ValueError("in the child")
        return pid

    async def fork_and_return_later(self):
        await asyncio.sleep(0)
        return os.fork()

    def wait_for(self, pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def echo(self, x):
        return x

    async def hang(self):
        await asyncio.Event().wait()

pc_rpc.simple_server_loop({"main": Driver()}, "127.0.0.1", 0, allow_parallel=True,
    worker_threads=sys.argv[1] == "worker",
    ready_cb=lambda server: print(server.port, flush=True))
print("ended in order", flush=True)
"""


@pytest.fixture(params=["loop lean", "loop general", "worker lean"])
def controller(request, tmp_path):
    """A controller as a process, and its port."""
    (tmp_path / "controller.py").write_text(CONTROLLER)
    process = subprocess.Popen(
        [sys.executable, "controller.py", *request.param.split()],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    yield process, int(process.stdout.readline())
    process.kill()
    process.communicate()


@pytest.fixture
def ending():
    """Kill processes in the end, by their ids."""
    pids = []
    yield pids.append
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("end", ["kill", "terminate", "SIGTERM"])
@pytest.mark.parametrize("method", ["start_process", "start_process_later", "fork"])
def test_a_server_whose_method_has_forked_ends_for_its_clients(controller, ending, method, end):
    process, port = controller
    with Client("127.0.0.1", port, timeout=60) as client, ThreadPoolExecutor() as pool:
        ending(getattr(client, method)())
        assert client.echo(5) == 5
        waiting = pool.submit(client.hang)
        client.ping_rpc()
        if end == "kill":
            process.kill()
        elif end == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            with Client("127.0.0.1", port, timeout=60) as other:
                other.terminate()
        assert isinstance(waiting.exception(60), ConnectionLost)
        with pytest.raises(ConnectionLost):
            client.echo(5)
    process.wait(60)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))  # free: no child holds it
        probe.listen()


@pytest.mark.parametrize("method", ["fork_and_return", "fork_and_raise", "fork_and_return_later"])
def test_a_child_that_returns_from_a_method_ends_there(controller, method):
    process, port = controller
    with Client("127.0.0.1", port, timeout=60) as client:
        for _ in range(3):
            pid = getattr(client, method)()
            assert pid > 0
            assert client.wait_for(pid) == 1
            assert client.echo(5) == 5
            client.ping_rpc()
        with Client("127.0.0.1", port, timeout=60) as other:
            assert other.echo(6) == 6
        client.terminate()
    out, err = process.communicate(timeout=60)
    assert out == "ended in order\n"
    assert "a forked process returned from a method" in err
