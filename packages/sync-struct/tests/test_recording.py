"""Recordings, written and read."""

import asyncio
import contextlib
import datetime
import random

import numpy as np
import pyon
import pytest
from sync_struct import Notifier, Publisher, Step, Subscriber
from sync_struct._recording import Recorder, RecordingError, read_recording
from sync_struct._relay import Reflection
from sync_struct._replay import play, state_at


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


def plain(structure):
    """Return a form in which the order of keys makes no difference."""
    if isinstance(structure, dict):
        return {key: plain(value) for key, value in structure.items()}
    return structure.tolist() if isinstance(structure, np.ndarray) else structure


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.now = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)

    def __call__(self):
        self.now += datetime.timedelta(seconds=1)
        return self.now


INIT = Step("init", (b'{"action":"init","struct":{"x":0},"number":0}',), "s", 0)


def setting(number):
    line = b'{"action":"setitem","path":[],"key":"x","value":%d,"number":%d}' % (number, number)
    return Step("mods", (line,), "s", number)


def test_a_structure_is_replayed_as_it_was_at_any_time(tmp_path):
    clock, file = Clock(), tmp_path / "log"
    recorder = Recorder(file, now=clock)
    begin = clock.now
    for step in (INIT, *map(setting, range(1, 10))):
        recorder.write(step)
    recorder.close()
    times = [record.time for record in read_recording([file])]
    assert [state_at(read_recording([file]), time)["x"] for time in times] == list(range(10))
    assert state_at(read_recording([file])) == {"x": 9}
    with pytest.raises(RecordingError, match="begins after that time"):
        state_at(read_recording([file]), begin - datetime.timedelta(days=1))


def test_a_step_of_several_lines_is_one_record(tmp_path):
    recorder = Recorder(tmp_path / "log", now=Clock())
    recorder.write(INIT)
    first = b'{"action":"setitem","path":[],"key":"y","value":1}'
    recorder.write(Step("mods", (first, *setting(1).lines), "s", 1))
    recorder.close()
    records = list(read_recording([tmp_path / "log"]))
    assert [len(record.mods) for record in records] == [1, 2]


def test_mods_of_an_established_publisher_are_records_each(tmp_path):
    recorder = Recorder(tmp_path / "log", now=Clock())
    recorder.write(Step("init", (b'{"action": "init", "struct": []}',), "", None))
    for x in (1, 2):
        line = b'{"action": "append", "path": [], "x": %d}' % x
        recorder.write(Step("mods", (line,), "", None))
    recorder.close()
    records = list(read_recording([tmp_path / "log"]))
    assert [len(record.mods) for record in records] == [1, 1, 1]
    assert state_at(records) == [1, 2]


async def test_a_recorded_array_that_grows_is_replayed(tmp_path, until):
    n = Notifier(np.zeros(2))
    async with Publisher({"d": n}) as publisher:
        await publisher.start("127.0.0.1", 0)
        with contextlib.closing(Recorder(tmp_path / "log", now=Clock())) as recorder:
            steps = []
            write = Subscriber(
                "d", None, lambda step: (recorder.write(step), steps.append(step)), decode=False
            )
            async with write.following("127.0.0.1", publisher.port):
                n.append(1.0)
                n.extend([2.0, 3.0])
                n[0] = 5.0
                await until(lambda: steps and steps[-1].number == 3)
    assert state_at(read_recording([tmp_path / "log"])).tolist() == [5, 0, 1, 2, 3]


@pytest.mark.parametrize("torn", [1, 10, 40, 10**5])
def test_only_an_incomplete_last_line_is_removed(tmp_path, torn):
    file = tmp_path / "log"
    recorder = Recorder(file, now=Clock())
    recorder.write(INIT)
    recorder.close()
    whole = file.read_bytes()
    file.write_bytes(whole + b"x" * torn)
    assert state_at(read_recording([file])) == {"x": 0}
    recorder = Recorder(file, now=Clock())
    assert recorder.dropped == torn
    assert file.read_bytes() == whole
    recorder.write(setting(1))
    recorder.close()
    assert state_at(read_recording([file])) == {"x": 1}


def test_a_file_without_a_complete_line_is_started_again(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"2026-11-")
    recorder = Recorder(file, now=Clock())
    recorder.write(INIT)
    recorder.close()
    assert state_at(read_recording([file])) == {"x": 0}


@pytest.mark.parametrize("limits", [{"size": 200}, {"interval": 3.0}])
def test_another_file_begins_with_the_structure_and_no_file_is_overwritten(tmp_path, limits):
    recorder = Recorder(tmp_path / "log", now=Clock(), **limits)
    for number in range(1, 40):
        if recorder.is_full:
            recorder.write(INIT)
        recorder.write(INIT if number == 1 else setting(number))
    recorder.close()
    aside = sorted(tmp_path.glob("log.*"))
    assert len(aside) > 3
    for file in [*aside, tmp_path / "log"]:
        assert next(read_recording([file])).mods[0]["action"] == "init"
    assert state_at(read_recording([*aside, tmp_path / "log"])) == {"x": 39}


def test_the_age_of_a_file_counts_from_its_first_line_also_after_a_restart(tmp_path):
    clock = Clock()
    recorder = Recorder(tmp_path / "log", now=clock, interval=3600)
    recorder.write(INIT)
    recorder.close()
    clock.now += datetime.timedelta(hours=2)
    with contextlib.closing(Recorder(tmp_path / "log", now=clock, interval=3600)) as recorder:
        assert recorder.is_full


@pytest.mark.parametrize(
    "line",
    [b"hello\n", b"2026-11-26T12:00:00+00:00\tno\n", b'2026-11-26T12:00:00+00:00\t{"a":1}\n'],
)
def test_an_invalid_record_is_an_error_with_file_and_line(tmp_path, line):
    file = tmp_path / "log"
    recorder = Recorder(file, now=Clock())
    recorder.write(INIT)
    recorder.close()
    with file.open("ab") as more:
        more.write(line + b"\n")
    with pytest.raises(RecordingError, match=r"log, line 2: not a record"):
        list(read_recording([file]))


async def test_a_recording_is_published_again_step_by_step(tmp_path, until):
    recorder = Recorder(tmp_path / "log", now=Clock())
    for step in (INIT, setting(1), setting(2), INIT, setting(3)):
        recorder.write(step)
    recorder.close()
    async with Publisher({}) as publisher:
        await publisher.start("127.0.0.1", 0)
        seen = []
        s = Subscriber("lab", lambda x: x, lambda mod: seen.append(s.target["x"]))
        reflection = Reflection(publisher, "lab")
        first, *rest = read_recording([tmp_path / "log"])
        await play([first], reflection)
        async with s.following("127.0.0.1", publisher.port):
            await play(rest, reflection, speed=100.0)
            await until(lambda: seen == [0, 1, 2, 0, 3])


@pytest.mark.parametrize("seed", range(5))
async def test_a_log_replays_to_the_same_state_after_cuts_and_restarts(
    tmp_path, seed, Relay, until
):
    """Random changes and batches; cuts, restarts with and without the log; rotated files."""
    chance = random.Random(seed)
    clock = Clock()
    recorder = Recorder(tmp_path / "log", now=clock, size=20_000)
    n = Notifier({"diary": [], "d": {}, "a": np.zeros(50), "l": [1]})
    publisher = Publisher({"d": n}, backlog=20_000)
    await publisher.start("127.0.0.1", 0)
    asked = False

    def write(step):
        nonlocal asked
        asked = asked and step.action != "init"
        recorder.write(step)
        if recorder.is_full and not asked:
            asked = True
            s.resync()

    def take_state(state):
        nonlocal asked
        asked = asked and state != "stale"

    def change(i):
        kind = chance.randrange(6)
        n["diary"].append(i)
        if kind == 0:
            n["d"][str(chance.randrange(4))] = {"x": [i]}
        elif kind == 1:
            n["a"][chance.randrange(50)] = i
        elif kind == 2:
            n["l"].insert(0, "x" * chance.randrange(3000))
        elif kind == 3:
            n["l"][:] = [i]
        elif kind == 4:
            n["d"].clear()
        else:
            n["a"] = np.full(50, float(i))

    async with Relay(publisher.port) as network:
        s = Subscriber("d", None, write, decode=False, state_cb=take_state)
        async with s.following("127.0.0.1", network.port, longest_wait=0.01):
            for i in range(300):
                with n.batch() if chance.random() < 0.3 else contextlib.nullcontext():
                    change(i)
                    change(i + 0.5)
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                event = chance.random()
                if event < 0.05:
                    network.cut()
                elif event < 0.1:
                    network.cut_after = chance.randrange(2000)
                elif event < 0.12:
                    await publisher.stop()
                    if chance.random() < 0.5:
                        n = Notifier(n.copy())
                    publisher = Publisher({"d": n}, backlog=20_000)
                    await publisher.start("127.0.0.1", 0)
                    network.target = publisher.port
            network.cut_after = None
            n["end"] = True

            def files():
                return [*sorted(tmp_path.glob("log.*")), tmp_path / "log"]

            await until(lambda: b'"end"' in (tmp_path / "log").read_bytes())
            assert plain(state_at(read_recording(files()))) == plain(n.read)
            assert plain(state_at(read_recording(files()[-1:]))) == plain(n.read)
        await publisher.stop()
    recorder.close()
