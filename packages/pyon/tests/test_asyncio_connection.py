"""asyncio_connection: messages between two ends, over real sockets."""

import asyncio
import logging
import socket

import pytest
from pyon.asyncio_connection import HIGH_WATER, PIECE_SIZE, Connection
from pyon.asyncio_server import AsyncioServer
from pyon.framing import Message


class Recorder(Connection):
    """A connection that records its callbacks."""

    def __init__(self, **options):
        super().__init__(**options)
        self.messages = asyncio.Queue()
        self.opened = asyncio.Event()
        self.ends = []

    def connection_opened(self):
        self.opened.set()

    def message_received(self, message):
        self.messages.put_nowait(message)

    def connection_closed(self, exc):
        self.ends.append(exc)


class Server(AsyncioServer):
    """Accepts connections and keeps them for the test."""

    def __init__(self):
        super().__init__()
        self.accepted = asyncio.Queue()

    def _make_connection(self):
        connection = Recorder(scratch=self._scratch)
        self.accepted.put_nowait(connection)
        return connection


@pytest.fixture
async def server():
    async with Server() as server:
        await server.start("127.0.0.1", 0)
        yield server


@pytest.fixture
async def pair(server):
    loop = asyncio.get_running_loop()
    _, ours = await loop.create_connection(Recorder, "127.0.0.1", server.port)
    theirs = await server.accepted.get()
    await theirs.opened.wait()
    yield ours, theirs
    ours.abort()
    await ours.wait_closed()


def writes_of(connection, monkeypatch):
    """Return a list that records all later writes of the connection."""
    writes, write = [], connection.transport.write
    monkeypatch.setattr(
        connection.transport, "write", lambda data: (writes.append(data), write(data))
    )
    return writes


async def test_both_ends_know_each_other(pair):
    ours, theirs = pair
    assert (ours.peername, ours.sockname) == (theirs.sockname, theirs.peername)
    assert ours.transport.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_KEEPALIVE
    )


async def test_messages_arrive_in_order_with_their_buffers(pair):
    ours, theirs = pair
    theirs.receiver.raw_buffers = True
    ours.send("one")
    ours.send('{"x":2}', [memoryview(b"\n\n")])
    ours.send(b"three")
    assert (await theirs.messages.get()).line == b"one"
    message = await theirs.messages.get()
    assert [bytes(buffer) for buffer in message.buffers] == [b"\n\n"]
    assert (await theirs.messages.get()).line == b"three"


async def test_what_one_turn_of_the_loop_sends_leaves_in_one_write(pair, monkeypatch):
    ours, theirs = pair
    writes = writes_of(ours, monkeypatch)
    for number in range(100):
        ours.send(f"{number}")
    for number in range(100):
        assert (await theirs.messages.get()).line == b"%d" % number
    assert len(writes) == 1


async def test_a_server_lets_others_have_their_turn_between_messages(pair, server, monkeypatch):
    monkeypatch.setattr("pyon.asyncio_connection.TURN", 0.0)
    ours, theirs = pair
    _, other = await asyncio.get_running_loop().create_connection(
        Recorder, "127.0.0.1", server.port
    )
    accepted = await server.accepted.get()
    order, done = [], asyncio.Event()

    def message_received(message):
        order.append(bytes(message.line))
        if len(order) == 101:
            done.set()

    for connection in (theirs, accepted):
        monkeypatch.setattr(connection, "message_received", message_received)
    ours.send_now(b"many\n" * 100)
    other.send_now(b"one\n")
    await done.wait()
    assert order.index(b"one") < 10
    other.abort()
    await other.wait_closed()


async def test_a_server_that_lets_others_have_their_turn_reads_no_more_meanwhile(pair, monkeypatch):
    monkeypatch.setattr("pyon.asyncio_connection.TURN", 0.0)
    ours, theirs = pair
    most, done = 0, asyncio.Event()

    def message_received(message):
        nonlocal most
        most = max(most, theirs.receiver.pending)
        if message.line == b"last":
            done.set()

    monkeypatch.setattr(theirs, "message_received", message_received)
    for _ in range(5000):
        ours.send(b"x" * 1000)
    ours.send(b"last")
    await done.wait()
    assert most < 2**20


@pytest.mark.parametrize("turn", [60.0, -1.0])
async def test_the_end_of_a_peer_is_noticed_while_reading_is_paused(pair, monkeypatch, turn):
    monkeypatch.setattr("pyon.asyncio_connection.TURN", turn)
    ours, theirs = pair
    ended = asyncio.Event()

    def message_received(message):
        if message.line == b"pause":
            theirs.pause_reading()

    monkeypatch.setattr(theirs, "message_received", message_received)
    monkeypatch.setattr(theirs, "eof_received", ended.set)
    ours.send_now(b"message\npause\n")
    ours.close()
    await ended.wait()


async def test_what_is_sent_now_is_written_in_this_turn_and_behind_what_is_queued(
    pair, monkeypatch
):
    ours, theirs = pair
    writes = writes_of(ours, monkeypatch)
    ours.send_now(b"first\n")
    assert writes == [b"first\n"]
    ours.send("second")
    ours.send_now(b"third\n")
    assert len(writes) == 1
    for expected in (b"first", b"second", b"third"):
        assert (await theirs.messages.get()).line == expected
    assert len(writes) == 2


async def test_what_is_sent_now_waits_for_a_peer_that_does_not_read(pair):
    ours, theirs = pair
    theirs.pause_reading()
    theirs.transport.pause_reading()
    sent = 0
    while ours.backlog <= 2 * HIGH_WATER:
        ours.send_now(b"%d" % sent + b"x" * PIECE_SIZE + b"\n")
        sent += 1
    theirs.resume_reading()
    for number in range(sent):
        assert (await theirs.messages.get()).line.startswith(b"%dx" % number)
    ours.close()
    ours.send_now(b"too late\n")
    await theirs.wait_closed()
    assert theirs.messages.empty()


async def test_answers_to_what_one_read_brought_leave_in_one_write(pair, monkeypatch):
    ours, theirs = pair
    writes = writes_of(theirs, monkeypatch)
    monkeypatch.setattr(theirs, "message_received", lambda message: theirs.send(message.line))
    ours.send(b"\n".join(b"%d" % number for number in range(100)))
    for number in range(100):
        assert (await ours.messages.get()).line == b"%d" % number
    assert len(writes) == 1


async def test_waiting_messages_are_delivered_although_the_end_comes_in_the_same_turn(
    pair, monkeypatch
):
    ours, theirs = pair
    record = theirs.message_received
    monkeypatch.setattr(
        theirs, "message_received", lambda message: (record(message), theirs.pause_reading())
    )
    ours.send("one\ntwo")
    assert (await theirs.messages.get()).line == b"one"
    theirs.resume_reading()
    theirs.eof_received()
    assert (await theirs.messages.get()).line == b"two"
    theirs.resume_reading()
    await ours.wait_closed()


async def test_the_lines_of_one_read_can_be_handled_in_one_step(pair, monkeypatch):
    ours, theirs = pair
    writes, texts = writes_of(theirs, monkeypatch), []

    def lines_received(text):
        texts.append(text)
        done = text.partition("other")[0]
        if done:
            theirs.send_now(done.upper().encode())
        return len(done)

    monkeypatch.setattr(theirs, "lines_received", lines_received)
    ours.send(b"a\nb")
    assert [(await ours.messages.get()).line for _ in range(2)] == [b"A", b"B"]
    assert (texts, writes) == (["a\nb\n"], [b"A\nB\n"])
    ours.send(b"c\nother\nd")
    assert (await ours.messages.get()).line == b"C"
    assert [(await theirs.messages.get()).line for _ in range(2)] == [b"other", b"d"]
    ours.send("\u00e9")
    assert (await theirs.messages.get()).line == "\u00e9".encode()
    assert texts[1:] == ["c\nother\nd\n"]


async def test_what_is_sent_for_the_lines_of_one_read_leaves_in_one_write(pair, monkeypatch):
    monkeypatch.setattr("pyon.asyncio_connection.TURN", 60.0)
    ours, theirs = pair
    writes = writes_of(theirs, monkeypatch)

    def lines_received(text):
        first, _, rest = text.partition("\n")
        theirs.send(first)
        return len(first) + 1 if rest else len(text)

    monkeypatch.setattr(theirs, "lines_received", lines_received)
    monkeypatch.setattr(theirs, "message_received", lambda message: theirs.send(message.line))
    ours.send(b"\n".join(b"%d" % number for number in range(100)))
    for number in range(100):
        assert (await ours.messages.get()).line == b"%d" % number
    assert len(writes) == 1


async def test_lines_wait_while_reading_is_paused(pair, monkeypatch):
    ours, theirs = pair
    theirs.pause_reading()
    monkeypatch.setattr(theirs, "lines_received", lambda text: pytest.fail(text))
    paused = asyncio.Event()
    pause = theirs.transport.pause_reading
    monkeypatch.setattr(theirs.transport, "pause_reading", lambda: (pause(), paused.set()))
    ours.send("one")
    await paused.wait()
    assert theirs.messages.empty()
    theirs.resume_reading()
    assert (await theirs.messages.get()).line == b"one"


async def test_large_messages_pass_both_ways_at_once(pair):
    ours, theirs = pair
    large = bytes(range(11, 256)) * 60_000
    ours.send(large)
    ours.send(b"behind it")
    theirs.send(large)
    assert (await theirs.messages.get()).line == large
    assert (await theirs.messages.get()).line == b"behind it"
    assert (await ours.messages.get()).line == large
    await ours.drained()
    assert ours.backlog <= HIGH_WATER


async def test_backlog_of_a_peer_that_does_not_read_is_known_and_drains_when_it_does(pair):
    ours, theirs = pair
    theirs.pause_reading()
    theirs.transport.pause_reading()
    sent = 0
    while ours.backlog <= 2 * HIGH_WATER:
        ours.send(b"x" * PIECE_SIZE)
        sent += 1
        await asyncio.sleep(0)
    draining = asyncio.ensure_future(ours.drained())
    theirs.resume_reading()
    await draining
    for _ in range(sent):
        assert len((await theirs.messages.get()).line) == PIECE_SIZE


async def test_a_peer_that_goes_when_there_is_room_again_ends_the_connection_once(pair, caplog):
    """A write that fails inside `resume_writing` makes asyncio end the transport twice."""
    ours, theirs = pair
    theirs.transport.pause_reading()
    while ours.writable or not ours.backlog:
        ours.send(b"x" * PIECE_SIZE)
        await asyncio.sleep(0)
    ours.send(b"x" * PIECE_SIZE)  # stays queued until there is room
    resume = ours.resume_writing

    def gone(*args):
        raise BrokenPipeError

    def resume_without_a_peer():
        sock, ours.transport._sock = ours.transport._sock, Gone(ours.transport._sock, gone)
        resume()
        ours.transport._sock = sock
        resumed.set()

    resumed = asyncio.Event()
    ours.resume_writing = resume_without_a_peer
    theirs.transport.resume_reading()
    await resumed.wait()
    ours.resume_writing = resume
    theirs.transport.abort()
    await ours.wait_closed()
    await asyncio.sleep(0)
    assert len(ours.ends) == 1
    assert "Exception in callback" not in caplog.text


class Gone:
    """A socket to which every write fails."""

    def __init__(self, sock, send):
        self._sock = sock
        self.send = self.sendmsg = send

    def __getattr__(self, name):
        return getattr(self._sock, name)


async def test_drained_raises_when_the_connection_is_cut(pair):
    ours, theirs = pair
    theirs.transport.pause_reading()
    ours.send(b"x" * 32 * HIGH_WATER)
    draining = asyncio.ensure_future(ours.drained())
    await asyncio.sleep(0)
    ours.abort()
    with pytest.raises(ConnectionResetError, match=r"127\.0\.0\.1:"):
        await draining
    assert ours.ends == [None]


async def test_paused_connection_delivers_nothing_until_resumed(pair):
    ours, theirs = pair
    theirs.pause_reading()
    ours.send(b"one\ntwo")
    ours.send(b"x" * 4 * PIECE_SIZE)
    await ours.drained()
    theirs.send(b"go on")
    await ours.messages.get()
    assert theirs.messages.empty()
    theirs.resume_reading()
    assert (await theirs.messages.get()).line == b"one"
    assert (await theirs.messages.get()).line == b"two"
    assert len((await theirs.messages.get()).line) == 4 * PIECE_SIZE


async def test_connection_can_pause_itself_between_two_messages_of_one_read(pair, monkeypatch):
    ours, theirs = pair
    received = []

    def take_one(message):
        received.append(message.line)
        theirs.pause_reading()
        theirs.send(b"took one")

    monkeypatch.setattr(theirs, "message_received", take_one)
    ours.send(b"one\ntwo")
    await ours.messages.get()
    assert received == [b"one"]
    theirs.resume_reading()
    await ours.messages.get()
    assert received == [b"one", b"two"]


async def test_close_sends_what_is_queued_first(pair):
    ours, theirs = pair
    ours.send(b"x" * 5_000_000)
    ours.close()
    ours.send(b"too late")
    assert len((await theirs.messages.get()).line) == 5_000_000
    await theirs.wait_closed()
    assert theirs.messages.empty()
    assert (theirs.closed, theirs.ends) == (True, [None])


async def test_a_connection_that_closes_behind_what_a_slow_peer_reads_at_last_ends_once(pair):
    ours, theirs = pair
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: failures.append(what))
    ours.pause_reading()
    ours.transport.pause_reading()
    while not theirs.backlog:  # until the sockets are full, and asyncio's transport has a backlog
        theirs.send(b"x" * PIECE_SIZE)
        await asyncio.sleep(0)
    theirs.send(b"the last")
    theirs.close()
    ours.transport.resume_reading()
    ours.resume_reading()
    await theirs.wait_closed()
    await ours.wait_closed()
    assert theirs.ends == [None]
    messages = [ours.messages.get_nowait() for _ in range(ours.messages.qsize())]
    assert messages[-1].line == b"the last"
    await asyncio.sleep(0)
    assert failures == []


async def test_a_connection_that_closes_and_is_writable_again_is_closed_once(pair, monkeypatch):
    ours, _ = pair
    closed, close = [], ours.transport.close
    monkeypatch.setattr(ours.transport, "close", lambda: (closed.append(1), close()))
    ours.pause_writing()
    ours.close()
    ours.resume_writing()  # a TLS transport that is closed twice loses its backlog
    await asyncio.sleep(0)
    assert closed == [1]
    assert ours.backlog == 0


async def test_requests_sent_before_a_half_close_are_still_answered(server):
    """As with ``printf ... | nc host port``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    theirs = await server.accepted.get()
    await theirs.opened.wait()
    theirs.pause_reading()
    writer.write(b"one\ntwo\n")
    writer.write_eof()
    theirs.message_received = lambda message: theirs.send(message.line.upper())
    theirs.resume_reading()
    assert await reader.read() == b"ONE\nTWO\n"
    writer.close()


async def test_a_reply_that_is_still_queued_at_a_half_close_arrives_whole(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    theirs = await server.accepted.get()
    await theirs.opened.wait()
    theirs.message_received = lambda message: theirs.send(b"x" * 10**7)
    writer.write(b"one\n")
    writer.write_eof()
    assert len(await reader.read()) == 10**7 + 1
    writer.close()


async def test_message_beyond_the_limit_is_reported_and_the_connection_lives(pair):
    ours, theirs = pair
    theirs.receiver.limit = 10
    ours.send(b"x" * 11)
    ours.send(b"y" * 10)
    assert await theirs.messages.get() == Message(b"x" * 11, (), 11, 10)
    assert (await theirs.messages.get()).line == b"y" * 10


async def test_an_invalid_announcement_is_logged_once_with_its_peer(pair, caplog):
    ours, theirs = pair
    theirs.receiver.raw_buffers = True
    with caplog.at_level(logging.WARNING):
        ours.send(b'{"buffers":[-1],"x":1}')
        await ours.wait_closed()
    (record,) = caplog.records
    assert ours.sockname in record.getMessage()
    assert record.exc_info is None


async def test_a_connection_that_is_closed_before_it_is_open_is_never_opened(server):
    ours = Recorder()
    ours.close()
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: ours, "127.0.0.1", server.port)
    await ours.wait_closed()
    assert (ours.opened.is_set(), ours.ends) == (False, [])


async def test_a_small_message_is_sent_if_the_peer_keeps_up_and_the_connection_is_open(pair):
    ours, theirs = pair
    assert ours.send_small(b"first\n")
    assert ours.send_small(b"second\n")
    assert await theirs.messages.get() == Message(b"first")
    assert await theirs.messages.get() == Message(b"second")
    theirs.pause_reading()
    while ours.backlog <= HIGH_WATER:
        ours.send(b"x" * HIGH_WATER)
        await asyncio.sleep(0)
    assert not ours.send_small(b"third\n")
    ours.abort()
    assert not ours.send_small(b"fourth\n")
