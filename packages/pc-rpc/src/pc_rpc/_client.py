"""The blocking client.

The one idea to keep in mind: the client is a thin object in front of a `BlockingConnection`, to
which remote methods refer as well. A reference to any of them keeps the connection open.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, cast

from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT

from pc_rpc._attempts import NEEDS_RECONNECT
from pc_rpc._connection import BlockingConnection
from pc_rpc._leasing import Lease, breaking, require
from pc_rpc._migration import takes_context
from pc_rpc._protocol import AutoTarget
from pc_rpc._proxy import Driver, Proxy, class_only

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from pc_rpc._lasting import LastingConnection
    from pc_rpc._states import State


class Client(Proxy[Driver]):
    """A client whose attributes are the methods of a target: they are called like local ones.

    If the target has a method ``foo``, ``client.foo(1, x=2)`` calls it and returns its result.
    Arguments and results are copies. The client connects when it is made; call `close_rpc` in the
    end, or use it as a context manager. A client that is not referred to any more is closed, with a
    `ResourceWarning`.

    May be used from any number of threads, which do not wait for each other's calls, and from
    signal handlers: a handler that has interrupted the client in the middle of a message gets an
    `RpcError`. In the child of a fork the client is lost; make a new one there.

    Parameters
    ----------
    host : str
        Name or address of the server.
    port : int
        TCP port.
    target_name : str, AutoTarget or None, optional
        The target to select; by default the only one that the server has. None: select it later,
        see `get_rpc_id` and `select_rpc_target`.
    timeout : float or None, optional
        Seconds that connecting and every call may take. None: no limit; 0: time out at once.
    connect_timeout : float or None, optional
        Seconds that connecting may take, the look-up of the name included. None: as `timeout`.
    ssl : ssl.SSLContext, optional
        Speak TLS; `pyon.tcp.client_context` makes the usual context.
    limit : int, optional
        Maximum size of a message in bytes, in both directions.
    line_limit : int, optional
        Maximum size of the text of a reply in bytes. Arrays and bytes of our servers do not count.
    wait_for_leases : bool, optional
        True: calls wait while another connection has a lease on the target, until their time-out.
        By default they raise `TargetLeased` at once.
    reconnect : bool, optional
        Connect again when a call finds the connection lost. The calls that were in flight raise
        `ConnectionLost`; no request is sent twice. Connecting again counts towards the time-out of
        the call; without one it may take `connect_timeout`, or else 10 s. The first connection is
        made in the constructor, which raises if that fails.
    state_cb : callable, optional
        With `reconnect`: called with "connected", "lost" or "closed" at each change. A loss is
        noticed by the next call. Called from any thread, one call at a time and in order; it should
        not block.

    Raises
    ------
    IncompatibleServer
        There is no such target.
    ConnectionLost
        The server closed the connection before it had answered.
    TimeoutError
        There was no connection, or no answer, within `timeout`.
    OSError
        The server cannot be reached.

    Examples
    --------
    ::

        with Client("::1", 3249, "laser") as laser:
            laser.set_power(0.5)
    """

    @takes_context("client_context")
    def __init__(
        self,
        host: str,
        port: int,
        target_name: str | AutoTarget | type[AutoTarget] | None = AutoTarget,
        timeout: float | None = None,
        *,
        connect_timeout: float | None = None,
        ssl: ssl.SSLContext | None = None,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REPLY_LINE_LIMIT,
        wait_for_leases: bool = False,
        reconnect: bool = False,
        state_cb: Callable[[State], object] | None = None,
    ) -> None:
        self._target: BlockingConnection | LastingConnection
        options: dict[str, Any] = {
            "timeout": timeout,
            "connect_timeout": connect_timeout,
            "ssl": ssl,
            "limit": limit,
            "line_limit": line_limit,
            "wait_for_leases": wait_for_leases,
        }
        if state_cb is not None and not reconnect:
            raise TypeError(NEEDS_RECONNECT)
        if not reconnect:
            self.__dict__["_target"] = BlockingConnection(host, port, target_name, **options)
            return
        from pc_rpc._lasting import LastingConnection

        where, renewed = (host, port, target_name), weakref.WeakMethod(self._forget_methods)
        self.__dict__["_target"] = LastingConnection(where, options, state_cb, renewed)

    @class_only
    @classmethod
    def find(
        cls,
        name: str,
        target_name: str | AutoTarget | type[AutoTarget] | None = AutoTarget,
        timeout: float | None = None,
        *,
        search: float | None = None,
        **options: Any,
    ) -> Self:
        """Connect to the one server on the local network that is announced by a name.

        Needs the extra ``pc-rpc[discovery]``. Anybody on the network may announce any name: where
        that matters, use TLS. This method belongs to the class; ``client.find`` is the target's.

        Parameters
        ----------
        name : str
            The name under which the server is announced.
        target_name, timeout, **options
            As for `Client`.
        search : float, optional
            Seconds that the search takes. None: `pc_rpc.discovery.SEARCH`.

        Raises
        ------
        UnknownServer
            There is no such server, or more than one, or it does not answer.
        """
        from pc_rpc.discovery import SEARCH, find_server

        found = find_server(name, SEARCH if search is None else search)
        return cls(found.host, found.port, target_name, timeout, **options)

    # The established names.

    def select_rpc_target(self, target_name: str | AutoTarget | type[AutoTarget]) -> None:
        """Select a target, if the client was made with ``target_name=None``. Possible once.

        Raises
        ------
        IncompatibleServer
            There is no such target.
        ValueError
            `AutoTarget`, and the server does not have exactly one; or one is selected already.
        """
        self._target.select(target_name)

    def get_selected_target(self) -> str | None:
        """Return the name of the selected target, None if none has been selected yet."""
        return self._target.side.selected_target

    def get_rpc_id(self) -> tuple[list[str], str | None]:
        """Return the names of the server's targets and its description."""
        return list(self._target.side.targets), self._target.side.description

    def get_local_host(self) -> str:
        """Return the address of the local end of the connection."""
        return self._target.local_host()

    def get_rpc_method_list(self) -> dict[str, Any]:
        """Return the signatures and docstrings of the methods: see PROTOCOL.md, Method list."""
        return cast("dict[str, Any]", self._target.request("get_rpc_method_list"))

    def get_rpc_connection_count(self) -> int:
        """Return the number of connections made so far.

        With `reconnect` it may grow. State that the server keeps for each connection is then lost.
        """
        return self._target.made

    def close_rpc(self) -> None:
        """Close the connection. Pending calls of other threads raise `ConnectionLost`."""
        self._target.close()

    # New names.

    def ping_rpc(self) -> None:
        """Check that the server answers. Our servers answer while a method runs there, too."""
        try:
            self._target.request("ping")
        except ValueError as error:
            if not hasattr(error, "parent_traceback"):
                raise  # otherwise an older server, which does not know pings, has answered

    def lease(
        self, purpose: str, *, ttl: float = 10.0, wait: float | None = 0.0, renew: bool = True
    ) -> Lease:
        """Reserve the target for this client within a block: ``with laser.lease("scan 4711"):``.

        Calls of other connections wait or fail meanwhile, except those of `immediate` methods. The
        lease belongs to this connection: all threads that use this client share it, and may take it
        once more. A driver's own method of this name is ``client.__rpc__.lease``.

        Parameters
        ----------
        purpose : str
            What the lease is for: shown to other clients.
        ttl : float, optional
            Seconds after which the lease is lost if it is not renewed. A thread renews it, and it
            lasts while a call runs.
        wait : float or None, optional
            Seconds to wait until the leases of other clients have ended. None: no limit. Running
            calls of other clients are always waited for; if `wait` is a number, for `timeout` of
            this client at most.
        renew : bool, optional
            False: no thread renews the lease. Only calls and the lease's ``renew()`` do, so that a
            program that hangs loses it.

        Returns
        -------
        Lease
            To be used in a ``with`` statement, which raises:

            TargetLeased
                Another connection has a lease; the error says whose, what for and since when.
            LeaseLost
                It was broken before it was granted, or this connection has lost one before.
            IncompatibleServer
                The server does not support leases.
            ValueError
                The target is made for each connection, so that there is nothing to lease.

        Examples
        --------
        ::

            with laser.lease("scan 4711", ttl=10, wait=60):
                for power in powers:
                    laser.set_power(power)
        """
        return Lease(lambda: self._target.ready(), purpose, ttl, wait, renew=renew)

    def get_rpc_lease(self) -> dict[str, Any] | None:
        """Return the current lease on the target, None if there is none.

        The keys are "target", "purpose", "client", "peer" and "seconds" (its age).
        """
        require(self._target.side)
        return cast("dict[str, Any] | None", self._target.request("get_lease"))

    def break_lease(self, reason: str = "") -> dict[str, Any] | None:
        """End the current lease on the target; return it as `get_rpc_lease` does.

        The next call of its holder raises `LeaseLost`, which names this client and the reason.
        Running calls go on; the next lease waits for their end.
        """
        require(self._target.side)
        lease = self._target.request("break_lease", breaking(reason))
        return cast("dict[str, Any] | None", lease)

    def __enter__(self) -> Driver:
        """Return the client itself, typed as the driver."""
        return cast("Driver", self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close_rpc()

    def __repr__(self) -> str:
        if "_target" not in self.__dict__:
            return object.__repr__(self)
        return f"<pc_rpc.Client of {self._target.label}{self._target.state}>"
