"""Calls that interrupt others: from signal handlers, finalisers and forked processes."""

import asyncio
import logging
import os
import signal
import threading

import pytest
from fire_and_forget import AsyncioFFProxy, FFProxy

TIMEOUT = 60

posix = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no timers")


def interrupting(proxy, act):
    """Run a function where a signal handler may run: while the proxy changes its backlog."""
    worker = getattr(proxy, "_worker", proxy)
    worker._change(act)


def test_a_call_that_interrupts_another_call_is_made(driver):
    proxy = FFProxy(driver, when_busy="queue", queue_size=9)
    interrupting(proxy, lambda: proxy.note(1))
    proxy.ff_join(TIMEOUT)
    assert driver.values == [1]


async def test_a_call_that_interrupts_another_call_is_made_by_the_asyncio_proxy(driver):
    proxy = AsyncioFFProxy(driver, when_busy="queue", queue_size=9)
    interrupting(proxy, lambda: proxy.note(1))
    proxy.note(2)
    await proxy.ff_join(TIMEOUT)
    assert driver.values == [1, 2]


def test_ff_join_that_interrupts_a_call_is_an_error_not_a_deadlock(driver):
    proxy = FFProxy(driver)
    refused = []

    def join():
        with pytest.raises(RuntimeError, match="would wait for itself") as caught:
            proxy.ff_join()
        refused.append(caught.value)

    interrupting(proxy, join)
    assert len(refused) == 1
    proxy.note(1)
    proxy.ff_join(TIMEOUT)
    assert driver.values == [1]


@posix
@pytest.mark.parametrize("options", [{}, {"when_busy": "latest"}])
def test_a_signal_handler_may_call_the_proxy_at_any_moment(driver, options):
    """Every call of the handler and of the program is counted, and the proxy goes on."""
    proxy = FFProxy(driver, **options)
    handled = []

    def handle(number, frame):
        proxy.note("handler")
        handled.append(1)

    logging.getLogger("fire_and_forget").disabled = True
    previous = signal.signal(signal.SIGALRM, handle)
    calls = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        while len(handled) < 500:
            proxy.note("main")
            calls += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        logging.getLogger("fire_and_forget").disabled = False
    proxy.ff_join(TIMEOUT)
    counts = proxy.ff_counts()
    assert counts["made"] + counts["dropped"] == calls + len(handled)
    assert counts["made"] == len(driver.values)


@posix
def test_a_signal_handler_may_join_while_the_main_thread_joins(driver):
    proxy = FFProxy(driver)
    proxy.set(1)
    driver.started.acquire()
    joined = []

    def handle(number, frame):
        driver.may_end.release()
        proxy.ff_join(TIMEOUT)
        joined.append(1)

    previous = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        proxy.ff_join(TIMEOUT)
        while not joined:  # the worker may have been quicker than the signal
            pass
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert driver.values == [1]


class Frame:
    """An argument whose finaliser waits for another thread that uses the proxy."""

    def __init__(self, proxy, seen):
        self._proxy, self._seen = proxy, seen

    def __del__(self):
        thread = threading.Thread(target=lambda: self._seen.append(self._proxy.ff_counts()))
        thread.start()
        thread.join(TIMEOUT)


@pytest.mark.parametrize("options", [{}, {"when_busy": "latest"}])
def test_arguments_of_dropped_calls_are_freed_without_a_lock(driver, options):
    seen = []
    proxy = FFProxy(driver, **options)
    proxy.set(0)
    driver.started.acquire()
    for _ in range(3):
        proxy.note(Frame(proxy, seen))
    assert len(seen) == 3 - proxy.ff_counts()["waiting"]
    driver.may_end.release()
    proxy.ff_join(TIMEOUT)
    driver.values.clear()
    assert len(seen) == 3


def test_arguments_are_freed_before_the_call_counts_as_ended():
    """`ff_join` returns only after the arguments were freed."""
    seen, gone = [], []
    proxy = FFProxy(lambda frame: None)
    advance = proxy._backlog.advance
    proxy._backlog.advance = lambda: (gone.append(len(seen)), advance())[1]
    for _ in range(100):
        proxy(Frame(proxy, seen))
        proxy.ff_join(TIMEOUT)
    assert gone == list(range(1, 101))


class Raising(logging.Handler):
    """A user's log handler that fails."""

    def emit(self, record):
        raise LookupError("no log file")


@pytest.fixture
def raising_handler():
    logger = logging.getLogger("fire_and_forget")
    logger.addHandler(handler := Raising())
    yield
    logger.removeHandler(handler)


def test_a_log_handler_that_fails_does_not_end_the_background(driver, raising_handler, monkeypatch):
    raised = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_value))
    proxy = FFProxy(driver)
    proxy.fail(ValueError("target"))
    proxy.ff_join(TIMEOUT)
    assert [repr(error) for error in raised] == ["LookupError('no log file')"]
    proxy.note("alive")
    proxy.ff_join(TIMEOUT)
    assert driver.values == ["alive"]


async def test_a_log_handler_that_fails_does_not_end_the_asyncio_proxy(driver, raising_handler):
    raised = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: raised.append(context["exception"]))
    proxy = AsyncioFFProxy(driver)
    proxy.fail(ValueError("target"))
    await proxy.ff_join(TIMEOUT)
    assert [repr(error) for error in raised] == ["LookupError('no log file')"]
    proxy.note("alive")
    await proxy.ff_join(TIMEOUT)
    assert driver.values == ["alive"]


def test_a_thread_that_cannot_start_drops_the_call_with_a_warning(driver, caplog, monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    proxy = FFProxy(driver)
    with monkeypatch.context() as patch:
        patch.setattr(type(proxy._worker), "start", fail)
        proxy.note(1)
    assert "dropped a call of SlowDriver.note: can't start new thread" in caplog.text
    proxy.note(2)
    proxy.ff_join(TIMEOUT)
    assert driver.values == [2]
    assert proxy.ff_counts() == {"made": 1, "dropped": 1, "failed": 0, "waiting": 0}


def test_an_rpc_proxy_that_has_every_attribute_is_labelled_by_its_class(caplog):
    class Remote:
        def __getattr__(self, name):
            return Remote()

        def __call__(self):
            raise ValueError("far away")

        def __str__(self):
            raise AssertionError("a remote call")

    proxy = FFProxy(Remote())
    proxy()
    proxy.ff_join(TIMEOUT)
    assert caplog.messages == ["Remote failed in the background"]


# Forks


def in_a_child(act):
    """Run a function in the child of a fork; return its error as text, or "nothing"."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            act()
            os.write(writing, b"nothing")
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        raised = pipe.read()
    os.waitpid(child, 0)
    return raised


@pytest.fixture
def forking(recwarn):
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork on this platform")


def test_in_a_child_a_used_proxy_raises_an_error_that_names_its_process(driver, forking):
    proxy = FFProxy(driver, when_busy="queue", queue_size=5)
    for value in range(3):
        proxy.set(value)
    driver.started.acquire()
    refusal = f"RuntimeError: this proxy was made in another process, {os.getpid()}, "
    for act in (lambda: proxy.set(9), proxy.ff_join, lambda: proxy.ff_join(0)):
        assert in_a_child(act).startswith(refusal)
    driver.may_end.release(3)
    proxy.ff_join(TIMEOUT)
    assert driver.values == [0, 1, 2]


def test_in_a_child_an_unused_proxy_works(driver, forking):
    proxy = FFProxy(driver)

    def use():
        proxy.note(1)
        proxy.ff_join(TIMEOUT)
        assert driver.values == [1]

    assert in_a_child(use) == "nothing"


def test_a_fork_during_a_call_of_another_thread_does_not_deadlock_the_child(driver, forking):
    proxy = FFProxy(driver)
    held, may_go = threading.Event(), threading.Event()

    def hold():
        held.set()
        may_go.wait(TIMEOUT)

    holder = threading.Thread(target=interrupting, args=(proxy, hold))
    holder.start()
    held.wait(TIMEOUT)

    def use():
        assert proxy.ff_counts()["made"] == 0
        proxy.note(1)
        proxy.ff_join(TIMEOUT)
        assert driver.values == [1]

    raised = in_a_child(use)
    may_go.set()
    holder.join(TIMEOUT)
    assert raised == "nothing"


def test_in_a_child_a_used_asyncio_proxy_raises_an_error_that_names_its_process(forking):
    values = []

    async def main():
        may_end = asyncio.Event()

        async def record(value):
            await may_end.wait()
            values.append(value)

        proxy, idle = AsyncioFFProxy(record), AsyncioFFProxy(record)
        proxy(1)
        raised = in_a_child(lambda: proxy(2))
        assert raised.startswith("RuntimeError: this proxy was made in another process")
        assert in_a_child(lambda: idle(3)) == "RuntimeError: no running event loop"
        may_end.set()
        await proxy.ff_join(TIMEOUT)

    asyncio.run(main())
    assert values == [1]
