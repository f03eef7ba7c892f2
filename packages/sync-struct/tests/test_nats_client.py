"""Time-outs, cancellation and closing of the NATS client, where its library fails."""

import asyncio
import contextlib
import gc
import json
import types
import warnings

import pytest
from pyon.asyncio_server import AsyncioServer
from pyon.asyncio_tasks import keep
from sync_struct._selection import EVERYTHING
from sync_struct.gateway import Request
from sync_struct.nats import _client, _jetstream
from sync_struct.nats._client import await_call
from sync_struct.nats._connecting import connect
from sync_struct.nats._inlet import Inlet
from sync_struct.nats._jetstream import JetStream, JetStreamError
from sync_struct.nats._layout import subjects
from sync_struct.nats._pipeline import Displaced, Pipeline
from sync_struct.nats._together import cancel_and_wait, first_end

# By nats-py when it reconnects: a transport that is closed without waiting.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")


async def stubborn(times, ended):
    """Swallow cancellations, as the client library does."""
    while times:
        times -= 1
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append(times)
    await asyncio.get_running_loop().create_future()


async def failing(error):
    raise error


async def test_the_first_task_to_end_cancels_the_others_and_its_error_is_raised():
    ended = []
    with pytest.raises(OSError, match="first"):
        await first_end(failing(OSError("first")), stubborn(2, ended))
    assert ended == [1, 0]


async def test_tasks_that_swallow_cancellations_are_ended_though_their_owner_is_cancelled(until):
    ended, before = [], asyncio.all_tasks()
    outer = asyncio.ensure_future(first_end(first_end(stubborn(3, ended))))
    await until(lambda: len(asyncio.all_tasks() - before) == 3)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert ended == [2, 1, 0]
    assert asyncio.all_tasks() == before


async def test_errors_of_cancelled_tasks_are_not_reported(caplog):
    with pytest.raises(OSError, match=r"one|two"):
        await first_end(failing(OSError("one")), failing(OSError("two")))
    assert not caplog.records


async def swallow(seconds=None):
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        return "as if nothing had been"


async def test_a_cancellation_that_a_call_swallows_is_raised_nevertheless(until):
    began = asyncio.ensure_future(await_call(swallow()))
    await until(lambda: began.get_coro().cr_await is not None)
    began.cancel()
    with pytest.raises(asyncio.CancelledError):
        await began


async def test_a_time_out_that_a_call_swallows_is_raised_nevertheless(monkeypatch):
    monkeypatch.setattr(_client, "CALL_TIMEOUT", 0.01)
    with pytest.raises(TimeoutError):
        await await_call(swallow())


async def test_a_call_returns_while_its_caller_cleans_up_behind_a_cancellation(until):
    returned = []

    async def work():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            returned.append(await await_call(asyncio.sleep(0, "returned")))

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    await cancel_and_wait({task})
    assert returned == ["returned"]


class Broker(AsyncioServer):
    """As much of a NATS server as a client needs that is to be annoyed.

    Attributes
    ----------
    reads : asyncio.Event
        Not set: it takes nothing from anybody.
    answers : asyncio.Event
        Not set: it answers no ping but the first of a connection.
    """

    def __init__(self):
        super().__init__()
        self.reads, self.answers = asyncio.Event(), asyncio.Event()
        self.reads.set()
        self.pinged = 0

    async def _handle_connection_cr(self, reader, writer):
        info = {"server_id": "s", "version": "2.11.0", "headers": True, "max_payload": 2**20}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        first = True
        try:
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    if not first:
                        self.pinged += 1
                        await self.answers.wait()
                    first = False
                    writer.write(b"PONG\r\n")
                await self.reads.wait()
        finally:
            writer.transport.abort()


async def served():
    broker = Broker()
    await broker.start("127.0.0.1", 0)
    return broker, await connect(f"nats://127.0.0.1:{broker.port}")


async def test_a_client_whose_server_reads_nothing_is_closed_nevertheless(monkeypatch):
    before = asyncio.all_tasks()
    broker, js = await served()
    inside = asyncio.all_tasks()
    try:
        broker.reads.clear()
        monkeypatch.setattr(_client, "CALL_TIMEOUT", 0.1)
        with contextlib.suppress(JetStreamError):  # the client itself takes no more
            for _ in range(64):
                await js.publish("subject", bytes(2**20 - 100))
        monkeypatch.undo()
        async with asyncio.timeout(20):
            await js.close()
        assert asyncio.all_tasks() <= inside
    finally:
        broker.reads.set()
        await broker.stop()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("turns", range(1, 4))
def test_a_client_that_is_being_closed_when_the_loop_ends_leaves_no_socket(engine, turns):
    async def close_and_leave():
        js = await connect(engine.address)
        closing = asyncio.ensure_future(js.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not closing.done()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(close_and_leave())
        gc.collect()
    assert not told


async def test_tasks_that_the_library_has_replaced_end_with_the_client(engine):
    before = asyncio.all_tasks()
    js = await connect(engine.address)
    client = js._client
    for _ in range(3):  # as when it reconnects twice at the same time
        client._flusher_task = asyncio.ensure_future(client._flusher())
    await asyncio.sleep(0)
    await js.close()
    assert asyncio.all_tasks() == before


class ReconnectingClient:
    """A client that starts another task when its `close` is cancelled, as the library does."""

    def __init__(self):
        self.tasks = set()
        self.started = []

    async def close(self):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            keep(self.tasks, asyncio.Event().wait())
            self.started += self.tasks


def test_tasks_that_begin_while_the_loop_ends_are_ended():
    client = ReconnectingClient()

    async def close_and_leave():
        closing = asyncio.ensure_future(_client.close(client))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not closing.done()

    asyncio.run(close_and_leave())
    (task,) = client.started
    assert task.cancelled()


async def test_a_message_whose_predecessor_was_refused_is_refused_though_its_place_is_free(engine):
    js, names = await connect(engine.address), subjects("d")
    await js.make_stream(names, "memory", 1)
    ours, theirs = Pipeline(js, names.stream, 0), Pipeline(js, names.stream, 0)
    theirs.put(1, names.step, b"theirs")
    running = asyncio.ensure_future(theirs.run())
    async with asyncio.timeout(30):
        await theirs.arrival(1)
        for place in range(1, 6):
            ours.put(place, names.step, b"ours")
        with pytest.raises(Displaced, match="another writer is at work"):
            await ours.run()
    assert (ours.arrived, (await js.state(names.stream)).last) == (0, 1)
    theirs.put(2, names.step, b"theirs")
    async with asyncio.timeout(30):
        await theirs.arrival(2)
    await cancel_and_wait({running})
    await js.close()


async def test_a_pipeline_continues_after_messages_were_deleted(engine):
    js, names = await connect(engine.address), subjects("d")
    await js.make_stream(names, "memory", 1)
    pipeline = Pipeline(js, names.stream, 0)
    running = asyncio.ensure_future(pipeline.run())
    async with asyncio.timeout(30):
        for places in (range(1, 4), range(4, 7)):
            for place in places:
                pipeline.put(place, names.step, b"ours")
            await pipeline.arrival(place)
            await js.api(f"STREAM.PURGE.{names.stream}")
    assert (await js.state(names.stream)).last == 6
    await cancel_and_wait({running})
    await js.close()


async def test_waiting_for_a_closed_pipeline_raises():
    pipeline = Pipeline(None, "s", 0)
    pipeline.put(1, "subject", b"")
    waiting = asyncio.ensure_future(pipeline.arrival(1))
    await asyncio.sleep(0)
    pipeline.close()
    for wait in (waiting, pipeline.arrival(1)):
        with pytest.raises(JetStreamError, match="has stopped writing"):
            await wait


async def test_a_reader_that_is_ended_before_it_begins_leaves_no_connection(until):
    cut = []
    js = types.SimpleNamespace(abort=lambda: cut.append(True))
    inlet = Inlet(js, "d", Request("d", EVERYTHING, frozenset(), None))
    inlet.connection_opened()
    inlet.connection_closed(None)
    await until(lambda: cut)


async def test_a_late_pong_does_not_end_the_clients_reading_task(monkeypatch, until):
    monkeypatch.setattr(_jetstream, "CALL_TIMEOUT", 0.01)
    broker, js = await served()
    assert not await js._answers()
    broker.answers.set()
    await until(lambda: not js._pings)
    monkeypatch.undo()
    assert await js._answers()
    assert not _client.has_dead_task(js._client)
    await js.close()
    await broker.stop()


@pytest.mark.parametrize("name", ["reading", "flusher"])
async def test_a_connected_client_that_does_not_work_is_lost(name, monkeypatch):
    monkeypatch.setattr(_jetstream, "DISCONNECTED_LIMIT", 0.02)
    monkeypatch.setattr(_jetstream, "CHECK_INTERVAL", 0.01)
    done = asyncio.ensure_future(asyncio.sleep(0))
    await done

    async def flush(timeout):
        """Say that all is well, as that of the library does."""

    client = types.SimpleNamespace(is_connected=True, flush=flush, **{f"_{name}_task": done})
    async with asyncio.timeout(10):
        await JetStream(client, "nats://here").lost()
