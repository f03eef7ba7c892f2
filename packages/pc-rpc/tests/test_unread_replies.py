"""The server stops reading from a client that does not read its replies."""

from __future__ import annotations

import socket
import threading

import pytest
from pc_rpc import _session, immediate
from pyon import asyncio_connection

pytestmark = pytest.mark.usefixtures("either_road")

HIGH_WATER = 2**15
"""Backlog at which the servers of these tests stop reading, in bytes."""


class Driver:
    def echo(self, x):
        return x

    @immediate
    async def at_once(self):
        """Take a while to be described."""

    def fail(self):
        raise ValueError("x" * 1000)


REQUESTS = {
    "pings": (b'{"id":%d,"action":"ping"}\n', 15_000),
    "method lists": (b'{"id":%d,"action":"get_rpc_method_list"}\n', 1_000),
    "unknown actions": (b'{"id":%d,"action":"dance"}\n', 5_000),
    "unknown methods": (b'{"id":%d,"action":"call","name":"n","args":[],"kwargs":{}}\n', 5_000),
    "calls of no form": (b'{"id":%d,"action":"call","name":"echo"}\n', 5_000),
    "failing calls": (b'{"id":%d,"action":"call","name":"fail","args":[],"kwargs":{}}\n', 1_000),
    "immediate calls": (
        b'{"id":%d,"action":"call","name":"at_once","args":[],"kwargs":{}}\n',
        15_000,
    ),
    "cancelled calls": (
        b'{"id":%d,"action":"call","name":"at_once","args":[],"kwargs":{}}\n'
        b'{"action":"cancel","request":%d}\n',
        10_000,
    ),
}


def come_to_rest(thread, session):
    """Wait until the server pauses; return its backlog for the client, in bytes."""
    same, before = 0, -1
    while same < 50 or before < HIGH_WATER // 2:
        now = thread.do(lambda: session.backlog)
        same = same + 1 if now == before else 0
        before = now
    return before


@pytest.mark.parametrize("words", [b" pyon_v2", b" pyon_v2 request_ids exception_details"])
@pytest.mark.parametrize("what", REQUESTS)
def test_unread_replies_stop_the_reading_of_requests(serve, monkeypatch, what, words):
    for module in (asyncio_connection, _session):
        monkeypatch.setattr(module, "HIGH_WATER", HIGH_WATER)
    request, count = REQUESTS[what]
    if b"cancel" in request:
        words = b" pyon_v2 request_ids"
    thread = serve({"main": Driver()}, worker_threads=True)
    with socket.socket() as sock, sock.makefile("rb") as lines:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", thread.port))
        sock.sendall(b"ARTIQ pc_rpc\nmain" + words + b"\n")
        assert [lines.readline(), lines.readline()]
        (session,) = thread.server._shared.sessions
        own = session.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        asked = b"".join(request.replace(b"%d", b"%d" % number) for number in range(count))
        sender = threading.Thread(target=sock.sendall, args=(asked,))
        sender.start()
        assert come_to_rest(thread, session) < 4 * HIGH_WATER
        size = sum(len(lines.readline()) for _ in range(count))
        assert size > 10 * HIGH_WATER  # otherwise the test shows nothing
        sender.join(30)
