"""What sent code prints and logs comes back to its caller, over real sockets."""

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


def test_what_code_prints_and_logs_comes_out_here(controller, capsys, caplog):
    rexec = controller.rexec()
    rexec.add_code(TALKATIVE + "print('ready')\n")
    assert rexec.call("talk") == 42
    captured = capsys.readouterr()
    assert captured.out == "ready\nframe 1\ntail"
    assert captured.err == "dark\n"
    assert ("camera.driver", logging.WARNING, "gain is 3") in caplog.record_tuples


class Terminal(io.StringIO):
    """Notes when a text appears."""

    def __init__(self, expected):
        super().__init__()
        self._expected = expected
        self.appeared = threading.Event()

    def write(self, text):
        super().write(text)
        if self._expected in self.getvalue():
            self.appeared.set()
        return len(text)


def test_it_comes_out_while_the_code_runs(controller, monkeypatch):
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
    controller_driver.hold()  # noqa: F821  # it is there
    print("ended")


def test_output_after_a_call_that_was_given_up_comes_out_too(controller, capsys):
    """Whoever gave up, the client or the encoder, the next call is followed from its start."""
    rexec = RemoteExec(controller.connect(timeout=5.0))
    rexec.add_code("def spin():\n    while True:\n        controller_driver.identify()\n")
    with pytest.raises(TimeoutError):
        rexec.call("spin")
    with pytest.raises(TypeError):
        rexec.call("print", object())
    rexec.add_code("print('next')")
    assert capsys.readouterr().out == "next\n"


class OtherClient:
    """Has the methods, but is no client of ours: may be used by one thread at a time."""

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


def test_with_clients_for_one_thread_output_comes_at_the_end_of_the_call(controller, capsys):
    rexec = RemoteExec(OtherClient(controller.connect()))
    rexec.add_code("print('slow but sure')")
    with pytest.raises(ZeroDivisionError):
        rexec.add_code("print('also here'); 1 / 0")
    assert capsys.readouterr().out == "slow but sure\nalso here\n"


def test_with_a_best_effort_client_that_has_no_connection_nothing_is_done_and_nothing_raised():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        client = BestEffortClient("127.0.0.1", reserved.getsockname()[1], "main_rexec")
        try:
            rexec = RemoteExec(client)
            assert rexec.add_code("x = 1") is None
            assert rexec.call("x") is None
        finally:
            client.close_rpc()


def test_with_a_best_effort_client_output_comes_too(controller, capsys):
    client = BestEffortClient("127.0.0.1", controller.port, "main_rexec", firstcon_timeout=60)
    try:
        RemoteExec(client).add_code("print('hello')")
    finally:
        client.close_rpc()
    assert capsys.readouterr().out == "hello\n"


def test_it_comes_out_here_only(controller, capsys):
    """Once, that is: the controller of the tests prints into the same streams."""
    rexec = controller.rexec()
    rexec.add_code("print('once')")
    assert capsys.readouterr().out == "once\n"


def test_output_of_a_coroutine_comes_too(controller, capsys):
    rexec = controller.rexec()
    rexec.add_code(TALKATIVE)
    rexec.call("talk_later")
    assert capsys.readouterr().out == "from a coroutine\n"


def test_output_before_an_error_comes_out_before_it_is_raised(controller, capsys, caplog):
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
def test_a_request_that_is_refused_delays_nothing(controller, capsys, request_, error):
    rexec = controller.rexec()
    for _ in range(3):
        with pytest.raises(error):
            request_(rexec)
    rexec.add_code("print('next')")
    assert capsys.readouterr().out == "next\n"


def test_output_of_code_that_is_interrupted_comes_out(controller, capsys):
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


def test_who_waits_for_output_is_let_go_when_it_is_not_kept_any_more(controller):
    client = controller.connect()
    finished = client.keep_output()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.read_output, finished)
        while not waiting.running():
            pass
        client.ping_rpc()  # behind it
        client.keep_output(False)
        assert waiting.result(30)[0] == []


def test_output_that_nobody_fetches_is_bounded_and_its_end_is_kept(controller):
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


def test_the_streams_answer_as_streams_do(controller):
    rexec = controller.rexec()
    rexec.add_code(TALKATIVE)
    assert rexec.call("shape_of_stdout") == (False, "utf-8", True)


def test_any_character_comes_through(controller, capsys):
    controller.rexec().add_code(r"print('µ \u2028 \U0001f600')")
    assert capsys.readouterr().out == "µ \u2028 \U0001f600\n"


def test_a_connection_that_is_lost_is_what_the_caller_hears_of(controller):
    rexec = controller.rexec()
    rexec.client.close_rpc()
    with pytest.raises(ConnectionError):
        rexec.add_code("x = 1")


# What there is much of, and what is no ordinary text


@pytest.fixture
def output():
    """An `Output` without a connection; nobody fetches what it keeps."""
    loop = asyncio.new_event_loop()

    async def make():
        return Output()

    yield loop.run_until_complete(make())
    loop.close()


def size_of(output):
    """Return about how many bytes an output keeps."""
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
def test_what_nobody_fetches_takes_bounded_memory_however_it_is_written(output, writes):
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


def test_a_finaliser_that_prints_while_a_record_is_kept_is_no_deadlock(output):
    with output._lock:  # what a finaliser interrupts, on the same thread
        output.write("stdout", "from a finaliser")
    assert output.take() == [["stdout", "from a finaliser"]]


def test_a_million_writes_of_nothing_come_to_nothing(controller):
    client = controller.connect()
    seen = client.keep_output()
    client.add_code("import sys\nfor _ in range(1_000_000): sys.stdout.write('')\n")
    assert client.read_output(seen) == ([], seen + 1)


def test_many_newlines_are_as_many_characters(controller):
    client = controller.connect()
    seen = client.keep_output()
    client.add_code("for _ in range(300_000): print()\n")
    records, _ = client.read_output(seen)
    assert "".join(text for _, text in records) == "\n" * 300_000


def test_lines_and_texts_of_subclasses_come_as_they_are(controller, capsys):
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


def test_what_our_terminal_cannot_show_is_spelled(controller, monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    rexec = controller.rexec()
    rexec.add_code("print('5 \xb5m \\ud800')")
    rexec.add_code("print('next')")
    assert raw.getvalue() == b"5 \\xb5m \\ud800\nnext\n"


def test_a_log_call_with_arguments_that_do_not_fit_breaks_nothing(controller, caplog):
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


def test_a_stream_of_ours_that_fails_costs_neither_the_result_nor_the_rest(
    controller, monkeypatch, caplog
):
    monkeypatch.setattr(sys, "stdout", Failing())
    rexec = controller.rexec()
    rexec.add_code("import logging\nprint('lost')\nlogging.getLogger('x').warning('kept')\n")
    assert "kept" in caplog.messages
    assert "output of sent code could not be written here" in caplog.messages
    assert "no paper" in caplog.text


def test_a_stream_of_ours_may_call_the_controller(controller, monkeypatch):
    """It is written to in the middle of the call whose output it is given; log handlers, too."""
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


def test_a_call_in_the_middle_of_a_call_by_the_same_thread_is_no_deadlock(controller):
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
    with follower._lock:  # another thread is in the middle of a call
        child = os.fork()
        if child == 0:
            os._exit(follower.follow(lambda: 42))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
