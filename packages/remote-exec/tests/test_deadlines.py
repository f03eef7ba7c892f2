"""Deadlines and interruption of code, over real sockets."""

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

ENDLESS = """
def spin():
    controller_driver.entered.set()
    while True:
        pass

def stubborn():
    while True:
        try:
            while True:
                pass
        except Exception:
            pass

async def wait_for_ever():
    import asyncio
    await asyncio.Event().wait()

async def ignore_cancellation():
    import asyncio
    controller_driver.entered.set()
    while not controller_driver.may_leave.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass

def answer():
    return 42
"""


@pytest.fixture(autouse=True)
def long_grace(request, monkeypatch):
    """Give interrupted code enough time to end, except where tests wait for it to be abandoned."""
    if not re.search("abandoned|never_ends", request.node.name):
        monkeypatch.setattr("remote_exec._running.INTERRUPT_GRACE", 60)


def time_out(driver, call):
    """Make a call with a deadline that is long enough for it to begin; return its error.

    The time until it begins depends on the load of the computer.
    """
    for deadline in (0.2, 1, 5, 25):
        with pytest.raises(TimeoutError) as caught:
            call(deadline)
        if driver.entered.is_set():
            break
    return caught.value


@pytest.fixture
def client(controller):
    client = controller.connect()
    client.add_code(ENDLESS)
    return client


@pytest.mark.parametrize("function", ["spin", "stubborn", "wait_for_ever"])
def test_code_beyond_its_deadline_is_interrupted_and_the_connection_works_on(
    controller, client, function
):
    with pytest.raises(TimeoutError, match=r"still running after its deadline of 0\.2 s"):
        client.call_within(0.2, function)
    assert client.call("answer") == 42
    assert controller.connect("main").identify() == "driver of the test"


def test_the_caller_sees_where_the_code_was_interrupted(driver, client):
    error = time_out(driver, lambda deadline: client.call_within(deadline, "spin"))
    assert "in spin" in "".join(error.__cause__.parent_traceback)


def test_added_code_can_have_a_deadline(client):
    with pytest.raises(TimeoutError):
        client.add_code("while True: pass", deadline=0.2)
    assert client.call("answer") == 42


def test_interrupted_code_can_clean_up(controller, client):
    client.add_code(
        "def careful():\n"
        "    try:\n"
        "        controller_driver.entered.set()\n"
        "        while True: controller_driver.identify()\n"
        "    finally:\n"
        "        controller_driver.write('laser off')\n"
    )
    time_out(controller.driver, lambda deadline: client.call_within(deadline, "careful"))
    assert controller.driver.written == ["laser off"]


def test_code_in_time_is_not_disturbed(client):
    for _ in range(20):
        assert client.call_within(60, "answer") == 42


def test_a_controller_can_set_a_deadline_for_all(start_controller):
    client = start_controller(deadline=0.2).connect()
    client.add_code(ENDLESS)
    for call in (
        lambda: client.call("spin"),
        lambda: client.call_within(60, "spin"),
        lambda: client.add_code("while True: pass"),
    ):
        with pytest.raises(TimeoutError, match=r"0\.2 s"):
            call()


@pytest.mark.parametrize("deadline", [0, -1, float("nan")])
def test_a_deadline_that_is_not_positive_is_refused(client, deadline):
    with pytest.raises(ValueError, match="positive number of seconds"):
        client.call_within(deadline, "answer")


def test_code_that_cannot_be_interrupted_is_abandoned_and_the_driver_is_free(controller, client):
    client.add_code(
        "def hold():\n    controller_driver.hold()\n    controller_driver.write('late')\n"
    )
    error = time_out(controller.driver, lambda deadline: client.call_within(deadline, "hold"))
    assert "abandoned, still running" in str(error.__notes__)
    assert client.call("answer") == 42  # in another thread
    assert controller.connect("main").identify() == "driver of the test"
    controller.driver.may_leave.set()
    controller.driver.holding_thread.join(30)
    assert not controller.driver.holding_thread.is_alive()
    assert controller.driver.written == []  # interrupted before it used the driver again


def test_abandoned_code_is_interrupted_until_it_ends(controller, client, monkeypatch):
    monkeypatch.setattr("remote_exec._running.INTERRUPT_INTERVAL", 0.01)
    client.add_code(
        "def resist():\n"
        "    controller_driver.entered.set()\n"
        "    for _ in range(3):\n"
        "        try:\n"
        "            while True:\n"
        "                pass\n"
        "        except BaseException:\n"
        "            pass\n"
        "    controller_driver.may_leave.set()\n"
    )
    error = time_out(controller.driver, lambda deadline: client.call_within(deadline, "resist"))
    assert "abandoned, still running" in str(error.__notes__)
    assert controller.driver.may_leave.wait(30)


def test_a_coroutine_that_cannot_be_cancelled_is_abandoned(controller, client):
    error = time_out(
        controller.driver, lambda deadline: client.call_within(deadline, "ignore_cancellation")
    )
    assert "abandoned, still running" in str(error.__notes__)
    assert client.call("answer") == 42


def test_a_coroutine_that_never_ends_when_cancelled_does_not_keep_the_controller_running(
    start_controller,
):
    controller = start_controller(deadline=0.05)
    client = controller.connect()
    client.add_code(
        "async def go_on():\n"
        "    import asyncio\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.Event().wait()\n"
        "        except asyncio.CancelledError:\n"
        "            pass\n"
    )
    with pytest.raises(TimeoutError, match="deadline") as caught:
        client.call("go_on")
    assert "abandoned, still running" in str(caught.value.__notes__)
    controller.stop()


def test_while_code_runs_other_clients_can_connect_and_list_methods(controller, client):
    """Calls of the driver wait for their turn, as with any target."""
    client.add_code("def hold():\n    controller_driver.hold()\n    return 'done'\n")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(client.call, "hold")
        assert controller.driver.entered.wait(30)
        other = controller.connect("main", timeout=30)
        assert "identify" in other.get_rpc_method_list()["methods"]
        waiting = pool.submit(other.identify)
        assert not running.done()
        controller.driver.may_leave.set()
        assert running.result(30) == "done"
        assert waiting.result(30) == "driver of the test"


def test_with_worker_threads_the_driver_is_not_affected_by_running_code(start_controller):
    controller = start_controller(worker_threads=True)
    client = controller.connect()
    client.add_code("def hold():\n    controller_driver.hold()\n    return 'done'\n")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(client.call, "hold")
        assert controller.driver.entered.wait(30)
        assert controller.connect("main", timeout=30).identify() == "driver of the test"
        assert not running.done()
        controller.driver.may_leave.set()
        assert running.result(30) == "done"


class LogWaiter(logging.Handler):
    """Sets `logged` when a message with a certain end is logged."""

    def __init__(self, end):
        super().__init__()
        self._end = end
        self.logged = threading.Event()

    def emit(self, record):
        if record.getMessage().endswith(self._end):
            self.logged.set()


def test_with_worker_threads_a_connection_ends_in_order(start_controller, caplog):
    """The target of the connection is then closed in the worker thread."""
    caplog.set_level("INFO", "remote_exec")
    logger = logging.getLogger("remote_exec")
    logger.addHandler(waiter := LogWaiter(": connection closed"))
    rexec = start_controller(worker_threads=True).rexec()
    rexec.add_code("print('hello')")
    rexec.client.close_rpc()
    assert waiter.logged.wait(30)
    logger.removeHandler(waiter)


def test_a_caller_that_gives_up_has_its_code_interrupted(controller, client):
    """A time-out of the client interrupts the code."""
    client.add_code(
        "def careful():\n"
        "    try:\n"
        "        controller_driver.entered.set()\n"
        "        while True: controller_driver.identify()\n"
        "    finally:\n"
        "        controller_driver.may_leave.set()\n"
    )
    time_out(controller.driver, lambda timeout: client.with_rpc_timeout(timeout).call("careful"))
    assert controller.driver.may_leave.wait(30)
    assert client.call("answer") == 42
