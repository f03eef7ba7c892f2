"""Files: complete at every moment, even if writers are killed."""

import os
import random
import signal
import stat
import subprocess
import sys
import tracemalloc

import numpy as np
import pyon
import pytest
from pyon._base64 import FILE_CHUNK

try:
    import fcntl
except ImportError:
    fcntl = None  # Windows

posix = pytest.mark.skipif(os.name != "posix", reason="asks for POSIX")
OLD = {"old": list(range(5000))}
NEW = {"new": (1, 2)}


def left_behind(folder):
    return [name for name in os.listdir(folder) if name.endswith(".pyon-new")]


def test_stored_is_loaded(tmp_path, version, same):
    x = {"a": (1, 2), "b": {1j, None}, "c": [b"x"]}
    pyon.store_file(tmp_path / "f.pyon", x, version=version)
    pyon.store_file(str(tmp_path / "g.pyon"), x, version=version)
    assert same(pyon.load_file(tmp_path / "f.pyon"), x)
    assert (tmp_path / "f.pyon").read_bytes() == (tmp_path / "g.pyon").read_bytes()
    assert (tmp_path / "f.pyon").read_bytes().endswith(b"\n") == (version == 1)
    assert sorted(os.listdir(tmp_path)) == ["f.pyon", "g.pyon"]


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbf[1, (2, )]", b"\r\n[1,\r\n (2,)]\r\n", b"[1, (2, )]\n\n"]
)
def test_files_from_other_systems(tmp_path, data):
    (tmp_path / "f").write_bytes(data)
    assert pyon.load_file(tmp_path / "f") == [1, (2,)]


def test_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "f").write_bytes('"caf\u00e9 \U0001f600"'.encode())
    assert pyon.load_file(tmp_path / "f") == "caf\u00e9 \U0001f600"


def test_a_bad_file_is_named_with_line_and_column_and_shown(tmp_path):
    (tmp_path / "bad.pyon").write_bytes(b'{\r\n    "a": 1,\r\n    "b": (1 2)\r\n}\r\n')
    with pytest.raises(pyon.DecodeError) as caught:
        pyon.load_file(tmp_path / "bad.pyon")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{tmp_path / 'bad.pyon'}: line 3, column 13: ")
    assert lines[1].strip() == '"b": (1 2)'
    assert lines[2].index("^") == lines[1].index("2")
    with pytest.raises(FileNotFoundError):
        pyon.load_file(tmp_path / "absent")


def test_a_long_bad_line_is_shown_shortly(tmp_path):
    (tmp_path / "bad").write_text("[" + "1, " * 100_000 + "x]")
    with pytest.raises(pyon.DecodeError) as caught:
        pyon.load_file(tmp_path / "bad")
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_failing_encode_leaves_the_old_file(tmp_path):
    pyon.store_file(tmp_path / "f", OLD)
    with pytest.raises(pyon.EncodeError):
        pyon.store_file(tmp_path / "f", {"x": ...})
    assert pyon.load_file(tmp_path / "f") == OLD
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    pyon.store_file(tmp_path / "f", OLD)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*(("pyon._files._write", fail) if step == "write" else (os, step, fail)))
    with pytest.raises(OSError, match="No space"):
        pyon.store_file(tmp_path / "f", NEW)
    monkeypatch.undo()
    assert pyon.load_file(tmp_path / "f") == OLD
    assert os.listdir(tmp_path) == ["f"]


@posix
def test_permissions(tmp_path):
    old = os.umask(0o027)
    try:
        pyon.store_file(tmp_path / "f", OLD)
        assert stat.S_IMODE(os.stat(tmp_path / "f").st_mode) == 0o640
        for mode in (0o600, 0o664, 0o444):
            os.chmod(tmp_path / "f", mode)
            pyon.store_file(tmp_path / "f", NEW)
            assert stat.S_IMODE(os.stat(tmp_path / "f").st_mode) == mode
    finally:
        os.umask(old)


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="asks for root")
def test_an_existing_file_keeps_owner_and_group(tmp_path):
    path = tmp_path / "f.pyon"
    pyon.store_file(path, OLD)
    os.chown(path, 1000, 2000)
    path.chmod(0o660)
    pyon.store_file(path, NEW)
    stored = path.stat()
    assert (stored.st_uid, stored.st_gid, stat.S_IMODE(stored.st_mode)) == (1000, 2000, 0o660)


def test_links_and_devices_stay_what_they_are(tmp_path):
    pyon.store_file(tmp_path / "f", OLD)
    os.symlink("f", tmp_path / "link")
    pyon.store_file(tmp_path / "link", NEW)
    assert os.path.islink(tmp_path / "link")
    assert pyon.load_file(tmp_path / "f") == NEW
    pyon.store_file(os.devnull, NEW)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(OSError, match="directory"):
        pyon.store_file(tmp_path, NEW)


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u6f22", "\U0001f600"])
def test_names_as_long_as_they_can_be(tmp_path, letter):
    name = tmp_path / (letter * (250 // len(os.fsencode(letter))))
    pyon.store_file(name, OLD)
    assert pyon.load_file(name) == OLD
    assert not left_behind(tmp_path)


def test_partial_writes_are_completed(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:1000]))
    pyon.store_file(tmp_path / "f", OLD)
    assert pyon.load_file(tmp_path / "f") == OLD


@posix
def test_a_new_file_with_the_name_of_an_abandoned_one_is_not_removed(tmp_path, monkeypatch):
    path, beside = tmp_path / "f", tmp_path / ".f.0.pyon-new"
    beside.write_bytes(b"of a writer that is just renaming it")
    flock = fcntl.flock

    def flock_too_late(descriptor, operation):
        """Let the writer finish at the last moment, and another one begin."""
        if operation & fcntl.LOCK_NB:
            os.replace(beside, path)
            beside.write_bytes(b"of another writer")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    pyon.store_file(path, NEW)
    assert beside.read_bytes() == b"of another writer"
    assert pyon.load_file(path) == NEW


STAGES = ["open", "flock", "fchmod", "_write", "fsync", "replace", "close"]
DIE_AT = """
import os, signal, sys, pyon
from pyon import _files
path, stage, when = sys.argv[1:]
owner = {"flock": _files.fcntl, "_write": _files}.get(stage, os)
original = getattr(owner, stage)
def dying(*args, **kwargs):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    if stage == "_write":
        os.write(args[0], args[1][:len(args[1]) // 2])
    result = original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, stage, dying)
pyon.store_file(path, {"new": (1, 2)})
"""


@posix
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_writer_killed_at_any_stage(tmp_path, stage, when):
    path = tmp_path / "f"
    pyon.store_file(path, OLD)
    done = subprocess.run([sys.executable, "-c", DIE_AT, path, stage, when], check=False)
    assert done.returncode == -signal.SIGKILL
    renamed = (stage, when) in {("replace", "after"), ("close", "before"), ("close", "after")}
    assert pyon.load_file(path) == (NEW if renamed else OLD)
    pyon.store_file(path, OLD)
    assert os.listdir(tmp_path) == ["f"]


STORE_FOR_EVER = """
import sys, pyon
print(flush=True)
while True:
    for n in (1, 2):
        pyon.store_file(sys.argv[1], [n] * 20_000)
"""


KILLS = int(os.environ.get("PYON_KILLS", "20"))


@posix
def test_writers_killed_at_random_moments(tmp_path):
    path = tmp_path / "f"
    pyon.store_file(path, [1] * 20_000)
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", STORE_FOR_EVER, path], stdout=subprocess.PIPE
        ) as writer:
            writer.stdout.readline()
            for _ in range(os.urandom(1)[0] % 20):
                assert pyon.load_file(path) in ([1] * 20_000, [2] * 20_000)
            writer.kill()
        assert pyon.load_file(path) in ([1] * 20_000, [2] * 20_000)
    pyon.store_file(path, NEW)
    assert os.listdir(tmp_path) == ["f"]


@posix
def test_two_writers_do_not_remove_each_others_files(tmp_path):
    path = tmp_path / "f"
    pyon.store_file(path, [1] * 20_000)
    writers = [
        subprocess.Popen([sys.executable, "-c", STORE_FOR_EVER, path], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for writer in writers:
            writer.stdout.readline()
        for _ in range(50):
            pyon.store_file(path, [2] * 20_000)
            assert pyon.load_file(path) in ([1] * 20_000, [2] * 20_000)
        assert [writer.poll() for writer in writers] == [None, None]
    finally:
        for writer in writers:
            with writer:
                writer.kill()


# --- names


@pytest.mark.parametrize("name", ["", "none/x", "x/y"])
def test_the_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch, name):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    (tmp_path / "folder" / "x").touch()
    with pytest.raises(OSError) as caught:
        pyon.store_file(name, NEW)
    assert os.path.realpath(caught.value.filename) == os.path.realpath(name)
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir() == ["x"]


# --- large data


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("more", [-4, -1, 0, 1, 2, 3])
def test_data_of_any_length_is_written_in_chunks(tmp_path, version, chunks, more):
    data = random.Random(5).randbytes(chunks * FILE_CHUNK + more)
    x = {"a": np.frombuffer(data, np.uint8), "b": "text", "c": np.frombuffer(data, np.uint8)}
    pyon.store_file(tmp_path / "f", x, version=version)
    text = pyon.encode(x, pretty=True, version=version) + "\n" * (version == 1)
    assert (tmp_path / "f").read_text() == text
    assert pyon.load_file(tmp_path / "f")["c"].tobytes() == data


def test_a_file_of_many_arrays_is_what_encode_gives(tmp_path):
    x = [np.arange(n) for n in range(400, 900)]
    pyon.store_file(tmp_path / "f", x)
    assert (tmp_path / "f").read_text() == pyon.encode(x, pretty=True) + "\n"


def test_a_large_array_is_stored_in_little_memory(tmp_path):
    x = np.zeros(1 << 20)
    pyon.store_file(tmp_path / "f", x)  # loads the modules that are loaded on demand
    tracemalloc.start()
    try:
        pyon.store_file(tmp_path / "f", x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 4
