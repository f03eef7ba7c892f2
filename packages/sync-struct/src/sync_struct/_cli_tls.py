"""The TLS options of the `sync-struct` command, as in `pc-rpc`."""

from __future__ import annotations

import argparse
import ssl

import pyon.tcp

__all__ = ["add_tls", "client_tls", "server_tls"]


def add_tls(command: argparse.ArgumentParser, whose: str) -> None:
    """Give a command the options."""
    group = command.add_argument_group("TLS (all three, PEM files)")
    group.add_argument("--cert", metavar="FILE", help="own certificate")
    group.add_argument("--key", metavar="FILE", help="own private key")
    group.add_argument("--peer-cert", metavar="FILE", help=f"the {whose} certificate")


def client_tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context to connect with; None: without TLS."""
    files = _files(options)
    return None if files is None else pyon.tcp.client_context(*files)


def server_tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context to serve with; None: without TLS."""
    files = _files(options)
    return None if files is None else pyon.tcp.server_context(*files)


def _files(options: argparse.Namespace) -> tuple[str, str, str] | None:
    files = (options.cert, options.key, options.peer_cert)
    if files == (None, None, None):
        return None
    if None in files:
        raise ValueError("TLS needs --cert, --key and --peer-cert")
    for file in files:
        open(file, "rb").close()  # its error names the file
    return files
