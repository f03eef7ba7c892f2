"""tcp: keep-alive, addresses as text, and mutual authentication with real certificates."""

import asyncio
import contextlib
import socket
import ssl

import pytest
import trustme
from pyon.asyncio_connection import Connection
from pyon.asyncio_server import AsyncioServer
from pyon.tcp import client_context, format_address, server_context, set_keepalive


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 3251), "127.0.0.1:3251"),
        (("fe80::1", 3251, 0, 2), "[fe80::1]:3251"),
        (None, "unknown peer"),
        ("", "unknown peer"),
    ],
)
def test_addresses_are_written_as_people_do(address, text):
    assert format_address(address) == text


def test_keep_alive_finds_a_dead_peer_within_a_minute():
    with socket.socket() as sock:
        set_keepalive(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            tcp = socket.IPPROTO_TCP
            idle = sock.getsockopt(tcp, socket.TCP_KEEPIDLE)
            interval = sock.getsockopt(tcp, socket.TCP_KEEPINTVL)
            assert idle + interval * sock.getsockopt(tcp, socket.TCP_KEEPCNT) < 60


class Identity:
    """The three files of one end."""

    def __init__(self, folder, name):
        leaf = trustme.CA().issue_cert(f"{name}.example")
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(self.certificate)
        leaf.private_key_pem.write_to_path(self.key)


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    return {name: Identity(folder, name) for name in ("server", "client", "stranger")}


class Greeter(AsyncioServer):
    async def _handle_connection_cr(self, reader, writer):
        writer.write(b"hello\n")


async def greeting(server, context):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    try:
        return await reader.readline()
    finally:
        writer.close()


@pytest.fixture
async def server(identities):
    own, client = identities["server"], identities["client"]
    async with Greeter() as server:
        context = server_context(own.certificate, own.key, client.certificate)
        await server.start("127.0.0.1", 0, ssl=context)
        yield server


async def test_ends_that_pin_each_others_certificate_talk_whatever_the_host_name(
    server, identities
):
    own, peer = identities["client"], identities["server"]
    assert await greeting(server, client_context(own.certificate, own.key, peer.certificate)) == (
        b"hello\n"
    )


async def test_client_refuses_a_server_that_it_does_not_pin(server, identities):
    own, peer = identities["client"], identities["stranger"]
    with pytest.raises(ssl.SSLCertVerificationError):
        await greeting(server, client_context(own.certificate, own.key, peer.certificate))


async def test_server_refuses_a_client_that_it_does_not_pin(server, identities):
    own, peer = identities["stranger"], identities["server"]
    context = client_context(own.certificate, own.key, peer.certificate)
    try:
        answer = await greeting(server, context)
    except OSError:  # TLS 1.3: the client sees the refusal at its first read
        answer = b""
    assert answer == b""


async def test_handshake_that_fails_is_logged_once_with_peer_and_reason(server, identities, caplog):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: instrument\r\n\r\n")
    await reader.read()
    (record,) = caplog.records
    host, port = writer.get_extra_info("sockname")
    assert f"{host}:{port}" in record.getMessage()
    assert "http request" in record.getMessage().lower()
    assert record.exc_info is None
    writer.close()
    own, peer = identities["client"], identities["server"]
    context = client_context(own.certificate, own.key, peer.certificate)
    assert await greeting(server, context) == b"hello\n"


async def test_stop_does_not_wait_for_a_handshake_that_never_ends(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"\x16\x03\x01")
    await writer.drain()
    await server.stop()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


class LineEcho(AsyncioServer):
    """Echoes a line, with streams."""

    async def _handle_connection_cr(self, reader, writer):
        writer.write(await reader.readline())


class Echo(AsyncioServer):
    """Echoes a message, with a connection class."""

    def _make_connection(self):
        class Echoing(Connection):
            def message_received(self, message):
                self.send(message.line)
                self.close()

        return Echoing(scratch=self._scratch)


def speak_at_once(port, context, line):
    """Send the end of the TLS handshake and `line` in one piece; return the answer."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(2**16))
        tls.write(line)
        sock.sendall(outgoing.read())
        answer = b""
        while not answer.endswith(b"\n"):
            try:
                answer += tls.read(2**16)
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(2**16))
        return answer


@pytest.mark.parametrize("make_server", [Echo, LineEcho])
async def test_what_a_client_sends_with_the_end_of_its_handshake_arrives(identities, make_server):
    own, client = identities["server"], identities["client"]
    context = client_context(client.certificate, client.key, own.certificate)
    async with make_server() as server:
        await server.start(
            "127.0.0.1", 0, ssl=server_context(own.certificate, own.key, client.certificate)
        )
        for size in (1, 10_000, 60_000):
            line = b"x" * size + b"\n"
            assert await asyncio.to_thread(speak_at_once, server.port, context, line) == line


def test_file_that_is_missing_is_an_os_error(identities, tmp_path):
    own = identities["client"]
    with pytest.raises(FileNotFoundError):
        client_context(own.certificate, own.key, tmp_path / "nope.pem")
