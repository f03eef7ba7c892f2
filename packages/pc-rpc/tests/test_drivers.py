"""Unchanged drivers: context managers, drivers that need the event loop, third-party drivers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading

import pyon
import pytest
from pc_rpc import Client, current_peer

LONG = 30.0


class Journal(list):
    """Records events of a driver, with their threads."""

    def __init__(self):
        super().__init__()
        self._news = threading.Condition()

    def note(self, what):
        with self._news:
            self.append((what, threading.current_thread().name))
            self._news.notify_all()

    @property
    def events(self):
        return [what for what, _ in self]

    def wait_for(self, what):
        """Wait for an event that follows the end of a connection."""
        with self._news:
            assert self._news.wait_for(lambda: what in self.events, LONG), self


@pytest.fixture
def journal():
    return Journal()


def managed(journal, **methods):
    """Return a class of drivers that are context managers."""

    class Driver:
        def __init__(self):
            journal.note("made")

        def __enter__(self):
            journal.note("entered")
            return self

        def __exit__(self, *what):
            assert what == (None, None, None)
            journal.note("left")

        def idn(self):
            journal.note("called")
            return "a laser"

    for name, method in methods.items():
        setattr(Driver, name, method)
    return Driver


@pytest.mark.parametrize("worker_threads", [False, True])
def test_a_context_manager_is_entered_and_left_on_its_thread(
    serve, connect, journal, worker_threads
):
    server = serve({"laser": managed(journal)}, worker_threads=worker_threads)
    client = connect(server.port)
    assert client.idn() == "a laser"
    client.close_rpc()
    journal.wait_for("left")
    thread = "target laser" if worker_threads else "server"
    assert journal == [(what, thread) for what in ("made", "entered", "called", "left")]


def test_each_connection_has_a_driver_that_was_entered_for_it(serve, connect, journal):
    server = serve({"laser": managed(journal)})
    first, second = connect(server.port), connect(server.port)
    first.close_rpc()
    journal.wait_for("left")
    assert second.idn() == "a laser"
    assert sorted(journal.events) == sorted(["made", "entered"] * 2 + ["left", "called"])


def test_the_result_of_enter_is_served_and_the_manager_is_left(serve, connect, journal):
    @contextlib.contextmanager
    def laser():
        driver = managed(journal, close=lambda self: journal.note("closed"))()
        try:
            yield driver
        finally:
            journal.note("manager left")

    server = serve({"laser": laser})
    client = connect(server.port)
    assert client.idn() == "a laser"
    client.close_rpc()
    server.stop()
    assert journal.events == ["made", "called", "manager left"]


def test_a_manager_whose_enter_returns_none_is_served_itself_and_closed_after_it_was_left(
    serve, connect, journal
):
    driver = managed(
        journal,
        __enter__=lambda self: journal.note("entered"),
        close=lambda self: journal.note("closed"),
    )
    server = serve({"laser": driver})
    client = connect(server.port)
    assert client.idn() == "a laser"
    client.close_rpc()
    server.stop()
    assert journal.events == ["made", "entered", "called", "left", "closed"]


def test_a_driver_that_cannot_be_closed_twice_is_no_error(serve, connect, journal, caplog):
    class Laser:
        open = True

        def __enter__(self):
            return self

        def __exit__(self, *what):
            self.close()

        def close(self):
            if not self.open:
                raise OSError("closed already")
            self.open = False
            journal.note("closed")

    caplog.set_level("INFO", "pc_rpc")
    server = serve({"laser": Laser})
    connect(server.port).close_rpc()
    server.stop()
    assert journal.events == ["closed"]
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "close() of a driver that was left by __exit__ raised OSError" in caplog.text


def test_the_client_gets_the_error_of_a_driver_that_cannot_be_entered(serve, connect, caplog):
    def refuse(self):
        raise ValueError("no instrument")

    server = serve({"laser": managed(Journal(), __enter__=refuse)})
    with pytest.raises(ValueError, match="no instrument"):
        connect(server.port)
    assert "target 'laser' cannot be made" in caplog.text


def test_an_exception_of_leaving_is_logged(serve, connect, caplog):
    def fail(self, *what):
        raise RuntimeError("shutter stuck")

    server = serve({"laser": managed(Journal(), __exit__=fail)})
    connect(server.port).close_rpc()
    server.stop()
    assert "closing its target failed" in caplog.text
    assert "RuntimeError: shutter stuck" in caplog.text


def test_an_object_that_a_program_hands_over_is_neither_entered_nor_left(serve, connect, journal):
    server = serve({"laser": managed(journal)()})
    client = connect(server.port)
    client.idn()
    client.close_rpc()
    server.stop()
    assert journal.events == ["made", "called"]


def test_a_client_that_a_factory_makes_is_not_entered_and_closed(serve, connect):
    behind = serve({"laser": managed(Journal())()})
    made = []

    def gateway():
        made.append(Client("127.0.0.1", behind.port, timeout=LONG))
        return made[-1]

    front = serve({"laser": gateway})
    client = connect(front.port)
    assert client.idn() == "a laser"
    client.close_rpc()
    front.stop()
    with pytest.raises(ConnectionError):
        made[0].idn()


# Drivers that need the event loop.


class NeedsTheLoop:
    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.peer = current_peer()

    def idn(self):
        assert asyncio.get_running_loop() is self.loop
        return self.peer


async def made_on_the_loop():
    await asyncio.sleep(0)
    return NeedsTheLoop()


@pytest.mark.parametrize("worker_threads", [False, True])
def test_a_coroutine_function_makes_a_driver_on_the_loop(serve, connect, worker_threads):
    class Plain(NeedsTheLoop):
        def idn(self):
            return self.peer

    async def make():
        await asyncio.sleep(0)
        return Plain()

    client = connect(serve({"laser": make}, worker_threads=worker_threads).port)
    assert client.idn().startswith("127.0.0.1:")


@contextlib.asynccontextmanager
async def with_a_task_group(journal):
    async with asyncio.TaskGroup() as group:  # must be left in the task that entered it
        background = group.create_task(asyncio.Event().wait())
        driver, task = NeedsTheLoop(), asyncio.current_task()
        driver.close = lambda: journal.note("closed by whom?")
        try:
            yield driver
        finally:
            background.cancel()
            journal.note("left" if asyncio.current_task() is task else "left elsewhere")


@pytest.mark.parametrize("ended_by", ["client", "server"])
def test_an_asynchronous_manager_is_entered_and_left_in_one_task(serve, connect, journal, ended_by):
    server = serve({"laser": lambda: with_a_task_group(journal)})
    client = connect(server.port)
    assert client.idn().startswith("127.0.0.1:")
    if ended_by == "client":
        client.close_rpc()
        journal.wait_for("left")
    server.stop()
    assert journal == [("left", "server")]


def test_an_asynchronous_manager_is_preferred_and_closed_after_it_was_left(serve, connect, journal):
    async def enter(self):
        journal.note("entered asynchronously")
        return self

    async def leave(self, *what):
        journal.note("left asynchronously")

    async def close(self):
        journal.note("closed")

    driver = managed(journal, __aenter__=enter, __aexit__=leave, close=close)
    server = serve({"laser": driver})
    connect(server.port).close_rpc()
    server.stop()
    assert journal.events == ["made", "entered asynchronously", "left asynchronously", "closed"]


def test_the_client_gets_the_error_of_a_driver_that_cannot_be_made_on_the_loop(
    serve, connect, caplog
):
    async def make():
        await asyncio.sleep(0)
        raise ValueError("no instrument")

    with pytest.raises(ValueError, match="no instrument"):
        connect(serve({"laser": make}).port)
    assert "target 'laser' cannot be made" in caplog.text


def test_a_client_that_leaves_while_its_driver_is_made_leaves_none_behind(serve, connect, journal):
    entered, go_on = threading.Event(), []

    @contextlib.asynccontextmanager
    async def make():
        go_on.append(asyncio.Event())
        entered.set()
        await go_on[0].wait()
        yield NeedsTheLoop()
        journal.note("left")

    server = serve({"laser": make})
    with pytest.raises(TimeoutError):
        connect(server.port, timeout=0.05)
    assert entered.wait(LONG)
    server.do(lambda: go_on[0].set())
    journal.wait_for("left")


@pytest.mark.parametrize("managed", [False, True])
def test_a_driver_made_by_a_coroutine_ends_on_its_thread_when_the_server_stops(
    serve, connect, journal, managed
):
    class Laser:
        def close(self):
            journal.note("closed")

        def idn(self):
            journal.note("called")

    async def make():
        return Laser()

    @contextlib.contextmanager
    def manager():
        journal.note("entered")
        yield Laser()
        journal.note("left")

    async def make_manager():
        return manager()

    server = serve({"laser": make_manager if managed else make}, worker_threads=True)
    connect(server.port).idn()
    server.stop()
    events = ["entered", "called", "left"] if managed else ["called", "closed"]
    assert journal == [(event, "target laser") for event in events]


def test_a_driver_that_is_left_on_the_loop_is_closed_on_its_thread_behind(serve, connect, journal):
    class Laser:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *what):
            for _ in range(50):  # turns of the loop
                await asyncio.sleep(0)

        def close(self):
            journal.note("closed")

    server = serve({"laser": Laser}, worker_threads=True)
    connect(server.port)
    server.stop()
    assert journal == [("closed", "target laser")]


def test_a_server_that_stops_waits_for_no_driver_that_is_being_made(serve, caplog):
    making, cancelled = threading.Event(), threading.Event()

    async def make():
        making.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server = serve({"laser": make})
    caller = threading.Thread(target=_expect_the_end, args=(server.port,))
    caller.start()
    assert making.wait(LONG)
    server.stop()
    caller.join(LONG)
    assert cancelled.is_set()
    assert "cannot be made" not in caplog.text


def _expect_the_end(port):
    with contextlib.suppress(ConnectionError):
        Client("127.0.0.1", port, timeout=LONG)


# The command.


SOURCE = """
import asyncio
import contextlib
import sys

import pyon


def say(text):
    print(text, file=sys.stderr, flush=True)


class Managed:
    def __enter__(self):
        say("entered")
        return self

    def __exit__(self, *what):
        say("left")

    def idn(self):
        return "a laser"


class NeedsTheLoop:
    def __init__(self):
        self.loop = asyncio.get_running_loop()

    def idn(self):
        assert asyncio.get_running_loop() is self.loop
        return "a laser"


async def coroutine(*, delay=0):
    await asyncio.sleep(delay)
    return NeedsTheLoop()


@contextlib.asynccontextmanager
async def grouped():
    async with asyncio.TaskGroup() as group:
        background = group.create_task(asyncio.sleep(3600))
        yield NeedsTheLoop()
        background.cancel()
    say("left")


@contextlib.contextmanager
def generator():
    say("entered")
    yield NeedsTheLoop()
    say("left")


class BadEnter(Managed):
    def __enter__(self):
        {}["shutter"]


class BadExit(Managed):
    def __exit__(self, *what):
        {}["shutter"]


async def hangs():
    say("making")
    try:
        await asyncio.sleep(3600)
    finally:
        say("given up")


@contextlib.asynccontextmanager
async def leaves_never():
    yield NeedsTheLoop()
    await asyncio.sleep(3600)


def database(file):
    import sqlite3
    pyon.register(sqlite3.Cursor, name="rows", encode=lambda c: (c.fetchall(),), decode=list)
    return sqlite3.connect(file)
"""


@pytest.fixture
def command(tmp_path):
    """Start the command."""
    (tmp_path / "drivers.py").write_text(SOURCE)
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-m", "pc_rpc", "serve", "--bind", "127.0.0.1", *arguments],
                cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield start


def port_of(process):
    """Return the port of a command, and its output before it served."""
    before = []
    while " serving " not in (line := process.stderr.readline()):
        assert line, before
        before.append(line.strip())
    return int(line.split()[-1]), before


@pytest.mark.parametrize(
    ("arguments", "before", "after"),
    [
        (["drivers:Managed"], ["entered"], ["left"]),
        (["drivers:Managed", "--worker-threads"], ["entered"], ["left"]),
        (["drivers:NeedsTheLoop"], [], []),
        (["drivers:coroutine", "delay=0.0"], [], []),
        (["drivers:grouped"], [], ["left"]),
        (["drivers:generator"], ["entered"], ["left"]),
    ],
)
def test_the_command_serves_a_driver_as_it_comes(command, arguments, before, after):
    process = command(*arguments)
    port, said = port_of(process)
    assert said == before
    with Client("127.0.0.1", port, timeout=LONG) as client:
        assert client.idn() == "a laser"
        client.terminate()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.split()) == (0, after)


@pytest.mark.parametrize("where", [(), ("--worker-threads",)])
def test_what_entering_or_leaving_raises_is_shown_as_the_drivers(command, where):
    process = command("drivers:BadEnter", *where)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err.endswith("KeyError: 'shutter'\npc-rpc: BadEnter raised KeyError\n")
    process = command("drivers:BadExit", *where)
    with Client("127.0.0.1", port_of(process)[0], timeout=LONG) as client:
        client.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err.endswith("KeyError: 'shutter'\npc-rpc: close() of the driver raised KeyError\n")
    assert "_life.py" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
@pytest.mark.parametrize("where", [(), ("--worker-threads",)])
def test_control_c_while_a_driver_is_awaited_ends_the_command(command, where):
    process = command("drivers:hangs", *where)
    assert process.stderr.readline() == "making\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "given up\n")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_a_signal_has_the_driver_left(command, name):
    process = command("drivers:Managed")
    port_of(process)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "left" in err.split()


# Third-party drivers.


def test_a_connection_of_sqlite_is_served_as_it_is(command, tmp_path):
    codec_entry = {"name": "rows", "encode": lambda rows: (rows,), "decode": list}
    rows = type("Rows", (), {})
    pyon.register(rows, **codec_entry)
    try:
        file = str(tmp_path / "lab.sqlite")
        process = command(
            "drivers:database", f'"{file}"', "--target", "lab", "--worker-threads",
            "--properties", "--expose", "execute", "--expose", "get_total_changes",
        )  # fmt: skip
        with Client("127.0.0.1", port_of(process)[0], "lab", timeout=LONG) as lab:
            assert lab.execute("create table shots (n integer)") == []
            lab.execute("insert into shots values (?), (?)", (41, 42))
            assert lab.execute("select n from shots") == [(41,), (42,)]
            assert lab.get_total_changes() == 2
            with pytest.raises(AttributeError):
                lab.close()
            lab.terminate()
        assert process.wait(60) == 0
        with contextlib.closing(sqlite3.connect(file)) as after:  # it was left: committed
            assert after.execute("select count(*) from shots").fetchone() == (2,)
    finally:
        pyon.deregister(rows, "rows")
