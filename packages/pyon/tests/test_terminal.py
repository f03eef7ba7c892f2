"""terminal: foreign text cannot control it, and a closed pipe is not an error."""

import os
import subprocess
import sys

import pytest
from pyon.terminal import OUTPUT_FAILED, READER_GONE, OutputError, complain, emit, legible, run

LONG = 10**6  # more than any pipe holds


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("25 °C, 漢字", "25 °C, 漢字"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb", "a\\rb"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\x07", "\\x07"),
        ("one\ntwo\t3", "one\\ntwo\\t3"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert legible(text) == shown


def test_a_paragraph_keeps_its_lines_and_nothing_else():
    assert legible("one\n\ttwo\r\x1b[1m", lines=True) == "one\n\ttwo\\r\\x1b[1m"


def test_what_the_encoding_lacks_is_escaped():
    code = "from pyon.terminal import emit; emit('25 \\N{DEGREE SIGN}C\\n')"
    done = python(code, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (0, b"25 \\xb0C" + os.linesep.encode())


def test_an_error_of_a_command_is_one_line(capsys):
    complain("pyon", "no such\nfile\x1b[1m")
    assert capsys.readouterr().err == "pyon: no such\\nfile\\x1b[1m\n"


def test_a_program_without_a_console_writes_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    emit("x")
    complain("pyon", "x")
    assert run("pyon", lambda: 3) == 3


def python(code, *, unbuffered="", **options):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output="stdout" not in options,
        check=False,
        **{"env": {**os.environ, "PYTHONUNBUFFERED": unbuffered}, **options},
    )


def command(body):
    return f"""
import sys
from pyon.terminal import emit, run
def main():
    {body}
    return 3
sys.exit(run("tool", main))
"""


BODIES = {
    "emit": f"emit('x' * {LONG})",
    "print": "print('short enough for the buffer')",
    "print much": f"print('x' * {LONG})",
    "help": "import argparse; argparse.ArgumentParser().parse_args(['--help'])",
}


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_reader_that_has_gone_ends_the_command_quietly(body, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = python(command(body), unbuffered=unbuffered, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (READER_GONE, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="asks for a disk that is full")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_an_error_of_standard_output_is_reported_as_such(body, unbuffered):
    with open("/dev/full", "w") as full:
        done = python(command(body), unbuffered=unbuffered, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == OUTPUT_FAILED
    assert done.stderr == b"tool: cannot write standard output: No space left on device\n"


def test_a_standard_error_that_nobody_reads_ends_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    code = "from pyon.terminal import complain, emit; complain('tool', 'x'); emit('fine')"
    try:
        done = python(code, stdout=subprocess.PIPE, stderr=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"fine")


def test_the_status_of_the_command_is_kept():
    assert run("tool", lambda: 5) == 5


def test_other_errors_pass():
    def fail():
        raise BrokenPipeError(32, "of a socket")

    with pytest.raises(BrokenPipeError):
        run("tool", fail)


def test_an_error_of_the_output_is_not_taken_for_one_of_a_file():
    assert not issubclass(OutputError, OSError)
