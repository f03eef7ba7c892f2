"""The pc-rpc command: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pyon
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pc_rpc import Client
from pc_rpc._cli import main
from pc_rpc._cli_arguments import parse_arguments, split_words

DRIVER = '''
"""A driver to serve."""
import asyncio
import numpy as np

class Laser:
    """A laser that does not exist."""
    def __init__(self, power: float = 0.1, *, name: str = "x"):
        self.power = power
        self.name = name

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

    def given(self, *args, **kwargs):
        return [*args, kwargs]

    def close(self):
        print("laser off", flush=True)

class CallableLaser(Laser):
    """A laser that can be called, too."""
    def __call__(self):
        print("called", flush=True)

    @property
    def temperature(self):
        print("asked for its temperature", flush=True)

class AsyncLaser:
    async def open(self):
        self.loop = asyncio.get_running_loop()

    async def close(self):
        same = asyncio.get_running_loop() is self.loop
        print(f"laser off, on the same loop: {same}", flush=True)
'''


@pytest.fixture
def laser(serve, tmp_path, monkeypatch):
    """The port of a server of that driver."""
    (tmp_path / "laser_driver.py").write_text(DRIVER)
    namespace = {}
    source = (tmp_path / "laser_driver.py").read_text()
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    module = importlib.import_module("laser_driver")
    assert module.__doc__ in source
    namespace["main"] = module.Laser()
    yield serve(namespace, description="a laser").port
    del sys.modules["laser_driver"]


@pytest.fixture
def run(laser, capsys):
    """Run the command in this process: status, stdout, stderr."""

    def run(command, *arguments, target=True, port=None):
        where = ["127.0.0.1", str(port or laser)] if target else []
        status = main([command, *where, *arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


# Words.


@given(st.lists(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x, max_size=3)
), max_size=4))  # fmt: skip
def test_every_value_that_can_be_encoded_can_be_typed(values):
    line = "  ".join(pyon.encode(value) for value in values)
    assert parse_arguments(split_words(line)) == (values, {})


def test_keyword_arguments_and_strings_with_equal_signs():
    words = split_words("""1 "a=b" 'c d' x="y z" z=[1, (2, )]""")
    assert parse_arguments(words) == ([1, "a=b", "c d"], {"x": "y z", "z": [1, (2,)]})


def test_keyword_arguments_of_any_script():
    assert parse_arguments(["\N{GREEK SMALL LETTER LAMDA}=5"]) == ([], {"\u03bb": 5})
    # The micro sign is on keyboards; the name of a parameter is the Greek letter that Python makes
    # of it.
    assert parse_arguments(["\N{MICRO SIGN}=5"]) == ([], {"\N{GREEK SMALL LETTER MU}": 5})


@pytest.mark.parametrize(
    ("word", "hint"),
    [("abc", "a string needs quotes: '\"abc\"'"), ("__import__('os')", "expected a PYON value"),
     ("1+1", "expected a PYON value"), ("x=", "expected a PYON value"), ('"abc', "expected")],
)  # fmt: skip
def test_an_invalid_value_is_refused_with_a_hint(word, hint):
    with pytest.raises(ValueError, match=re.escape(hint)):
        parse_arguments([word])


def test_a_positional_argument_behind_a_keyword_is_refused():
    with pytest.raises(ValueError, match="comes behind a keyword argument"):
        parse_arguments(["a=1", "2"])


# Commands.


def test_a_pipe_gets_pyon(run):
    status, out, _ = run("list-targets")
    assert (status, pyon.decode(out)) == (0, {"targets": ["main"], "description": "a laser"})
    status, out, _ = run("list-methods")
    assert pyon.decode(out)["methods"]["nothing"][1] == "Return nothing."
    assert run("call", "set_power", "0.5", "ramp=true") == (0, "0.5\n", "")
    status, out, _ = run("call", "trace", "length=3")
    assert pyon.decode(out).tolist() == [0.0, 1.0, 2.0]
    assert run("call", "nothing") == (0, "null\n", "")


@pytest.mark.parametrize(
    "word", ["-5", "-.5", "-1.", "-1e-3", "-inf", "-nan", "-5j", "-1e3-2j", "-Infinity"]
)
def test_negative_numbers_are_values(run, word):
    status, out, _ = run("call", "given", "1", word, "2", f"x={word}")
    value = repr(pyon.decode(word))
    assert (status, repr(pyon.decode(out))) == (0, f"[1, {value}, 2, {{'x': {value}}}]")


@pytest.mark.parametrize(
    "words",
    ["call {} given 1 -2.e0 --json", "call {} given --json 1 -2.e0", "call --json {} given 1 -2.e0",
     "call {} given 1 --json -2.e0", "call {} --json given 1 -- -2.e0",
     "call {} given --json -- 1 -2.e0",
     "call {} given -t main 1 --json -2.e0", "call {} -- given 1 -2.e0"],
)  # fmt: skip
def test_options_may_stand_anywhere_among_the_arguments(laser, capsys, words):
    assert main(words.format(f"127.0.0.1 {laser}").split()) == 0
    assert json.loads(capsys.readouterr().out) == [1, -2.0, {}]


@pytest.mark.parametrize(
    "words",
    ["call ::1 9 given --jsno", "call ::1 9 given 1 --jsno 2", "call ::1 9 given -- --json",
     "call --jsno ::1 9 given", "serve laser_driver:Laser 1 --prot 5", "ping ::1 9 1",
     "ping ::1 9 -1", "ping ::1 9 --jsno", "call ::1 9"],
)  # fmt: skip
def test_unknown_options_are_refused(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    assert re.search("unrecognized arguments: |are required: ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "message"),
    [("ping ::1 99999", "expected a TCP port, 0 to 65535, got '99999'"),
     ("ping ::1 http", "expected a TCP port, 0 to 65535, got 'http'"),
     ("ping ::1 -1", "port"), ("serve drivers:Bare --port 65536", "expected a TCP port"),
     ("ping ::1 1 --timeout nan", "expected a number of seconds, got 'nan'"),
     ("ping ::1 1 --timeout -1", "expected"),
     ("ping ::1 1 --timeout 5s", "expected a number of seconds, got '5s'")],
)  # fmt: skip
def test_an_invalid_number_is_refused(capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_without_arguments_the_commands_are_listed(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: pc-rpc" in err
    assert "List the methods of a target." in err


def test_the_usage_names_the_arguments(capsys):
    for command, usage in (
        ("call", "usage: pc-rpc call [option ...] host port method [argument ...]\n"),
        ("serve", "usage: pc-rpc serve [option ...] MODULE:CLASS [argument ...]\n"),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = capsys.readouterr().out
        assert shown.startswith(usage)
        assert "PYON values" in shown


def test_json_is_json(run):
    assert json.loads(run("list-targets", "--json")[1])["targets"] == ["main"]
    assert json.loads(run("call", "get_power", "--json")[1]) == 0.1


def test_a_terminal_gets_formatted_text(run, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run("list-targets")[1] == "main\n\na laser\n"
    out = run("list-methods")[1]
    assert "A laser that does not exist." in out
    assert "set_power(power: float, *, ramp: bool = False) -> float\n    Set the power" in out
    assert "..." in run("call", "trace", "5000")[1]  # numpy shortens it
    assert run("call", "nothing")[1] == ""


def test_ping_shows_the_time_of_the_answer(run):
    status, out, _ = run("ping")
    assert status == 0
    assert re.fullmatch(r"answer from 127.0.0.1:\d+ in \d+\.\d\d ms\n", out)


def test_an_exception_of_a_method_is_shown_with_the_remote_traceback(run):
    status, out, err = run("call", "fail")
    assert (status, out) == (1, "")
    assert err.startswith("At the server:\nTraceback (most recent call last):\n  File ")
    assert "in fail" in err
    assert err.endswith("ValueError: unlocked\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["set_power", "abc"], "a string needs quotes"), (["set_powr"], "did you mean 'set_power'"),
     (["get_power", "--cert", "x"], "TLS needs --cert, --key and --peer-cert")],
)  # fmt: skip
def test_a_mistake_in_the_command_line_has_status_2(run, arguments, message):
    status, out, err = run("call", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    with pytest.raises(SystemExit) as caught:
        run("dance")
    assert caught.value.code == 2


def test_no_server_and_no_target_have_status_3(run, scripted_peer):
    assert run("call", "get_power", "-t", "zzz")[0] == 3
    assert run("ping", port=1)[0] == 3

    def script(sock, lines):
        while lines.readline():
            pass

    status, _, err = run("ping", "--timeout", "0.1", port=scripted_peer(script).port)
    assert status == 3
    assert "did not answer within the time-out" in err


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "no.such.host.invalid"])
def test_a_server_that_cannot_be_reached_is_named(capsys, host):
    assert main(["ping", host, "1"]) == 3
    where = f"[{host}]:1" if ":" in host else f"{host}:1"
    err = capsys.readouterr().err
    assert err.count(where) == 1
    assert "Traceback" not in err


# Serving, as a process of its own.


@pytest.fixture
def serving(tmp_path):
    """Start the command that serves a driver; give the process and the port."""
    (tmp_path / "laser_driver.py").write_text(DRIVER)
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "pc_rpc", "serve", *arguments, "--bind", "127.0.0.1"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        line = process.stderr.readline()
        match = re.search(r"INFO pc_rpc: serving laser on 127.0.0.1 port (\d+)$", line)
        return process, int(match[1])

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_any_class_is_served_without_writing_a_server(serving):
    process, port = serving(
        "laser_driver:Laser", "--target", "laser", "--description", "here", "-5e-1",
        "--worker-threads", 'name="y"',
    )  # fmt: skip
    with Client("127.0.0.1", port, timeout=30) as client:
        assert client.get_rpc_id() == (["laser"], "here")
        assert client.get_power() == -0.5
        client.terminate()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "laser off\n", "")


def test_a_callable_object_is_served_itself(serving):
    process, port = serving("laser_driver:CallableLaser", "--target", "laser", "--hide", "trace")
    for power in (0.1, 0.5):
        with Client("127.0.0.1", port, timeout=30) as client:
            assert client.get_power() == power
            client.set_power(0.5)
            described = client.get_rpc_method_list()
    assert described["docstring"] == "A laser that can be called, too."
    assert "trace" not in described["methods"]
    assert described["methods"]["set_power"][1] == "Set the power, in watts."
    with Client("127.0.0.1", port, timeout=30) as client:
        client.terminate()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "laser off\n", "")


def test_a_driver_whose_close_is_a_coroutine_is_closed_by_the_loop_that_served_it(serving):
    process, port = serving("laser_driver:AsyncLaser", "--target", "laser")
    with Client("127.0.0.1", port, timeout=30) as client:
        client.open()
        client.terminate()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "laser off, on the same loop: True\n", "")


def test_clients_cannot_call_hidden_methods(serving):
    _, port = serving("laser_driver:Laser", "--target", "laser", "--hide", "close")
    with Client("127.0.0.1", port, timeout=30) as client:
        assert client.get_power() == 0.1
        with pytest.raises(AttributeError, match="close"):
            client.close


def test_an_unknown_method_to_hide_is_an_error(tmp_path):
    (tmp_path / "laser_driver.py").write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, "-m", "pc_rpc", "serve", "laser_driver:Laser", "--hide", "clsoe"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "laser off\n")
    assert "Laser has no method 'clsoe'" in done.stderr


@pytest.mark.parametrize("factory", ["no_such_module:Laser", "laser_driver"])
def test_an_object_that_cannot_be_served_is_an_error(run, factory):
    status, _, err = run("serve", factory, target=False)
    assert status == 2
    assert "no_such_module" in err or "expected MODULE:CLASS" in err


# Stubs.


RIGHT = """
from laser_stub import AsyncioMain, Main
from pc_rpc import AsyncioClient, Client
with Client[Main]("::1", 3249) as laser:
    power: float = laser.set_power(0.5, ramp=True)
    length: int = laser.trace(length=3).size
client = Client[Main]("::1", 3249)
client.__rpc__.set_power(1.0)
client.with_rpc_timeout(1.0).set_power(1.0)
client.close_rpc()
async def later() -> float:
    async with AsyncioClient[AsyncioMain]() as other:
        await other.connect_rpc("::1", 3249, "main")
        return await other.__rpc__.set_power(0.5)
untyped = Client("::1", 3249)
untyped.whatever(1, 2)
"""
WRONG = """
from laser_stub import Main
from pc_rpc import Client
with Client[Main]("::1", 3249) as laser:
    laser.set_powr(0.5)
    laser.set_power("much")
    power: str = laser.get_power()
Client[Main]("::1", 3249).with_rpc_timeout(1.0).trace(lenght=3)
"""


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])  # pyright, with all that it needs
def test_a_stub_accepts_a_right_program_and_rejects_a_wrong_one(run, tmp_path, checker):
    pytest.importorskip(checker)
    assert run("stubs", "-o", str(tmp_path / "laser_stub.py"))[0] == 0
    errors = {}
    for name, program in (("right", RIGHT), ("wrong", WRONG)):
        (tmp_path / f"{name}.py").write_text(program)
        command = [sys.executable, "-m", checker, f"{name}.py"]
        if checker == "mypy":
            command += ["--strict", "--cache-dir", str(tmp_path / "cache")]
        else:
            (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
            command += ["--pythonpath", sys.executable]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        errors[name] = [line for line in done.stdout.split("\n") if " error: " in line
                        or " - error" in line]  # fmt: skip
        assert (done.returncode == 0) == (name == "right"), done.stdout + done.stderr
    assert errors["right"] == []
    assert [re.search(r"wrong\.py:(\d+)", line)[1] for line in errors["wrong"]] == list("5678")


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_control_c_has_the_status_of_a_shell(laser):
    process = subprocess.Popen(
        [sys.executable, "-m", "pc_rpc", "interactive", "127.0.0.1", str(laser)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdin.write("get_power\n")
    process.stdin.flush()
    assert process.stdout.readline() == "0.1\n"
    process.send_signal(signal.SIGINT)
    process.stdin.close()
    process.wait(30)
    assert process.returncode in {0, 130}
    process.stdout.close()
    process.stderr.close()
