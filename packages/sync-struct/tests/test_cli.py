"""The command, as processes; `watch` in a real terminal, by tmux."""

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pyon
import pytest
import sync_struct
import trustme
from sync_struct._cli import main
from sync_struct._reaching import Place, _named

COMMAND = [sys.executable, "-m", "sync_struct._cli"]


@pytest.fixture(autouse=True)
def log_level():
    """Restore the level of the package's logger, which a command that runs here changes."""
    logger = logging.getLogger("sync_struct")
    level = logger.level
    yield
    logger.setLevel(level)


def run(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)


def publish_editable(file):
    return subprocess.Popen(
        [*COMMAND, "publish", str(file), "--editable", "--bind", "127.0.0.1"],
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


def test_an_error_is_one_line(published, tmp_path):
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


def test_watch_ends_when_its_pipe_is_closed(published):
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
    assert watching.wait(30) == 0
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


def test_log_reports_a_repeated_error_once(tmp_path):
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = ["log", "127.0.0.1", str(server.getsockname()[1]), "lab", str(log)]
        logging = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
        for _ in range(2 * 4 + 1):  # each attempt speaks both protocols, or ends at a reset
            server.accept()[0].close()
        logging.send_signal(signal.SIGINT)
        (line,) = logging.communicate(timeout=30)[1].splitlines()
    assert "closed the connection without a reason" in line
    assert log.read_text() == ""


def test_the_version_is_printed():
    assert run("--version").stdout == f"sync-struct {sync_struct.__version__}\n"


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_watch_in_a_terminal_shows_a_live_tree(published, tmp_path):
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


def command(*arguments, **options):
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def end(process):
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return output, errors


ODD = {"123": "text", 123: "number", "a/b": 1, "-1": 2, "": 3, "=x": 4}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ('"123"', "text"),
        ("123", "number"),
        ('"a/b"', 1),
        ("'a/b'", 1),
        ('"-1"', 2),
        ('""', 3),
        ('"=x"', 4),
        ('=(1, "x/y")', 5),
        ("=None", 6),
        ("=1.5", 7),
        ("list/-1", "last"),
        ("-1", 8),
        ("/-1", 8),
        ("/-2/x", 9),
    ],
)
def test_every_key_can_be_written(tmp_path, path, value):
    file = tmp_path / "odd.pyon"
    pyon.store_file(
        file, {**ODD, (1, "x/y"): 5, None: 6, 1.5: 7, "list": [0, "last"], -1: 8, -2: {"x": 9}}
    )
    process = publish_editable(file)
    port = re.search(r"port (\d+)", process.stdout.readline())[1]
    done = run("get", "127.0.0.1", port, "odd", path)
    assert (done.stderr, pyon.decode(done.stdout)) == ("", value)
    process.communicate()


def test_a_malformed_path_is_an_error():
    done = run("get", "127.0.0.1", "1", "odd", '"a')
    assert done.returncode == 2
    assert "is malformed from" in done.stderr


def test_a_file_is_published_on_both_loopback_addresses(tmp_path):
    file = tmp_path / "lab.pyon"
    pyon.store_file(file, {"x": 1})
    process = command("publish", str(file))
    port = re.search(r"127\.0\.0\.1 port (\d+)", process.stdout.readline())[1]
    hosts = ["127.0.0.1"]
    if socket.has_ipv6:
        hosts.append("::1")
        assert process.stdout.readline() == f"lab at ::1 port {port}\n"
    for host in hosts:
        assert pyon.decode(run("get", host, port, "lab").stdout) == {"x": 1}
    end(process)


def test_arrays_are_summarised_in_a_pipe(tmp_path):
    file = tmp_path / "lab.pyon"
    pyon.store_file(file, {"image": np.zeros((300, 200)), "short": np.zeros(2)})
    process = publish_editable(file)
    port = re.search(r"port (\d+)", process.stdout.readline())[1]
    watching = command("watch", "127.0.0.1", port, "lab")
    line = watching.stdout.readline()
    assert "<array, float64 300 x 200>" in line
    assert len(line) < 300
    end(watching)
    process.communicate()


def test_a_log_can_be_replayed_up_to_a_time(published, tmp_path):
    port, edit = published
    log = tmp_path / "lab.log"
    logging = command("log", "127.0.0.1", port, "lab", str(log))
    wait_for(lambda: log.exists() and log.read_text())
    for value in (1.0, 2.0):
        edit(action="setitem", path=[], key="temperature", value=value)
        edit(action="append", path=["scan"], x=value)
        wait_for(lambda value=value: f'"x":{value}' in log.read_text())
    middle = next(line for line in log.read_text().splitlines() if '"x":1.0' in line).split("\t")[0]
    end(logging)
    structure = pyon.decode(run("replay", str(log)).stdout)
    assert structure == {"temperature": 2.0, "scan": [1, 2, 1.0, 2.0], "image": {"size": (2, 2)}}
    before = pyon.decode(run("replay", str(log), "--until", middle).stdout)
    assert before["scan"] == [1, 2, 1.0]
    assert run("replay", str(log), "--until", "2000-01-01").returncode == 1
    with log.open("a") as file:
        file.write('2026-01-01T00:00:00.000+00:00\t{"action":"app')  # killed here
    assert pyon.decode(run("replay", str(log)).stdout) == structure
    logging = command("log", "127.0.0.1", port, "lab", str(log))
    wait_for(lambda: log.read_text().count('"init"') == 2)
    _, errors = end(logging)
    assert "incomplete line" in errors
    assert pyon.decode(run("replay", str(log)).stdout) == structure
    replaying = command("replay", str(log), "--publish", "--speed", "inf", "--bind", "127.0.0.1")
    port = re.fullmatch(r"lab at 127\.0\.0\.1 port (\d+)\n", replaying.stdout.readline())[1]
    assert "end of the recording" in replaying.stderr.readline()
    assert pyon.decode(run("get", "127.0.0.1", port, "lab").stdout) == structure
    end(replaying)


def texts_of(folder):
    """Return the contents of the files of a log, which may be renamed meanwhile."""
    texts = []
    for file in folder.glob("lab.log*"):
        with contextlib.suppress(FileNotFoundError):
            texts.append(file.read_text())
    return texts


def test_a_log_of_a_part_at_a_rate_rotates_its_files(published, tmp_path):
    port, edit = published
    log = tmp_path / "lab.log"
    options = ["--rate", "1000", "--rotate-size", "400"]
    logging = command("log", "127.0.0.1", port, "lab", str(log), "scan", *options)
    for i in range(40):
        edit(action="append", path=["scan"], x=i)
        told = re.compile(rf'"x":{i}\b|,{i}\]')
        wait_for(lambda t=told: any(t.search(text) for text in texts_of(tmp_path)))
    end(logging)
    files = sorted(tmp_path.glob("lab.log.*"))
    assert len(files) >= 2
    for file in [*files, log]:
        assert '"init"' in file.read_text().splitlines()[0]
    assert pyon.decode(run("replay", str(log)).stdout) == [1, 2, *range(40)]


def test_a_recording_needs_no_types(tmp_path):
    """A type that only the publisher knows is recorded as received."""
    script = (
        "import pyon, sync_struct, sys\n"
        "class Odd: pass\n"
        "pyon.register(Odd, name='Odd', encode=lambda o: (5,), decode=lambda n: Odd())\n"
        "lab = sync_struct.Notifier({'x': Odd()})\n"
        "with sync_struct.publish('127.0.0.1', 0, {'lab': lab}) as p:\n"
        "    print(p.port, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    port = process.stdout.readline().strip()
    log = tmp_path / "lab.log"
    logging = command("log", "127.0.0.1", port, "lab", str(log))
    wait_for(lambda: log.exists() and "Odd" in log.read_text())
    end(logging)
    process.communicate()


def test_a_relay_publishes_its_origin(published):
    port, edit = published
    relaying = command("relay", "127.0.0.1", port, "lab", "--bind", "127.0.0.1")
    there = re.fullmatch(r"lab at 127\.0\.0\.1 port (\d+)\n", relaying.stdout.readline())[1]

    def get(*path):
        return run("get", "127.0.0.1", there, "lab", *path)

    wait_for(lambda: get().returncode == 0)
    edit(action="setitem", path=[], key="temperature", value=1.5)
    wait_for(lambda: get("temperature").stdout == "1.5\n")
    assert pyon.decode(get().stdout)["image"] == {"size": (2, 2)}
    end(relaying)


def test_watch_in_a_pipe_says_that_its_relay_is_stale_and_live_again(tmp_path):
    file = tmp_path / "lab.pyon"
    pyon.store_file(file, {"x": 1})
    origin = publish_editable(file)
    port = origin.stdout.readline().split()[-1]
    relaying = command("relay", "127.0.0.1", port, "lab", "--bind", "127.0.0.1")
    there = relaying.stdout.readline().split()[-1]
    watching = command("watch", "127.0.0.1", there, "lab")
    assert '"init"' in watching.stdout.readline()
    origin.communicate()
    said = next(line for line in watching.stderr if "stale" in line)
    assert said == "sync-struct: lab is stale: its publisher or origin cannot be reached\n"
    origin = command("publish", str(file), "--bind", "127.0.0.1", "--port", port)
    assert next(watching.stderr) == "sync-struct: lab is live again\n"
    for process in (watching, relaying, origin):
        end(process)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    files = {}
    for name in ("publisher", "subscriber"):
        leaf = trustme.CA().issue_cert(f"{name}.example")
        files[name] = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(files[name][0])
        leaf.private_key_pem.write_to_path(files[name][1])
    return files


def tls(files, mine, other):
    return ["--cert", files[mine][0], "--key", files[mine][1], "--peer-cert", files[other][0]]


def test_every_command_supports_tls(certificates, tmp_path):
    file = tmp_path / "lab.pyon"
    pyon.store_file(file, {"x": 1})
    server = tls(certificates, "publisher", "subscriber")
    client = tls(certificates, "subscriber", "publisher")
    process = command("publish", str(file), "--bind", "127.0.0.1", *server)
    port = re.search(r"port (\d+)", process.stdout.readline())[1]
    assert run("get", "127.0.0.1", port, "lab", "x", *client).stdout == "1\n"
    plain = run("get", "127.0.0.1", port, "lab")
    assert plain.returncode == 1
    assert "TLS" in plain.stderr
    assert f"127.0.0.1 port {port}" in plain.stderr
    lacking = run("get", "127.0.0.1", port, "lab", *client[:2])
    assert (lacking.returncode, "--peer-cert" in lacking.stderr) == (1, True)
    nowhere = run("get", "127.0.0.1", port, "lab", *client[:4], "--peer-cert", "/no.pem")
    assert (nowhere.returncode, "/no.pem" in nowhere.stderr) == (1, True)
    end(process)


def test_an_error_names_the_address():
    with socket.socket() as reserved:  # reserved: no publisher listens there
        reserved.bind(("127.0.0.1", 0))
        port = str(reserved.getsockname()[1])
        for subcommand in ("get", "watch"):
            process = command(subcommand, "127.0.0.1", port, "lab")
            expected = f"127.0.0.1 port {port}: Connection refused; is the publisher running?"
            assert expected in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


def test_a_name_with_several_addresses_that_all_refuse_is_one_refusal():
    error = OSError(
        "Multiple exceptions: [Errno 111] Connect call failed ('::1', 0, 0, 0), "
        "[Errno 111] Connect call failed ('127.0.0.1', 0)"
    )
    named = _named(error, Place("localhost", 0, None))
    assert type(named) is ConnectionRefusedError
    assert named.strerror == ("localhost port 0: Connection refused; is the publisher running?")
    other = OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 101] no network")
    assert "Multiple exceptions" in str(_named(other, Place("localhost", 0, None)))


def test_without_arguments_the_commands_are_listed():
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: sync-struct" in done.stderr
    assert "Publish the structure in a PYON file." in done.stderr


def refused(capsys, arguments):
    """Return what is told of a command line that is refused."""
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("port", ["70000", "-1", "abc"])
@pytest.mark.parametrize(
    "arguments",
    [
        "get 127.0.0.1 PORT lab",
        "log 127.0.0.1 PORT lab lab.log",
        "relay 127.0.0.1 PORT lab",
        "relay 127.0.0.1 3250 lab --port PORT",
        "web 127.0.0.1 3250 lab --port PORT",
        "bridge out 127.0.0.1 PORT lab --nats nats://127.0.0.1",
    ],
)
def test_what_is_not_a_port_is_refused(capsys, arguments, port):
    told = refused(capsys, arguments.replace("PORT", port))
    assert f"expected a TCP port, 0 to 65535, got '{port}'" in told


@pytest.mark.parametrize("number", ["0", "-1", "nan", "fast"])
@pytest.mark.parametrize(
    "arguments",
    [
        "log 127.0.0.1 3250 lab lab.log --rate NUMBER",
        "log 127.0.0.1 3250 lab lab.log --rotate-size NUMBER",
        "log 127.0.0.1 3250 lab lab.log --rotate-every NUMBER",
        "replay lab.log --publish --speed NUMBER",
    ],
)
def test_rates_sizes_and_times_are_above_zero(capsys, arguments, number):
    told = refused(capsys, arguments.replace("NUMBER", number))
    assert "expected a number above zero" in told
    assert f"got '{number}'" in told


def test_the_place_of_an_error_in_a_file_is_shown_with_a_caret(tmp_path):
    file = tmp_path / "lab.pyon"
    file.write_text('{"a": 1,\n "b": foo}')
    *_, line, caret = run("publish", str(file)).stderr.splitlines()
    assert line.strip() == '"b": foo}'
    assert line[caret.index("^") :] == "foo}"


def test_without_the_extra_an_address_ends_the_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nats.aio.client", None)
    assert main(["watch", "nats://127.0.0.1/lab"]) == 1
    assert "pip install nats-py" in capsys.readouterr().err


WAITING = """
import signal, socket, sys, threading
from sync_struct._cli import main

def interrupt():
    connection, _ = listening.accept()  # and never a word
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    threading.Event().wait()

listening = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=interrupt, daemon=True).start()
sys.exit(main(["watch", "127.0.0.1", str(listening.getsockname()[1]), "lab"]))
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to one thread")
def test_control_c_that_comes_on_another_thread_ends_the_command():
    done = subprocess.run(
        [sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
