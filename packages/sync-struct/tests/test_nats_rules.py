"""The contents of a stream and their meaning, without an engine: see *Over NATS*."""

import json
import re
from pathlib import Path

import numpy as np
import pyon
import pytest
from pyon.framing import Receiver, frame
from sync_struct import ProtocolError
from sync_struct.nats._layout import (
    Beacon,
    Label,
    Manifest,
    count_parts,
    cut,
    name_of,
    part_size,
    subjects,
)
from sync_struct.nats._ledger import KEPT_BOUNDARIES, LEAST_STEPS, Ledger, Tail
from sync_struct.nats._progress import BeaconMonitor, Gap, Progress, without_first

PAGE = Path(__file__).parents[1] / "PROTOCOL.md"


# Names, headers, manifests.


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("lab", "lab"),
        ("a.b c", "a=2Eb=20c"),
        ("Ω*>", "=CE=A9=2A=3E"),
        ("x=y", "x=3Dy"),
        ("", "="),
    ],
)
def test_any_name_has_its_subjects(name, token):
    names = subjects(name)
    assert names.stream == f"sync_struct-{token}"
    assert names.step == f"sync_struct.{token}.step"
    assert name_of(names.stream) == name


def test_other_streams_have_no_notifier():
    assert name_of("ORDERS") is None
    assert name_of("sync_struct-") is None


def quoted(pattern):
    """Return an example on the page."""
    return re.search(pattern, PAGE.read_text(encoding="utf-8"), re.MULTILINE)[1]


def test_manifests_and_beacons_are_those_of_the_page():
    shown = quoted(r'^    (\{"sync_struct":1,.*"begin".*\})$').replace("<stream>", "s1").encode()
    assert Manifest.read(shown).write() == shown
    shown = quoted(r'^    (\{"sync_struct":1,.*"live".*\})$').encode()
    assert Beacon.read(shown).write() == shown


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", b'{"sync_struct":2}', b'{"sync_struct":1,"stream":"s"}',
     b'{"sync_struct":1,"stream":"s","number":1,"begin":5,"end":4,"size":1,"next":1}'],
)  # fmt: skip
def test_an_invalid_manifest_is_refused(data):
    with pytest.raises(ProtocolError, match="expected a manifest"):
        Manifest.read(data)
    with pytest.raises(ProtocolError, match="expected a beacon"):
        Beacon.read(data)


def test_labels_are_read_as_they_are_written():
    label = Label("0a1b", 7, 9, 2, 3)
    assert str(label) == "0a1b 7 9 2 3"
    assert Label.read({"Sync-Struct": str(label)}) == label


@pytest.mark.parametrize(
    "text", ["", "s", "s 1", "s 1 2 3", "s 2 1 1 1", "s 1 1 2 1", "s 1 1 0 1", "s a b c d",
             "s 1 1 1 1 1", " 1 1 1 1"],
)  # fmt: skip
def test_an_invalid_label_is_refused(text):
    with pytest.raises(ProtocolError, match="expected a label"):
        Label.read({"Sync-Struct": text})
    with pytest.raises(ProtocolError, match="expected a label"):
        Label.read(None)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 100])
def test_parts_join_to_the_whole(size):
    pieces = [b"ab", memoryview(b"c"), b"", b"def"]
    parts = list(cut(pieces, size))
    assert b"".join(parts) == b"abcdef"
    assert len(parts) == count_parts(pieces, size)
    assert all(len(part) == size for part in parts[:-1])
    assert list(cut([], size)) == [b""]


def test_parts_leave_room_for_headers():
    assert part_size(2**20) == 512 * 2**10
    assert part_size(64 * 2**10) == 64 * 2**10 - 1024


# What a reader does.


def table():
    """Return the rows of *What a reader does*."""
    text = PAGE.read_text(encoding="utf-8").partition("### What a reader does")[2]
    return re.findall(r"^\| (.+?) \| (.+?) \|$", text.partition("\n*Join*")[0], re.MULTILINE)[1:]


def test_the_page_has_a_row_for_each_case_below():
    assert len(table()) == 8


def step(first, last, part=1, parts=1, stream="s"):
    return Label(stream, first, last, part, parts)


@pytest.mark.parametrize(
    ("labels", "outcome"),
    [
        ([step(6, 6)], [6]),
        ([step(6, 8), step(9, 9)], [8, 9]),
        ([step(5, 5), step(6, 6)], [None, 6]),  # passed over
        ([step(3, 5, 2, 2), step(6, 6)], [None, 6]),
        ([step(7, 7)], Gap),
        ([step(6, 6), step(8, 8)], Gap),
        ([step(6, 6, stream="t")], Gap),
        ([step(6, 6, 1, 2), step(6, 6, 2, 2)], [None, 6]),
        ([step(6, 6, 1, 2), step(6, 6, 1, 2), step(6, 6, 2, 2)], [None, None, 6]),  # sent again
        ([step(6, 6, 1, 3), step(6, 7, 1, 2), step(6, 7, 2, 2)], [None, None, 7]),
        ([step(6, 6, 2, 2)], Gap),
        ([step(6, 6, 1, 3), step(6, 6, 3, 3)], Gap),
        ([step(6, 6, 1, 2), step(6, 7, 2, 2)], Gap),
        ([step(6, 6, 1, 2), step(5, 5), step(6, 6, 2, 2)], Gap),
    ],
)
def test_the_numbers_of_a_message_decide_its_meaning(labels, outcome):
    progress = Progress("s", 5)

    def take():
        for label in labels:
            taken = progress.take_step(label, b"%d;" % label.part)
            yield progress.number if taken else None

    if outcome is Gap:
        with pytest.raises(Gap):
            list(take())
    else:
        assert list(take()) == outcome


def test_parts_of_a_step_are_passed_on_together():
    progress = Progress("s", 0)
    assert progress.take_step(step(1, 1, 1, 2), b"a") == []
    assert progress.take_step(step(1, 1, 2, 2), b"b") == [b"a", b"b"]


@pytest.mark.parametrize(
    ("stream", "number", "fits"),
    [("s", 5, True), ("s", 6, False), ("t", 1, False), ("s", 1, True)],
)
def test_a_manifest_is_passed_if_the_reader_has_what_it_contains(stream, number, fits):
    manifest = Manifest(stream, number, 1, 1, 1, 1)
    if fits:
        Progress("s", 5).pass_manifest(manifest)
    else:
        with pytest.raises(Gap):
            Progress("s", 5).pass_manifest(manifest)


def mod(key, value):
    return {"action": "setitem", "path": [], "key": key, "value": value}


def wire(*messages):
    """Return messages as they travel."""
    chunks = []
    for message in messages:
        buffers = []
        line = pyon.encode(message, version=2, buffer_callback=buffers.append)
        chunks += frame(line, buffers)
    return b"".join(map(bytes, chunks))


def mods_in(data):
    found = []
    for message in Receiver(raw_buffers=True).feed(data):
        one = pyon.decode(bytes(message.line), buffers=message.buffers)
        number = one.pop("number", None)
        found += one["mods"] if one["action"] == "mods" else [one]
    return found, number


def test_mods_that_the_snapshot_has_are_dropped_from_a_step():
    big = np.arange(2000.0)
    data = wire(
        {"action": "mods", "mods": [mod("a", 1), mod("b", "é\ud800"), mod("c", 2**70)]},
        mod("d", big),
        {"action": "mods", "mods": [mod("e", 1.5), mod("f", (1, 2))], "number": 6},
    )
    keys = "abcdef"
    for had in range(6):
        kept, number = mods_in(without_first(data, had))
        assert [one["key"] for one in kept] == list(keys[had:])
        assert number == 6
    kept, _ = mods_in(without_first(data, 1))
    assert [one["value"] for one in kept[:2]] == ["é\ud800", 2**70]
    assert kept[2]["value"].tolist() == big.tolist()
    progress = Progress("s", 3)
    (taken,) = progress.take_step(step(1, 6), data)
    assert [one["key"] for one in mods_in(taken)[0]] == ["d", "e", "f"]
    assert progress.number == 6


@pytest.mark.parametrize("data", [b"", b"x\n", b"[]\n", b'{"action":"mods"}\n'])
def test_an_invalid_step_is_a_gap(data):
    with pytest.raises(Gap):
        without_first(data, 1)


# Whether the bridge is there.


def beacon(number, stream="s", live=True):
    return Beacon(stream, number, "w", 2.0, live)


def test_a_reader_is_live_while_beacons_arrive_and_it_has_reached_them():
    pulse = BeaconMonitor()
    assert pulse.health("s", 5, 0.0) == "stale"
    pulse.receive(beacon(5), 1.0)
    assert pulse.health("s", 5, 7.0) == "live"
    assert pulse.health("s", 5, 7.1) == "stale"  # three intervals
    pulse.receive(beacon(5, live=False), 8.0)
    assert pulse.health("s", 5, 8.0) == "stale"
    pulse.receive(beacon(4), 9.0)
    assert pulse.health("s", 5, 9.0) == "live"
    assert pulse.reached("s", 5)
    assert not pulse.reached("s", 3)


def test_a_reader_that_lags_is_stale_and_one_without_progress_is_stuck():
    pulse = BeaconMonitor()
    for second in range(20):
        pulse.receive(beacon(100 + second), second)
        moving = pulse.health("s", second, second)
        assert moving == ("live" if second <= 4 else "stale"), second
    pulse = BeaconMonitor()
    seen = []
    for second in range(12):
        pulse.receive(beacon(100), second)
        seen.append(pulse.health("s", 7, second))
    assert seen[:9] == ["live"] * 5 + ["stale"] * 4
    assert seen[9] == "stuck"
    assert seen[10] == "live"  # it joins, and has the same time again


def test_a_reader_of_another_stream_than_the_bridge_is_stuck_in_the_end():
    pulse = BeaconMonitor()
    for second in range(9):
        pulse.receive(beacon(1, stream="t"), second)
        assert pulse.health("s", 7, second) != "stuck"
    pulse.receive(beacon(1, stream="t"), 9)
    assert pulse.health("s", 7, 9) == "stuck"


def test_a_reader_that_reaches_the_beacon_is_live_again():
    pulse = BeaconMonitor()
    pulse.receive(beacon(9), 0)
    pulse.health("s", 1, 0)
    pulse.receive(beacon(9), 5)
    assert pulse.health("s", 8, 5) == "stale"
    assert pulse.health("s", 9, 5) == "live"


# What a bridge accounts for.


def test_an_empty_stream_needs_the_structure_first():
    ledger = Ledger(Tail(0, 0, None, None))
    assert ledger.position is None
    assert not ledger.snapshot_due
    ledger.begin_stream("s", 4)
    begin = ledger.next_sequence()
    manifest = Manifest("s", 4, begin, begin, 100, begin + 2)
    assert ledger.next_sequence() == begin + 1
    assert ledger.record_snapshot(manifest) is None  # nothing to be deleted
    assert ledger.position == ("s", 4)
    assert ledger.next_after(4) == begin + 2
    assert ledger.next_after(3) is None


MANIFEST = Manifest("s", 40, 10, 12, 3000, 9)


@pytest.mark.parametrize(
    ("last_step", "position"),
    [
        (None, ("s", 40)),
        (step(39, 39), ("s", 40)),
        (step(41, 45), ("s", 45)),
        (step(46, 49, 2, 3), ("s", 45)),  # its bridge was killed in the middle
        (step(38, 41, 1, 3), ("s", 40)),
        (step(90, 90, stream="old"), ("s", 40)),
    ],
)
def test_a_bridge_goes_on_where_the_stream_ends(last_step, position):
    ledger = Ledger(Tail(20, 5000, MANIFEST, last_step))
    assert ledger.position == position
    assert next(ledger.labels(position[1] + 2, 1)).first == position[1] + 1
    assert ledger.next_sequence() == 21


def test_messages_that_the_previous_manifest_needs_are_kept():
    ledger = Ledger(Tail(20, 5000, MANIFEST, None))
    new = Manifest("s", 60, 21, 23, 3000, 19)
    assert ledger.record_snapshot(new) == 9
    assert ledger.record_snapshot(new._replace(begin=30, end=31, next=33)) == 19


def test_a_snapshot_is_due_when_the_steps_are_larger():
    for size in (100, 3 * LEAST_STEPS):
        ledger = Ledger(Tail(20, size, MANIFEST._replace(size=size), None))
        ledger.record_step(41, max(size, LEAST_STEPS) - 1000, 1)
        assert not ledger.snapshot_due
        ledger.record_step(42, 1000, 1)
        assert ledger.snapshot_due


@pytest.mark.parametrize(("first", "due"), [(0, False), (1, False), (2, True), (20, True)])
def test_a_snapshot_is_due_when_messages_of_the_last_one_were_deleted(first, due):
    ledger = Ledger(Tail(9, 500, Manifest("s", 3, 1, 4, 400, 2), Label("s", 4, 5)))
    ledger.record_first(first)
    assert ledger.snapshot_due is due
    ledger.record_snapshot(Manifest("s", 5, ledger.next_sequence(), 10, 400, 10))
    assert not ledger.snapshot_due
    ledger.record_first(10)
    assert not ledger.snapshot_due


def test_a_stream_without_a_snapshot_is_not_incomplete():
    ledger = Ledger(Tail(7, 0, None, None))
    ledger.record_first(8)
    assert not ledger.snapshot_due


def test_steps_of_an_earlier_bridge_count_too():
    ledger = Ledger(Tail(20, 2 * LEAST_STEPS, MANIFEST, None))
    assert ledger.snapshot_due


def test_the_sequences_of_recent_steps_are_kept():
    ledger = Ledger(Tail(20, 0, MANIFEST, None))
    for number in range(41, 41 + KEPT_BOUNDARIES + 10):
        ledger.next_sequence()
        ledger.record_step(number, 1, 1)
    oldest = number - KEPT_BOUNDARIES + 1
    assert ledger.next_after(oldest - 1) is None
    assert ledger.next_after(oldest) == 21 + oldest - 40
    assert ledger.next_after(number) == ledger.seq + 1
    assert ledger.next_after(number + 100) == ledger.seq + 1


def test_a_number_within_a_step_gives_the_sequence_before_it():
    ledger = Ledger(Tail(20, 0, MANIFEST, None))
    ledger.next_sequence()
    ledger.record_step(45, 1, 1)
    ledger.next_sequence()
    ledger.record_step(55, 1, 1)
    assert ledger.next_after(50) == 22  # the step from 46 to 55 is read, and cut


def test_json_of_the_page_is_compact():
    assert b" " not in Manifest("s", 1, 1, 1, 1, 1).write()
    assert json.loads(beacon(3).write())["interval"] == 2.0
