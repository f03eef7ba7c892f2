"""Every promise of the README, tested with a controller in its own process, as users see it.

The other test files test the details.
"""

import io
import os
import signal
import subprocess
import sys
import threading
import traceback

import numpy as np
import pytest
from pc_rpc import Client
from remote_exec import RemoteExec, connect_global_rpc

CONTROLLER = """
import logging, sys
from remote_exec import simple_rexec_server_loop

class Driver:
    def identify(self):
        return "in a process of its own"

    def chat(self):
        print("the driver says")
        logging.getLogger("driver").warning("and logs")

    def wait(self):
        sys.stdin.readline()

logging.basicConfig(level=logging.INFO, format="%(name)s:%(message)s")
simple_rexec_server_loop(
    "main", Driver(), sys.argv[1], 0, ready_cb=lambda server: print(server.port, flush=True)
)
print("stopped in order")
"""


class Process:
    """The controller's process, and clients of it."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLER, "127.0.0.1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.process.stdout.readline())

    def connect(self, target="main_rexec"):
        return Client("127.0.0.1", self.port, target, timeout=60)

    def terminate(self):
        """Stop the controller as systemd does; return what it has printed and logged."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, err
        return out, err


@pytest.fixture
def process():
    process = Process()
    yield process
    if process.process.poll() is None:
        process.process.kill()
    process.process.communicate()


def test_a_function_is_sent_and_runs_next_to_the_driver(process):
    def identify_there(*, times=1):
        return [controller_driver.identify()] * times, os.getpid()  # noqa: F821

    with process.connect() as client:
        names, pid = RemoteExec(client).send(identify_there)(times=2)
    assert names == ["in a process of its own"] * 2
    assert pid == process.process.pid


def test_coroutines_and_arrays(process):
    async def double(a):
        return 2 * a

    with process.connect() as client:
        result = RemoteExec(client).send(double)(np.arange(3.0))
    np.testing.assert_array_equal(result, [0.0, 2.0, 4.0])


def test_a_global_client_reaches_from_the_controller_to_the_experiment(process):
    """The controller itself serves as the dataset database, for a later connection."""
    with process.connect() as client:
        connect_global_rpc(client, port=process.port, target="main", name="elsewhere")
        for name in ['"; raise SystemExit #', "a b", "__builtins__"]:
            with pytest.raises(ValueError, match="expected an identifier"):
                connect_global_rpc(client, port=process.port, target="main", name=name)
    with process.connect() as later:
        later.add_code("def names():\n    return sorted(controller_initial_namespace)\n")
        assert later.call("names") == ["controller_driver", "elsewhere"]


def test_an_error_shows_the_line_that_was_sent(process):
    def fails():
        return 1 / 0  # this line

    with process.connect() as client:
        with pytest.raises(ZeroDivisionError) as caught:
            RemoteExec(client).send(fails)()
        assert "# this line" in "".join(traceback.format_exception(caught.value))


class Terminal(io.StringIO):
    """A stream that lets the driver continue when the output of the code has arrived."""

    def __init__(self, process):
        super().__init__()
        self._process = process

    def write(self, text):
        super().write(text)
        if text.startswith("waiting"):
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return len(text)


def test_output_comes_while_the_code_runs(process, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal(process.process))
    with process.connect() as client:
        rexec = RemoteExec(client, deadline=50)
        rexec.add_code("print('waiting')\ncontroller_driver.wait()\nprint('gone on')\n")
    assert terminal.getvalue() == "waiting\ngone on\n"


def test_beyond_loopback_a_controller_does_not_start():
    done = subprocess.run(
        [sys.executable, "-c", CONTROLLER, "0.0.0.0"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "ValueError: refusing to execute code for everyone who can reach 0.0.0.0" in done.stderr


posix = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a Windows process at once")


@posix
def test_endless_code_with_a_deadline(process):
    """The caller gets TimeoutError, other clients are served, and SIGTERM stops the controller."""
    with process.connect() as client:
        client.add_code("def spin():\n    while True:\n        pass\n")
        with pytest.raises(TimeoutError, match="deadline of 1"):
            client.call_within(1.0, "spin")
        with process.connect("main") as other:
            assert other.identify() == "in a process of its own"
        out, err = process.terminate()
    assert out == "stopped in order\n"
    assert "Traceback" not in err


RESISTING = [
    "while True: pass",
    "threading.Event().wait()",
    "while True:\n  try:\n   while True: pass\n  except BaseException: continue",
    "while True:\n  try: threading.Event().wait()\n  except BaseException: pass",
    "try: threading.Event().wait()\n finally:\n  try: threading.Event().wait()\n  finally:\n"
    "   while True: pass",
    "while True:\n  with contextlib.suppress(BaseException):\n   while True: pass",
]


@posix
@pytest.mark.parametrize("body", RESISTING)
def test_code_that_is_running_does_not_keep_the_controller_from_stopping(process, body):
    with process.connect() as client:
        client.add_code(f"import contextlib, threading\ndef spin():\n {body}\n")
        lost = []

        def call():
            try:
                client.call("spin")
            except Exception as error:
                lost.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        with process.connect() as other:
            other.get_rpc_method_list()
        out, err = process.terminate()
        caller.join(30)
    assert out == "stopped in order\n"
    assert "Traceback" not in err
    assert len(lost) == 1


def test_output_does_not_appear_at_the_controller(process, capsys, caplog):
    with process.connect() as client:
        rexec = RemoteExec(client)
        rexec.add_code(
            "import warnings\n"
            "print('hello')\n"
            "controller_driver.chat()\n"
            "warnings.warn('too warm')  # here\n"
        )
        client.terminate()
    out, err = process.process.communicate(timeout=30)
    assert out == "stopped in order\n"
    assert "and logs" not in err
    assert "too warm" not in err
    captured = capsys.readouterr()
    assert captured.out == "hello\nthe driver says\n"
    assert "UserWarning: too warm\n  warnings.warn('too warm')  # here" in captured.err
    assert "and logs" in caplog.messages


def test_the_log_has_a_line_for_each_connection_and_each_piece_of_code(process):
    with process.connect() as client:
        client.add_code("x = 1\n")
        client.terminate()
    _, err = process.process.communicate(timeout=30)
    lines = [line for line in err.splitlines() if line.startswith("remote_exec:")]
    assert [line.split(": ", 1)[1] for line in lines] == [
        "connected",
        "code of 6 characters, sha256 9e26bf369911c45c",
        "connection closed",
    ]
