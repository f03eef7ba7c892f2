"""The publisher's half of the conversation, without a socket, a loop or a clock."""

import math

import numpy as np
import pyon
import pytest
from pyon.framing import Receiver, frame_size
from sync_struct import Notifier, ProtocolError, UnknownNotifier
from sync_struct._log import Log
from sync_struct._publisher_side import WHOLE_ARRAY_RATE, PublisherSide


class Served:
    """A notifier, its log, and a subscriber of it that is written by hand."""

    def __init__(self, structure, backlog=2**20, legacy_version=2):
        self.notifier = Notifier(structure)
        self.log = Log(self.notifier._structure, backlog)
        self.notifier._structure.add_sink(self.log.put, legacy_version == 1)
        self.log.begin()
        self.side = PublisherSide(self.find, legacy_version)
        self.now = 100.0

    def find(self, name):
        if name != "n":
            raise UnknownNotifier(f"there is no notifier {name!r}", ["n"])
        return self.log

    def banner(self, **options):
        return pyon.encode({"sync_struct": 1, "notifier": "n", **options}).encode()

    def says(self, **message):
        return self.answers(pyon.encode(message, version=2).encode())

    def answers(self, line):
        return [pyon.decode(answer) for answer in self.side.receive(line)]

    def takes(self):
        """Return the actions of everything that may be sent now."""
        self.log.collect()
        actions, receiver = [], Receiver(raw_buffers=True)
        while self.side.wait(self.now) == 0:
            for chunk in self.side.take(self.now) or ():
                for message in receiver.feed(bytes(chunk)):
                    decoded = pyon.decode(message.line, buffers=message.buffers)
                    actions += [mod["action"] for mod in decoded.get("mods", [decoded])]
        return actions

    @property
    def stream(self):
        return self.notifier._structure.stream_id


REFUSED = {
    "nothing": b"",
    "a number": b"5",
    "HTTP": b"GET / HTTP/1.1",
    "another version": b'{"sync_struct":2,"notifier":"n"}',
    "a version that is no number": b'{"sync_struct":true,"notifier":"n"}',
    "no name": b'{"sync_struct":1}',
    "a slice in the path": b'{"sync_struct":1,"notifier":"n",'
    b'"path":[{"__jsonclass__":["slice",[0,1,null]]}]}',
    "a negative number": b'{"sync_struct":1,"notifier":"n","resume":["a",-1]}',
    "a position of true": b'{"sync_struct":1,"notifier":"n","resume":["a",true]}',
    "no rate": b'{"sync_struct":1,"notifier":"n","max_rate":0}',
    "a rate that is no number": b'{"sync_struct":1,"notifier":"n","max_rate":NaN}',
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_an_invalid_banner_is_refused(line):
    served = Served({})
    with pytest.raises(ProtocolError):
        served.side.receive(line)
    assert served.side.cursor is None
    assert served.side.wait(0) is None


def test_an_unknown_name_is_refused():
    for line in (Served({}).banner(notifier="m"), b"ARTIQ sync_struct"):
        served = Served({})
        if line.startswith(b"ARTIQ"):
            assert served.side.receive(line) == []
            line = b"m"
        with pytest.raises(UnknownNotifier, match="'m'"):
            served.side.receive(line)


def test_the_established_dialogue():
    served = Served({"x": 1})
    assert served.side.receive(b"ARTIQ sync_struct") == []
    assert served.takes() == []
    assert served.side.receive(b"n") == []
    assert served.takes() == ["init"]
    served.notifier["x"] = 2
    assert served.takes() == ["setitem"]
    with pytest.raises(ProtocolError, match="ack, ping or resync"):
        served.side.receive(b'{"action":"ping"}')


def test_hello_has_the_position_and_the_features_in_use():
    served = Served({"x": 1})
    served.notifier["x"] = 2
    words = ["absent_parts", "teleport", "raw_buffers"]
    assert served.answers(served.banner(features=words)) == [
        {
            "action": "hello",
            "stream": served.stream,
            "number": 1,
            "resumed": False,
            "features": ["raw_buffers", "absent_parts"],
        }
    ]
    assert served.takes() == ["init"]


RESUMED = {
    "where it is": (lambda s: [s.stream, 3], True, []),
    "one behind": (lambda s: [s.stream, 2], True, ["setitem"]),
    "from the beginning": (lambda s: [s.stream, 0], True, ["setitem"] * 3),
    "from the future": (lambda s: [s.stream, 4], False, ["init"]),
    "from far in the future": (lambda s: [s.stream, 2**70], False, ["init"]),
    "of another notifier": (lambda s: ["other", 2], False, ["init"]),
}


@pytest.mark.parametrize(("where", "resumed", "sent"), RESUMED.values(), ids=RESUMED)
def test_a_subscriber_resumes_only_where_the_log_can(where, resumed, sent):
    served = Served({})
    for i in range(3):
        served.notifier["x"] = i
    (hello,) = served.answers(served.banner(resume=where(served)))
    assert hello["resumed"] is resumed
    assert hello["number"] == (where(served)[1] if resumed else 3)
    assert served.takes() == sent


def test_a_subscriber_does_not_resume_where_the_log_has_dropped_mods():
    served = Served({}, backlog=2000)
    for i in range(100):
        served.notifier["x"] = i
    (hello,) = served.answers(served.banner(resume=[served.stream, 1]))
    assert not hello["resumed"]
    assert served.takes() == ["init"]


def test_pings_are_answered_whatever_is_pending():
    served = Served({})
    served.answers(served.banner(max_rate=math.inf))
    assert served.says(action="ping") == [{"action": "pong"}]
    assert served.takes() == ["init"]
    assert served.says(action="ping") == [{"action": "pong"}]
    served.notifier["x"] = 1
    assert served.takes() == []  # the init has not been acknowledged


def test_live_is_sent_after_the_mods_that_made_it_true():
    served = Served({})
    served.answers(served.banner(features=["staleness"]))
    assert served.takes() == ["init"]
    served.log.set_stale(True)
    assert pyon.decode(served.side.staleness()) == {"action": "stale"}
    assert served.side.staleness() is None
    served.notifier["x"] = 1
    served.log.set_stale(False)
    assert served.side.staleness() is None
    assert served.takes() == ["setitem"]
    assert pyon.decode(served.side.staleness()) == {"action": "live"}
    assert served.side.staleness() is None


def test_an_update_waits_for_the_acknowledgement_and_for_the_clock():
    served = Served({})
    served.answers(served.banner(max_rate=10.0))
    assert served.takes() == ["init"]
    for i in range(5):
        served.notifier["x"] = i
    assert served.takes() == []
    served.now += 60
    assert served.takes() == []
    assert served.says(action="ack") == []
    assert served.takes() == ["setitem"]
    served.notifier["x"] = 9
    served.says(action="ack")
    assert served.takes() == []
    assert served.side.wait(served.now) == pytest.approx(0.1)
    served.now += 0.1
    assert served.takes() == ["setitem"]
    served.says(action="ack")
    assert served.side.wait(served.now + 60) is None  # there is nothing new


def test_a_resync_is_answered_with_the_structure():
    served = Served({"x": 1})
    served.answers(served.banner())
    served.takes()
    served.notifier["x"] = 2
    served.says(action="resync")
    assert served.takes() == ["init"]
    assert served.log.resyncs == 1


@pytest.mark.parametrize("later", [b"5", b"[]", b'{"action":"init"}', b'{"action":[]}', b"\xff"])
def test_a_subscriber_may_send_only_messages_of_the_protocol(later):
    served = Served({})
    served.answers(served.banner())
    with pytest.raises(ProtocolError, match="expected an ack, ping or resync"):
        served.side.receive(later)


@pytest.mark.parametrize("version", [1, 2])
def test_arrays_that_are_sent_whole_leave_the_publisher_time(version):
    served = Served({"x": np.zeros(100_000), "y": 0}, legacy_version=version)
    served.side.receive(b"ARTIQ sync_struct")
    served.side.receive(b"n")
    assert served.takes() == ["init"]
    served.notifier["x"].append(1.0)
    served.log.collect()
    size = frame_size(served.side.take(served.now))
    assert size > 1e6
    for i in range(100):
        served.notifier["x"].append(float(i))
    assert served.takes() == []
    assert served.side.wait(served.now) == pytest.approx(size / WHOLE_ARRAY_RATE)
    served.now += size / WHOLE_ARRAY_RATE
    assert served.takes() == ["setitem"]
    served.notifier["y"] = 1
    assert served.takes() == ["setitem"]  # at once: no array has grown since


def test_a_structure_that_is_being_changed_is_waited_for():
    served, notified = Served({}), []
    served.log.notify = lambda: notified.append(1)
    served.answers(served.banner())
    with served.notifier.batch():
        assert served.side.take(served.now) is None
        assert notified == []
        served.notifier["x"] = 1
    assert notified == [1]
    assert served.takes() == ["init"]
