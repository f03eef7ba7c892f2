import numpy as np
import pyon
import pytest
from pyon.framing import Receiver
from sync_struct import Notifier, Publisher, UnknownNotifier
from sync_struct._change import MAX_LEVELS
from sync_struct._protocol import Replica
from sync_struct._selection import EVERYTHING, Wish
from sync_struct._stream import Feed, Form, Stream

OLD = Form(2, numbered=False)
OLD_V1 = Form(1, numbered=False)
RAW = Form(raw=True)


class Reader:
    """A subscriber without a connection: it is fed by hand."""

    def __init__(self, stream, form=RAW, wish=EVERYTHING, number=None):
        self.feed = Feed(stream, form, wish, number)
        self.replica = Replica(lambda x: x, wish)
        self.replica.connected(legacy=not form.numbered)
        self.replica.live = number is not None or wish.mods_only
        self.receiver = Receiver(raw_buffers=form.raw)
        self.mods = []
        self.inits = 0
        self.bytes = 0

    def read(self):
        """Take everything that there is."""
        while self.feed.behind:
            self.read_once()
        return self.replica.target

    def read_once(self):
        for chunk in self.feed.take():
            self.bytes += len(chunk)
            for message in self.receiver.feed(bytes(chunk)):
                mods = self.replica.receive(message)
                self.inits += sum(mod["action"] == "init" for mod in mods)
                self.mods += mods


def served(structure, backlog=2**20):
    notifier = Notifier(structure)
    stream = Stream(notifier, backlog)
    notifier._history.sinks.append(stream.tell)
    return notifier, stream


def same(a, b):
    return pyon.encode(a, version=2) == pyon.encode(b, version=2)


@pytest.mark.parametrize("form", [RAW, Form(), OLD, OLD_V1])
def test_a_replica_is_equal_in_every_form(form):
    notifier, stream = served({"a": np.arange(1000.0), "l": [(1,)]})
    notifier._history.wants_v1 = 1
    reader = Reader(stream, form)
    reader.read()
    notifier["b"] = np.arange(5000)
    notifier["b"][3] = 7
    notifier["l"].append("x")
    stream.collect()
    assert same(reader.read(), notifier.read)
    assert reader.inits == 1


def test_mods_between_snapshot_and_first_delivery_are_neither_lost_nor_doubled():
    notifier, stream = served({"l": []})
    reader = Reader(stream)
    notifier["l"].append(1)  # told, and not yet collected when the snapshot is made
    reader.read_once()
    notifier["l"].append(2)
    stream.collect()
    late = Reader(stream)
    late.read_once()
    notifier["l"].append(3)
    stream.collect()
    assert reader.read() == late.read() == {"l": [1, 2, 3]}


def test_a_snapshot_made_inside_a_batch_does_not_double_its_mods():
    notifier, stream = served({"l": []})
    with notifier.batch():
        notifier["l"].append(1)
        reader = Reader(stream)
        reader.read_once()
        notifier["l"].append(2)
    stream.collect()
    assert reader.read() == {"l": [1, 2]}


def test_subscribers_that_join_at_once_share_one_encoding(monkeypatch):
    notifier, stream = served({"l": list(range(10_000))})
    texts = []
    real = pyon.encode
    monkeypatch.setattr(pyon, "encode", lambda *a, **k: texts.append(a[0]) or real(*a, **k))
    readers = []
    for i in range(50):
        form = (RAW, Form(), OLD)[i % 3]
        readers.append(Reader(stream, form))
        readers[-1].read_once()
        notifier["x"] = i
        stream.collect()
    assert all(reader.read() == notifier.read for reader in readers)
    assert len([x for x in texts if isinstance(x, dict) and x["action"] == "init"]) == 1
    assert len(texts) <= 1 + 50 + 1  # of each mod its value, and one key


def test_a_mod_is_written_once_for_all_subscribers():
    notifier, stream = served({})
    first, second = Reader(stream), Reader(stream)
    first.read()
    second.read()
    notifier["x"] = 1
    stream.collect()
    assert first.feed.take()[0] is second.feed.take()[0]


def test_raw_arrays_are_not_copied():
    notifier, stream = served({})
    reader = Reader(stream)
    reader.read()
    notifier["a"] = np.arange(100_000)
    stream.collect()
    data = reader.feed.take()[1]
    assert np.shares_memory(np.frombuffer(data, np.uint8), notifier.read["a"])


def test_the_log_is_bounded_and_a_stalled_reader_ends_equal():
    notifier, stream = served({}, backlog=1_000_000)
    stalled, brisk, old = Reader(stream), Reader(stream), Reader(stream, OLD)
    for reader in (stalled, brisk, old):
        reader.read()
    for i in range(200):
        notifier[i % 10] = "x" * 50_000
        stream.collect()
        brisk.read()
        held = sum(entry.size for entry in stream.entries(stream.oldest))
        assert held <= 1_200_000
    assert stalled.feed.overrun
    assert stalled.read() == brisk.read() == old.read() == notifier.read
    assert (stalled.inits, brisk.inits, old.inits) == (2, 1, 2)
    assert stream.resyncs == 2
    assert brisk.replica.position.number == 200


def test_a_burst_before_the_loop_turns_is_bounded_too():
    notifier, stream = served({}, backlog=100_000)
    reader = Reader(stream)
    reader.read()
    for i in range(100):
        notifier["x"] = str(i) * 5_000
    assert sum(len(change.line) for change in stream._arrived) < 110_000
    stream.collect()
    assert reader.read() == notifier.read
    assert reader.inits == 2


def test_one_mod_larger_than_the_backlog_reaches_who_keeps_up():
    notifier, stream = served({}, backlog=1000)
    reader = Reader(stream)
    reader.read()
    notifier["x"] = "x" * 10_000
    stream.collect()
    reader.read()
    assert reader.replica.target == notifier.read
    assert reader.inits == 1


def test_who_left_off_goes_on_there():
    notifier, stream = served({"l": []})
    reader = Reader(stream)
    reader.read()
    notifier["l"].append(1)
    stream.collect()
    assert stream.holds(0)
    again = Reader(stream, number=0)
    again.replica.target = {"l": []}
    assert again.read() == {"l": [1]}
    assert again.inits == 0
    assert not stream.holds(2)


def test_mods_of_a_batch_are_applied_in_one_go():
    notifier, stream = served({})
    reader = Reader(stream)
    reader.read()
    with notifier.batch():
        notifier["a"] = 1
        notifier["b"] = 2
    stream.collect()
    (line,) = reader.feed.take()
    (message,) = reader.receiver.feed(line)
    assert len(reader.replica.receive(message)) == 2
    assert reader.replica.target == {"a": 1, "b": 2}


def test_mods_of_a_batch_with_arrays_are_applied_in_one_go():
    notifier, stream = served({})
    reader = Reader(stream)
    reader.read()
    with notifier.batch():
        notifier["a"] = 1
        notifier["b"] = np.arange(100_000)
        notifier["c"] = 3
        notifier["d"] = 4
    stream.collect()
    data = b"".join(map(bytes, reader.feed.take()))
    first, second, third = reader.receiver.feed(data)
    assert reader.replica.receive(first) == reader.replica.receive(second) == []
    assert reader.replica.target == {}
    assert len(reader.replica.receive(third)) == 4
    assert same(reader.replica.target, notifier.read)


@pytest.mark.parametrize("nest", [lambda x: [x], lambda x: {1: x}, lambda x: (x,)])
@pytest.mark.parametrize("form", [RAW, Form(), OLD, OLD_V1])
def test_the_deepest_value_reaches_every_replica(form, nest):
    notifier, stream = served({"a": []})
    notifier._history.wants_v1 = 1
    early, part = Reader(stream, form), None
    early.read()
    if form.numbered:
        part = Reader(stream, form, Wish(("a",)))
        part.read()
    value = 0
    for _ in range(MAX_LEVELS - 2):
        value = nest(value)
    with notifier.batch():
        notifier["a"].append(value)
        notifier["a"].append(1)
    late = Reader(stream, form)
    stream.collect()
    stream.forget_snapshots()
    assert early.read() == late.read() == notifier.read
    assert late.inits == early.inits == 1
    assert part is None or part.read() == notifier.read["a"]


def test_a_part_comes_as_the_whole():
    notifier, stream = served({"a": {"l": [1]}, "b": 1})
    reader = Reader(stream, wish=Wish(("a", "l")))
    assert reader.read() == [1]
    notifier["a"]["l"].append(2)
    notifier["b"] = 2
    notifier["a"]["k"] = 5
    stream.collect()
    assert reader.read() == [1, 2]
    assert reader.mods[1:] == [{"action": "append", "path": [], "x": 2}]
    notifier["a"] = {"l": [7]}
    stream.collect()
    assert reader.read() == [7]
    del notifier["a"]
    stream.collect()
    with pytest.raises(UnknownNotifier, match="no part"):
        reader.read()


def test_a_part_that_is_replaced_is_not_taken_from_an_older_snapshot():
    notifier, stream = served({"a": {"big": list(range(5000))}})
    reader = Reader(stream, wish=Wish(("a",)))
    reader.read()
    notifier["a"] = {"new": 1}
    stream.collect()
    reader.read_once()
    assert reader.replica.target == {"new": 1}
    assert not reader.feed.behind


def test_a_part_of_a_list_follows_its_index():
    notifier, stream = served([[0], [1], [2]])
    reader = Reader(stream, wish=Wish((1,)))
    assert reader.read() == [1]
    notifier.insert(0, ["new"])
    stream.collect()
    assert reader.read() == [0]
    notifier[-3].append(5)
    stream.collect()
    assert reader.read() == [0, 5]


def test_conflation_sends_less_and_always_the_last():
    notifier, stream = served({})
    slow, every = Reader(stream, wish=Wish(newest=True)), Reader(stream)
    slow.read()
    every.read()
    for i in range(1000):
        notifier["x"] = i
        stream.collect()
        every.read()
    assert slow.read() == every.read() == {"x": 999}
    assert len(slow.mods) == 2
    assert len(every.mods) == 1001


def test_mods_only_has_no_structure_and_is_told_of_gaps():
    from sync_struct import ModsLost

    notifier, stream = served({"x": "y" * 1000}, backlog=2_000)
    reader = Reader(stream, wish=Wish(mods_only=True))
    notifier["x"] = 1
    stream.collect()
    reader.read()
    assert reader.bytes < 200
    assert [mod["value"] for mod in reader.mods] == [1]
    for _ in range(100):
        notifier["x"] = 2
    stream.collect()
    with pytest.raises(ModsLost):
        reader.read()
    notifier["x"] = 3
    stream.collect()
    reader.read()
    assert reader.mods[-1]["value"] == 3


def test_a_structure_that_cannot_be_encoded_is_told():
    notifier, stream = served({"x": object()})
    with pytest.raises(pyon.EncodeError):
        Reader(stream).read()
    notifier["x"] = 1
    stream.collect()
    assert Reader(stream).read() == {"x": 1}


def test_only_whole_structures_are_published():
    with pytest.raises(ValueError, match="whole"):
        Stream(Notifier({"a": []})["a"])
    with pytest.raises(ValueError, match="legacy_version"):
        Publisher({}, legacy_version=3)
    with pytest.raises(ValueError, match="overflow"):
        Publisher({}, overflow="explode")
    with pytest.raises(ValueError, match="one line"):
        Publisher({"a\nb": Notifier({})})
