"""The recipe in sync-struct's README for a reader that requests a change, run as printed."""

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "packages/sync-struct/README.md").read_text(encoding="utf-8")


def free_ports(number):
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


def is_listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except OSError:
        return False
    return True


def test_a_reader_requests_a_change_and_sees_it():
    section = README.partition("## Writing back")[2].partition("\n## ")[0]
    owner, reader = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    published, asked = free_ports(2)

    def here(code):
        code = code.replace('"::1"', '"127.0.0.1"')
        return code.replace("3250", str(published)).replace("3251", str(asked))

    process = subprocess.Popen([sys.executable, "-c", here(owner)])
    try:
        deadline = time.monotonic() + 60
        while not (is_listening(published) and is_listening(asked)):
            assert process.poll() is None
            assert time.monotonic() < deadline
        program = here(reader) + "print(lab['setpoint'])\n"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout, done.stderr) == ("300.0\n", "")
        assert len(reader.splitlines()) <= 10
    finally:
        process.terminate()
        process.wait()
