"""Peers that disappear without closing: detected by either end, also with data in flight.

A real link is taken down between two network namespaces, which takes Linux, root and ``ip``.
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pyon import tcp

INTERVAL, RETRIES = 1.0, 8
"""Time between retransmissions, and how many there are before the systems in the test give up: 8 s,
for 35 s as usual. Without a bound of the interval it takes 100 s."""

END = (
    f"""
import pyon.tcp
pyon.tcp.RETRANSMISSION_INTERVAL = {INTERVAL}
"""
    + """
import asyncio, sys
from pyon.asyncio_connection import Connection
from pyon.asyncio_server import AsyncioServer

class End(Connection):
    def connection_opened(self):
        say("open")
    def message_received(self, message):
        say(message.line.decode())
    def connection_closed(self, exc):
        say(f"closed: {exc!r}")

class Server(AsyncioServer):
    def _make_connection(self):
        global end
        end = End(scratch=self._scratch)
        return end

def say(text):
    print(text, flush=True)

async def main(role):
    global end
    if role == "server":
        server = Server()
        await server.start("10.9.8.1", 3249)
        say("listening")
    else:
        loop = asyncio.get_running_loop()
        _, end = await loop.create_connection(End, "10.9.8.1", 3249)
    while line := await asyncio.to_thread(sys.stdin.readline):
        end.send(line.strip() * 100_000)

asyncio.run(main(sys.argv[1]))
"""
)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Machine:
    """A network namespace with one end of the link, and a process in it."""

    def __init__(self, number):
        self.name, self.link = f"pyon-{os.getpid()}-{number}", f"pyon{number}"
        self.address = f"10.9.8.{number}/24"
        ip("netns", "add", self.name)
        self.process = None

    def connect(self):
        ip("-n", self.name, "addr", "add", self.address, "dev", self.link)
        ip("-n", self.name, "link", "set", self.link, "up")
        code = f"open('/proc/sys/net/ipv4/tcp_retries2', 'w').write('{RETRIES}')"
        subprocess.run([*self.inside, "-c", code], check=True)

    @property
    def inside(self):
        return ["ip", "netns", "exec", self.name, sys.executable]

    def start(self, role):
        self.process = subprocess.Popen(
            [*self.inside, "-c", END, role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self):
        return self.process.stdout.readline().strip()

    def say(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        ip("netns", "del", self.name)


def may_have_namespaces():
    if sys.platform != "linux" or shutil.which("ip") is None or os.geteuid() != 0:
        return False
    try:
        ip("netns", "add", f"pyon-{os.getpid()}-0")
        ip("netns", "del", f"pyon-{os.getpid()}-0")
    except (OSError, subprocess.CalledProcessError):
        return False
    return Path("/proc/sys/net/ipv4/tcp_retries2").exists()


@pytest.fixture
def machines():
    if not may_have_namespaces():
        pytest.skip("needs root and network namespaces")
    ends = []
    try:
        ends.append(server := Machine(1))
        ends.append(client := Machine(2))
        ip("-n", server.name, "link", "add", server.link, "type", "veth", "peer", client.link)
        ip("-n", server.name, "link", "set", client.link, "netns", client.name)
        for machine, role in ((server, "server"), (client, "client")):
            machine.connect()
            machine.start(role)
            assert machine.hear() == ("listening" if role == "server" else "open")
        assert server.hear() == "open"
        yield server, client
    finally:
        for machine in ends:
            machine.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("speaker", "cut"), [("client", "server"), ("server", "client")])
def test_a_cable_that_is_pulled_before_something_is_sent_is_noticed(machines, speaker, cut):
    server, client = machines
    ends = {"server": server, "client": client}
    client.say("a")
    assert server.hear() == "a" * 100_000
    ip("-n", ends[cut].name, "link", "set", ends[cut].link, "down")
    ends[speaker].say("b")
    assert ends[speaker].hear().startswith(("closed: TimeoutError", "closed: OSError"))


def option(sock, name):
    return sock.getsockopt(socket.IPPROTO_TCP, name)


def has_retransmission_interval():
    with socket.socket() as sock:
        try:
            option(sock, tcp._TCP_RTO_MAX_MS)
        except OSError:
            return False
        return sys.platform == "linux"


def test_unacknowledged_data_is_given_up_in_time_and_a_peer_that_does_not_read_is_not():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        sock.connect(server.getsockname())
        tcp.set_keepalive(sock)
        if has_retransmission_interval():
            interval = 1000 * tcp.RETRANSMISSION_INTERVAL
            assert option(sock, tcp._TCP_RTO_MAX_MS) == pytest.approx(interval, rel=0.1)
            # It would end connections to live peers that do not read.
            assert option(sock, socket.TCP_USER_TIMEOUT) == 0
        elif sys.platform == "linux":
            assert option(sock, socket.TCP_USER_TIMEOUT) == 1000 * tcp.UNACKNOWLEDGED_TIME["linux"]


@pytest.mark.skipif(sys.platform != "linux", reason="an option of Linux")
def test_where_the_interval_of_retransmissions_is_unknown_there_is_a_longer_limit(monkeypatch):
    monkeypatch.setattr(tcp, "_TCP_RTO_MAX_MS", 9999)
    with socket.socket() as sock:
        tcp.set_keepalive(sock)
        assert option(sock, socket.TCP_USER_TIMEOUT) == 120_000
