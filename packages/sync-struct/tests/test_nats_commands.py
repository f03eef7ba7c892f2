"""`sync-struct bridge`, and addresses in place of a host, as processes."""

import re
import signal
import subprocess
import sys
import time

import pyon
import pytest
from sync_struct import Notifier, publish
from sync_struct._cli import _with_names

COMMAND = [sys.executable, "-m", "sync_struct._cli"]


def run(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)


def start(*arguments):
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process):
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return errors


def wait_for(fact):
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline
    return fact()


def test_bridges_carry_a_structure_to_subscribers(engine, tmp_path):
    lab = Notifier({"temperature": 293.0, "scan": []})
    with publish("127.0.0.1", 0, {"lab": lab}) as publisher:
        out = start(
            "bridge", "out", "127.0.0.1", str(publisher.port), "lab", "--nats", engine.address
        )
        assert out.stdout.readline() == "lab: connecting\n"
        assert out.stdout.readline() == "lab: live\n"
        into = start("bridge", "in", "lab", "--nats", engine.address, "--bind", "127.0.0.1")
        port = re.fullmatch(r"lab at 127\.0\.0\.1 port (\d+)\n", into.stdout.readline())[1]
        wait_for(lambda: run("get", "127.0.0.1", port, "lab").returncode == 0)
        lab["scan"].append(1.5)
        wait_for(lambda: run("get", "127.0.0.1", port, "lab", "scan").stdout == "[1.5]\n")
        got = run("get", f"{engine.address}/lab")
        assert pyon.decode(got.stdout) == {"temperature": 293.0, "scan": [1.5]}
        assert run("get", engine.address, "lab", "scan/0").stdout == "1.5\n"
        replayed = run("replay", f"{engine.address}/lab")
        assert pyon.decode(replayed.stdout) == {"temperature": 293.0, "scan": [1.5]}
        recording = tmp_path / "lab.log"
        logging = start("log", f"{engine.address}/lab", str(recording))
        wait_for(lambda: recording.exists() and recording.read_text().count("\n") >= 1)
        lab["temperature"] = 4.2
        wait_for(lambda: "4.2" in recording.read_text())
        for process in (logging, into, out):
            end(process)
    assert pyon.decode(run("replay", str(recording)).stdout)["temperature"] == 4.2


def test_a_second_bridge_reports_that_it_stands_by(engine):
    with publish("127.0.0.1", 0, {"lab": Notifier({})}) as publisher:
        arguments = ["bridge", "out", "127.0.0.1", str(publisher.port), "lab"]
        first = start(*arguments, "--nats", engine.address)
        while first.stdout.readline() != "lab: live\n":
            pass
        second = start(*arguments, "--nats", engine.address, "--storage", "memory")
        assert second.stdout.readline() == "lab: standby\n"
        assert "is active" in end(second)
        end(first)


def test_an_unreachable_engine_is_one_line(engine):
    engine.kill()
    for arguments in (
        ["get", f"{engine.address}/lab"],
        ["bridge", "out", "127.0.0.1", "1", "lab", "--nats", engine.address],
    ):
        done = run(*arguments)
        assert done.returncode == 1
        expected = rf"sync-struct: {engine.address}: .*Connect call failed.*\n"
        assert re.fullmatch(expected, done.stderr)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["get", "h", "1", "lab"], ["get", "h", "1", "lab"]),
        (["get", "nats://h/lab", "a/b"], ["get", "nats://h/lab", "0", "lab", "a/b"]),
        (["get", "nats://h", "lab"], ["get", "nats://h", "0", "lab"]),
        (["bridge", "in", "--nats", "nats://h"], ["bridge", "in", "--nats", "nats://h"]),
        (["bridge", "in", "--nats=nats://h"], ["bridge", "in", "--nats=nats://h"]),
    ],
)
def test_an_address_stands_for_host_port_and_name(given, meant):
    assert _with_names(given) == meant
