"""tcp: keep-alive, names of addresses, and mutual authentication with real certificates."""

import asyncio
import socket
import ssl

import pytest
import trustme
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
    except OSError:  # TLS 1.3: the client learns of it at its first read, one way or the other
        answer = b""
    assert answer == b""


def test_file_that_is_missing_is_an_os_error(identities, tmp_path):
    own = identities["client"]
    with pytest.raises(FileNotFoundError):
        client_context(own.certificate, own.key, tmp_path / "nope.pem")
