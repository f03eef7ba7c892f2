"""Access control: which clients may have code executed.

The one idea to keep in mind: the checks use facts, not the requested configuration. The loop checks
the addresses that its sockets are bound to; `RemoteExecServer` checks both ends of the connection
and the certificate that the client has presented. When the facts are unknown, access is refused.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable
from typing import Any

from pc_rpc import current_extra_info, current_peer


def require_guard(addresses: Iterable[tuple[str, int]], context: ssl.SSLContext | None) -> None:
    """Refuse to listen where other machines could have code executed without a certificate.

    Parameters
    ----------
    addresses : iterable of (str, int)
        The addresses that the sockets are bound to.
    context : ssl.SSLContext or None
        The context of the TLS server. None: without TLS.

    Raises
    ------
    ValueError
        An address is not a loopback address, and the context does not demand certificates.
    """
    if context is not None and context.verify_mode == ssl.CERT_REQUIRED:
        return
    outside = [host for host, *_ in addresses if not is_loopback(host)]
    if outside:
        raise ValueError(
            f"refusing to execute code for everyone who can reach {', '.join(outside)}"
            f"{_weakness(context)}: bind to ::1 or 127.0.0.1, or pass ssl= with a context that "
            "demands a certificate of clients (as pyon.tcp.server_context makes), or "
            "allow_remote=True if you trust the network"
        )


def _weakness(context: ssl.SSLContext | None) -> str:
    if context is None:
        return ""
    return f" (the ssl= context authenticates nobody: its verify_mode is {context.verify_mode!r})"


def require_admission() -> None:
    """Refuse the calls of clients on other machines that have presented no certificate.

    Raises
    ------
    PermissionError
        The current call is of such a client.
    """
    if current_peer() is None:
        return  # a call within this process, not over a connection
    peername, sockname, certificate = map(current_extra_info, ("peername", "sockname", "peercert"))
    if not (certificate or is_same_machine(peername, sockname)):
        raise PermissionError(
            f"this controller executes code for its own machine only, not for {current_peer()}: "
            "it needs TLS with a certificate of yours, or RemoteExecServer(allow_remote=True)"
        )


def is_same_machine(peername: Any, sockname: Any) -> bool:
    """Return whether both ends of a connection are on the same machine.

    Parameters
    ----------
    peername, sockname : tuple
        Its addresses, as the socket gives them. For anything else the result is False.
    """
    if not (isinstance(peername, tuple) and isinstance(sockname, tuple)):
        return False
    return is_loopback(peername[0]) or peername[0] == sockname[0]


def is_loopback(host: str) -> bool:
    """Return whether a socket address can be reached from this computer only."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
