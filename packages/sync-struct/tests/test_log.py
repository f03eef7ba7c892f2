import numpy as np
import pyon
import pytest
from pyon import wire
from pyon.framing import Receiver
from sync_struct import Notifier, Publisher, UnknownNotifier
from sync_struct._change import MAX_LEVELS, Restart
from sync_struct._cursor import Cursor
from sync_struct._encoding import Encoding
from sync_struct._log import Log
from sync_struct._replica import Replica
from sync_struct._selection import EVERYTHING, Wish

OLD = Encoding(2, numbered=False)
OLD_V1 = Encoding(1, numbered=False)
RAW = Encoding(raw=True)


class Reader:
    """A subscriber without a connection: the test passes messages to it."""

    def __init__(self, log, encoding=RAW, wish=EVERYTHING, number=None):
        self.cursor = Cursor(log, encoding, wish, number)
        self.replica = Replica(lambda x: x, wish)
        self.replica.connected(legacy=not encoding.numbered)
        self.replica.live = number is not None or wish.mods_only
        self.receiver = Receiver(raw_buffers=encoding.raw)
        self.mods = []
        self.inits = 0
        self.bytes = 0

    def read(self):
        """Handle all available messages."""
        while self.cursor.behind:
            self.read_once()
        return self.replica.target

    def read_once(self):
        for chunk in self.cursor.take():
            self.bytes += len(chunk)
            for message in self.receiver.feed(bytes(chunk)):
                mods = self.replica.receive(message)
                self.inits += sum(mod["action"] == "init" for mod in mods)
                self.mods += mods


def served(structure, backlog=2**20):
    notifier = Notifier(structure)
    log = Log(notifier._structure, backlog)
    notifier._structure.add_sink(log.put, False)
    return notifier, log


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


@pytest.mark.parametrize("encoding", [RAW, Encoding(), OLD, OLD_V1])
def test_a_replica_is_equal_in_every_encoding(encoding):
    notifier, log = served({"a": np.arange(1000.0), "l": [(1,)]})
    notifier._structure.wants_v1 = 1
    reader = Reader(log, encoding)
    reader.read()
    notifier["b"] = np.arange(5000)
    notifier["b"][3] = 7
    notifier["l"].append("x")
    log.collect()
    assert same(reader.read(), notifier.read)
    assert reader.inits == 1


def test_mods_between_snapshot_and_first_delivery_are_neither_lost_nor_doubled():
    notifier, log = served({"l": []})
    reader = Reader(log)
    notifier["l"].append(1)  # put, and not yet collected when the snapshot is made
    reader.read_once()
    notifier["l"].append(2)
    log.collect()
    late = Reader(log)
    late.read_once()
    notifier["l"].append(3)
    log.collect()
    assert reader.read() == late.read() == {"l": [1, 2, 3]}


def test_a_subscriber_that_joins_during_a_batch_gets_all_of_it_or_nothing():
    notifier, log = served({"l": []})
    with notifier.batch():
        notifier["l"].append(1)
        reader = Reader(log)
        assert reader.cursor.take() is None
        notifier["l"].append(2)
    log.collect()
    assert reader.read() == {"l": [1, 2]}
    assert reader.inits == 1


def test_subscribers_that_join_at_once_share_one_encoding(monkeypatch):
    notifier, log = served({"l": list(range(10_000))})
    texts, structures = [], []
    real, real_pieces = pyon.encode, wire.encode_pieces
    monkeypatch.setattr(pyon, "encode", lambda *a, **k: texts.append(a[0]) or real(*a, **k))
    monkeypatch.setattr(
        wire, "encode_pieces", lambda *a, **k: structures.append(a[0]) or real_pieces(*a, **k)
    )
    readers = []
    for i in range(50):
        encoding = (RAW, Encoding(), OLD)[i % 3]
        readers.append(Reader(log, encoding))
        readers[-1].read_once()
        notifier["x"] = i
        log.collect()
    assert all(reader.read() == notifier.read for reader in readers)
    assert len(structures) == 1
    assert len(texts) <= 50 + 1  # of each mod its value, and one key


def test_a_mod_is_encoded_once_for_all_subscribers():
    notifier, log = served({})
    first, second = Reader(log), Reader(log)
    first.read()
    second.read()
    notifier["x"] = 1
    log.collect()
    assert first.cursor.take()[0] is second.cursor.take()[0]


@pytest.mark.parametrize("encoding", [Encoding(), OLD])
def test_an_array_becomes_text_without_reading_the_line_of_its_mod(encoding, monkeypatch):
    notifier, log = served({"d": {}})
    whole, part = Reader(log, encoding), None
    whole.read()
    if encoding.numbered:
        part = Reader(log, encoding, Wish(("d",)))
        part.read()
    with notifier.batch():
        notifier["d"]["a"] = np.arange(10_000)
        notifier["d"]["b"] = np.arange(10_000.0).reshape(100, 100)
    log.collect()
    with monkeypatch.context() as context:
        context.setattr(pyon, "decode", None)
        steps = [reader.cursor.take() for reader in (whole, part) if reader]
    for reader, step in zip((whole, part), steps, strict=False):
        for message in reader.receiver.feed(b"".join(map(bytes, step))):
            reader.replica.receive(message)
    assert same(whole.replica.target, notifier.read)
    assert part is None or same(part.replica.target, notifier.read["d"])


def test_data_being_sent_does_not_change_when_others_are_sent_the_same_array():
    notifier, log = served({})
    plain, newest, other = Reader(log), Reader(log, wish=Wish(newest=True)), Reader(log, Encoding())
    for reader in (plain, newest, other):
        reader.read()
    notifier["a"] = np.arange(10_000)
    notifier["b"] = np.arange(20_000)  # for `newest` both are one step: other lines
    log.collect()
    on_their_way = [plain.cursor.take(), newest.cursor.take(), other.cursor.take()]
    late = Reader(log, number=0)
    late.replica.target = {}
    assert same(late.read(), notifier.read)
    for reader, chunks in zip((plain, newest, other), on_their_way, strict=True):
        for message in reader.receiver.feed(b"".join(map(bytes, chunks))):
            reader.replica.receive(message)
        assert same(reader.replica.target, notifier.read)


def test_arrays_of_different_steps_are_steps_of_their_own():
    notifier, log = served({})
    reader = Reader(log)
    reader.read()
    notifier["x"] = 1
    for _ in range(3):
        notifier["a"] = np.arange(10_000)
    with notifier.batch():
        notifier["x"] = 2
        notifier["a"] = np.arange(20_000)
    log.collect()
    data = b"".join(map(bytes, reader.cursor.take()))
    numbers = [message.line.rpartition(b",")[2] for message in reader.receiver.feed(data)]
    assert numbers[:4] == [b'"number":%d}' % number for number in (1, 2, 3, 4)]
    assert len(numbers) == 6
    assert b"number" not in numbers[4]
    assert numbers[5] == b'"number":6}'


@pytest.mark.parametrize("encoding", [Encoding(), OLD, OLD_V1])
def test_a_structure_as_text_is_sent_in_the_pieces_in_which_it_was_encoded(encoding):
    array = np.random.default_rng(1).random(100_000)
    notifier, log = served({"a": array, "b": array[:10_000] + 1})
    *_, before, last, end = list(map(bytes, Cursor(log, encoding).take()))
    assert max(map(len, (before, last, end))) < 120_000
    reader = Reader(log, encoding)
    assert same(reader.read(), notifier.read)


def test_raw_arrays_are_copied_once_for_all_subscribers():
    notifier, log = served({})
    first, second = Reader(log), Reader(log)
    first.read()
    second.read()
    notifier["a"] = np.arange(100_000)
    log.collect()
    assert first.cursor.take()[-1].obj is second.cursor.take()[-1].obj


def test_the_log_is_bounded_and_a_stalled_reader_ends_equal():
    notifier, log = served({}, backlog=1_000_000)
    stalled, brisk, old = Reader(log), Reader(log), Reader(log, OLD)
    for reader in (stalled, brisk, old):
        reader.read()
    for i in range(200):
        notifier[i % 10] = "x" * 50_000
        log.collect()
        brisk.read()
        held = sum(entry.size for entry in log.entries(log.oldest))
        assert held <= 1_200_000
    assert stalled.cursor.overrun
    assert stalled.read() == brisk.read() == old.read() == notifier.read
    assert (stalled.inits, brisk.inits, old.inits) == (2, 1, 2)
    assert log.resyncs == 2
    assert brisk.replica.position.number == 200


def test_a_burst_before_the_loop_turns_is_bounded_too():
    notifier, log = served({}, backlog=100_000)
    reader = Reader(log)
    reader.read()
    for i in range(100):
        notifier["x"] = str(i) * 5_000
    assert sum(len(change.line) for step in log._arrived for change in step) < 110_000
    log.collect()
    assert reader.read() == notifier.read
    assert reader.inits == 2


def test_no_reader_is_sent_half_a_batch_while_another_thread_publishes_it():
    notifier, steps = Notifier({"l": []}), []
    log = Log(notifier._structure)
    notifier._structure.add_sink(steps.append, False)
    conflated, whole = Reader(log, wish=Wish(newest=True)), Reader(log)
    part = Reader(log, wish=Wish(("l",)))
    readers = (conflated, whole, part)
    for reader in readers:
        reader.read()
    with notifier.batch():
        for i in range(3):
            notifier["l"].append(i)

    class Slow(list):
        """A step put by another thread while the publisher's thread collects."""

        looked_at = False

        def __iter__(self):
            told, self.looked_at = self.looked_at, True
            for change in list.__iter__(self):
                yield change
                if not told:
                    log.collect()
                    assert all(reader.read() in ({"l": []}, []) for reader in readers)

    log.put(Slow(steps[0]))
    log.collect()
    assert [len(reader.read()["l"]) for reader in (conflated, whole)] == [3, 3]
    assert part.read() == [0, 1, 2]


def test_one_mod_larger_than_the_backlog_reaches_readers_that_keep_up():
    notifier, log = served({}, backlog=1000)
    reader = Reader(log)
    reader.read()
    notifier["x"] = "x" * 10_000
    log.collect()
    reader.read()
    assert reader.replica.target == notifier.read
    assert reader.inits == 1


def test_a_reader_resumes_where_it_left_off():
    notifier, log = served({"l": []})
    reader = Reader(log)
    reader.read()
    notifier["l"].append(1)
    log.collect()
    assert log.holds(0)
    again = Reader(log, number=0)
    again.replica.target = {"l": []}
    assert again.read() == {"l": [1]}
    assert again.inits == 0
    assert not log.holds(2)


def test_mods_of_a_batch_are_applied_together():
    notifier, log = served({})
    reader = Reader(log)
    reader.read()
    with notifier.batch():
        notifier["a"] = 1
        notifier["b"] = 2
    log.collect()
    (line,) = reader.cursor.take()
    (message,) = reader.receiver.feed(line)
    assert len(reader.replica.receive(message)) == 2
    assert reader.replica.target == {"a": 1, "b": 2}


def test_mods_of_a_batch_with_arrays_are_applied_together():
    notifier, log = served({})
    reader = Reader(log)
    reader.read()
    with notifier.batch():
        notifier["a"] = 1
        notifier["b"] = np.arange(100_000)
        notifier["c"] = 3
        notifier["d"] = 4
    log.collect()
    data = b"".join(map(bytes, reader.cursor.take()))
    first, second, third = reader.receiver.feed(data)
    assert reader.replica.receive(first) == reader.replica.receive(second) == []
    assert reader.replica.target == {}
    assert len(reader.replica.receive(third)) == 4
    assert same(reader.replica.target, notifier.read)


@pytest.mark.parametrize("nest", [lambda x: [x], lambda x: {1: x}, lambda x: (x,)])
@pytest.mark.parametrize("encoding", [RAW, Encoding(), OLD, OLD_V1])
def test_the_deepest_value_reaches_every_replica(encoding, nest):
    notifier, log = served({"a": []})
    notifier._structure.wants_v1 = 1
    early, part = Reader(log, encoding), None
    early.read()
    if encoding.numbered:
        part = Reader(log, encoding, Wish(("a",)))
        part.read()
    value = 0
    for _ in range(MAX_LEVELS - 2):
        value = nest(value)
    with notifier.batch():
        notifier["a"].append(value)
        notifier["a"].append(1)
    late = Reader(log, encoding)
    log.collect()
    log.forget_snapshots()
    assert early.read() == late.read() == notifier.read
    assert late.inits == early.inits == 1
    assert part is None or part.read() == notifier.read["a"]


def test_a_part_is_sent_like_a_whole_structure():
    notifier, log = served({"a": {"l": [1]}, "b": 1})
    reader = Reader(log, wish=Wish(("a", "l")))
    assert reader.read() == [1]
    notifier["a"]["l"].append(2)
    notifier["b"] = 2
    notifier["a"]["k"] = 5
    log.collect()
    assert reader.read() == [1, 2]
    assert reader.mods[1:] == [{"action": "append", "path": [], "x": 2}]
    notifier["a"] = {"l": [7]}
    log.collect()
    assert reader.read() == [7]
    del notifier["a"]
    log.collect()
    with pytest.raises(UnknownNotifier, match="no part"):
        reader.read()


def test_a_part_that_is_replaced_is_not_taken_from_an_older_snapshot():
    notifier, log = served({"a": {"big": list(range(5000))}})
    reader = Reader(log, wish=Wish(("a",)))
    reader.read()
    notifier["a"] = {"new": 1}
    log.collect()
    reader.read_once()
    assert reader.replica.target == {"new": 1}
    assert not reader.cursor.behind


def test_a_part_of_a_list_follows_its_index():
    notifier, log = served([[0], [1], [2]])
    reader = Reader(log, wish=Wish((1,)))
    assert reader.read() == [1]
    notifier.insert(0, ["new"])
    log.collect()
    assert reader.read() == [0]
    notifier[-3].append(5)
    log.collect()
    assert reader.read() == [0, 5]


def test_conflation_sends_less_and_always_the_last():
    notifier, log = served({})
    slow, every = Reader(log, wish=Wish(newest=True)), Reader(log)
    slow.read()
    every.read()
    for i in range(1000):
        notifier["x"] = i
        log.collect()
        every.read()
    assert slow.read() == every.read() == {"x": 999}
    assert len(slow.mods) == 2
    assert len(every.mods) == 1001


def test_mods_only_has_no_structure_and_reports_gaps():
    from sync_struct import ModsLost

    notifier, log = served({"x": "y" * 1000}, backlog=2_000)
    reader = Reader(log, wish=Wish(mods_only=True))
    notifier["x"] = 1
    log.collect()
    reader.read()
    assert reader.bytes < 200
    assert [mod["value"] for mod in reader.mods] == [1]
    for _ in range(100):
        notifier["x"] = 2
    log.collect()
    with pytest.raises(ModsLost):
        reader.read()
    notifier["x"] = 3
    log.collect()
    reader.read()
    assert reader.mods[-1]["value"] == 3


def test_a_structure_that_cannot_be_encoded_is_an_error():
    notifier, log = served({})
    notifier.read["x"] = object()  # not through the notifier
    with pytest.raises(pyon.EncodeError):
        Reader(log).read()
    notifier["x"] = 1
    log.collect()
    assert Reader(log).read() == {"x": 1}


def test_only_whole_structures_are_published():
    with pytest.raises(ValueError, match="whole"):
        Publisher({"a": Notifier({"a": []})["a"]})
    with pytest.raises(ValueError, match="legacy_version"):
        Publisher({}, legacy_version=3)
    with pytest.raises(ValueError, match="overflow"):
        Publisher({}, overflow="explode")
    with pytest.raises(ValueError, match="without a newline"):
        Publisher({"a\nb": Notifier({})})


class Absent(Reader):
    """A reader with the feature `absent_parts`."""

    def __init__(self, log, path, **options):
        super().__init__(log, wish=Wish(path, **options))
        self.cursor.wants_absence = True

    def lines(self):
        """Take what there is, as messages without their numbers."""
        lines = []
        while self.cursor.behind:
            for chunk in self.cursor.take():
                lines += [pyon.decode(m.line) for m in self.receiver.feed(bytes(chunk))]
        return [{key: line[key] for key in line if key != "number"} for line in lines]


ABSENT = {"action": "absent"}


@pytest.mark.parametrize("newest", [False, True])
def test_an_absent_part_is_reported_once_and_sent_when_it_is_created(newest):
    notifier, log = served({"datasets": {}})
    reader = Absent(log, ("datasets", "plot"), newest=newest)
    assert reader.lines() == [ABSENT]
    for i in range(3):
        notifier["datasets"]["other"] = i
        log.collect()
        assert reader.lines() == []
        notifier["datasets"]["plot"] = [i]
        log.collect()
        assert reader.lines() == [{"action": "init", "struct": [i]}]
        notifier["datasets"]["plot"].append(i)
        log.collect()
        assert reader.lines() == [{"action": "append", "path": [], "x": i}]
        del notifier["datasets"]["plot"]
        log.collect()
        assert reader.lines() == [ABSENT]
    assert log.number == reader.cursor.number


MAKERS = {
    "append": (("l", 1), lambda n: n["l"].append(5)),
    "insert": (("l", 1), lambda n: n["l"].insert(0, 5)),
    "extend": (("l", 2), lambda n: n["l"].extend([1, 5])),
    "slice": (("l", -2), lambda n: n["l"].__setitem__(slice(0, 0), [5])),
    "container on the way": (("new", "deep", 0), lambda n: n.__setitem__("new", {"deep": [5]})),
    "in a tuple": (("t", 1), lambda n: n.__setitem__("t", (1, 5))),
    "update": (("d", "x"), lambda n: n["d"].update(y=1, x=5)),
    "row of an array": (("a", 3), lambda n: n.__setitem__("a", np.full(4, 5))),
}


@pytest.mark.parametrize(("path", "make"), MAKERS.values(), ids=MAKERS)
def test_an_absent_part_is_sent_however_it_is_created(path, make):
    notifier, log = served({"l": [5], "d": {}, "a": np.zeros(1), "t": (1,)})
    reader = Absent(log, path)
    assert reader.lines() == [ABSENT]
    make(notifier)
    log.collect()
    assert reader.lines() == [{"action": "init", "struct": 5}]


def test_a_subscriber_without_absent_parts_is_refused_as_before():
    _, log = served({})
    with pytest.raises(UnknownNotifier, match="no part"):
        Reader(log, wish=Wish(("plot",))).read()


def test_a_part_of_registered_types_is_served_without_decoding_them():
    class Gain:
        pass

    def never(*args):
        raise AssertionError("decoded at the publisher")

    pyon.register([Gain], name="GainForTest", encode=lambda gain: (5,), decode=never)
    try:
        notifier, log = served({"part": {}})
        reader = Absent(log, ("part",))
        reader.cursor.take()
        notifier["part"]["gain"] = Gain()
        log.collect()
        (line,) = reader.cursor.take()
        assert b'{"action":"setitem","path":[],"key":"gain","value":{"__jsonclass__"' in line
    finally:
        pyon.deregister([Gain], "GainForTest")


def test_a_log_holds_what_comes_after_its_oldest_mod_and_no_more():
    notifier, log = served({}, backlog=3000)
    for i in range(100):
        notifier["x"] = i
        log.collect()
    assert 0 < log.oldest < log.number == 100
    assert log.holds(log.oldest)
    assert log.holds(log.number)
    assert not log.holds(log.oldest - 1)
    assert not log.holds(log.number + 1)
    assert [entry.change.number for entry in log.entries(log.oldest)] == [
        *range(log.oldest + 1, 101)
    ]


def test_a_change_of_unknown_effect_has_every_reader_sent_the_structure():
    notifier, log = served({})
    reader = Reader(log)
    reader.read()
    notifier["x"] = 1
    structure = notifier._structure
    with structure.lock:
        structure.value["y"] = 2
        structure.add(Restart(structure.value))
    notifier["z"] = 3
    log.collect()
    assert reader.cursor.overrun
    assert reader.read() == {"x": 1, "y": 2, "z": 3}
    assert reader.inits == 2
