"""Options that the commands of two packages share."""

import argparse
import ssl

import pytest
import trustme
from pyon.tcp_options import (
    add_tls_options,
    is_own_address,
    loopback_addresses,
    tcp_port,
    tls_context,
)


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    add_tls_options(parser, "server's")
    return parser


@pytest.fixture
def files(tmp_path):
    """Paths of a certificate, its key, and the certificate of a peer."""
    certificate = trustme.CA().issue_cert("localhost")
    paths = [tmp_path / name for name in ("own.pem", "own.key", "peer.pem")]
    certificate.cert_chain_pems[0].write_to_path(paths[0])
    certificate.private_key_pem.write_to_path(paths[1])
    certificate.cert_chain_pems[0].write_to_path(paths[2])
    return [str(path) for path in paths]


def test_without_the_options_there_is_no_tls(parser):
    assert tls_context(parser.parse_args([])) is None


@pytest.mark.parametrize("server", [False, True])
def test_all_three_files_make_a_context_that_asks_for_the_peers_certificate(parser, files, server):
    own, key, peer = files
    options = parser.parse_args(["--cert", own, "--key", key, "--peer-cert", peer])
    assert tls_context(options, server=server).verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_two_files_are_not_enough_and_a_file_that_is_not_there_is_named(parser, files, missing):
    options = [["--cert", files[0]], ["--key", files[1]], ["--peer-cert", files[2]]]
    two = [word for number, pair in enumerate(options) if number != missing for word in pair]
    with pytest.raises(ValueError, match="TLS needs --cert, --key and --peer-cert"):
        tls_context(parser.parse_args(two))
    options[missing][1] = "/no/such/file.pem"
    with pytest.raises(FileNotFoundError, match=r"/no/such/file\.pem"):
        tls_context(parser.parse_args([word for pair in options for word in pair]))


def test_only_addresses_of_this_computer_are_bound():
    assert is_own_address("127.0.0.1")
    assert not is_own_address("192.0.2.1")
    assert not is_own_address("2001:db8::1")
    assert "127.0.0.1" in loopback_addresses()


def test_a_port_has_sixteen_bits():
    assert [tcp_port("0"), tcp_port("65535")] == [0, 65535]
    for text in ("65536", "-1", "1.5", "abc", "", "\u0661"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a TCP port, 0 to 65535"):
            tcp_port(text)
