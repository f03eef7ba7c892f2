"""TLS with real certificates: mutual authentication, and the ways to get it wrong."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pc_rpc import BestEffortClient, ConnectionLost

pytestmark = pytest.mark.usefixtures("either_road")


class Driver:
    def echo(self, x):
        return x


@pytest.fixture
def tls_port(serve, contexts):
    return serve({"main": Driver()}, ssl=contexts("server", "client", server=True)).port


def test_calls_large_and_small_pass(tls_port, either_client, contexts):
    client = either_client(tls_port, ssl=contexts())
    array = np.arange(1_000_000.0)
    for _ in range(3):
        assert client.echo(5) == 5
        assert np.array_equal(client.echo(array), array)
    with pytest.raises(TimeoutError):
        client.with_rpc_timeout(0.0001).echo(array)
    assert client.echo(6) == 6


def test_threads_share_a_tls_connection(tls_port, connect, contexts):
    client = connect(tls_port, ssl=contexts())
    data = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            assert list(pool.map(client.echo, data)) == data


def test_a_best_effort_client_speaks_tls(tls_port, contexts):
    with BestEffortClient("127.0.0.1", tls_port, "main", ssl=contexts()) as client:
        assert client.echo(5) == 5


@pytest.mark.parametrize("server", ["stranger", "expired"])
def test_the_wrong_server_is_refused(serve, either_client, contexts, server):
    port = serve({"main": Driver()}, ssl=contexts(server, "client", server=True)).port
    expected = r"certificate of 127\.0\.0\.1:\d+ is not accepted: .*certificate verify failed: " + (
        "unable to get local issuer" if server == "stranger" else "certificate has expired"
    )
    peer = "server" if server == "stranger" else "expired"
    with pytest.raises(ssl.SSLCertVerificationError, match=expected):
        either_client(port, ssl=contexts(peer=peer))


def test_the_wrong_client_gets_an_error_about_its_certificate(tls_port, either_client, contexts):
    for own in ("stranger", "expired"):
        with pytest.raises(ConnectionLost, match="the server refused this client's certificate"):
            either_client(tls_port, ssl=contexts(own))
    without = ssl.create_default_context(cafile=None)
    without.check_hostname, without.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ConnectionLost, match="the server refused this client's certificate"):
        either_client(tls_port, ssl=without)
    assert either_client(tls_port, ssl=contexts()).echo(5) == 5


def test_with_the_older_tls_as_well(serve, either_client, contexts):
    port = serve({"main": Driver()}, ssl=contexts("server", "client", server=True)).port
    context = contexts("stranger")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionLost), match="refused this client's certificate"):
        either_client(port, "main", ssl=context)


def test_a_plain_client_on_a_tls_port_gets_a_hint(tls_port, either_client):
    with pytest.raises(ConnectionLost, match="before its greeting: the port may speak TLS"):
        either_client(tls_port)


def test_a_tls_client_on_a_plain_port_gets_a_hint(serve, either_client, contexts, caplog):
    port = serve({"main": Driver()}).port
    with pytest.raises(OSError, match=rf"no TLS conn.* to 'main' at 127.*:{port}: .*not speak TLS"):
        either_client(port, "main", ssl=contexts())
    assert either_client(port).echo(5) == 5
    (record,) = [r for r in caplog.records if r.name == "pc_rpc"]
    assert "expected the banner" in record.getMessage()


def test_the_tls_handshake_is_within_the_time_out(connect, contexts):
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(TimeoutError):
        connect(listener.getsockname()[1], timeout=0.1, ssl=contexts())
