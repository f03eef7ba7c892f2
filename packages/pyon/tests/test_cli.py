"""The `pyon` command, as it is typed."""

import errno
import os
import shutil
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pyon
import pytest
from pyon._cli import main


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pyon.store_file("good.pyon", {"scan": (1, 2), "trace": np.arange(100.0), "few": np.arange(3)})
    (tmp_path / "bad.pyon").write_text('{"a": 1,\n "b": foo}')
    return tmp_path


def test_show_summarises_arrays(files, capsys):
    assert main(["show", "good.pyon"]) == 0
    out = capsys.readouterr().out
    assert '"trace": array((100, ), "float64", 0.0, 99.0)' in out
    assert '"scan": (1, 2)' in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        (np.array([np.nan, 1.0]), 'array([nan, 1.0], "float64")'),
        (np.array(5), 'array(5, "int64")'),
        (np.float32(1.5), 'scalar(1.5, "float32")'),
        (np.datetime64("2026-01-31"), 'scalar("2026-01-31", "datetime64[D]")'),
        (np.array(["2026-01-31", "NaT"] * 9, "M8[D]"), '"2026-01-31", "2026-01-31")'),
        (np.array([np.nan, *range(10)]), 'array((11, ), "float64", 0.0, 9.0)'),
        (np.zeros((0, 3)), 'array((0, 3), "float64")'),
        (np.zeros(2, [("t", "M8[s]")])[1], "scalar(\"('1970-01-01T00:00:00',)\","),
        (np.zeros(9, [("t", "f8")]), "array((9, ), \"[('t', '<f8')]\")"),
        (OrderedDict([(1, np.zeros(9))]), 'array((9, ), "float64", 0.0, 0.0)'),
        ("d\u00e9tuning \U0001f600 \\u00e9 \u2028", '"d\u00e9tuning \U0001f600 \\\\u00e9 \\u2028"'),
        ("\ud800", '"\\ud800"'),
    ],
)
def test_show_is_legible(files, capsys, x, shown):
    pyon.store_file("x.pyon", x)
    assert main(["show", "x.pyon"]) == 0
    assert shown in capsys.readouterr().out


def test_show_escapes_what_the_terminal_cannot_write(files):
    pyon.store_file("x.pyon", "d\u00e9tuning")
    done = subprocess.run(
        [sys.executable, "-m", "pyon", "show", "x.pyon"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b'"d\\xe9tuning"' + os.linesep.encode()


def test_show_in_colour_where_the_terminal_can(files, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["show", "good.pyon"])
    assert "\x1b[32m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main(["show", "good.pyon"])
    assert "\x1b" not in capsys.readouterr().out


def test_check_gives_one_line_for_each_bad_file(files, capsys):
    assert main(["check", "good.pyon"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["check", "bad.pyon", "good.pyon", "absent.pyon"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("pyon: bad.pyon: line 2, column 7: ")
    assert second == "pyon: absent.pyon: No such file or directory"


def test_convert_keeps_a_backup_and_does_not_overwrite_it(files, capsys, same):
    old = (files / "good.pyon").read_bytes()
    x = pyon.load_file("good.pyon")
    assert main(["convert", "good.pyon", "--to", "v2", "--dry-run"]) == 0
    assert (files / "good.pyon").read_bytes() == old
    assert main(["convert", "good.pyon", "--to", "v2"]) == 0
    assert (files / "good.pyon.bak").read_bytes() == old
    assert b"__jsonclass__" in (files / "good.pyon").read_bytes()
    assert same(pyon.load_file("good.pyon"), x)
    new = (files / "good.pyon").read_bytes()
    assert main(["convert", "good.pyon", "bad.pyon", "--to", "v1"]) == 1
    assert "good.pyon.bak: exists already" in capsys.readouterr().err
    assert (files / "good.pyon").read_bytes() == new
    assert not os.path.exists("bad.pyon.bak")


def test_a_dry_run_tells_of_a_backup_that_is_there(files, capsys):
    (files / "good.pyon.bak").write_text("of somebody")
    assert main(["convert", "good.pyon", "--to", "v2", "--dry-run"]) == 1
    assert "good.pyon.bak: exists already" in capsys.readouterr().err


def test_a_backup_that_cannot_be_written_is_not_left_half_done(files, capsys, monkeypatch):
    def fail(old, new):
        new.write(old.read(10))
        raise OSError(errno.ENOSPC, "No space left on device")

    old = (files / "good.pyon").read_bytes()
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    assert main(["convert", "good.pyon", "--to", "v2"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert not (files / "good.pyon.bak").exists()
    monkeypatch.undo()
    monkeypatch.chdir(files)
    assert main(["convert", "good.pyon", "--to", "v2"]) == 0
    assert (files / "good.pyon.bak").read_bytes() == old


@pytest.mark.parametrize(
    "text",
    [
        'nparray((2, ), "<M8", b"AAAAAAEAAAAFAAAAAAAAAA==")',
        'nparray((1, ), "<U1", b"/////w==")',
        'npscalar([("a", "<U1")], b"/////w==")',
    ],
)
def test_show_does_without_what_numpy_has_no_words_for(files, capsys, text):
    (files / "odd.pyon").write_text(text)
    status = main(["show", "odd.pyon"])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "?" in captured.out if status == 0 else captured.err.startswith("pyon: odd.pyon")


def test_what_is_nested_too_deeply_to_be_shown_is_told(files, capsys, monkeypatch):
    def too_deep(x):
        raise RecursionError

    monkeypatch.setattr("pyon._cli._for_people", too_deep)
    assert main(["show", "good.pyon"]) == 1
    assert capsys.readouterr().err == "pyon: good.pyon: nested too deeply\n"


@pytest.mark.skipif(sys.platform != "linux", reason="such names are possible on Linux")
def test_odd_names_of_files(files):
    for name in ("\u00b5.pyon", "\udcff.pyon", "two\nlines.pyon"):
        (files / name).write_text("[foo]" if "lines" in name else "[1]")
        done = subprocess.run(
            [sys.executable, "-m", "pyon", "convert", name, "--to", "v2", "--dry-run"],
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == ("lines" in name)
        if "lines" in name:
            assert b"line 1, column 2" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "out", "status"),
    [
        (["show", "-"], b"[1,(2,)]", "[1, (2, )]\n", 0),
        (["check", "-"], b"[1", "", 1),
        (["convert", "-", "--to", "v2"], b"(1, )", '{"__jsonclass__": ["tuple", [[1]]]}\n', 0),
    ],
)
def test_standard_input_and_python_m(arguments, text, out, status):
    done = subprocess.run(
        [sys.executable, "-m", "pyon", *arguments], input=text, capture_output=True, check=False
    )
    assert done.stdout.decode().replace("\r\n", "\n") == out
    assert done.returncode == status
    assert done.stderr.count(b"\n") == status
