"""framing: the messages do not depend on how the stream is cut."""

import itertools
import weakref

import numpy as np
import pyon
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyon.framing import (
    HEAD_SIZE,
    LONG_LINE,
    MAX_BUFFERS,
    SCRATCH_SIZE,
    FramingError,
    Message,
    Receiver,
    copy_if_shared,
    frame,
    frame_size,
)


def feed_in_pieces(receiver, data, size):
    messages = []
    for start in range(0, len(data), size):
        messages += receiver.feed(data[start : start + size])
    return messages


def plain(messages):
    return [(m.line, [bytes(b) for b in m.buffers], m.oversize) for m in messages]


STREAM = b"".join(
    [
        b'{"targets":["main"]}\n',
        b"\n",
        "raw \u2028 \u0085 \x0b\x0c\x1c\x1d\x1e in a line, \u00e9\u6f22\n".encode(),
        b'{"buffers":[3,0,4],"x":1}\nabc\n\n\n\n',
        b"last\n",
    ]
)
MESSAGES = [
    (b'{"targets":["main"]}', [], 0),
    (b"", [], 0),
    ("raw \u2028 \u0085 \x0b\x0c\x1c\x1d\x1e in a line, \u00e9\u6f22".encode(), [], 0),
    (b'{"buffers":[3,0,4],"x":1}', [b"abc", b"", b"\n\n\n\n"], 0),
    (b"last", [], 0),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_messages_are_the_same_however_the_stream_is_cut(size):
    receiver = Receiver(raw_buffers=True)
    assert plain(feed_in_pieces(receiver, STREAM, size)) == MESSAGES
    assert receiver.pending == 0


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_cut_anywhere(cuts):
    receiver = Receiver(raw_buffers=True, scratch=bytearray(16))
    messages = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, stop in itertools.pairwise(edges):
        messages += receiver.feed(STREAM[start:stop])
    assert plain(messages) == MESSAGES


def test_bytes_behind_the_last_line_are_pending():
    receiver = Receiver()
    assert receiver.feed(b"one\ntw") == [Message(b"one")]
    assert receiver.pending == 2


def test_bytes_of_an_unfinished_raw_buffer_are_pending():
    receiver = Receiver(raw_buffers=True)
    line = b'{"buffers":[10],"x":1}'
    assert receiver.feed(line + b"\n123") == []
    assert receiver.pending == len(line) + 3


def written(receiver, data):
    """Write bytes to the memory of a receiver, as an event loop does."""
    receiver.get_buffer()[: len(data)] = data
    return len(data)


def test_whole_lines_of_one_read_can_be_taken_at_once():
    receiver = Receiver()
    assert receiver.whole_lines(written(receiver, b"one\ntwo\n")) == "one\ntwo\n"
    assert receiver.pending == 0  # no further call is needed if all lines were handled
    assert receiver.whole_lines(written(receiver, b"three\n")) == "three\n"
    longest = b"x" * LONG_LINE + b"\n"
    assert receiver.whole_lines(written(receiver, longest)) == longest.decode()


def test_the_lines_of_a_read_that_are_not_handled_are_messages():
    receiver = Receiver()
    size = written(receiver, b"one\ntwo\nthree\n")
    assert receiver.whole_lines(size) == "one\ntwo\nthree\n"
    receiver.buffer_updated(size)
    receiver.skip(len("one\n"))
    assert [receiver.next_message().line for _ in range(2)] == [b"two", b"three"]
    assert receiver.next_message() is None
    assert receiver.pending == 0


@pytest.mark.parametrize(
    ("before", "read"),
    [
        (b"", b"one\ntw"),
        (b"", b"tw"),
        (b"", "\u00e9\n".encode()),
        (b"", b"x" * (LONG_LINE + 1) + b"\n"),
        (b"on", b"e\ntwo\n"),
        (b"x" * 200, b"x\ntwo\n"),
        (b'{"buffers":[9]}\n', b"one\ntwo\n"),
    ],
    ids=["cut", "part", "no ASCII", "long", "rest", "beyond the limit", "raw buffer"],
)
def test_a_read_of_anything_but_whole_lines_is_received_in_the_general_way(before, read):
    receiver, other = Receiver(limit=100), Receiver(limit=100)
    receiver.raw_buffers = other.raw_buffers = True
    receiver.feed(before)
    size = written(receiver, read)
    assert receiver.whole_lines(size) is None
    receiver.buffer_updated(size)
    messages = []
    while (message := receiver.next_message()) is not None:
        messages.append(message)
    assert plain(messages) == plain(other.feed(before) + other.feed(read))


def test_receivers_share_one_scratch():
    scratch = bytearray(64)
    first, second = Receiver(scratch=scratch), Receiver(scratch=scratch)
    for receiver, start in ((first, b"fir"), (second, b"sec")):
        receiver.feed(start)
        receiver.detach()
    assert second.feed(b"ond\n") == [Message(b"second")]
    assert first.feed(b"st\n") == [Message(b"first")]


def test_idle_receiver_keeps_no_memory_of_a_long_line():
    scratch = bytearray(64)
    receiver = Receiver(scratch=scratch)
    receiver.feed(b"x" * 10_000)
    assert receiver.feed(b"\n") == [Message(b"x" * 10_000)]
    receiver.detach()
    assert receiver.get_buffer().obj is scratch


def test_raw_buffers_are_received_into_their_own_memory():
    receiver = Receiver(raw_buffers=True)
    data = np.arange(1000.0)
    receiver.feed(b'{"buffers":[8000],"x":1}\n')
    target = np.frombuffer(receiver.get_buffer())
    target[:] = data
    receiver.buffer_updated(8000)
    message = receiver.next_message()
    assert np.shares_memory(np.frombuffer(message.buffers[0]), target)
    assert not message.buffers[0].readonly
    np.testing.assert_array_equal(np.frombuffer(message.buffers[0]), data)


def test_a_line_that_looks_like_raw_buffers_is_a_line_where_they_were_not_negotiated():
    line = b'{"buffers":[3],"x":1}'
    assert Receiver().feed(line + b"\n") == [Message(line)]


@pytest.mark.parametrize("cut", [1, 7, 4096])
def test_line_at_the_limit_passes_and_one_byte_more_is_dropped_with_its_size(cut):
    receiver = Receiver(limit=2000, scratch=bytearray(128))
    stream = b"a" * 2000 + b"\n" + b"b" * 2001 + b"\nnext\n"
    assert feed_in_pieces(receiver, stream, cut) == [
        Message(b"a" * 2000),
        Message(b"b" * HEAD_SIZE, (), 2001, 2000),
        Message(b"next"),
    ]


@pytest.mark.parametrize("cut", [1, 7, 4096])
def test_raw_buffers_at_the_limit_pass_and_one_byte_more_is_dropped_with_its_size(cut):
    line = b'{"buffers":[500,500],"x":1}'
    for limit, expected in (
        (len(line) + 1000, (line, [b"a" * 500, b"b" * 500], 0)),
        (len(line) + 999, (line, [], len(line) + 1000)),
    ):
        receiver = Receiver(limit=limit, raw_buffers=True, scratch=bytearray(128))
        stream = line + b"\n" + b"a" * 500 + b"b" * 500 + b"next\n"
        messages = plain(feed_in_pieces(receiver, stream, cut))
        assert messages == [expected, (b"next", [], 0)]


@pytest.mark.parametrize("cut", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("count", [1, 400])
def test_raw_buffers_behind_a_line_beyond_the_limit_are_no_messages(cut, count):
    evil = b'abc\n{"action":"call","name":"fire"}\n'
    stream = b"".join(frame('{"x":"%s"}' % ("x" * 4000), [memoryview(evil)] * count))
    for limit in (100, 1500, 3000):
        receiver = Receiver(limit=limit, raw_buffers=True, scratch=bytearray(512))
        messages = plain(feed_in_pieces(receiver, stream + b"next\n", cut))
        assert [(buffers, size) for _, buffers, size in messages] == [
            ([], len(stream) - 1),
            ([], 0),
        ]
        assert messages[0][0] == stream[:HEAD_SIZE]
        assert messages[1][0] == b"next"


def test_the_head_of_a_long_line_has_nothing_of_what_was_received_before():
    scratch = bytearray(b"of another connection" * 100)
    (message,) = Receiver(limit=10, scratch=scratch).feed(b"x" * 20 + b"\n")
    assert (message.line, message.oversize) == (b"x" * 20, 20)
    receiver = Receiver(limit=10, scratch=bytearray(b"of another connection" * 100))
    assert receiver.feed(b"x" * 20) == []
    assert receiver.feed(b"\n")[0].line == b"x" * 20


def test_a_line_beyond_the_limit_takes_no_memory():
    receiver = Receiver(limit=1000)
    for _ in range(100):
        assert receiver.feed(b"x" * SCRATCH_SIZE) == []
        assert len(receiver.get_buffer()) <= SCRATCH_SIZE
    assert receiver.feed(b"\n")[0].oversize == 100 * SCRATCH_SIZE


@pytest.mark.parametrize(
    "head",
    [
        b'{"buffers":[]',
        b'{"buffers":[-1]',
        b'{"buffers":[01]',
        b'{"buffers":[1.5]',
        b'{"buffers":[1,]',
        b'{"buffers":[1',
        b'{"buffers":[9999999999999999999]',
        b'{"buffers":["1"]',
        b'{"buffers":[true]',
        b'{"buffers":[1e3]',
        b'{"buffers":[null]',
        b'{"buffers":[[1]]',
        b'{"buffers":[' + b",".join([b"0"] * (MAX_BUFFERS + 1)) + b"]",
    ],
)
def test_invalid_sizes_of_raw_buffers_are_refused(head):
    with pytest.raises(FramingError, match="raw buffers"):
        Receiver(raw_buffers=True).feed(head + b',"x":1}\n')


def test_as_many_buffers_as_allowed():
    buffers = [memoryview(b"")] * MAX_BUFFERS
    (message,) = Receiver(raw_buffers=True).feed(b"".join(frame('{"x":1}', buffers)))
    assert len(message.buffers) == MAX_BUFFERS


def test_frame_and_receiver_are_inverse():
    buffers = [memoryview(b"abc"), memoryview(b""), memoryview(bytes(range(256)))]
    chunks = frame('{"action":"call"}', buffers)
    (message,) = Receiver(raw_buffers=True).feed(b"".join(chunks))
    assert [bytes(b) for b in message.buffers] == [bytes(b) for b in buffers]
    assert message.line == b'{"buffers":[3,0,256],"action":"call"}'
    assert frame_size(chunks) == sum(map(len, chunks))


def test_frame_passes_buffers_on_uncopied():
    buffer = memoryview(bytearray(b"abc"))
    assert frame('{"x":1}', [buffer])[1] is buffer


def test_frame_refuses_what_a_receiver_would_not_understand():
    with pytest.raises(ValueError, match="JSON object"):
        frame("[1]", [memoryview(b"abc")])
    with pytest.raises(ValueError, match="JSON object"):
        frame("{}", [memoryview(b"abc")])
    with pytest.raises(ValueError, match=f"at most {MAX_BUFFERS}"):
        frame('{"x":1}', [memoryview(b"")] * (MAX_BUFFERS + 1))


def test_memory_that_may_change_is_copied():
    memory = bytearray(b"abc")
    chunks = frame('{"x":1}', [memoryview(memory), memoryview(b"for ever")])
    kept = copy_if_shared(chunks)
    memory[:] = b"xyz"
    assert [bytes(chunk) for chunk in kept[1:]] == [b"abc", b"for ever"]
    assert kept[2] is chunks[2]
    assert copy_if_shared(chunks[:1]) == chunks[:1]


def raw(make):
    """Return the chunks of the array that `make` returns; only `make` may keep references."""
    views = []
    text = pyon.encode(make(), version=2, buffer_callback=views.append)
    return frame(f'{{"ret":{text}}}', views)


ARRAY = np.arange(100_000.0)
KEPT = []


def kept(array, by=lambda array: array):
    KEPT.append(by(array))
    return array


def received():
    """Return an array in received memory."""
    (_, view) = raw(lambda: ARRAY)
    text = pyon.encode(ARRAY, version=2, buffer_callback=bool)
    (message,) = Receiver(raw_buffers=True).feed(b"".join(frame(f'{{"x":{text}}}', [view])))
    array = pyon.decode(message.line, buffers=message.buffers)["x"]
    for buffer in message.buffers:
        buffer.release()
    return array


@pytest.mark.parametrize(
    "make",
    [
        lambda: ARRAY + 1,
        lambda: (ARRAY + 1).reshape(100, -1)[10:90],
        lambda: (ARRAY + 1).reshape(100, -1).T,
        lambda: ARRAY[::2],  # not contiguous, so copied by the encoder
        lambda: [{"x": ARRAY + 1}],
        lambda: bytes(100_000),
        received,
    ],
    ids=["fresh", "view", "transposed", "strided", "nested", "bytes", "received"],
)
def test_memory_without_other_references_is_not_copied(make):
    chunks = raw(make)
    assert len(chunks) == 2
    assert copy_if_shared(chunks)[1] is chunks[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ARRAY,
        lambda: ARRAY[1:],
        lambda: kept(received()),
        lambda: kept(received(), lambda array: array[1:]),
        lambda: kept(ARRAY + 1, lambda array: array.reshape(10, -1)),
        lambda: kept(ARRAY + 1, memoryview),
        lambda: kept(ARRAY + 1, weakref.ref),
        lambda: kept(ARRAY + 1, lambda array: array.flat),
        lambda: kept(ARRAY + 1, lambda array: array.ctypes),
        lambda: np.frombuffer(kept(np.empty(800_000, np.uint8).data)),
        lambda: np.frombuffer(kept(bytearray(800_000))),
        lambda: np.lib.stride_tricks.as_strided(ARRAY, (50_000,)),
    ],
    ids=[
        "array",
        "view",
        "received",
        "view of received",
        "reshaped",
        "memoryview",
        "weak reference",
        "iterator",
        "address",
        "array in a memoryview",
        "array in a bytearray",
        "array with strides",
    ],
)
def test_memory_with_any_other_reference_is_copied(make):
    chunks = raw(make)
    copies = copy_if_shared(chunks)
    assert copies[1] == chunks[1]
    assert not np.shares_memory(np.asarray(copies[1]), np.asarray(chunks[1]))
    KEPT.clear()


SOURCES = {
    "array": lambda: ARRAY + 1,
    "in a bytearray": lambda: np.frombuffer(bytearray(800_000)),
    "in a memoryview": lambda: np.frombuffer((ARRAY + 1).data.cast("B")),
    "received": received,
}
VIEWS = {
    "same": lambda a: a,
    "slice": lambda a: a[1:],
    "rest": lambda a: a.reshape(-1)[100:],
    "transposed": lambda a: a.T,
    "bytes": lambda a: np.ascontiguousarray(a).view(np.uint8),
    "of a memoryview": lambda a: np.asarray(memoryview(a)),
    "with strides": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, a.strides),
    "of a buffer": lambda a: np.ndarray(a.size, a.dtype, np.ascontiguousarray(a)),
    "copy": lambda a: a.copy(),
}


def fill_later(array, way):
    """Keep a reference to an array; return a function that writes through it."""
    if way == "array":
        return lambda: array.fill(0)
    if way == "view":
        view = array[:]
        return lambda: view.fill(0)
    if way == "base":
        base = array if array.base is None else array.base
        return lambda: np.asarray(base).fill(0)
    if way == "memoryview":
        memory = memoryview(array)
        return lambda: np.asarray(memory).fill(0)
    if way == "iterator":
        items = array.flat
        return lambda: items.__setitem__(slice(None), 0)
    weak = weakref.ref(array)
    return lambda: weak() is None or weak().fill(0)


def keep_on_the_way(source, steps, writers):
    array = SOURCES[source]()
    for view, way in steps:
        if way is not None:
            writers.append(fill_later(array, way))
        array = VIEWS[view](array)
    return array


WAYS = ["array", "view", "base", "memoryview", "iterator", "weak reference"]
STEPS = st.tuples(st.sampled_from(sorted(VIEWS)), st.sampled_from([None, *WAYS]))


@given(st.sampled_from(sorted(SOURCES)), st.lists(STEPS, min_size=1, max_size=5))
def test_no_reference_to_an_array_can_change_what_is_sent(source, steps):
    writers = []
    chunks = copy_if_shared(raw(lambda: keep_on_the_way(source, steps, writers)))
    before = bytes(chunks[1])
    for write in writers:
        write()
    assert bytes(chunks[1]) == before


def test_pieces_of_a_line_are_framed_without_being_joined():
    long = b"A" * 10_000
    chunks = frame(['{"a": nparray((1, ), "<f8", b"', long, '"), "b": "\u00e9"}'])
    assert any(chunk is long for chunk in chunks)
    assert b"".join(chunks) == (
        b'{"a": nparray((1, ), "<f8", b"' + long + '"), "b": "\u00e9"}\n'.encode()
    )
    raw = memoryview(b"raw")
    chunks = frame(['{"a":', long, "}"], [raw])
    assert any(chunk is long for chunk in chunks)
    assert chunks[-1] is raw
    assert b"".join(chunks[:-1]) == b'{"buffers":[3],"a":' + long + b"}\n"
    assert frame(["[1]"]) == [b"[1]\n"]
