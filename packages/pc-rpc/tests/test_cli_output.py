"""The output of the pc-rpc command: on a terminal, into a pipe, onto a full disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy
import pyon
import pytest
from pc_rpc._cli import main


class Instrument:
    """A driver with results and exceptions that are hard to show."""

    def hung_up(self):
        raise BrokenPipeError(32, "Broken pipe")

    def ask(self, line):
        return line

    def several(self):
        try:
            raise KeyError("first")
        except KeyError as first:
            second = ValueError("second")
            second.add_note("Is the shutter open?")
            raise ExceptionGroup("both", [second, OSError(5, "third")]) from first

    def trace(self, length):
        return numpy.arange(float(length))

    def half_a_character(self):
        return "a\ud800b"

    def escape(self):
        return "\x1b]0;title\x07\x1b[2Jtwo\nlines\r"

    def raise_escape(self):
        raise ValueError("\x1b[2J")


@pytest.fixture
def port(serve):
    return serve({"main": Instrument()}).port


@pytest.fixture
def start(port):
    """Start the command as a process of its own, its stdin and stdout being pipes, or a file."""
    processes = []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

    def start(command, *arguments, stdout=subprocess.PIPE):
        processes.append(subprocess.Popen(
            [sys.executable, "-m", "pc_rpc", command, "127.0.0.1", str(port), *arguments],
            stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE, text=True,
            env=environment,
        ))  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def terminal(port, monkeypatch, capsys):
    """Run the command as if stdout were a terminal, with the lines of a script: status, output."""

    def run(command, *arguments, script=()):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        lines = iter(script)
        monkeypatch.setattr("builtins.input", lambda: next(lines, None) or _end())
        status = main([command, "127.0.0.1", str(port), *arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def _end():
    raise EOFError


# Broken pipes.


def test_a_broken_pipe_at_the_server_is_an_error_of_the_method(start):
    for process in (start("call", "hung_up"), start("interactive")):
        out, err = process.communicate("hung_up\nask 1\n", timeout=60)
        assert (process.returncode, out) == (1, "")
        assert "in hung_up" in err
        assert err.endswith("BrokenPipeError: [Errno 32] Broken pipe\n")


@pytest.mark.parametrize("command", [["call", "ask", "5"], ["interactive"], ["stubs"], ["ping"]])
def test_a_closed_pipe_ends_the_command_quietly(start, command):
    process = start(*command)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate("ask 5\n", timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
@pytest.mark.parametrize("command", [["call", "ask", "5"], ["interactive"], ["stubs"]])
def test_a_full_disk_is_an_error(start, command):
    with open("/dev/full", "w") as full:
        process = start(*command, stdout=full)
    _, err = process.communicate("ask 5\n", timeout=60)
    assert process.returncode == 74
    assert err == "pc-rpc: cannot write standard output: No space left on device\n"


# On a terminal.


def test_control_characters_are_escaped_on_a_terminal(terminal):
    assert terminal("call", "half_a_character") == (0, "a\\ud800b\n", "")
    assert terminal("call", "escape") == (0, "\\x1b]0;title\\x07\\x1b[2Jtwo\nlines\\r\n", "")
    assert terminal("call", "raise_escape")[2].endswith("ValueError: \\x1b[2J\n")
    shown = terminal("interactive", script=["half_a_character", "ask 5"])
    assert shown == (0, "a\\ud800b\n5\n", "")


def test_an_error_is_shown_as_the_server_would_have_shown_it(start):
    process = start("call", "several")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    without_frames = re.sub(r"( *\|)? +(File|raise|\^).*\n", "", err)
    assert (
        without_frames
        == """At the server:
Traceback (most recent call last):
KeyError: 'first'

The above exception was the direct cause of the following exception:

  + Exception Group Traceback (most recent call last):
  | ExceptionGroup: both (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: second
    | Is the shutter open?
    +---------------- 2 ----------------
    | OSError: [Errno 5] third
    +------------------------------------
"""
    )
    assert err.count("in several") == 2  # where it was raised, and where its cause was
    assert "pc_rpc" not in err


# In a pipe.


def test_a_script_through_a_pipe_gets_pyon(start):
    process = start("interactive")
    out, _ = process.communicate('trace 5000\nask "two words"\nask null\n', timeout=60)
    trace, words, nothing = out.splitlines()
    assert pyon.decode(trace).tolist() == list(range(5000))
    assert (words, nothing) == ('"two words"', "null")
    alone, _ = start("call", "trace", "5000").communicate(timeout=60)
    assert alone == f"{trace}\n"


def test_a_terminal_gets_formatted_text_at_the_prompt(terminal):
    _, out, _ = terminal("interactive", script=["trace 5000", 'ask "two words"', "ask null"])
    assert re.fullmatch(r"array\(\[.*\.\.\., .*\)\ntwo words\n", out, re.DOTALL)
