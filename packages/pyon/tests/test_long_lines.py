"""framing of large messages: little more memory than their length, and no long pauses."""

import contextlib
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyon import framing
from pyon._buffer_reader import GATHERED_SIZE
from pyon.framing import (
    HANDED_OVER_SIZE,
    HEAD_SIZE,
    MAX_BUFFERS,
    SCRATCH_SIZE,
    Message,
    Receiver,
    frame,
)

LONG = 64 * 2**20


def receive(receiver, size, byte=b"x"):
    """Receive `size` bytes of a line, as a socket delivers them."""
    while size:
        target = receiver.get_buffer()
        part = min(len(target), SCRATCH_SIZE, size)
        target[:part] = byte * part
        receiver.buffer_updated(part)
        size -= part
        assert receiver.next_message() is None
        receiver.detach()


@contextlib.contextmanager
def peak():
    """Measure the peak of additional memory within the block, in bytes."""
    tracemalloc.start()
    measured = []
    try:
        yield measured
        measured.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def test_a_long_line_costs_its_length_while_it_comes_in_and_as_much_again_as_text():
    receiver = Receiver()
    with peak() as while_it_comes_in:
        receive(receiver, LONG)
        (message,) = receiver.feed(b"\n")
    assert while_it_comes_in[0] < 1.4 * LONG
    with peak() as as_text:
        text = message.take_text()
    assert len(text) == LONG
    assert as_text[0] < 1.1 * LONG
    assert sys.getsizeof(message.line) < 2 * HEAD_SIZE
    assert message.line == b"x" * HEAD_SIZE  # enough for an error message


def test_memory_of_a_long_line_never_exceeds_what_came_by_more_than_a_step():
    receiver = Receiver()
    size = 8 * framing.GROWTH_STEP
    with peak() as measured:
        receive(receiver, size)
    assert measured[0] < size * 9 / 8 + 3 * framing.GROWTH_STEP


STREAM = b"short\n" + b"a" * 100 + b"\n\n" + b"b" * 33 + b"\nlast\n" + b"c" * 1000 + b"\n"
LINES = STREAM.split(b"\n")[:-1]


@pytest.fixture
def small_is_long(monkeypatch):
    monkeypatch.setattr(framing, "HANDED_OVER_SIZE", 30)
    monkeypatch.setattr(framing, "GROWTH_STEP", 7)
    monkeypatch.setattr(framing, "_FIRST_GROWTH", 5)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 32, 33, 34, 5000])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.usefixtures("small_is_long")
def test_lines_are_the_same_however_their_memory_grew(cut, detach):
    receiver = Receiver(scratch=bytearray(16))
    messages = []
    for start in range(0, len(STREAM), cut):
        messages += receiver.feed(STREAM[start : start + cut])
        if detach:
            receiver.detach()
    assert [bytes(message.line) for message in messages] == LINES
    assert receiver.pending == 0
    texts = [message.take_text() for message in messages]
    assert [text.encode() if isinstance(text, str) else text for text in texts] == LINES


@pytest.mark.usefixtures("small_is_long")
def test_a_loop_that_holds_the_buffer_longer_gets_the_same_lines():
    receiver = Receiver(scratch=bytearray(16))
    held, messages = [], []
    for byte in STREAM:
        target = receiver.get_buffer()
        held.append(memoryview(target))
        target[0] = byte
        receiver.buffer_updated(1)
        while (message := receiver.next_message()) is not None:
            messages.append(message)
    assert [bytes(message.line) for message in messages] == LINES


def test_a_long_line_that_is_not_utf_8_is_returned_as_bytes():
    (message,) = Receiver().feed(b"\xff" * HANDED_OVER_SIZE + b"\n")
    assert message.take_text() == b"\xff" * HANDED_OVER_SIZE


@pytest.mark.parametrize("cut", [1, 7, 4096])
def test_a_line_has_a_limit_of_its_own(cut):
    receiver = Receiver(limit=10_000, line_limit=2000, raw_buffers=True, scratch=bytearray(128))
    line = b'{"buffers":[5000],"x":1}'
    stream = b"a" * 2000 + b"\n" + b"b" * 2001 + b"\n" + line + b"\n" + b"c" * 5000 + b"next\n"
    messages = []
    for start in range(0, len(stream), cut):
        messages += receiver.feed(stream[start : start + cut])
    assert [(len(m.line), len(m.buffers), m.oversize, m.limit) for m in messages] == [
        (2000, 0, 0, 0),
        (HEAD_SIZE, 0, 2001, 2000),
        (len(line), 1, 0, 0),
        (4, 0, 0, 0),
    ]


def test_the_limit_of_lines_is_never_more_than_that_of_messages():
    (message,) = Receiver(limit=10, line_limit=20).feed(b"x" * 15 + b"\n")
    assert (message.oversize, message.limit) == (15, 10)


def test_a_long_line_of_a_message_that_is_beyond_its_limit_says_which():
    receiver = Receiver(limit=100, line_limit=50, raw_buffers=True)
    line = b'{"buffers":[90],"x":1}'
    assert receiver.feed(line + b"\n" + b"x" * 90) == [Message(line, (), len(line) + 90, 100)]


def announce(sizes):
    return b'{"buffers":[%b],"x":1}\n' % b",".join(b"%d" % size for size in sizes)


def test_announced_buffers_cost_nothing_until_they_are_received():
    receiver = Receiver(raw_buffers=True)
    line = announce([1] * MAX_BUFFERS)
    tracemalloc.start()
    receiver.feed(line)
    announced = tracemalloc.get_traced_memory()[0]
    receiver.feed(b"x" * (MAX_BUFFERS - 1))
    received = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert announced < 5 * len(line)
    assert received < 5 * (len(line) + MAX_BUFFERS)
    (message,) = receiver.feed(b"y")
    assert [bytes(message.buffers[index]) for index in (0, 1, -1)] == [b"x", b"x", b"y"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it")
@pytest.mark.parametrize("sizes", [[2**30], [2**24] * 64, [1, 2**30]])
def test_announced_large_buffers_take_no_memory_until_they_are_received(sizes):
    code = f"""
import resource
from pyon.framing import Receiver
receiver = Receiver(raw_buffers=True)
receiver.feed({announce([1])!r} + b"x")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
receiver.feed({announce(sizes)!r} + b"x" * 1000)
len(receiver.get_buffer())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(done.stdout) < 8192  # KiB: a few huge pages


SIZES = st.sampled_from([0, 1, 2, GATHERED_SIZE, GATHERED_SIZE + 1, 70_000])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(SIZES, min_size=1, max_size=12), st.integers(50, 100_000), st.booleans())
def test_buffers_of_all_sizes_come_out_in_their_order(sizes, cut, ask_twice):
    buffers = [memoryview(bytes([number]) * size) for number, size in enumerate(sizes)]
    stream = b"".join(frame('{"x":1}', buffers)) + b"next\n"
    receiver = Receiver(raw_buffers=True, scratch=bytearray(512))
    messages = []
    for start in range(0, len(stream), cut):
        if ask_twice:
            receiver.get_buffer()  # a read without data
        messages += receiver.feed(stream[start : start + cut])
    assert [bytes(buffer) for buffer in messages[0].buffers] == [bytes(b) for b in buffers]
    assert not any(buffer.readonly for buffer in messages[0].buffers)
    assert messages[1:] == [Message(b"next")]
