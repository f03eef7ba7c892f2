"""The requests of the client side, for a blocking and for an asyncio client.

The one idea to keep in mind: every request is a call of a method of `RemoteExecServer`, which any
RPC client can make. This module chooses methods and arguments; the clients make the calls.
"""

from __future__ import annotations

import copy
import keyword
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

from remote_exec._sending import DEFINE, Sent, Source, source_of

# The code is constant: the arguments are passed to the function as values.
_CONNECT = '''
def _connect_global_rpc(name, host, port, target):
    """Create an RPC client for this connection and later ones, unless there is one already."""
    import importlib

    if name not in controller_initial_namespace:
        for package in ("pc_rpc", "sipyco.pc_rpc", "artiq.protocols.pc_rpc"):
            try:
                client_class = importlib.import_module(package).Client
                break
            except ImportError:
                pass
        controller_initial_namespace[name] = client_class(host, port, target)
    globals().setdefault(name, controller_initial_namespace[name])
'''


class Request(NamedTuple):
    """A call of a method of the controller's target."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def make(self, client: Any) -> Any:
        """Make the call with an RPC client; return its result."""
        return getattr(client, self.method)(*self.args, **self.kwargs)


def connection_of(client: Any) -> int:
    """Return the number of a client's present connection: each has its own namespace."""
    if hasattr(type(client), "get_rpc_connection_count"):
        return int(client.get_rpc_connection_count())
    return 1  # a client of the established stack never reconnects


class Requester:
    """The base of both clients. It builds the requests; derived classes make them.

    Attributes
    ----------
    client : object
        The RPC client.
    """

    def __init__(self, client: Any, deadline: float | None) -> None:
        self.client = client
        self._deadline = deadline
        # Established servers have add_code(code) and call(function, ...), no more.
        self._established = not hasattr(client, "call_within")
        if self._established and deadline is not None:
            raise TypeError("this controller is of the established stack: it supports no deadlines")
        self._sent = Sent()
        self._connection = connection_of(client)

    def with_deadline(self, deadline: float | None) -> Self:
        """Return the same client with another deadline, in seconds; None for no limit."""
        other = copy.copy(self)
        other._deadline = deadline
        return other

    def _adding(self, code: str, origin: str | None = None, first_line: int = 1) -> Request:
        if self._established:
            return Request("add_code", (code,), {})
        place = {"origin": origin, "first_line": first_line}
        return Request("add_code", (code,), {"deadline": self._deadline, **place})

    def _calling(self, function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
        if self._established:
            return Request("call", (function, *args), kwargs)
        return Request("call_within", (self._deadline, function, *args), kwargs)

    def _sending(self, source: Source) -> Iterator[Request]:
        """Yield the requests that send a function, one after the other."""
        if (connection := connection_of(self.client)) != self._connection:
            self._sent, self._connection = Sent(), connection  # the new namespace is empty
        unsent = self._sent.unsent(source)
        if source.needs:
            yield self._adding(source.needs)
        if source.constants:
            yield self._adding(DEFINE)
            yield self._calling("_remote_exec_define", (source.constants,), {})
        for one in unsent:
            yield self._adding(one.code, one.origin, one.first_line)
        if connection_of(self.client) != connection:
            raise ConnectionError(
                f"the client reconnected while {source.name} was being sent: send it again"
            )
        self._sent.add(source)


def source_for_caller(function: Any) -> Source:
    """Return what has to be sent of a function, for the caller of the method that calls this.

    If the caller decorates the function with that method, the call is on the decorator's line.
    """
    frame = sys._getframe(2)
    return source_of(function, (frame.f_code.co_filename, frame.f_lineno))


def connecting(
    host: str | None, port: int, target: str, name: str, local_host: Callable[[], str]
) -> list[Request]:
    """Return the requests that create a global RPC client.

    Parameters
    ----------
    host, port, target, name
        As for `connect_global_rpc`.
    local_host : callable
        Returns the address that is used if `host` is None.

    Raises
    ------
    ValueError
        `name` is not an identifier, or it is reserved.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
        raise ValueError(f"expected an identifier as the name of the client, got {name!r}")
    address = local_host() if host is None else host
    return [
        Request("add_code", (_CONNECT,), {}),
        Request("call", ("_connect_global_rpc", name, address, port, target), {}),
    ]
