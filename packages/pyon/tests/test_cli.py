"""The `pyon` command, run from its command line."""

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


def test_a_dry_run_reports_an_existing_backup(files, capsys):
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
def test_show_prints_values_that_numpy_cannot_format(files, capsys, text):
    (files / "odd.pyon").write_text(text)
    status = main(["show", "odd.pyon"])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "?" in captured.out if status == 0 else captured.err.startswith("pyon: odd.pyon")


def test_a_value_nested_too_deeply_to_be_shown_is_an_error(files, capsys, monkeypatch):
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


# --- files of other programs, with unregistered types

PEAKS = """{"peak": Peak(1.5, Mode("scan")),
(Mode("x"), 1): [Peak(2, {"z": npscalar("<f8", b"AAAAAAAA+D8=")})]}"""


@pytest.mark.parametrize("to", ["v1", "v2"])
def test_types_that_are_not_registered_are_shown_checked_and_converted(files, capsys, to):
    (files / "peaks.pyon").write_text(PEAKS)
    assert main(["check", "peaks.pyon"]) == 0
    noted = capsys.readouterr().err
    assert "peaks.pyon: unregistered types: Mode, Peak" in noted or "Peak, Mode" in noted
    assert main(["check", "--strict", "peaks.pyon"]) == 1
    assert "Peak" in capsys.readouterr().err
    assert main(["convert", "peaks.pyon", "--to", to]) == 0
    capsys.readouterr()
    assert main(["show", "peaks.pyon"]) == 0
    out = capsys.readouterr().out
    assert 'Peak(1.5, Mode("scan"))' in out
    assert 'scalar(1.5, "float64")' in out
    codec = pyon.Codec()
    codec.register(Peak, name="Peak", encode=tuple, decode=lambda *a: Peak(a))
    codec.register(Mode, name="Mode", encode=tuple, decode=lambda *a: Mode(a))
    back = codec.load_file("peaks.pyon")
    assert back["peak"] == Peak((1.5, Mode(("scan",))))
    assert list(back)[1] == (Mode(("x",)), 1)
    with pytest.raises(pyon.DecodeError):
        pyon.load_file("peaks.pyon")


class Peak(tuple):
    __slots__ = ()


class Mode(tuple):
    __slots__ = ()


@pytest.mark.parametrize(
    "text", ["foo", "os. system(1)", "os.system", "array", "None(1)", "Peak(", "(Peak (1)"]
)
def test_an_invalid_name_of_a_type_is_still_an_error(files, capsys, text):
    (files / "bad.pyon").write_text(text)
    assert main(["check", "bad.pyon"]) == 1


def test_types_of_a_module_are_shown_by_their_names(files, capsys):
    (files / "x.pyon").write_text('[lab.optics.Mode("SCAN")]')
    assert main(["show", "x.pyon"]) == 0
    assert capsys.readouterr().out == '[lab.optics.Mode("SCAN")]\n'
    assert main(["convert", "x.pyon", "--to", "v2"]) == 0
    tag = '{"__jsonclass__": ["lab.optics.Mode", ["SCAN"]]}'
    assert (files / "x.pyon").read_text() == f"[\n    {tag}\n]"


def test_types_with_the_names_of_array_summaries(files, capsys):
    (files / "x.pyon").write_text('[array(1), scalar(2), nparray((1, ), "|i1", b"BQ==")]')
    assert main(["show", "x.pyon"]) == 0
    assert capsys.readouterr().out == '[array(1), scalar(2), array([5], "int8")]\n'


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        ({np.float64(1.5): [1, 2]}, '{scalar(1.5, "float64"): [1, 2]}'),
        ({np.int8(5)}, '{scalar(5, "int8")}'),
        (slice(np.int64(1), None), 'slice(scalar(1, "int64"), None, None)'),
        (
            {(1, np.float32(0.5)): {np.int64(7)}},
            '{(1, scalar(0.5, "float32")): {scalar(7, "int64")}}',
        ),
        (OrderedDict([(np.int64(7), 1)]), 'OrderedDict([(scalar(7, "int64"), 1)])'),
    ],
)
def test_numbers_are_shown_as_people_read_them_wherever_they_are(files, capsys, x, shown):
    pyon.store_file("x.pyon", x)
    assert main(["show", "x.pyon"]) == 0
    assert capsys.readouterr().out == shown + "\n"


# --- repeated keys


def tagged(name, items):
    return f'{{"__jsonclass__": ["{name}", [[{items}]]]}}'


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ('{"a": 1,\n "b": 2,\n "a": 3}', [('"a"', 1, 3)]),
        ("{'a': 1, # a: 5\n \"a\": {'a': 2}}", [('"a"', 1, 2)]),
        ("{1: 0,\n 1.0: 1, True: 2}", [("1.0", 1, 2), ("True", 2, 2)]),
        ('[{"a": 1}, {"a": 1}, {"b": {"a": "{\\"a\\":"}, "c": {"a": 1}}]', []),
        ('{"t": {"__jsonclass__":["tuple",[[{"x":1,\n"x":2}]]]}}', [('"x"', 1, 2)]),
        ("{(1, 2): {1, 2},\n\n(1,2): 0, nan: 1, nan: 2}", [("(1,2)", 1, 3)]),
        ("{\n# one\n'k': 1,\n# two\n'k': 2}", [("'k'", 3, 5)]),
        ("{'a'\n: 1,\n'a'\n: 2}", [("'a'", 1, 3)]),
        ("{'a':\n{'b': 1}, ('x',\n'y'): {'b': 1}, 'a': 2}", [("'a'", 1, 3)]),
        ("OrderedDict([('a', 1),\n['b', ('a', 3)],\n('a', [('a', 1)])])", [("'a'", 1, 3)]),
        ("{'x': OrderedDict (\n[(1, {'a': 1}), (2, {'a': 1}), (1.0, 2)])}", [("1.0", 2, 2)]),
        ("[[('a', 1), ('a', 2)], ([('a', 1), ('a', 2)], )]", []),
        ("['dict', [[['a', 1], ['a', 2]]], (1, )]", []),
        (tagged("dict", "[1, 2],\n[1, 3]"), [("1", 1, 2)]),
        (tagged("OrderedDict", '["k",{"k":1}],\n["k",[["k",1],["k",1]]]'), [('"k"', 1, 2)]),
        (tagged("dict", f"[{tagged('tuple', '1')}, 2], [1, 3]"), []),
        (
            tagged("dict", f"\n[{tagged('tuple', '1')}, 2],\n[{tagged('tuple', ' 1')}, 2]"),
            [(tagged("tuple", " 1"), 2, 3)],
        ),
        (tagged("tuple", "[1, 2], [1, 3]"), []),
        (f'{{"a": ["dict", [[[1, 2], [1, 3]]]], "b": {tagged("set", "1")}}}', []),
    ],
)  # fmt: skip
def test_check_reports_repeated_keys_with_both_lines(files, capsys, text, reported):
    (files / "x.pyon").write_text(text)
    assert main(["check", "x.pyon"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"pyon: x.pyon: line {again}: repeated key {key}, also in line {first}; "
        "the last value counts"
        for key, first, again in reported
    ]
    assert main(["check", "--strict", "x.pyon"]) == bool(reported)


# --- messages and backups of convert


def test_convert_reports_comments_before_they_are_lost(files, capsys):
    (files / "x.pyon").write_text(
        "# lab 3\n{'a#': 1, # one\n 'b': npscalar('<i8', b'BwAAAAAAAAA=')} # 7\n"
    )
    assert main(["convert", "x.pyon", "--to", "v1", "--dry-run"]) == 0
    assert "x.pyon: 2 comments would be lost (the first in line 1)" in capsys.readouterr().err
    assert main(["convert", "x.pyon", "--to", "v1"]) == 0
    assert "x.pyon: 2 comments will be lost (the first in line 1)" in capsys.readouterr().err
    assert (files / "x.pyon.bak").read_text().startswith("# lab 3")
    assert "# 7" in (files / "x.pyon").read_text()


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_convert_reports_values_that_are_lost_to_repeated_keys(files, capsys, more):
    (files / "x.pyon").write_text("{'a': 1,\n 'b': 2,\n 'a': 3}\n")
    assert main(["convert", "x.pyon", "--to", "v2", *more]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "pyon: x.pyon: line 3: repeated key 'a', also in line 1; the last value counts"
    ]


@pytest.mark.parametrize("step", ["replace", "fsync", "write"])
def test_a_convert_that_fails_leaves_nothing_and_can_be_repeated(files, capsys, monkeypatch, step):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    old = (files / "good.pyon").read_bytes()
    with monkeypatch.context() as context:
        context.setattr(os, step, fail)
        assert main(["convert", "good.pyon", "--to", "v2"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert sorted(os.listdir(files)) == ["bad.pyon", "good.pyon"]
    assert (files / "good.pyon").read_bytes() == old
    assert main(["convert", "good.pyon", "--to", "v2"]) == 0


def test_convert_keeps_or_sorts_the_keys(files):
    (files / "x.pyon").write_text('{"z": 1, "a": (2, )}')
    assert main(["convert", "x.pyon", "--to", "v2"]) == 0
    assert list(pyon.load_file("x.pyon")) == ["z", "a"]
    os.unlink("x.pyon.bak")
    assert main(["convert", "x.pyon", "--to", "v1", "--sort-keys"]) == 0
    assert list(pyon.load_file("x.pyon")) == ["a", "z"]


# --- the end of standard output


@pytest.mark.skipif(os.name != "posix", reason="asks for POSIX")
@pytest.mark.parametrize("command", [["show"], ["convert", "--to", "v2", "--dry-run"]])
def test_a_reader_that_leaves_ends_the_command_quietly(files, command):
    pyon.store_file("big.pyon", {f"key {i}": "x" * 1000 for i in range(1000)})
    read, write = os.pipe()
    os.close(read)
    arguments = [sys.executable, "-m", "pyon", *command, *["big.pyon"] * 3]
    done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="asks for /dev/full")
def test_an_error_of_standard_output_is_reported_as_such(files):
    with open("/dev/full", "wb") as full:
        arguments = [sys.executable, "-m", "pyon", "show", "good.pyon"]
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode not in (0, 1)
    assert b"standard output" in done.stderr
    assert b"good.pyon" not in done.stderr


def test_without_arguments_the_commands_are_listed(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: pyon" in err
    assert "print files readably" in err
