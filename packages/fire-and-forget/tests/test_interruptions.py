"""Calls that come in the middle of others: from signal handlers, finalisers, forked processes."""

import asyncio
import logging
import os
import signal
import threading

import pytest
from fire_and_forget import AsyncioFFProxy, FFProxy

PATIENCE = 60

posix = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no timers")


def in_the_middle(proxy, act):
    """Do something where a signal handler may come: while the proxy takes a call in."""
    worker = getattr(proxy, "_worker", proxy)
    worker._change(act)


def test_a_call_in_the_middle_of_a_call_is_made(driver):
    proxy = FFProxy(driver, when_busy="queue", queue_size=9)
    in_the_middle(proxy, lambda: proxy.note(1))
    proxy.ff_join(PATIENCE)
    assert driver.values == [1]


async def test_a_call_in_the_middle_of_a_call_is_made_by_the_twin(driver):
    proxy = AsyncioFFProxy(driver, when_busy="queue", queue_size=9)
    in_the_middle(proxy, lambda: proxy.note(1))
    proxy.note(2)
    await proxy.ff_join(PATIENCE)
    assert driver.values == [1, 2]


def test_ff_join_in_the_middle_of_a_call_is_an_error_not_a_deadlock(driver):
    proxy = FFProxy(driver)
    refused = []

    def join():
        with pytest.raises(RuntimeError, match="would wait for itself") as caught:
            proxy.ff_join()
        refused.append(caught.value)

    in_the_middle(proxy, join)
    assert len(refused) == 1
    proxy.note(1)
    proxy.ff_join(PATIENCE)
    assert driver.values == [1]


@posix
@pytest.mark.parametrize("options", [{}, {"when_busy": "latest"}])
def test_a_signal_handler_may_call_the_proxy_at_any_moment(driver, options):
    """Every call of both is accounted for, and the proxy goes on."""
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
    proxy.ff_join(PATIENCE)
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
        proxy.ff_join(PATIENCE)
        joined.append(1)

    previous = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        proxy.ff_join(PATIENCE)
        while not joined:  # the worker may have been quicker than the signal
            pass
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert driver.values == [1]


class Frame:
    """An argument whose finaliser has another thread look at the proxy, and waits for it."""

    def __init__(self, proxy, seen):
        self._proxy, self._seen = proxy, seen

    def __del__(self):
        thread = threading.Thread(target=lambda: self._seen.append(self._proxy.ff_counts()))
        thread.start()
        thread.join(PATIENCE)


@pytest.mark.parametrize("options", [{}, {"when_busy": "latest"}])
def test_arguments_that_are_dropped_are_freed_without_a_lock(driver, options):
    seen = []
    proxy = FFProxy(driver, **options)
    proxy.set(0)
    driver.started.acquire()
    for _ in range(3):
        proxy.note(Frame(proxy, seen))
    assert len(seen) == 3 - proxy.ff_counts()["waiting"]
    driver.may_end.release()
    proxy.ff_join(PATIENCE)
    driver.values.clear()
    assert len(seen) == 3


def test_arguments_are_gone_when_the_call_has_ended():
    """They are gone before anybody can know that it has."""
    seen, gone = [], []
    proxy = FFProxy(lambda frame: None)
    advance = proxy._backlog.advance
    proxy._backlog.advance = lambda: (gone.append(len(seen)), advance())[1]
    for _ in range(100):
        proxy(Frame(proxy, seen))
        proxy.ff_join(PATIENCE)
    assert gone == list(range(1, 101))


class Raising(logging.Handler):
    """A log handler of a user, with a mistake in it."""

    def emit(self, record):
        raise LookupError("no log file")


@pytest.fixture
def raising_handler():
    logger = logging.getLogger("fire_and_forget")
    logger.addHandler(handler := Raising())
    yield
    logger.removeHandler(handler)


def test_a_log_handler_that_fails_does_not_end_the_background(driver, raising_handler, monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    proxy = FFProxy(driver)
    proxy.fail(ValueError("target"))
    proxy.ff_join(PATIENCE)
    assert [repr(error) for error in told] == ["LookupError('no log file')"]
    proxy.note("alive")
    proxy.ff_join(PATIENCE)
    assert driver.values == ["alive"]


async def test_a_log_handler_that_fails_does_not_end_the_twin(driver, raising_handler):
    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))
    proxy = AsyncioFFProxy(driver)
    proxy.fail(ValueError("target"))
    await proxy.ff_join(PATIENCE)
    assert [repr(error) for error in told] == ["LookupError('no log file')"]
    proxy.note("alive")
    await proxy.ff_join(PATIENCE)
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
    proxy.ff_join(PATIENCE)
    assert driver.values == [2]
    assert proxy.ff_counts() == {"made": 1, "dropped": 1, "failed": 0, "waiting": 0}


def test_an_rpc_proxy_that_answers_every_name_is_called_by_the_name_of_its_class(caplog):
    class Remote:
        def __getattr__(self, name):
            return Remote()

        def __call__(self):
            raise ValueError("far away")

        def __str__(self):
            raise AssertionError("a remote call")

    proxy = FFProxy(Remote())
    proxy()
    proxy.ff_join(PATIENCE)
    assert caplog.messages == ["Remote failed in the background"]


# Forks


def in_a_child(act):
    """Do something in the child of a fork; return what it raised, as text, or "nothing"."""
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
        told = pipe.read()
    os.waitpid(child, 0)
    return told


@pytest.fixture
def forking(recwarn):
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork on this platform")


def test_in_a_child_a_proxy_in_use_says_where_it_was_made(driver, forking):
    proxy = FFProxy(driver, when_busy="queue", queue_size=5)
    for value in range(3):
        proxy.set(value)
    driver.started.acquire()
    refusal = f"RuntimeError: this proxy was made in another process, {os.getpid()}, "
    for act in (lambda: proxy.set(9), proxy.ff_join, lambda: proxy.ff_join(0)):
        assert in_a_child(act).startswith(refusal)
    driver.may_end.release(3)
    proxy.ff_join(PATIENCE)
    assert driver.values == [0, 1, 2]


def test_in_a_child_a_proxy_that_was_not_used_yet_starts_afresh(driver, forking):
    proxy = FFProxy(driver)

    def use():
        proxy.note(1)
        proxy.ff_join(PATIENCE)
        assert driver.values == [1]

    assert in_a_child(use) == "nothing"


def test_a_fork_in_the_middle_of_a_call_of_another_thread_locks_nothing(driver, forking):
    proxy = FFProxy(driver)
    held, may_go = threading.Event(), threading.Event()

    def hold():
        held.set()
        may_go.wait(PATIENCE)

    holder = threading.Thread(target=in_the_middle, args=(proxy, hold))
    holder.start()
    held.wait(PATIENCE)

    def use():
        assert proxy.ff_counts()["made"] == 0
        proxy.note(1)
        proxy.ff_join(PATIENCE)
        assert driver.values == [1]

    told = in_a_child(use)
    may_go.set()
    holder.join(PATIENCE)
    assert told == "nothing"


def test_in_a_child_a_twin_in_use_says_where_it_was_made(forking):
    values = []

    async def main():
        may_end = asyncio.Event()

        async def record(value):
            await may_end.wait()
            values.append(value)

        proxy, idle = AsyncioFFProxy(record), AsyncioFFProxy(record)
        proxy(1)
        told = in_a_child(lambda: proxy(2))
        assert told.startswith("RuntimeError: this proxy was made in another process")
        assert in_a_child(lambda: idle(3)) == "RuntimeError: no running event loop"
        may_end.set()
        await proxy.ff_join(PATIENCE)

    asyncio.run(main())
    assert values == [1]
