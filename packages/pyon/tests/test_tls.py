"""TLS with wrong files, which are named, and refused clients, which get the reason."""

import asyncio
import contextlib
import logging
import re
import shlex
import shutil
import socket
import ssl
import subprocess

import pytest
import trustme
from pyon import _handshake
from pyon.asyncio_server import AsyncioServer
from pyon.tcp import client_context, server_context

FILES = ("own_certificate", "own_key", "peer_certificate")


@pytest.fixture
def files(tmp_path):
    """The paths that both functions take."""
    leaf, peer = trustme.CA().issue_cert("own.example"), trustme.CA().issue_cert("peer.example")
    paths = {name: tmp_path / f"{name}.pem" for name in FILES}
    leaf.cert_chain_pems[0].write_to_path(paths["own_certificate"])
    leaf.private_key_pem.write_to_path(paths["own_key"])
    peer.cert_chain_pems[0].write_to_path(paths["peer_certificate"])
    return paths


@pytest.fixture(params=[client_context, server_context], ids=["client", "server"])
def make(request):
    return request.param


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_named_with_its_parameter(make, files, name):
    files[name].unlink()
    with pytest.raises(FileNotFoundError) as caught:
        make(**files)
    assert name in str(caught.value)
    assert str(files[name]) in str(caught.value)
    assert caught.value.filename == str(files[name])


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_named(make, files, name):
    files[name] = files[name].parent
    with pytest.raises(OSError, match=f"{name}: .*{files[name]}"):
        make(**files)


WRONG = {
    "an empty file": b"",
    "other data": b"hello",
    "DER": bytes.fromhex("3082025c02010002818100"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_is_no_pem_is_named(make, files, name, what):
    files[name].write_bytes(WRONG[what])
    with pytest.raises(ssl.SSLError, match=f"{name}: expected a PEM .*{files[name]}.*got {what}"):
        make(**files)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_is_named(make, files, name):
    content = files[name].read_bytes()
    files[name].write_bytes(content[: len(content) // 2])
    with pytest.raises(ssl.SSLError, match=f"{name}: the .*{files[name]}.* cannot be used: ."):
        make(**files)


def test_two_exchanged_files_are_reported(make, files):
    files["own_key"], files["own_certificate"] = files["own_certificate"], files["own_key"]
    with pytest.raises(ssl.SSLError, match=r"own_certificate: .*got a private key"):
        make(**files)


def test_a_key_of_another_certificate_is_reported(make, files):
    trustme.CA().issue_cert("x.example").private_key_pem.write_to_path(files["own_key"])
    with pytest.raises(ssl.SSLError, match=r"own_key: .* is not the key of own_certificate, "):
        make(**files)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(make, files):
    key = files["own_key"].read_bytes().replace(b"RSA PRIVATE", b"PRIVATE")
    files["own_key"].write_bytes(key.replace(b" PRIVATE", b" ENCRYPTED PRIVATE"))
    with pytest.raises(ssl.SSLError, match=r"own_key: .* is encrypted"):
        make(**files)


class Greeter(AsyncioServer):
    async def _handle_connection_cr(self, reader, writer):
        writer.write(await reader.readline())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl")
def test_the_lines_of_the_documentation_make_certificates_that_work(tmp_path):
    lines = re.findall(r"^ *(openssl .*)$", client_context.__doc__, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        subprocess.run(shlex.split(line), cwd=tmp_path, check=True, capture_output=True)
    server, client = (
        (tmp_path / f"{name}.pem", tmp_path / f"{name}.key") for name in ("server", "client")
    )
    contexts = server_context(*server, client[0]), client_context(*client, server[0])

    async def talk():
        async with Greeter() as greeter:
            await greeter.start("127.0.0.1", 0, ssl=contexts[0])
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", greeter.port, ssl=contexts[1]
            )
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            writer.close()

    asyncio.run(talk())


# Handshakes that fail, at the server.


@pytest.fixture
async def server(files, tmp_path):
    """A server, with what its client needs."""
    mine = trustme.CA().issue_cert("client.example")
    mine.cert_chain_pems[0].write_to_path(files["peer_certificate"])
    mine.private_key_pem.write_to_path(tmp_path / "client.key")
    async with Greeter() as server:
        await server.start("127.0.0.1", 0, ssl=server_context(**files))
        server.files = files
        yield server


def unknown_client(server, tmp_path, *, trusted=True):
    """Return the context of a client whose certificate the server does not know, or vice versa."""
    leaf = trustme.CA().issue_cert("unknown.example")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "unknown.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "unknown.key")
    known = server.files["own_certificate"] if trusted else tmp_path / "unknown.pem"
    return client_context(tmp_path / "unknown.pem", tmp_path / "unknown.key", known)


async def read_all(server, context):
    """Connect and read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    try:
        await reader.read()
    finally:
        writer.close()


def shake_hands(server, context):
    """Connect with a blocking client, which sends the server the alert with its reason."""
    with socket.create_connection(("127.0.0.1", server.port)) as sock, context.wrap_socket(sock):
        pass


async def logged(caplog):
    """Wait for one record of the log, and return its message."""
    while not caplog.records:  # noqa: ASYNC110
        await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.exc_info is None
    return record.getMessage()


async def test_a_client_whose_certificate_is_refused_gets_the_alert(server, tmp_path, caplog):
    context = unknown_client(server, tmp_path)
    with pytest.raises(ssl.SSLError, match="ALERT"):  # at the first read, with TLS 1.3
        await read_all(server, context)
    assert "the client's certificate was refused: " in await logged(caplog)


async def test_a_client_without_a_certificate_is_logged_as_that(server, caplog):
    context = ssl.create_default_context(cafile=server.files["own_certificate"])
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with pytest.raises(ssl.SSLError, match="ALERT"):
        await read_all(server, context)
    assert "did not return a certificate" in await logged(caplog)


async def test_a_client_that_refuses_the_server_is_logged_as_that(server, tmp_path, caplog):
    context = unknown_client(server, tmp_path, trusted=False)
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(shake_hands, server, context)
    assert re.search(r"the client refused the handshake: \w+", await logged(caplog))


@pytest.mark.parametrize(
    "said", [b"ARTIQ pc_rpc\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"\x80\x01\x02"]
)
async def test_other_protocols_than_tls_are_shown_in_the_log(server, caplog, said):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(said)
    writer.write_eof()
    with contextlib.suppress(ConnectionResetError):
        await reader.read()
    writer.close()
    message = await logged(caplog)
    assert f"expected TLS, got {said[:60]!r}" in message
    assert message.startswith("127.0.0.1:")


async def test_a_client_that_leaves_in_the_middle_is_logged_with_a_reason(server, caplog):
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00")
    assert "disconnected during it" in await logged(caplog)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_probe_that_connects_and_leaves_is_not_logged(server, caplog, reset):
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                if reset:
                    linger = b"\1\0\0\0\0\0\0\0"
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            for _ in range(20):
                await asyncio.sleep(0)
        await server.stop()
    assert not caplog.records


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00"], ids=["silent", "begun"])
async def test_a_handshake_that_never_ends_is_ended_in_time_and_logged(
    files, caplog, monkeypatch, said
):
    monkeypatch.setattr(_handshake, "TIMEOUT", 0.1)
    async with Greeter() as server:
        await server.start("127.0.0.1", 0, ssl=server_context(**files))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(said)
        assert await reader.read() == b""
        writer.close()
        assert re.search(r"failed: .*0\.1", await logged(caplog))
