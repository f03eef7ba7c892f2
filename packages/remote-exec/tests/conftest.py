"""Fixtures: a controller with remote execution, in a thread of the test's process."""

import logging
import threading
from concurrent.futures import Future

import pytest
from pc_rpc import Client
from remote_exec import RemoteExec, simple_rexec_server_loop


class Driver:
    """A simulated instrument; `frames` are the data that are too large to move."""

    def __init__(self):
        self.frames = list(range(1000))
        self.entered = threading.Event()
        self.may_leave = threading.Event()
        self.written = []

    def identify(self):
        return "driver of the test"

    def write(self, value):
        self.written.append(value)

    def hold(self):
        """Block, uninterruptibly, until the test sets `may_leave`."""
        self.holding_thread = threading.current_thread()
        self.entered.set()
        self.may_leave.wait(60)


class Controller:
    """`simple_rexec_server_loop` in a thread, and clients of it."""

    def __init__(self, driver, *, client_ssl=None, **options):
        self.driver = driver
        self._ssl = client_ssl
        self._clients = []
        ready = Future()
        self._thread = threading.Thread(
            target=simple_rexec_server_loop,
            args=("main", driver, "127.0.0.1", 0, "for the tests"),
            kwargs={"ready_cb": ready.set_result, **options},
        )
        self._thread.start()
        self.port = ready.result(30).port

    def connect(self, target="main_rexec", **options):
        options.setdefault("ssl", self._ssl)
        client = Client("127.0.0.1", self.port, target, **options)
        self._clients.append(client)
        return client

    def rexec(self, **options):
        return RemoteExec(self.connect(), **options)

    def stop(self):
        if not self._thread.is_alive():
            return
        self.driver.may_leave.set()
        for client in self._clients:
            client.close_rpc()
        with self.connect("main", timeout=30) as client:
            client.terminate()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def driver():
    return Driver()


@pytest.fixture
def start_controller(driver):
    controllers = []

    def start(**options):
        controllers.append(Controller(driver, **options))
        return controllers[-1]

    yield start
    for controller in controllers:
        controller.stop()


@pytest.fixture
def controller(start_controller):
    return start_controller()


@pytest.fixture(params=[True, False], ids=["lean", "general"])
def either_road(request, monkeypatch):
    """Make calls take the fast paths (lean roads) of pc-rpc, or never."""
    for module in ("_connection", "_asyncio_connection", "_session"):
        monkeypatch.setattr(f"pc_rpc.{module}.LEAN", request.param)


# In debug mode asyncio logs slow callbacks. These messages depend on the load of the computer, and
# would appear among the records that tests compare.
logging.getLogger("asyncio").addFilter(lambda record: "took %.3f seconds" not in str(record.msg))
