"""asyncio_tasks: tasks are kept while they run and ended together, futures are settled once."""

import asyncio
import gc

import pytest
from pyon.asyncio_tasks import abandon, end, keep, settle, settle_error


async def test_a_task_is_kept_until_it_is_done():
    tasks = set()
    go_on = asyncio.Event()
    task = keep(tasks, go_on.wait())
    assert tasks == {task}
    go_on.set()
    await task
    await asyncio.sleep(0)
    assert tasks == set()


async def test_ended_tasks_have_cleaned_up():
    cleaned = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    tasks = set()
    keep(tasks, work())
    keep(tasks, work())
    await asyncio.sleep(0)
    assert await end(tasks, 60.0) == set()
    assert cleaned == [True, True]


async def test_a_task_that_does_not_end_is_returned_after_the_grace():
    go_on = asyncio.Event()

    async def deaf():
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                pass

    tasks = set()
    task = keep(tasks, deaf())
    await asyncio.sleep(0)
    assert await end(tasks, 0.0) == {task}
    go_on.set()
    await task


async def test_a_task_can_end_the_others_of_its_set():
    tasks = set()
    other = keep(tasks, asyncio.Event().wait())

    async def stop():
        return await end(tasks, 60.0)

    assert await keep(tasks, stop()) == set()
    assert other.cancelled()


async def test_ending_nothing_returns_at_once():
    assert await end(set(), 60.0) == set()


async def test_only_the_first_result_of_a_future_counts():
    future = asyncio.get_running_loop().create_future()
    settle(future, 1)
    settle(future, 2)
    settle_error(future, ValueError())
    assert await future == 1


async def test_a_future_that_was_cancelled_is_left_alone():
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    settle(future, 1)
    settle_error(future, ValueError())
    assert future.cancelled()


async def test_an_error_is_raised_where_the_future_is_awaited():
    future = asyncio.get_running_loop().create_future()
    settle_error(future, ValueError("no"))
    settle(future, 1)
    with pytest.raises(ValueError, match="no"):
        await future


def test_the_end_of_a_loop_does_not_wait_for_a_task_that_is_abandoned(caplog):
    tasks, cancelled = set(), []

    async def go_on():
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(1)

    async def main():
        task = keep(tasks, go_on())
        await asyncio.sleep(0)
        assert await end(tasks, 0.01) == {task}
        abandon(task)

    asyncio.run(main())
    assert cancelled == [1]
    tasks.clear()
    gc.collect()
    assert not caplog.records
