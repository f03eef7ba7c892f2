"""Who may have code executed: this computer, clients with a certificate, or everybody if told so.

The one idea to keep in mind: what is checked is what is, not what was asked for. The loop looks at
the addresses that its sockets are bound to, `RemoteExecServer` at the two ends of the connection
and at the certificate that the client has shown. A check that cannot tell refuses.
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
        What the sockets are bound to.
    context : ssl.SSLContext or None
        What TLS is served with, if it is.

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
            f"refusing to execute code for whoever reaches {', '.join(outside)}"
            f"{_weakness(context)}: bind to ::1 or 127.0.0.1, or pass ssl= with a context that "
            "demands a certificate of clients (as pyon.tcp.server_context makes), or "
            "allow_remote=True if you trust the network"
        )


def _weakness(context: ssl.SSLContext | None) -> str:
    if context is None:
        return ""
    return f" (the ssl= context authenticates nobody: its verify_mode is {context.verify_mode!r})"


def require_admission() -> None:
    """Refuse the call of a client on another machine that has shown no certificate.

    Raises
    ------
    PermissionError
        Of such a client.
    """
    if current_peer() is None:
        return  # called in this process, not by a connection
    peername, sockname, certificate = map(current_extra_info, ("peername", "sockname", "peercert"))
    if not (certificate or is_same_machine(peername, sockname)):
        raise PermissionError(
            f"this controller executes code for its own machine only, not for {current_peer()}: "
            "it needs TLS with a certificate of yours, or RemoteExecServer(allow_remote=True)"
        )


def is_same_machine(peername: Any, sockname: Any) -> bool:
    """Say whether a connection comes from the machine that it leads to.

    Parameters
    ----------
    peername, sockname : tuple
        Its ends, as the socket has them. None, or anything else: it cannot be told, so it does not.
    """
    if not (isinstance(peername, tuple) and isinstance(sockname, tuple)):
        return False
    return is_loopback(peername[0]) or peername[0] == sockname[0]


def is_loopback(host: str) -> bool:
    """Say whether an address, as a socket has it, can be reached from this computer only."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
