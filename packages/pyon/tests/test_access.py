"""The access rights of a file that is stored again, and files that are not regular."""

import contextlib
import errno
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pyon
import pytest
from pyon import _access

pytestmark = pytest.mark.skipif(os.name != "posix", reason="asks for POSIX")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="asks for root")

OLD, NEW = {"old": 1}, {"new": (1, 2)}
ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"
NOBODY = 65534


@pytest.fixture
def folder():
    """A folder that all users may write to, on an ordinary file system."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@contextlib.contextmanager
def acting_as(uid, *groups):
    """Access the file system with the rights of another user."""
    old_groups, gid = os.getgroups(), os.getegid()
    os.setgroups(groups)
    os.setegid(groups[0])
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(old_groups)


def acl(owner, users, group, groups, mask, other):
    """Pack an access control list as Linux does."""
    entries = [
        (1, owner, 0xFFFFFFFF),
        *((2, rights, uid) for uid, rights in sorted(users.items())),
        (4, group, 0xFFFFFFFF),
        *((8, rights, gid) for gid, rights in sorted(groups.items())),
        (16, mask, 0xFFFFFFFF),
        (32, other, 0xFFFFFFFF),
    ]
    return _access._HEADER.pack(2) + b"".join(_access._ENTRY.pack(*entry) for entry in entries)


def set_acl(path, value, name=ACL):
    if not hasattr(os, "setxattr"):
        pytest.skip("this system has no extended attributes")
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"this file system has no access control lists: {error}")


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


FOR_1234 = acl(6, {1234: 6}, 0, {}, 6, 0)  # user:1234:rw-, group::---


@pytest.mark.parametrize("uid", [0, NOBODY])
def test_an_access_control_list_is_kept_by_root_and_by_an_ordinary_user(folder, uid):
    if uid and not is_root:
        pytest.skip("is an ordinary user's test by itself")
    path = folder / "f.pyon"
    with acting_as(uid, uid) if uid else contextlib.nullcontext():
        pyon.store_file(path, OLD)
        path.chmod(0o600)
        set_acl(path, FOR_1234)
        before = mode_of(path)
        pyon.store_file(path, NEW)
        assert os.getxattr(path, ACL) == FOR_1234
        assert mode_of(path) == before == 0o660
        assert pyon.load_file(path) == NEW
    assert os.listdir(folder) == ["f.pyon"]


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="asks for the acl package")
def test_the_system_reads_the_list_as_before(folder):
    path = folder / "f.pyon"
    pyon.store_file(path, OLD)
    set_acl(path, FOR_1234)  # or skip
    subprocess.run(["setfacl", "-m", "u:1234:r,g:77:rw,m:r", path], check=True)
    show = ["getfacl", "--absolute-names", "--numeric", path]
    before = subprocess.run(show, check=True, capture_output=True).stdout
    pyon.store_file(path, NEW)
    assert subprocess.run(show, check=True, capture_output=True).stdout == before


def test_user_attributes_are_kept(folder):
    path = folder / "f.pyon"
    pyon.store_file(path, OLD)
    set_acl(path, b"run 7", "user.origin")
    path.chmod(0o444)
    pyon.store_file(path, NEW)
    assert os.getxattr(path, "user.origin") == b"run 7"
    assert mode_of(path) == 0o444


def test_a_list_that_the_folder_gives_to_new_files_does_not_widen_an_old_one(folder):
    path = folder / "f.pyon"
    pyon.store_file(path, OLD)
    path.chmod(0o640)
    set_acl(folder, acl(7, {1234: 7}, 7, {}, 7, 0), DEFAULT_ACL)
    pyon.store_file(path, NEW)
    assert ACL not in os.listxattr(path)
    assert mode_of(path) == 0o640
    pyon.store_file(folder / "fresh.pyon", NEW)
    assert ACL in os.listxattr(folder / "fresh.pyon")  # a new file gets the list of the folder


def without_lists(*_):
    raise OSError(errno.ENOTSUP, "Operation not supported")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
@pytest.mark.parametrize("how", ["no functions", "not supported"])
def test_where_there_are_no_lists_the_mode_is_kept(folder, monkeypatch, mode, how):
    path = folder / "f.pyon"
    pyon.store_file(path, OLD)
    path.chmod(mode)
    for name in ("listxattr", "getxattr", "setxattr", "removexattr"):
        if how == "no functions":
            monkeypatch.delattr(os, name, raising=False)
        else:
            monkeypatch.setattr(os, name, without_lists, raising=False)
    pyon.store_file(path, NEW)
    assert mode_of(path) == mode
    assert pyon.load_file(path) == NEW


def test_a_list_that_cannot_be_set_leaves_less_never_more(folder, monkeypatch):
    path = folder / "f.pyon"
    for value, mode in (
        (FOR_1234, 0o600),
        (acl(6, {1234: 0}, 6, {}, 6, 6), 0o600),
        (acl(6, {1234: 6}, 4, {77: 5}, 4, 4), 0o644),
        (acl(6, {1234: 7}, 4, {}, 0, 4), 0o600),  # the mask removes rights of 1234 that others have
    ):
        pyon.store_file(path, OLD)
        set_acl(path, value)
        with monkeypatch.context() as context:
            context.setattr(os, "setxattr", without_lists)
            pyon.store_file(path, NEW)
        assert mode_of(path) == mode
        assert ACL not in os.listxattr(path)
        os.unlink(path)


def test_user_attributes_that_cannot_be_kept_are_an_error_and_the_file_is_as_it_was(
    folder, monkeypatch
):
    path = folder / "f.pyon"
    pyon.store_file(path, OLD)
    set_acl(path, b"run 7", "user.origin")
    with monkeypatch.context() as context:
        context.setattr(os, "setxattr", without_lists)
        with pytest.raises(OSError, match="not supported"):
            pyon.store_file(path, NEW)
    assert pyon.load_file(path) == OLD
    assert os.listdir(folder) == ["f.pyon"]


PEOPLE = [
    (1000, 2000),
    (1001, 2000),
    (1000, 3000),
    (1234, 3000),
    (1234, 2000),
    (1001, 3000),
    (7, 7),
]


def can(path, uid, gid):
    """Return what a user can do with a file, by trying."""
    able = set()
    with acting_as(uid, gid):
        for flags in (os.O_RDONLY, os.O_WRONLY):
            with contextlib.suppress(PermissionError):
                os.close(os.open(path, flags))
                able.add(flags)
    return able


@needs_root
def test_nobody_gains_a_right_whoever_stores_and_whatever_the_rights_were(folder, monkeypatch):
    rng = random.Random(4)
    path = folder / "f.pyon"
    for _ in range(150):
        path.write_text("{}")
        os.chown(path, *rng.choice(PEOPLE))
        path.chmod(rng.randrange(0o1000) & 0o666)
        if rng.random() < 0.5:
            rights = [rng.choice([0, 2, 4, 6]) for _ in range(6)]
            users, groups = {1234: rights[1]}, {3000: rights[3]}
            set_acl(path, acl(rights[0], users, rights[2], groups, rights[4], rights[5]))
        before = {person: can(path, *person) for person in PEOPLE}
        writer = rng.choice([*PEOPLE, (0, 0)])
        with acting_as(*writer), monkeypatch.context() as context:
            if rng.random() < 0.3:  # a file system that does not take the list
                context.setattr(os, "setxattr", without_lists)
            pyon.store_file(path, NEW)
        for person in PEOPLE:
            assert can(path, *person) <= before[person] or person[0] == writer[0]
        os.unlink(path)


@needs_root
@pytest.mark.parametrize(
    ("uid", "gid", "mode", "kept"),
    [
        (1000, 2000, 0o4755, 0o0755),
        (NOBODY, 2000, 0o2755, 0o0755),
        (NOBODY, NOBODY, 0o4755, 0o4755),
    ],
)
def test_a_set_uid_bit_never_comes_to_mean_somebody_else(folder, uid, gid, mode, kept):
    path = folder / "f.pyon"
    pyon.store_file(path, OLD)
    os.chown(path, uid, gid)
    path.chmod(mode)
    with acting_as(NOBODY, NOBODY):
        pyon.store_file(path, NEW)
    assert mode_of(path) == kept


@needs_root
def test_a_file_is_private_while_it_is_written(folder, monkeypatch):
    path = folder / "f.pyon"
    pyon.store_file(path, OLD)
    path.chmod(0o666)
    modes = []
    write = os.write
    monkeypatch.setattr(
        os, "write", lambda *a: (modes.append(os.fstat(a[0]).st_mode & 0o777), write(*a))[1]
    )
    pyon.store_file(path, NEW)
    assert set(modes) == {0o600}
    assert mode_of(path) == 0o666


def test_links_of_both_kinds(folder):
    path = folder / "f.pyon"
    pyon.store_file(path, OLD)
    os.link(path, folder / "hard")
    os.symlink("f.pyon", folder / "soft")
    os.symlink("absent.pyon", folder / "dangling")
    pyon.store_file(folder / "soft", NEW)
    pyon.store_file(folder / "dangling", NEW)
    assert pyon.load_file(path) == pyon.load_file(folder / "absent.pyon") == NEW
    assert pyon.load_file(folder / "hard") == OLD
    assert os.readlink(folder / "soft") == "f.pyon"
    os.symlink("loop", folder / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        pyon.store_file(folder / "loop", NEW)


# --- the folder is not listed


def test_the_folder_is_not_listed(folder, monkeypatch):
    def fail(*_):
        raise AssertionError("the folder was listed")

    monkeypatch.setattr(os, "listdir", fail)
    monkeypatch.setattr(os, "scandir", fail)
    pyon.store_file(folder / "f.pyon", OLD)
    pyon.store_file(folder / "f.pyon", NEW)
    assert pyon.load_file(folder / "f.pyon") == NEW


@needs_root
def test_a_folder_that_may_not_be_listed(folder):
    os.chown(folder, NOBODY, NOBODY)
    folder.chmod(0o300)
    with acting_as(NOBODY, NOBODY):
        pyon.store_file(folder / "f.pyon", OLD)
        pyon.store_file(folder / "f.pyon", NEW)
        assert pyon.load_file(folder / "f.pyon") == NEW


@pytest.mark.parametrize("kind", ["mkdir", "mkfifo", "symlink"])
def test_another_object_with_a_temporary_name_is_not_removed(folder, kind):
    make = getattr(os, kind) if kind != "symlink" else lambda path: os.symlink("victim", path)
    (folder / "victim").write_text("precious")
    for number in range(5):
        make(folder / f".f.pyon.{number}.pyon-new")
    before = sorted(os.listdir(folder))
    pyon.store_file(folder / "f.pyon", NEW)
    assert pyon.load_file(folder / "f.pyon") == NEW
    assert (folder / "victim").read_text() == "precious"
    if kind == "mkdir":
        assert sorted(os.listdir(folder)) == sorted([*before, "f.pyon"])


def test_the_folder_is_brought_to_the_disk_after_the_renaming(folder, monkeypatch):
    path = folder / "f.pyon"
    done = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", lambda *a: (done.append("renaming"), replace(*a)))
    pyon.store_file(path, NEW)
    assert done == ["file", "renaming", "folder"]


# --- a file that is not regular is written directly

STORE = "import sys, pyon; pyon.store_file(sys.argv[1], {'a': (1, )})"
STORED = b'{"a": (1, )}\n'


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_by_its_name(name, tmp_path):
    if not os.path.exists(name):
        pytest.skip(f"this system has no {name}")
    command = [sys.executable, "-c", STORE, name]
    assert subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout == STORED
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    with path.open("ab") as file:  # as a shell's >> does
        subprocess.run(command, check=True, stdout=file)
        file.write(b"after\n")
    assert path.read_bytes() == b"before\n" + STORED + b"after\n"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("version", [1, 2])
def test_other_descriptors(version):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        name = f"/dev/fd/{ours.fileno()}"
        if not os.path.exists(name):
            pytest.skip(f"this system has no {name}")
        pyon.store_file(name, OLD, version=version)
        assert pyon.decode(theirs.recv(1000)) == OLD
        ours.sendall(b".")  # still open
        assert theirs.recv(1) == b"."


def test_a_named_pipe_is_written_through(folder):
    os.mkfifo(folder / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((folder / "pipe").read_bytes()))
    reader.start()
    pyon.store_file(folder / "pipe", list(range(100_000)))
    reader.join()
    assert pyon.decode(received[0]) == list(range(100_000))
    assert stat.S_ISFIFO(os.stat(folder / "pipe").st_mode)
    assert os.listdir(folder) == ["pipe"]


def test_a_socket_is_an_error_and_stays(folder):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        with pytest.raises(OSError, match="socket"):
            pyon.store_file(folder / "socket", NEW)
    assert os.listdir(folder) == ["socket"]


def test_a_full_device_is_an_error():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="space"):
        pyon.store_file("/dev/full", NEW)
