"""The client whose call is being executed, for methods and target factories.

The one idea to keep in mind: a context variable has the connection. It is set wherever users' code
of a target is about to run: on the event loop, in a task, or in a worker thread.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyon.asyncio_connection import Connection

executing: ContextVar[Connection] = ContextVar("executing")
"""The connection whose call is being executed."""


def current_peer() -> str | None:
    """Return the address of the client whose call is being executed, as "host:port".

    For methods of targets, and for target factories. None if no call is being executed.
    """
    connection = executing.get(None)
    return None if connection is None else connection.peername


def current_extra_info(name: str) -> Any:
    """Return information of the transport of the client whose call is being executed.

    For methods of targets, and for target factories.

    Parameters
    ----------
    name : str
        As for `asyncio.BaseTransport.get_extra_info`: "peername" and "sockname" are addresses in
        the form of the socket, "peercert" is the client's verified TLS certificate, empty or None
        without one.

    Raises
    ------
    LookupError
        No call of a connection is being executed.
    """
    return executing.get().transport.get_extra_info(name)
