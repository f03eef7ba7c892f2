"""AsyncioFFProxy, through its public interface."""

import asyncio
import sys

import pytest
from fire_and_forget import AsyncioFFProxy

TIMEOUT = 60


class Driver:
    """A driver whose method `set` waits for `may_end`."""

    def __init__(self):
        self.started = asyncio.Event()
        self.may_end = asyncio.Semaphore(0)
        self.values = []
        self.busy = 0

    async def set(self, value):
        self.busy += 1
        assert self.busy == 1
        self.started.set()
        try:
            await self.may_end.acquire()
            self.values.append(value)
        finally:
            self.busy -= 1

    async def fail(self, error):
        raise error

    def note(self, value):
        self.values.append(value)


async def test_a_call_returns_at_once_and_runs_in_the_background():
    driver = Driver()
    proxy = AsyncioFFProxy(driver)
    assert proxy.set(1) is None
    await driver.started.wait()
    assert driver.values == []
    driver.may_end.release()
    await proxy.ff_join(TIMEOUT)
    assert driver.values == [1]


async def test_plain_methods_and_functions_work_too():
    driver = Driver()
    proxy = AsyncioFFProxy(driver)
    proxy.note(1)
    await proxy.ff_join()
    single = AsyncioFFProxy(driver.note)
    single(2)
    await single.ff_join()
    assert driver.values == [1, 2]


async def test_slider_with_drop_runs_one_at_a_time_and_counts_and_logs_every_drop(caplog):
    driver = Driver()
    proxy = AsyncioFFProxy(driver)
    for value in range(1000):
        proxy.set(value)
    driver.may_end.release()
    await proxy.ff_join(TIMEOUT)
    assert driver.values == [0]
    assert proxy.ff_counts() == {"made": 1, "dropped": 999, "failed": 0, "waiting": 0}
    assert len([r for r in caplog.records if "Driver.set is still running" in r.message]) == 999


async def test_slider_with_latest_ends_on_the_last_value():
    driver = Driver()
    proxy = AsyncioFFProxy(driver, when_busy="latest")
    for value in range(1000):
        proxy.set(value)
        if value % 100 == 0:
            driver.may_end.release()
            await asyncio.sleep(0)
    for _ in range(1000):
        driver.may_end.release()
    await proxy.ff_join(TIMEOUT)
    assert driver.values[-1] == 999
    assert driver.values == sorted(driver.values)


async def test_a_queue_makes_its_calls_in_order():
    driver = Driver()
    proxy = AsyncioFFProxy(driver, when_busy="queue", queue_size=2)
    for value in range(5):
        proxy.set(value)
        driver.may_end.release()
    await proxy.ff_join(TIMEOUT)
    assert driver.values == [0, 1, 2]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no link"), SystemExit(3), asyncio.CancelledError("other task")],
    ids=repr,
)
async def test_an_exception_becomes_a_warning_with_its_traceback_and_the_proxy_goes_on(
    caplog, error
):
    driver = Driver()
    proxy = AsyncioFFProxy(driver)
    proxy.fail(error)
    await proxy.ff_join(TIMEOUT)
    (record,) = [r for r in caplog.records if r.name == "fire_and_forget"]
    assert (record.levelname, record.exc_info[1]) == ("WARNING", error)
    proxy.note("alive")
    await proxy.ff_join(TIMEOUT)
    assert driver.values == ["alive"]
    assert proxy.ff_counts() == {"made": 2, "dropped": 0, "failed": 1, "waiting": 0}


async def test_on_error_gets_the_exception():
    errors = []
    proxy = AsyncioFFProxy(Driver(), on_error=errors.append)
    proxy.fail(ValueError("out of range"))
    await proxy.ff_join(TIMEOUT)
    error = type("Odd", (Exception,), {"__notes__": ()})()
    proxy.fail(error)
    await proxy.ff_join(TIMEOUT)
    assert str(errors[0]) == "out of range"
    assert errors[1] is error


async def test_ff_join_times_out_and_the_call_goes_on():
    driver = Driver()
    proxy = AsyncioFFProxy(driver)
    proxy.set(1)
    with pytest.raises(TimeoutError, match="still running after 0"):
        await proxy.ff_join(timeout=0)
    driver.may_end.release()
    await proxy.ff_join(TIMEOUT)
    assert driver.values == [1]


async def test_a_cancelled_ff_join_leaves_the_call_alone():
    driver = Driver()
    proxy = AsyncioFFProxy(driver)
    proxy.set(1)
    waiting = asyncio.ensure_future(proxy.ff_join())
    await driver.started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    driver.may_end.release()
    await proxy.ff_join(TIMEOUT)
    assert driver.values == [1]


async def test_ff_join_in_a_background_call_is_an_error_not_a_deadlock(caplog):
    proxy = AsyncioFFProxy(lambda: proxy.ff_join())
    proxy()
    await proxy.ff_join(TIMEOUT)
    assert "would wait for itself" in caplog.text


def test_loop_shutdown_cancels_the_running_call_and_logs_dropped_ones(caplog):
    proxies = []

    async def main():
        driver = Driver()
        proxy = AsyncioFFProxy(driver, when_busy="queue", queue_size=5)
        proxies.append(proxy)
        for value in range(3):
            proxy.set(value)
        await driver.started.wait()

    asyncio.run(main())
    dropped = [r.message for r in caplog.records if "the event loop was shut down" in r.message]
    assert len(dropped) == 2
    assert proxies[0].ff_counts() == {"made": 1, "dropped": 2, "failed": 0, "waiting": 0}


def test_a_proxy_can_be_used_again_on_another_loop():
    """Even if the call was cancelled on the first loop before its first step."""
    seen = []

    async def record(n):
        seen.append(n)

    proxy = AsyncioFFProxy(record)

    async def leave_at_once():
        proxy(1)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()

    async def use():
        await proxy.ff_join(TIMEOUT)
        proxy(2)
        await proxy.ff_join(TIMEOUT)

    asyncio.run(leave_at_once())
    asyncio.run(use())
    assert seen == [2]


def test_a_call_without_a_running_loop_is_an_error_and_not_accepted():
    proxy = AsyncioFFProxy(print)
    with pytest.raises(RuntimeError, match="no running event loop"):
        proxy()
    assert proxy.ff_counts()["made"] == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_eager_tasks_work():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    driver = Driver()
    proxy = AsyncioFFProxy(driver, when_busy="queue", queue_size=3)
    for value in range(3):
        proxy.note(value)
    proxy.set(3)
    driver.may_end.release()
    await proxy.ff_join(TIMEOUT)
    assert driver.values == [0, 1, 2, 3]
