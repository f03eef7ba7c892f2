"""Error messages of failed connections: those of the system name no server and give no hint.

The one idea to keep in mind: an error keeps its class and its number, for programs; only its text
changes, which then names the server and the target.
"""

from __future__ import annotations

import socket
from typing import Any

REFUSALS = ("UNKNOWN_CA", "CERTIFICATE", "BAD_CERT", "ACCESS_DENIED", "HANDSHAKE_FAILURE")
"""Parts of the names of the TLS alerts by which a server refuses the client's certificate."""


def wanted(host_and_port: str, target_name: object) -> str:
    """Return the target and the server to be reached, for messages."""
    return f"{target_name!r} at {host_and_port}" if isinstance(target_name, str) else host_and_port


def explained(error: OSError, what: str) -> OSError:
    """Return the error of a failed connection to `what`."""
    if isinstance(error, TimeoutError) and error.errno is None:  # of our deadline
        return TimeoutError(f"no connection to {what} within the time-out")
    text = f"no connection to {what}: {error.strerror or error}"
    if isinstance(error, socket.gaierror):
        return socket.gaierror(error.errno, f"{text}; is the name right?")
    if error.errno is None:
        return type(error)(text)
    if isinstance(error, ConnectionRefusedError):
        text = f"no connection to {what}: Connection refused; is the server running?"
    return OSError(error.errno, text)


def explained_tls(error: Any, what: str) -> OSError:
    """Return the error of a failed TLS handshake with `what`, with a hint."""
    if isinstance(error, TimeoutError):
        return explained(error, what)
    said = error.strerror or str(error) or "closed by the server"
    if getattr(error, "verify_message", None):
        text = f"the certificate of {what} is not accepted: {said}"
    elif is_refusal(error):
        text = f"{what} refused this client's certificate: {said}"
    else:
        text = f"no TLS connection to {what}: {said}; the port may not speak TLS"
    if hasattr(error, "library"):  # an SSLError, which has more attributes
        error.strerror = text
        return error  # type: ignore[no-any-return]
    return type(error)(text) if error.errno is None else OSError(error.errno, text)


def is_refusal(error: object) -> bool:
    """Return whether an error is the alert of a server that refuses the client's certificate."""
    reason = str(getattr(error, "reason", None))
    return "ALERT" in reason and any(word in reason for word in REFUSALS)
