"""Command-line options of programs that connect or listen: files for TLS, addresses, pages.

Nothing here connects, and `argparse` is loaded only by the program that creates the parser.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from pyon.tcp import client_context, server_context

if TYPE_CHECKING:
    import argparse
    import ssl

__all__ = [
    "LOOPBACKS",
    "add_page_options",
    "add_tls_options",
    "loopback_addresses",
    "tcp_port",
    "tls_context",
]

LOOPBACKS = ("127.0.0.1", "::1")
"""Default bind addresses of commands: only this computer can reach them."""

LAST_PORT = 2**16 - 1
"""The port field of a TCP header has 16 bits."""


def tcp_port(text: str) -> int:
    """Return the TCP port that an argument names: the `type` of such an argument in argparse.

    Raises
    ------
    argparse.ArgumentTypeError
        It is no whole number from 0 to 65535.
    """
    if not (text.isascii() and text.isdigit() and int(text) <= LAST_PORT):
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"expected a TCP port, 0 to {LAST_PORT}, got {text!r}")
    return int(text)


def add_tls_options(parser: argparse.ArgumentParser, whose: str) -> None:
    """Add the options ``--cert``, ``--key`` and ``--peer-cert`` to a command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The parser of the command.
    whose : str
        The peer in the help of ``--peer-cert``, for example "server's".
    """
    group = parser.add_argument_group("TLS (all three, PEM files)")
    group.add_argument("--cert", metavar="FILE", help="own certificate")
    group.add_argument("--key", metavar="FILE", help="own private key")
    group.add_argument("--peer-cert", metavar="FILE", help=f"the {whose} certificate")


def add_page_options(command: argparse.ArgumentParser, *, always_token: bool = False) -> None:
    """Add the options for serving a page to a command.

    Parameters
    ----------
    command : argparse.ArgumentParser
        The parser of the command.
    always_token : bool, optional
        Whether a token is required even on this computer; `pyon.web.door_of` then creates one.
    """
    group = command.add_argument_group("page")
    default = "a new token, which is printed" if always_token else "no token, on this computer only"
    group.add_argument(
        "--bind",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="address to serve on (default: this computer only)",
    )
    group.add_argument(
        "--port",
        dest="serve_port",
        metavar="PORT",
        type=tcp_port,
        default=0,
        help="port to serve on (default: any free port)",
    )
    group.add_argument(
        "--token-file", metavar="FILE", help=f"file with the access token (default: {default})"
    )
    group.add_argument("--https-cert", metavar="FILE", help="serve HTTPS: certificate, PEM")
    group.add_argument("--https-key", metavar="FILE", help="serve HTTPS: private key, PEM")
    group.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="host name in the address of the page, besides localhost; may be repeated",
    )


def tls_context(options: argparse.Namespace, *, server: bool = False) -> ssl.SSLContext | None:
    """Return the TLS context of the options of `add_tls_options`; None if none of them is given.

    Raises
    ------
    ValueError
        Only one or two of the three options are given.
    OSError
        A file cannot be used.
    """
    files = (options.cert, options.key, options.peer_cert)
    if files == (None, None, None):
        return None
    if None in files:
        raise ValueError("TLS needs --cert, --key and --peer-cert")
    return (server_context if server else client_context)(*files)


def loopback_addresses() -> list[str]:
    """Return the addresses of `LOOPBACKS` that this computer has: it may lack IPv6, or IPv4."""
    return [address for address in LOOPBACKS if is_own_address(address)]


def is_own_address(address: str) -> bool:
    """Return whether a numeric address can be bound on this computer."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
