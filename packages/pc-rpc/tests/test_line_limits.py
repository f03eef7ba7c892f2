"""The text of a message has a limit of its own, lower than that of messages with their arrays."""

import socket

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("either_road")


class Driver:
    def echo(self, value):
        return value

    def text(self, size):
        return "x" * size


def beyond(limit):
    return rf"has \d+ bytes, beyond the limit of {limit} bytes"


def test_text_beyond_the_servers_limit_is_refused_and_the_connection_lives(serve, either_client):
    client = either_client(serve({"main": Driver()}, line_limit=10_000).port)
    with pytest.raises(ValueError, match=f"the request {beyond(10_000)}"):
        client.echo("x" * 10_000)
    assert client.echo(5) == 5
    array = np.arange(100_000.0)
    assert np.array_equal(client.echo(array), array)


def test_text_beyond_the_clients_limit_is_dropped_and_the_connection_lives(serve, connect):
    client = connect(serve({"main": Driver()}).port, line_limit=10_000)
    with pytest.raises(ValueError, match=rf"reply to the call of text\(\) {beyond(10_000)}"):
        client.text(10_000)
    assert client.text(5) == "xxxxx"
    array = np.arange(100_000.0)
    assert np.array_equal(client.echo(array), array)


def test_a_client_of_the_established_stack_hears_of_the_limit_and_goes_on(serve):
    port = serve({"main": Driver()}, line_limit=10_000).port
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        lines = sock.makefile("rb")
        sock.sendall(b"ARTIQ pc_rpc\nmain\n")
        lines.readline(), lines.readline()
        call = b'{"action": "call", "name": "echo", "args": ["%b"], "kwargs": {}}\n'
        sock.sendall(call % (b"x" * 10_000))
        assert b"beyond the limit of 10000 bytes" in lines.readline()
        sock.sendall(call % b"y")
        assert b'"ret": "y"' in lines.readline()


def test_a_server_takes_32_mib_of_text_by_default(serve, connect):
    client = connect(serve({"main": Driver()}).port)
    with pytest.raises(ValueError, match=beyond(2**25)):
        client.echo("x" * 2**25)
    assert len(client.echo("x" * (2**25 - 1000))) == 2**25 - 1000
