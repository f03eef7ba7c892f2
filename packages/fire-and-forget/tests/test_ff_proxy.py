"""FFProxy, through its public interface."""

import asyncio
import copy
import dataclasses
import gc
import inspect
import logging
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from xmlrpc.client import ServerProxy
from xmlrpc.server import SimpleXMLRPCServer

import pytest
from fire_and_forget import FFProxy

TIMEOUT = 60  # seconds that a test waits for a call to end


# Targets


def test_a_call_returns_at_once_and_runs_in_another_thread(driver):
    proxy = FFProxy(driver)
    assert proxy.set(1) is None
    assert driver.values == []
    driver.may_end.release()
    proxy.ff_join(TIMEOUT)
    assert driver.values == [1]


def test_keyword_arguments_arrive():
    seen = []
    proxy = FFProxy(lambda *args, **kwargs: seen.append((args, kwargs)))
    proxy(1, 2, unit="MHz")
    proxy.ff_join(TIMEOUT)
    assert seen == [((1, 2), {"unit": "MHz"})]


class Attributes:
    """Public callables of all kinds."""

    def __init__(self):
        self.seen = []
        self.stored = self.seen.append
        self.partial = partial(self.seen.append)
        self.instance = CallableInstance(self.seen)

    def method(self, x):
        self.seen.append(x)

    @staticmethod
    def static(x):
        Attributes.latest_static = x

    @classmethod
    def klass(cls, x):
        cls.latest_class = x


class CallableInstance:
    def __init__(self, seen):
        self.seen = seen

    def __call__(self, x):
        self.seen.append(x)


@pytest.mark.parametrize("name", ["method", "stored", "partial", "instance"])
def test_every_public_callable_works(name):
    target = Attributes()
    proxy = FFProxy(target)
    getattr(proxy, name)(42)
    proxy.ff_join(TIMEOUT)
    assert target.seen == [42]


def test_static_and_class_methods_work():
    proxy = FFProxy(Attributes(), when_busy="queue", queue_size=2)
    proxy.static(1)
    proxy.klass(2)
    proxy.ff_join(TIMEOUT)
    assert (Attributes.latest_static, Attributes.latest_class) == (1, 2)


def test_methods_of_an_rpc_client_that_inspect_cannot_see_work():
    """An XML-RPC client has a proxy for every attribute; over a real socket."""
    seen = []
    with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True) as server:
        server.register_function(seen.append, "record")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        host, port = server.server_address
        try:
            with ServerProxy(f"http://{host}:{port}", allow_none=True) as client:
                assert "record" not in dict(inspect.getmembers(client))
                proxy = FFProxy(client)
                proxy.record("from far away")
                proxy.ff_join(TIMEOUT)
        finally:
            server.shutdown()
            serving.join(TIMEOUT)
    assert seen == ["from far away"]


def test_a_wrong_name_is_an_error_for_the_caller_at_once(driver):
    proxy = FFProxy(driver)
    with pytest.raises(AttributeError, match="'SlowDriver' object has no attribute 'sett'"):
        proxy.sett(1)


def test_reading_a_value_through_the_proxy_is_an_error(driver):
    with pytest.raises(AttributeError, match="'gain' of the SlowDriver is of type int"):
        FFProxy(driver).gain


def test_assigning_to_an_attribute_of_the_proxy_is_an_error(driver):
    with pytest.raises(AttributeError, match="gain"):
        FFProxy(driver).gain = 4


def test_an_object_that_is_not_callable_cannot_be_called(driver):
    with pytest.raises(TypeError, match="'SlowDriver' object is not callable"):
        FFProxy(driver)()


def test_probes_of_copy_pickle_and_notebooks_make_no_calls(driver):
    proxy = FFProxy(driver)
    assert not hasattr(proxy, "_repr_html_")
    assert not hasattr(copy.copy(proxy), "_ipython_display_")
    with pytest.raises(TypeError):
        pickle.dumps(proxy)
    assert proxy.ff_counts()["made"] == 0


def test_dir_help_and_signature_show_the_methods_of_the_target(driver):
    proxy = FFProxy(driver)
    assert {"set", "note", "ff_join", "ff_counts"} <= set(dir(proxy))
    assert not [name for name in dir(proxy) if name.startswith("_busy")]
    assert inspect.getdoc(proxy.set) == "Set the value."
    assert str(inspect.signature(proxy.set)) == "(value)"


# A call while one is running


def test_a_call_while_one_is_running_is_dropped_with_a_warning(driver, caplog):
    proxy = FFProxy(driver)
    proxy.set(1)
    driver.started.acquire()
    proxy.set(2)
    driver.may_end.release()
    proxy.ff_join(TIMEOUT)
    assert driver.values == [1]
    assert [(r.levelname, r.message) for r in caplog.records] == [
        (
            "WARNING",
            "dropped a call of SlowDriver.set: SlowDriver.set is still running (1 dropped so far)",
        )
    ]


def test_slider_with_drop_runs_one_at_a_time_and_counts_and_logs_every_drop(driver, caplog):
    proxy = FFProxy(driver)
    for value in range(1000):
        proxy.set(value)
        if value % 100 == 99:
            driver.may_end.release()
            proxy.ff_join(TIMEOUT)
    assert driver.values == list(range(0, 1000, 100))
    assert proxy.ff_counts() == {"made": 10, "dropped": 990, "failed": 0, "waiting": 0}
    assert len(caplog.records) == 990


def test_slider_with_latest_ends_on_the_last_value(driver, caplog):
    proxy = FFProxy(driver, when_busy="latest")
    for value in range(1000):
        proxy.set(value)
        if value % 100 == 0:
            driver.may_end.release()
    driver.may_end.release(1000)
    proxy.ff_join(TIMEOUT)
    assert driver.values[-1] == 999
    assert driver.values == sorted(driver.values)
    counts = proxy.ff_counts()
    assert counts["made"] == len(driver.values)
    assert counts["made"] + counts["dropped"] == 1000
    assert caplog.records == []  # replacement is logged at level DEBUG


def test_a_queue_makes_as_many_calls_as_fit_and_drops_the_others(driver, caplog):
    proxy = FFProxy(driver, when_busy="queue", queue_size=3)
    for value in range(6):
        proxy.set(value)
    assert proxy.ff_counts()["waiting"] == 3
    driver.may_end.release(6)
    proxy.ff_join(TIMEOUT)
    assert driver.values == [0, 1, 2, 3]
    assert len(caplog.records) == 2


@pytest.mark.parametrize("options", [{}, {"when_busy": "latest"}])
def test_calls_from_many_threads_never_overlap(driver, options):
    proxy = FFProxy(driver, **options)
    driver.may_end.release(10_000)

    def hammer(thread):
        for n in range(200):
            proxy.set((thread, n))

    logging.getLogger("fire_and_forget").disabled = True
    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(hammer, range(16)))
        proxy.ff_join(TIMEOUT)
    finally:
        logging.getLogger("fire_and_forget").disabled = False
    counts = proxy.ff_counts()
    assert counts["made"] == len(driver.values)
    assert counts["made"] + counts["dropped"] == 16 * 200
    assert not driver.overlapped


def test_all_calls_run_in_one_long_lived_thread():
    threads = []
    proxy = FFProxy(lambda: threads.append(threading.current_thread()))
    for _ in range(20):
        proxy()
        proxy.ff_join(TIMEOUT)
    assert len(threads) == 20
    assert len(set(threads)) == 1


def test_a_call_from_within_a_background_call_can_wait_its_turn():
    seen = []

    def step(n):
        seen.append(n)
        if n:
            proxy(n - 1)

    proxy = FFProxy(step, when_busy="queue", queue_size=1)
    proxy(3)
    proxy.ff_join(TIMEOUT)
    assert seen == [3, 2, 1, 0]


# Failures


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no link"), SystemExit(3), asyncio.CancelledError("other loop"), GeneratorExit()],
    ids=repr,
)
def test_an_exception_becomes_a_warning_with_its_traceback_and_the_proxy_goes_on(
    driver, caplog, error
):
    proxy = FFProxy(driver)
    proxy.fail(error)
    proxy.ff_join(TIMEOUT)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == "SlowDriver.fail failed in the background"
    assert record.exc_info[1] is error
    assert "raise error" in caplog.text
    proxy.note("alive")
    proxy.ff_join(TIMEOUT)
    assert driver.values == ["alive"]
    assert proxy.ff_counts() == {"made": 2, "dropped": 0, "failed": 1, "waiting": 0}


def test_on_error_gets_the_exception_instead_of_the_log(driver, caplog):
    errors = []
    proxy = FFProxy(driver, on_error=errors.append)
    error = ValueError("out of range")
    proxy.fail(error)
    proxy.ff_join(TIMEOUT)
    assert errors == [error]
    assert error.__notes__ == ["raised in the background by SlowDriver.fail"]
    assert caplog.records == []


@dataclasses.dataclass(frozen=True)
class Unlocked(Exception):  # refuses notes: none of its attributes can be assigned
    power: float


def test_on_error_gets_an_exception_that_refuses_notes(driver):
    errors = []
    proxy = FFProxy(driver, on_error=errors.append)
    proxy.fail(Unlocked(0.5))
    proxy.ff_join(TIMEOUT)
    assert errors == [Unlocked(0.5)]
    assert proxy.ff_counts()["failed"] == 1


@pytest.mark.parametrize("raised", [KeyError, SystemExit, asyncio.CancelledError])
def test_an_on_error_that_fails_is_logged_and_the_proxy_goes_on(driver, caplog, raised):
    def on_error(error):
        raise raised("callback")

    proxy = FFProxy(driver, on_error=on_error)
    proxy.fail(ValueError("target"))
    proxy.ff_join(TIMEOUT)
    assert "on_error failed for SlowDriver.fail" in caplog.text
    assert "ValueError: target" in caplog.text
    proxy.note("alive")
    proxy.ff_join(TIMEOUT)
    assert driver.values == ["alive"]


def test_a_coroutine_method_is_refused_and_the_error_names_the_alternative(caplog):
    async def method():
        pass

    proxy = FFProxy(method)
    proxy()
    proxy.ff_join(TIMEOUT)
    assert "use AsyncioFFProxy" in caplog.text


# Waiting


def test_ff_join_without_any_call_returns():
    FFProxy(print).ff_join()


def test_ff_join_times_out_and_the_call_goes_on(driver):
    proxy = FFProxy(driver)
    proxy.set(1)
    with pytest.raises(TimeoutError, match=r"SlowDriver\.set is still running after 0\.05 s"):
        proxy.ff_join(0.05)
    driver.may_end.release()
    proxy.ff_join(timeout=TIMEOUT)
    assert driver.values == [1]


def test_ff_join_waits_for_the_queue_too(driver):
    proxy = FFProxy(driver, when_busy="queue", queue_size=9)
    for n in range(10):
        proxy.set(n)
    driver.may_end.release(10)
    proxy.ff_join(TIMEOUT)
    assert driver.values == list(range(10))


def test_ff_join_in_a_background_call_is_an_error_not_a_deadlock(caplog):
    proxy = FFProxy(lambda: proxy.ff_join())
    proxy()
    proxy.ff_join(TIMEOUT)
    assert "would wait for itself" in caplog.text


# Life time


def test_an_unreferenced_proxy_makes_its_calls_and_its_thread_ends(driver):
    proxy = FFProxy(driver)
    thread = proxy._worker
    proxy.set(1)
    del proxy
    gc.collect()
    driver.started.acquire()
    driver.may_end.release()
    thread.join(TIMEOUT)
    assert driver.values == [1]
    assert not thread.is_alive()


def test_an_idle_worker_has_no_reference_to_the_target_or_the_arguments():
    class Frame:
        pass

    frame = Frame()
    gone = weakref.ref(frame)
    proxy = FFProxy(lambda frame: None)
    proxy(frame)
    proxy.ff_join(TIMEOUT)
    del frame
    gc.collect()
    assert gone() is None


def test_an_object_with_a_proxy_of_its_own_methods_can_be_collected():
    class Panel:
        def __init__(self):
            self.background = FFProxy(self.move, on_error=self.show)

        def move(self):
            pass

        def show(self, error):
            pass

    panel = Panel()
    panel.background()
    panel.background.ff_join(TIMEOUT)
    gone = weakref.ref(panel)
    thread = panel.background._worker
    del panel
    gc.collect()
    assert gone() is None
    thread.join(TIMEOUT)
    assert not thread.is_alive()
