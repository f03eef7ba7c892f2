"""The command, as processes; `watch` in a real terminal, which tmux provides."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pyon
import pytest
import sync_struct

COMMAND = [sys.executable, "-m", "sync_struct._cli"]


def run(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)


def publish_editable(file):
    return subprocess.Popen(
        [*COMMAND, "publish", str(file), "--editable"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def published(tmp_path):
    """Publish a file; yield the port, and a function that applies a mod."""
    file = tmp_path / "lab.pyon"
    pyon.store_file(file, {"temperature": 293.0, "scan": [1, 2], "image": {"size": (2, 2)}})
    process = publish_editable(file)
    port = re.fullmatch(r"lab at 127\.0\.0\.1 port (\d+)\n", process.stdout.readline())[1]

    def edit(**mod):
        process.stdin.write(json.dumps(mod) + "\n")
        process.stdin.flush()

    yield port, edit
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def test_get_prints_the_structure_once(published):
    port, edit = published
    edit(action="no mod")
    done = run("get", "127.0.0.1", port, "lab")
    assert pyon.decode(done.stdout)["temperature"] == 293.0
    assert done.returncode == 0
    assert run("get", "127.0.0.1", port, "lab", "scan/1").stdout == "2\n"


def test_what_goes_wrong_is_one_line(published, tmp_path):
    port, _ = published
    for arguments, text in (
        (["get", "127.0.0.1", port, "nope"], "there is 'lab'"),
        (["get", "127.0.0.1", port, "lab", "nope"], "no part ['nope']"),
        (["publish", str(tmp_path / "nope.pyon")], "nope.pyon"),
    ):
        done = run(*arguments)
        assert done.returncode == 1
        assert re.fullmatch(rf"sync-struct: .*{re.escape(text)}.*\n", done.stderr)


def wait_for(fact):
    deadline = time.monotonic() + 30
    while not fact():
        assert time.monotonic() < deadline
    return fact()


def test_watch_in_a_pipe_prints_a_line_per_mod_and_log_appends_them(published, tmp_path):
    port, edit = published
    log = tmp_path / "log"
    logging = subprocess.Popen([*COMMAND, "log", "127.0.0.1", port, "lab", str(log)])
    watching = subprocess.Popen(
        [*COMMAND, "watch", "127.0.0.1", port, "lab"], stdout=subprocess.PIPE, text=True
    )
    assert '"init"' in watching.stdout.readline()
    wait_for(lambda: log.exists() and log.read_text())
    edit(action="setitem", path=[], key="temperature", value=294.5)
    when, mod = watching.stdout.readline().split("\t")
    assert pyon.decode(mod)["value"] == 294.5
    assert re.match(r"\d{4}-\d\d-\d\dT", when)
    lines = wait_for(lambda: log.read_text().count("\n") == 2 and log.read_text().splitlines())
    assert pyon.decode(lines[1].split("\t")[1])["key"] == "temperature"
    for process in (logging, watching):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    watching.stdout.close()


def test_watch_ends_when_its_reader_has_left(published):
    port, edit = published
    watching = subprocess.Popen(
        [*COMMAND, "watch", "127.0.0.1", port, "lab"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert '"init"' in watching.stdout.readline()
    watching.stdout.close()
    edit(action="setitem", path=[], key="temperature", value=294.5)
    assert watching.wait(30) == 1
    assert watching.stderr.read() == ""
    watching.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="asks for a disk that is full")
def test_log_on_a_full_disk_says_so(published):
    port, _ = published
    done = run("log", "127.0.0.1", port, "lab", "/dev/full")
    assert done.returncode == 1
    assert re.fullmatch(r"sync-struct: .*No space left on device\n", done.stderr)


def test_a_published_file_ends_with_ctrl_c_though_stdin_is_open(tmp_path):
    file = tmp_path / "lab.pyon"
    pyon.store_file(file, {})
    process = publish_editable(file)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    process.communicate()


def test_a_publisher_does_not_control_the_terminal():
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [*COMMAND, "get", "127.0.0.1", str(server.getsockname()[1]), "lab"],
            stderr=subprocess.PIPE,
        )
        sock, _ = server.accept()
        with sock, sock.makefile("rb") as lines:
            lines.readline()
            sock.sendall(
                b'{"action":"error","error":"SubscriptionLost","message":"\\u001b]0;pwned\\u0007\\u001b[2J"}\n'
            )
            _, errors = process.communicate(timeout=30)
    assert b"\\x1b]0;pwned\\x07\\x1b[2J" in errors


def test_log_says_once_why_nothing_comes(tmp_path):
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = ["log", "127.0.0.1", str(server.getsockname()[1]), "lab", str(log)]
        logging = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
        for _ in range(2 * 3 + 1):  # each attempt speaks both protocols
            server.accept()[0].close()
        logging.send_signal(signal.SIGINT)
        (line,) = logging.communicate(timeout=30)[1].splitlines()
    assert "closed the connection without a word" in line
    assert log.read_text() == ""


def test_the_version_is_told():
    assert run("--version").stdout == f"sync-struct {sync_struct.__version__}\n"


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_watch_in_a_terminal_shows_a_tree_that_lives(published, tmp_path):
    pytest.importorskip("rich")
    port, edit = published

    def tmux(*arguments):
        command = ["tmux", "-S", str(tmp_path / "tmux"), "-f", os.devnull, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout

    watch = " ".join([*COMMAND, "watch", "127.0.0.1", port, "lab"])
    tmux("new-session", "-d", "-x", "100", "-y", "30", "-s", "watch", watch)
    try:
        screen = wait_for(lambda: (s := tmux("capture-pane", "-p")) and "293.0" in s and s)
        assert f"lab at 127.0.0.1 port {port}  live" in screen
        assert re.search(r"'scan': list of 2", screen)
        assert "(2, 2)" in screen
        edit(action="setitem", path=[], key="temperature", value=300.25)
        colored = wait_for(lambda: (s := tmux("capture-pane", "-p", "-e")) and "300.25" in s and s)
        assert re.search(r"\x1b\[[\d;]*33m300\.25", colored)
        tmux("send-keys", "C-c")
        wait_for(lambda: "watch" not in tmux("list-sessions"))
        tmux("new-session", "-d", "-x", "100", "-y", "30", "-s", "nope", watch.replace("lab", "no"))
        screen = wait_for(lambda: (s := tmux("capture-pane", "-p")) and "notifier" in s and s)
        assert " ".join(screen.split()) == (
            f"no at 127.0.0.1 port {port} connecting there is no notifier 'no'; there is 'lab'"
        )
    finally:
        tmux("kill-server")
