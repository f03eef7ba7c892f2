"""A controller as people run it: a process of its own."""

import signal
import subprocess
import sys
import threading
from time import monotonic

import pytest
from pc_rpc import Client
from remote_exec import RemoteExec

CONTROLLER = """
import logging
from remote_exec import simple_rexec_server_loop

class Driver:
    def identify(self):
        return "in a process of its own"

    def chat(self):
        print("the driver says")
        logging.getLogger("driver").warning("and logs")

logging.basicConfig(level=logging.INFO, format="%(name)s:%(message)s")
simple_rexec_server_loop(
    "main", Driver(), "127.0.0.1", 0, ready_cb=lambda server: print(server.port, flush=True)
)
print("stopped in order")
"""


class Process:
    """The controller's process, and clients of it."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLER],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.process.stdout.readline())

    def connect(self, target="main_rexec"):
        return Client("127.0.0.1", self.port, target, timeout=60)

    def terminate(self):
        """Stop it as systemd does; return what it had printed and logged."""
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


posix = pytest.mark.skipif(
    sys.platform == "win32", reason="SIGTERM ends a Windows process without asking it"
)


@posix
def test_endless_code_with_a_deadline(process):
    """Its caller gets TimeoutError, others go on, and the controller stops when it is told to."""
    with process.connect() as client:
        client.add_code("def spin():\n    while True:\n        pass\n")
        started = monotonic()
        with pytest.raises(TimeoutError, match="deadline of 1"):
            client.call_within(1.0, "spin")
        assert monotonic() - started >= 1.0
        with process.connect("main") as other:
            assert other.identify() == "in a process of its own"
        assert monotonic() - started < 2.0 + 8.0  # two seconds, on a machine that is not busy
        out, err = process.terminate()
    assert out == "stopped in order\n"
    assert "Traceback" not in err


@posix
@pytest.mark.parametrize("statement", ["pass", "threading.Event().wait()"])
def test_code_that_is_running_does_not_keep_the_controller_from_stopping(process, statement):
    with process.connect() as client:
        client.add_code(f"import threading\ndef spin():\n    while True:\n        {statement}\n")
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
