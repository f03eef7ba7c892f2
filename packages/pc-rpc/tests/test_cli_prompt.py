"""The prompt of the pc-rpc command: the meaning of lines, and its look in a terminal."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from pc_rpc import Client, ConnectionLost, IncompatibleServer
from pc_rpc._cli import main
from pc_rpc._cli_arguments import is_open, split_call
from pc_rpc._cli_lines import history_file, missing_toolkit, pipe_reader, terminal_reader
from pc_rpc._cli_prompt import Prompt


class Laser:
    """A laser that does not exist."""

    def __init__(self, power: float = 0.1) -> None:
        self.power = power
        self.started = threading.Event()
        self.released = threading.Event()

    def set_power(self, power: float, *, ramp: bool = False) -> float:
        """Set the power, in watts."""
        self.power = power
        return power

    def get_power(self) -> float:
        return self.power

    def nothing(self) -> None:
        """Return nothing."""

    def trace(self, length: int = 10) -> np.ndarray:
        return np.arange(float(length))

    def fail(self):
        raise ValueError("unlocked")

    def say(self, text):
        return text

    def wait(self):
        self.started.set()
        self.released.wait(30)


class NewLaser(Laser):
    """The laser of the controller that replaces the first one."""

    def get_phase(self) -> float:
        return 0.5


@pytest.fixture
def laser(serve):
    """The port of a server of that laser."""
    return serve({"main": Laser()}, description="a laser").port


@pytest.fixture
def prompt(laser):
    def connect(target):
        return Client("127.0.0.1", laser, target, 30)

    prompt = Prompt(connect, connect("main"), lambda value: "" if value is None else repr(value))
    yield prompt
    prompt.client.close_rpc()


def test_lines_at_the_prompt(prompt):
    assert prompt.text == "main> "
    assert prompt.run("") == ""
    assert prompt.run("set_power 0.5 ramp=true") == "0.5"
    assert prompt.run("nothing") == ""
    assert prompt.run(":targets") == "main"
    assert "get_power() -> float" in prompt.run(":methods")
    assert prompt.run(":help set_power").endswith("-> float\nSet the power, in watts.")
    assert ":use" in prompt.run(":help")
    assert prompt.run(":use main") == ""
    assert prompt.run("get_power") == "0.5"
    assert prompt.run("targets") == "main"  # without a method of that name, no colon is needed
    assert prompt.run("help get_power") == prompt.run(":help get_power")
    assert prompt.run(":quit") is None
    assert prompt.run("quit") is None
    with pytest.raises(AttributeError, match="did you mean 'get_power'"):
        prompt.run("get_powr")


@pytest.mark.parametrize(
    ("before", "completions"),
    [("set", ["set_power"]), (":u", [":use"]), (":use ", ["main"]), (":use m", ["main"]),
     (":help get", ["get_power"]), ("set_power ", ["power=", "ramp="]),
     ("set_power 1 r", ["ramp="]), ("set_power ramp=true ", ["power="]), ("zzz ", [])],
)  # fmt: skip
def test_completion_of_targets_methods_and_arguments(prompt, before, completions):
    assert list(prompt.completions(before)) == completions


class Helpful:
    """A driver with a method of that name."""

    def help(self):
        return "of the driver"


def test_a_method_with_the_name_of_a_command_is_the_method(serve):
    port = serve({"main": Helpful()}).port
    with Client("127.0.0.1", port) as client:
        prompt = Prompt(lambda target: client, client, str)
        assert prompt.run("help") == "of the driver"
        assert ":use" in prompt.run(":help")


def test_a_script_through_a_pipe_ends_at_its_first_error(laser, tmp_path):
    def run(script):
        return subprocess.run(
            [sys.executable, "-m", "pc_rpc", "interactive", "127.0.0.1", str(laser)],
            input=script, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    done = run("set_power 0.25\nget_power\n")
    assert (done.returncode, done.stdout) == (0, "0.25\n0.25\n")
    failed = run("fail\nget_power\n")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "ValueError: unlocked" in failed.stderr


def test_the_history_is_kept_where_the_system_wants_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert history_file("history") == tmp_path / "state" / "pc-rpc" / "history"
    assert history_file("history").parent.is_dir()


def test_where_no_history_can_be_kept_the_prompt_works_without(prompt, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a file"))
    assert history_file("history") is None
    (tmp_path / "pc-rpc" / "history").mkdir(parents=True)  # no file, whoever we are
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file("history") is None
    pipe_input = pytest.importorskip("prompt_toolkit.input").create_pipe_input
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.output import DummyOutput

    with pipe_input() as keys, create_app_session(keys, DummyOutput()):
        read = terminal_reader(prompt)
        keys.send_text("get_power\r")
        assert prompt.run(read()) == "0.1"


# What a line means.


@pytest.mark.parametrize(
    ("line", "words"),
    [("idn()", ["idn"]), ("idn", ["idn"]), ("idn( )", ["idn"]), ("", []), ("  ", []),
     ("set_power(0.5, ramp=true)", ["set_power", "0.5", "ramp=true"]),
     ("set_power( 0.5 ,ramp = true, )", ["set_power", "0.5", "ramp = true"]),
     ("move([1, 2], (3, ), {\"a\": 1})", ["move", "[1, 2]", "(3, )", "{\"a\": 1}"]),
     ("say(\"a, b)\")", ["say", "\"a, b)\""]), ("move (1, 2)", ["move", "(1, 2)"]),
     ("help(idn)", ["help", "idn"])],
)  # fmt: skip
def test_a_call_may_be_written_as_python_writes_it(line, words):
    assert split_call(line) == words


@pytest.mark.parametrize("line", ["idn() 5", "idn(", "idn()()x", "idn(1"])
def test_a_malformed_python_call_is_refused(line):
    with pytest.raises(ValueError, match=r"expected METHOD\(ARGUMENT, NAME=ARGUMENT\), got 'idn"):
        split_call(line)


def test_python_calls_at_the_prompt(prompt):
    assert prompt.run("set_power(0.25, ramp=true)") == "0.25"
    assert prompt.run("set_power( power = 0.5 )") == "0.5"
    assert prompt.run("get_power()") == "0.5"
    assert (
        prompt.run("help(get_power)") == prompt.run("get_power?") == prompt.run(":help get_power")
    )
    assert prompt.run("quit()") is prompt.run("exit") is None
    with pytest.raises(ValueError, match="expected a PYON value, got ''"):
        prompt.run("set_power(1,,2)")


def test_a_python_call_on_the_command_line(laser, capsys):
    assert main(["call", "127.0.0.1", str(laser), "set_power(0.5, ramp=true)"]) == 0
    assert main(["call", "127.0.0.1", str(laser), "get_power()"]) == 0
    assert capsys.readouterr().out == "0.5\n0.5\n"


@pytest.mark.parametrize("text", ["2024-05-01T12:00", "abc", "COM3", "10mV", "/dev/tty", "on/off"])
def test_a_text_without_quotes_gets_the_hint_to_quote_it(prompt, text):
    with pytest.raises(ValueError, match="a string needs quotes: '\"" + re.escape(text)):
        prompt.run(f"say {text}")


def test_without_a_target_the_targets_are_named(serve):
    port = serve({"laser": Laser(), "camera": Laser()}).port
    client = Client("127.0.0.1", port, None, 30)
    prompt = Prompt(lambda target: Client("127.0.0.1", port, target, 30), client, repr)
    with pytest.raises(ValueError, match=r"`:use NAME` selects one of camera, laser"):
        prompt.run("get_power")
    with pytest.raises(ValueError, match=r"`:use NAME` selects"):
        prompt.run(":help get_power")
    with pytest.raises(ValueError, match="expected :use NAME"):
        prompt.run(":use")
    with pytest.raises(ValueError, match="no command ':dance'"):
        prompt.run(":dance")
    prompt.run(":use camera")
    assert prompt.run("get_power()") == "0.1"
    prompt.client.close_rpc()


# A controller that is restarted.


@pytest.fixture
def restart(serve):
    """A prompt at a controller, its notes, and a function that starts another controller."""
    laser = Laser(0.1)
    first = serve({"main": laser}, worker_threads=True)
    servers, notes = [first], []

    def connect(target):
        return Client("127.0.0.1", servers[-1].port, target, 30)

    prompt = Prompt(connect, connect("main"), repr, notes.append)

    def restart(targets=None):
        servers.append(serve(targets or {"main": NewLaser(0.7)}))
        first.stop()
        laser.released.set()
        prompt.client._target._received_at = 0.0  # in a process of its own a restart takes longer

    restart.laser = laser
    yield prompt, notes, restart
    prompt.client.close_rpc()


def test_a_call_after_a_restart_is_made_at_the_new_controller_with_a_note(restart):
    prompt, notes, start_another = restart
    assert prompt.run("get_power") == "0.1"
    start_another()
    assert prompt.run("get_power") == "0.7"
    assert notes == ["the connection was lost; connected again"]


def test_methods_and_completion_are_those_of_the_new_controller(restart):
    prompt, notes, start_another = restart
    assert list(prompt.completions("get")) == ["get_power"]
    start_another()
    assert list(prompt.completions("get")) == ["get_phase", "get_power"]
    assert notes == []  # not while a line is typed
    prompt.run("get_phase")
    assert notes == ["the connection was lost; connected again"]


@pytest.mark.parametrize("line", ["get_phase", "get_phase()", ":help get_phase", ":methods"])
def test_a_new_method_is_found_before_the_restart_is_noticed(restart, line):
    prompt, notes, start_another = restart
    start_another()
    assert prompt.run(line)
    assert len(notes) == 1


def test_new_targets_are_listed_and_a_missing_target_is_an_error(restart):
    prompt, _, start_another = restart
    start_another({"laser": Laser()})
    with pytest.raises(IncompatibleServer, match="laser"):
        prompt.run("get_power")
    assert list(prompt.completions("get")) == ["get_power"]  # as it was
    prompt.run(":use laser")
    assert prompt.run(":targets") == "laser"


def test_a_call_that_may_have_been_executed_is_not_repeated(restart):
    prompt, notes, start_another = restart
    thread = threading.Thread(
        target=lambda: (start_another.laser.started.wait(30), start_another())
    )
    thread.start()
    with pytest.raises(ConnectionLost, match="it may have been executed, so it was not repeated"):
        prompt.run("wait")
    thread.join(30)
    assert len(notes) == 1
    assert prompt.run("get_power") == "0.7"


def test_without_a_controller_every_line_tries_again(restart):
    prompt, notes, start_another = restart
    prompt._connect = lambda target: Client("127.0.0.1", 1, target, 30)
    start_another()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            prompt.run("get_power")
    assert notes == []
    assert list(prompt.completions("get_p")) == ["get_power"]


def test_completion_does_not_wait_for_a_server_that_is_busy(serve):
    driver = Laser()
    port = serve({"main": driver}).port  # methods run on its event loop
    client = Client("127.0.0.1", port, "main", 60)
    prompt = Prompt(lambda target: client, client, repr)
    with Client("127.0.0.1", port, "main", 60) as other:
        caller = threading.Thread(target=other.wait)
        caller.start()
        assert driver.started.wait(30)
        assert list(prompt.completions("get_p")) == ["get_power"]
        assert not driver.released.is_set()
        driver.released.set()
        caller.join(30)
    client.close_rpc()


# Lines that go on.


def test_a_line_goes_on_while_a_bracket_or_a_string_is_open(monkeypatch):
    assert is_open("move [1,")
    assert is_open("move(1,")
    assert is_open("say \"it's")
    assert not is_open('say "[("')
    lines = iter(["move [1,", "2,", "3]", 'say "one', 'two"', "get_power", "move(1"])
    monkeypatch.setattr("builtins.input", lambda *_: next(lines, None) or _end())
    assert pipe_reader() == "move [1,\n2,\n3]"
    assert pipe_reader() == 'say "one\ntwo"'
    assert pipe_reader() == "get_power"
    assert pipe_reader() == "move(1"  # the end of the text: what there is will be refused
    with pytest.raises(EOFError):
        pipe_reader()


def _end():
    raise EOFError


def test_a_script_may_have_lines_that_go_on(laser):
    done = subprocess.run(
        [sys.executable, "-m", "pc_rpc", "interactive", "127.0.0.1", str(laser)],
        input='set_power(\n  0.25,\n)\nsay "one\ntwo"\nsay [1', capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == '0.25\n"one\\ntwo"\n'
    assert done.returncode == 2
    assert "expected a PYON value, got '[1'" in done.stderr


# In a terminal.


PROMPT_AGAIN = r"\n(.*\n)*main> *\s*\Z"
"""The prompt is there, and nothing behind it: what is typed earlier may be lost."""


_numbers = itertools.count()  # a server of tmux that ends may not take the name of the next one


class Terminal:
    """A real terminal, in tmux."""

    def __init__(self, folder):
        self._tmux = ["tmux", "-L", f"pc-rpc-test-{os.getpid()}-{next(_numbers)}", "-f", os.devnull]
        self._run("new-session", "-d", "-x", "100", "-y", "50", "-c", str(folder), "sh")
        self.type(
            f"export XDG_STATE_HOME={folder} PROMPT_TOOLKIT_NO_CPR=1 PS1='shell$ '; clear", "Enter"
        )

    def _run(self, *arguments):
        return subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, timeout=30, check=True
        ).stdout

    def start(self, command, port, *options, before=""):
        python = [sys.executable, "-m", "pc_rpc", command, "127.0.0.1", str(port), *options]
        self.type(f"clear; {before}{' '.join(python)}", "Enter")

    def type(self, *keys):
        self._run("send-keys", *keys)

    def wait_for(self, pattern):
        deadline = time.monotonic() + 30
        while not re.search(pattern, screen := self._run("capture-pane", "-p"), re.MULTILINE):
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{screen}"
        return screen

    def close(self):
        self._run("kill-server")


@pytest.fixture
def terminal(tmp_path):
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def test_a_tour_in_a_real_terminal(laser, tmp_path, terminal):
    pytest.importorskip("prompt_toolkit")
    terminal.start("interactive", laser)
    terminal.wait_for(r"^main> *$")
    terminal.type("set_p", "Tab")
    terminal.wait_for(r"^main> set_power")
    terminal.type("0.5 ra", "Tab")  # the space is there
    terminal.wait_for(r"^main> set_power 0\.5 ramp=")
    terminal.type("true", "Enter")
    terminal.wait_for(r"^0\.5$" + PROMPT_AGAIN)
    terminal.type("trace 101", "Enter")
    terminal.wait_for(r"^array\(\[ *0\..*\.\.\..*" + PROMPT_AGAIN)
    terminal.type("fail", "Enter")
    terminal.wait_for(r"^ValueError: unlocked$" + PROMPT_AGAIN)
    terminal.type("Up", "Up", "Up", "Enter")  # the first line again
    terminal.wait_for(r"^0\.5$\n(.*\n)+0\.5$" + PROMPT_AGAIN)
    terminal.type(":he", "Tab")
    terminal.wait_for(r"^main> :help")
    terminal.type("get_p", "Tab")
    terminal.wait_for(r"^main> :help +get_power")
    terminal.type("Enter")
    terminal.wait_for(r"^get_power\(\) -> float$" + PROMPT_AGAIN)
    terminal.type("C-d")
    terminal.wait_for(r"^shell\$ *$")
    assert "set_power 0.5 ramp=true" in (tmp_path / "pc-rpc" / "history").read_text()


def test_lines_go_on_in_a_terminal_and_control_c_drops_them(laser, terminal):
    pytest.importorskip("prompt_toolkit")
    terminal.start("interactive", laser)
    terminal.wait_for(r"^main> *$")
    terminal.type("say [1,", "Enter")
    terminal.wait_for(r"^\.\.\. *$")
    terminal.type("2]", "Enter")
    terminal.wait_for(r"^\[1, 2\]$" + PROMPT_AGAIN)
    terminal.type("say [5,", "Enter")
    terminal.wait_for(r"^main> say \[5,\n\.\.\. *$")
    terminal.type("C-c")
    terminal.wait_for(r"^main> say \[5,\n(.*\n)*main> *\s*\Z")
    terminal.type("get_power()", "Enter")
    terminal.wait_for(r"^0\.1$" + PROMPT_AGAIN)


def test_control_c_in_a_terminal_gives_up_the_call_only(serve, terminal):
    driver = Laser()
    port = serve({"main": driver}, worker_threads=True).port
    terminal.start("interactive", port)
    terminal.wait_for(r"^main> *$")
    terminal.type("wait", "Enter")
    assert driver.started.wait(30)
    terminal.type("C-c")
    terminal.wait_for(r"^given up; the server may still be executing the call$" + PROMPT_AGAIN)
    driver.released.set()
    terminal.type("get_power", "Enter")
    screen = terminal.wait_for(r"^0\.1$" + PROMPT_AGAIN)
    assert "Traceback" not in screen


WITHOUT_TOOLKIT = "import sys; sys.modules['prompt_toolkit'] = None"


def test_without_prompt_toolkit_there_is_a_hint_and_python_edits_the_line(
    laser, terminal, tmp_path
):
    pytest.importorskip("readline")
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TOOLKIT)
    terminal.start("interactive", laser, before=f"PYTHONPATH={tmp_path} ")
    terminal.wait_for(r"^This is a plain prompt\. .*\n.*prompt-toolkit.*" + PROMPT_AGAIN)
    terminal.type("set_p", "Tab")
    terminal.wait_for(r"^main> set_power")
    terminal.type("0.5 ra", "Tab")
    terminal.wait_for(r"^main> set_power 0\.5 ramp=")
    terminal.type("true", "Enter")
    terminal.wait_for(r"^0\.5$" + PROMPT_AGAIN)
    terminal.type("say [1,", "Enter")
    terminal.wait_for(r"^\.\.\. *$")
    terminal.type("2]", "Enter")
    terminal.wait_for(r"^\[1, 2\]$" + PROMPT_AGAIN)
    terminal.type("C-d")
    terminal.wait_for(r"^shell\$ *$")
    assert "set_power 0.5 ramp=true" in (tmp_path / "pc-rpc" / "history-readline").read_text()


def test_the_hint_names_what_is_missing_and_how_to_get_it_here(monkeypatch):
    import importlib.util

    there = {"pip"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
    assert f"{sys.executable} -m pip install prompt-toolkit" in missing_toolkit()
    there.clear()
    assert f"install the package prompt-toolkit into {sys.prefix}" in missing_toolkit()
    there.add("prompt_toolkit")
    assert missing_toolkit() is None


def test_a_long_result_is_cut_in_a_terminal_and_whole_in_a_pipe(laser, capsys, monkeypatch):
    call = ["call", "127.0.0.1", str(laser), "say", repr(list(range(5000)))]
    assert main(call) == 0
    assert capsys.readouterr().out == repr(list(range(5000))) + "\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(call) == 0
    shown = capsys.readouterr().out
    assert len(shown) < 9000
    assert re.search(r"\.\.\. \d+ more characters \(a pipe gets all of them\)\n\Z", shown)
