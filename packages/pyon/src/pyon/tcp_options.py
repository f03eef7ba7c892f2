"""Command-line options of programs that connect or listen: files for TLS, addresses, pages.

Nothing here connects. The program that makes the parser loads `argparse`.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from pyon.tcp import client_context, server_context

if TYPE_CHECKING:
    import argparse
    import ssl

__all__ = ["LOOPBACKS", "add_page_options", "add_tls_options", "loopback_addresses", "tls_context"]

LOOPBACKS = ("127.0.0.1", "::1")
"""What a command binds unless told otherwise: addresses that only this computer reaches."""


def add_tls_options(parser: argparse.ArgumentParser, whose: str) -> None:
    """Give a command the options ``--cert``, ``--key`` and ``--peer-cert``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The parser of the command.
    whose : str
        Whose certificate the last one is, "server's" for example.
    """
    group = parser.add_argument_group("TLS (all three, PEM files)")
    group.add_argument("--cert", metavar="FILE", help="own certificate")
    group.add_argument("--key", metavar="FILE", help="own private key")
    group.add_argument("--peer-cert", metavar="FILE", help=f"the {whose} certificate")


def add_page_options(command: argparse.ArgumentParser, *, always_token: bool = False) -> None:
    """Give a command the options of where its page is served.

    Parameters
    ----------
    command : argparse.ArgumentParser
        The parser of the command.
    always_token : bool, optional
        Whether a token is demanded even on this computer; `pyon.web.door_of` makes one, then.
    """
    group = command.add_argument_group("page")
    default = "made anew, and printed" if always_token else "none is needed on this computer"
    group.add_argument(
        "--bind",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="address to serve on (default: this computer only)",
    )
    group.add_argument(
        "--port", dest="serve_port", metavar="PORT", type=int, default=0, help="default: any free"
    )
    group.add_argument(
        "--token-file", metavar="FILE", help=f"what has to be known to enter (default: {default})"
    )
    group.add_argument("--https-cert", metavar="FILE", help="speak HTTPS: certificate, PEM")
    group.add_argument("--https-key", metavar="FILE", help="its private key, PEM")
    group.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="under which browsers find it, beside addresses and localhost; may be repeated",
    )


def tls_context(options: argparse.Namespace, *, server: bool = False) -> ssl.SSLContext | None:
    """Return the TLS context that the options ask for; None if they ask for none.

    Raises
    ------
    ValueError
        There are not all three.
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
    """Return those of `LOOPBACKS` that this computer has: it may lack IPv6, or IPv4."""
    return [address for address in LOOPBACKS if is_own_address(address)]


def is_own_address(address: str) -> bool:
    """Say whether a numeric address can be bound on this computer."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
