"""The output and log records of sent code, over real sockets."""

import asyncio
import io
import logging
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pc_rpc import BestEffortClient
from remote_exec import RemoteExec
from remote_exec._following import Follower
from remote_exec._output import OUTPUT_LIMIT, Output

TALKATIVE = """
import logging, sys

log = logging.getLogger("camera.driver")

def talk():
    print("frame", 1)
    print("dark", file=sys.stderr)
    log.warning("gain is %d", 3)
    sys.stdout.write("tail")
    return 42

def fail():
    print("before the end")
    log.error("it failed", exc_info=ValueError("cause"))
    raise ValueError("oops")

async def talk_later():
    print("from a coroutine")

def flood(n):
    for i in range(n):
        print("x" * 999)
    print("the end")

def shape_of_stdout():
    return sys.stdout.isatty(), sys.stdout.encoding.lower(), sys.stdout.writable()
"""


def test_output_and_log_records_of_code_are_shown_here(controller, capsys, caplog):
    rexec = controller.rexec()
    rexec.add_code(TALKATIVE + "print('ready')\n")
    assert rexec.call("talk") == 42
    captured = capsys.readouterr()
    assert captured.out == "ready\nframe 1\ntail"
    assert captured.err == "dark\n"
    assert ("camera.driver", logging.WARNING, "gain is 3") in caplog.record_tuples


class Terminal(io.StringIO):
    """A stream that sets `appeared` when it contains a text."""

    def __init__(self, expected):
        super().__init__()
        self._expected = expected
        self.appeared = threading.Event()

    def write(self, text):
        super().write(text)
        if self._expected in self.getvalue():
            self.appeared.set()
        return len(text)


def test_output_is_shown_while_the_code_runs(controller, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal("started"))
    rexec = controller.rexec()
    there = rexec.send(hold)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(there)
        assert controller.driver.entered.wait(30)
        assert terminal.appeared.wait(30)
        assert not running.done()
        controller.driver.may_leave.set()
        running.result(30)
    assert terminal.getvalue() == "started\nended\n"


def hold():
    print("started")
    controller_driver.hold()  # noqa: F821  # defined at the controller
    print("ended")


def test_output_after_a_call_that_was_given_up_is_shown(controller, capsys):
    """The next call is followed from its start, after a time-out and after an encoding error."""
    rexec = RemoteExec(controller.connect(timeout=5.0))
    rexec.add_code("def spin():\n    while True:\n        controller_driver.identify()\n")
    with pytest.raises(TimeoutError):
        rexec.call("spin")
    with pytest.raises(TypeError):
        rexec.call("print", object())
    rexec.add_code("print('next')")
    assert capsys.readouterr().out == "next\n"


class OtherClient:
    """A client of another package: the same methods, for one thread at a time."""

    def __init__(self, client):
        self._client = client
        self._busy = threading.Lock()

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*args, **kwargs):
            assert self._busy.acquire(blocking=False)
            try:
                return method(*args, **kwargs)
            finally:
                self._busy.release()

        return call


def test_with_clients_for_one_thread_output_is_shown_at_the_end_of_the_call(controller, capsys):
    rexec = RemoteExec(OtherClient(controller.connect()))
    rexec.add_code("print('slow but sure')")
    with pytest.raises(ZeroDivisionError):
        rexec.add_code("print('also here'); 1 / 0")
    assert capsys.readouterr().out == "slow but sure\nalso here\n"


def test_with_an_unconnected_best_effort_client_nothing_is_done_and_nothing_raised():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        client = BestEffortClient("127.0.0.1", reserved.getsockname()[1], "main_rexec")
        try:
            rexec = RemoteExec(client)
            assert rexec.add_code("x = 1") is None
            assert rexec.call("x") is None
        finally:
            client.close_rpc()


def test_with_a_best_effort_client_output_is_shown(controller, capsys):
    client = BestEffortClient("127.0.0.1", controller.port, "main_rexec", firstcon_timeout=60)
    try:
        RemoteExec(client).add_code("print('hello')")
    finally:
        client.close_rpc()
    assert capsys.readouterr().out == "hello\n"


def test_output_is_shown_once(controller, capsys):
    """The controller of the tests has the same streams, and prints nothing to them."""
    rexec = controller.rexec()
    rexec.add_code("print('once')")
    assert capsys.readouterr().out == "once\n"


def test_output_of_a_coroutine_is_shown(controller, capsys):
    rexec = controller.rexec()
    rexec.add_code(TALKATIVE)
    rexec.call("talk_later")
    assert capsys.readouterr().out == "from a coroutine\n"


def test_output_before_an_error_is_shown_before_it_is_raised(controller, capsys, caplog):
    rexec = controller.rexec()
    rexec.add_code(TALKATIVE)
    with pytest.raises(ValueError, match="oops"):
        rexec.call("fail")
    assert capsys.readouterr().out == "before the end\n"
    assert "it failed" in caplog.text
    assert "ValueError: cause" in caplog.text


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (lambda rexec: rexec.add_code("y = = 2"), SyntaxError),
        (lambda rexec: rexec.call("nope"), NameError),
        (lambda rexec: rexec.with_deadline(-1).add_code("x = 1"), ValueError),
        (lambda rexec: rexec.add_code(b"x = 1"), TypeError),
    ],
)
def test_a_refused_request_does_not_delay_the_next(controller, capsys, request_, error):
    rexec = controller.rexec()
    for _ in range(3):
        with pytest.raises(error):
            request_(rexec)
    rexec.add_code("print('next')")
    assert capsys.readouterr().out == "next\n"


def test_output_of_interrupted_code_is_shown(controller, capsys):
    rexec = controller.rexec(deadline=0.2)
    with pytest.raises(TimeoutError):
        rexec.add_code("print('started')\nwhile True: pass")
    assert capsys.readouterr().out == "started\n"


def test_callers_get_their_own_output_only(controller, capsys):
    first, second = controller.connect(), controller.connect()
    for client, name in [(first, "first"), (second, "second")]:
        seen = client.keep_output()
        client.add_code(f"print({name!r})")
        records, finished = client.read_output(seen)
        assert records == [["stdout", name + "\n"]]
        assert finished == seen + 1
    assert capsys.readouterr().out == ""


def test_without_output_it_stays_at_the_controller(controller, capsys):
    controller.rexec(output=False).add_code("print('at the controller')")
    controller.connect().add_code("print('from any client')")
    assert capsys.readouterr().out == "at the controller\nfrom any client\n"  # same process here


def test_keeping_output_can_be_ended(controller, capsys):
    client = controller.connect()
    client.keep_output()
    client.keep_output(False)
    client.add_code("print('back home')")
    assert capsys.readouterr().out == "back home\n"
    assert client.read_output(0) == ([], 1)


def test_a_waiting_read_output_returns_when_output_is_no_longer_kept(controller):
    client = controller.connect()
    finished = client.keep_output()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.read_output, finished)
        while not waiting.running():
            pass
        client.ping_rpc()  # sent after `read_output`
        client.keep_output(False)
        assert waiting.result(30)[0] == []


def test_output_that_is_not_fetched_is_bounded_and_its_end_is_kept(controller):
    client = controller.connect()
    client.keep_output()
    client.add_code(TALKATIVE)
    client.call("flood", 2_000)
    records, _ = client.read_output(0)
    (_, notice), (_, text) = records
    assert len(text) <= 2**20
    assert text.endswith("the end\n")
    lost = 2_000 * 1000 + len("the end\n") - len(text)
    assert notice == f"[{lost} characters of output lost before this]\n"


def test_the_wrapped_streams_have_the_methods_of_streams(controller):
    rexec = controller.rexec()
    rexec.add_code(TALKATIVE)
    assert rexec.call("shape_of_stdout") == (False, "utf-8", True)


def test_all_characters_are_shown(controller, capsys):
    controller.rexec().add_code(r"print('µ \u2028 \U0001f600')")
    assert capsys.readouterr().out == "µ \u2028 \U0001f600\n"


def test_a_lost_connection_is_raised_at_the_caller(controller):
    rexec = controller.rexec()
    rexec.client.close_rpc()
    with pytest.raises(ConnectionError):
        rexec.add_code("x = 1")


# Large amounts of output, and unusual text


@pytest.fixture
def output():
    """Return an `Output` without a connection, which nothing fetches."""
    loop = asyncio.new_event_loop()

    async def make():
        return Output()

    yield loop.run_until_complete(make())
    loop.close()


def size_of(output):
    """Return about how many bytes the records of an output take."""
    return sum(
        sys.getsizeof(record) + sum(map(sys.getsizeof, record)) for record in output._records
    )


@pytest.mark.parametrize(
    "writes",
    [
        [("stdout", "")],
        [("stdout", "\n")],
        [("stdout", ""), ("stderr", "")],
        [("stdout", "x"), ("stderr", "y")],
        [("stdout", "x" * 5000)],
        [("stdout", "x" * 2**22)],
    ],
    ids=["empty", "newlines", "empty ones in turn", "in turn", "lines", "too long"],
)
def test_output_that_is_not_fetched_takes_bounded_memory_however_it_is_written(output, writes):
    written = 0
    for _ in range(100_000 if len(writes[0][1]) < 9 else 1000):
        for kind, text in writes:
            output.write(kind, text)
            written += len(text)
    assert size_of(output) <= 2 * OUTPUT_LIMIT
    kept = "".join(text for _, text in output.take())
    lost = 0
    if kept.startswith("["):
        notice, _, kept = kept.partition("\n")
        lost = int(notice[1:].split()[0])
    assert len(kept) + lost == written


async def test_of_one_text_beyond_the_limit_the_end_is_kept():
    output = Output()
    output.write("stdout", "x" * OUTPUT_LIMIT + "the end")
    assert output.take() == [
        ["stderr", "[7 characters of output lost before this]\n"],
        ["stdout", "x" * (OUTPUT_LIMIT - 7) + "the end"],
    ]


def test_log_records_without_text_take_bounded_memory(output):
    for _ in range(100_000):
        output.log(logging.makeLogRecord({"name": "x", "msg": "", "levelno": 20}))
    assert size_of(output) <= 2 * OUTPUT_LIMIT


def test_a_finaliser_that_prints_while_a_record_is_stored_does_not_deadlock(output):
    with output._lock:  # as when a finaliser runs in the thread that stores a record
        output.write("stdout", "from a finaliser")
    assert output.take() == [["stdout", "from a finaliser"]]


def test_a_million_empty_writes_are_ignored(controller):
    client = controller.connect()
    seen = client.keep_output()
    client.add_code("import sys\nfor _ in range(1_000_000): sys.stdout.write('')\n")
    assert client.read_output(seen) == ([], seen + 1)


def test_many_newlines_are_all_kept(controller):
    client = controller.connect()
    seen = client.keep_output()
    client.add_code("for _ in range(300_000): print()\n")
    records, _ = client.read_output(seen)
    assert "".join(text for _, text in records) == "\n" * 300_000


def test_lines_and_subclasses_of_str_are_shown_unchanged(controller, capsys):
    controller.rexec().add_code(
        "import sys\n"
        "class Text(str):\n"
        "    def __str__(self): return 'no'\n"
        "sys.stdout.writelines(['a\\n', Text('b\\n')])\n"
        "sys.stdout.flush()\n"
        "print(Text('c'), file=sys.stderr)\n"
    )
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a\nb\n", "no\n")


def test_characters_that_the_terminal_lacks_are_escaped(controller, monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    rexec = controller.rexec()
    rexec.add_code("print('5 \xb5m \\ud800')")
    rexec.add_code("print('next')")
    assert raw.getvalue() == b"5 \\xb5m \\ud800\nnext\n"


def test_a_log_call_with_arguments_that_do_not_match_is_reported(controller, caplog):
    rexec = controller.rexec()
    rexec.add_code(
        "import enum, logging\n"
        "class Level(enum.IntEnum):\n"
        "    LOUD = 45\n"
        "logging.getLogger('x').warning('%d frames', 'many')\n"
        "logging.getLogger('x').log(Level.LOUD, 'loud')\n"
    )
    assert any("'%d frames' cannot be formatted: TypeError" in text for text in caplog.messages)
    assert ("x", 45, "loud") in caplog.record_tuples


class Failing(io.StringIO):
    def write(self, text):
        raise RuntimeError("no paper")


def test_a_failing_local_stream_loses_neither_the_result_nor_other_output(
    controller, monkeypatch, caplog
):
    monkeypatch.setattr(sys, "stdout", Failing())
    rexec = controller.rexec()
    rexec.add_code("import logging\nprint('lost')\nlogging.getLogger('x').warning('kept')\n")
    assert "kept" in caplog.messages
    assert "output of sent code could not be written here" in caplog.messages
    assert "no paper" in caplog.text


def test_a_local_stream_may_call_the_controller(controller, monkeypatch):
    """The stream is written to during the call whose output it shows; so are log handlers."""
    rexec = controller.rexec()
    rexec.add_code("def answer():\n    return 42\n")
    answers = []

    class Calling(io.StringIO):
        def write(self, text):
            answers.append(rexec.call("answer"))
            return len(text)

    monkeypatch.setattr(sys, "stdout", Calling())
    rexec.add_code("print('x', end='')")
    assert answers == [42]


def test_a_nested_call_by_the_same_thread_does_not_deadlock(controller):
    """As a signal handler or a finaliser makes it."""
    rexec = controller.rexec()
    rexec.add_code("def answer():\n    return 42\n")
    follower = rexec._output
    assert follower.follow(lambda: rexec.call("answer")) == 42


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_the_child_of_a_fork_nothing_waits_for_threads_of_the_parent():
    class NoClient:
        def keep_output(self):
            return 0

        def read_output(self, finished):
            return [], 0

    follower = Follower(NoClient())
    with follower._lock:  # as if another thread made a call
        child = os.fork()
        if child == 0:
            os._exit(follower.follow(lambda: 42))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
