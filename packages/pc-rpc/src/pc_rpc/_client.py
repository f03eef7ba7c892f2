"""The blocking client.

The one idea to keep in mind: what is on the client object itself are the established names and
those that end in ``_rpc``; everything else that is asked of it is a method of the remote target.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Generic, cast

from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT

from pc_rpc._blocking import BlockingConnection, deadline_of
from pc_rpc._protocol import AutoTarget
from pc_rpc._remote import RemoteMethods, find_method

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Mapping
    from types import TracebackType

    from typing_extensions import TypeVar

    Driver = TypeVar("Driver", default=Any)
else:
    from typing import TypeVar

    Driver = TypeVar("Driver")


class Client(Generic[Driver]):
    """Proxies the methods of a target, so that they are called like local ones.

    If the server has a method ``foo``, ``client.foo(1, x=2)`` calls it and returns what it returns.
    Arguments and results are copies. Connects when it is made; call `close_rpc` in the end, or use
    it as a context manager. May be used from any number of threads, which do not wait for each
    other's calls; after a fork, use it in one of the processes only.

    Parameters
    ----------
    host : str
        Name or address of the server.
    port : int
        TCP port.
    target_name : str, AutoTarget or None, optional
        The target to select; by default the only one that the server has. None selects none yet:
        see `get_rpc_id` and `select_rpc_target`.
    timeout : float or None, optional
        Seconds that connecting and every call may take. None: no limit; 0: give up at once.
    ssl : ssl.SSLContext, optional
        Speak TLS; `pyon.tcp.client_context` makes the usual context.
    limit : int, optional
        Bytes that one message may have, in both directions.
    line_limit : int, optional
        Bytes that the text of a reply may have. Arrays and bytes of our servers do not count.

    Raises
    ------
    IncompatibleServer
        There is no such target.
    ConnectionLost
        The server closed the connection before it had answered.
    TimeoutError
        There was no connection, or no answer, within `timeout`.
    OSError
        No connection can be made.

    Examples
    --------
    ::

        with Client("::1", 3249, "laser") as laser:
            laser.set_power(0.5)
    """

    def __init__(
        self,
        host: str,
        port: int,
        target_name: str | AutoTarget | type[AutoTarget] | None = AutoTarget,
        timeout: float | None = None,
        *,
        ssl: ssl.SSLContext | None = None,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REPLY_LINE_LIMIT,
    ) -> None:
        self._timeout = timeout
        self._description_cache: Mapping[str, Any] | None = None
        deadline = deadline_of(timeout)
        self._connection = BlockingConnection(
            host, port, deadline=deadline, ssl=ssl, limit=limit, line_limit=line_limit
        )
        if target_name is not None:
            try:
                self._connection.select(target_name, deadline)
            except BaseException:
                self._connection.close()
                raise

    # The established names.

    def select_rpc_target(self, target_name: str | AutoTarget | type[AutoTarget]) -> None:
        """Select a target: once, if the client was made with ``target_name=None``.

        Raises
        ------
        IncompatibleServer
            There is no such target.
        ValueError
            `AutoTarget`, and the server does not have exactly one; or one is selected already.
        """
        self._connection.select(target_name, deadline_of(self._timeout))

    def get_selected_target(self) -> str | None:
        """Return the name of the selected target, None if none has been selected yet."""
        return self._connection.side.selected_target

    def get_rpc_id(self) -> tuple[list[str], str | None]:
        """Return the names of the server's targets and its description."""
        return list(self._connection.side.targets), self._connection.side.description

    def get_local_host(self) -> str:
        """Return the address of the local end of the connection."""
        return self._connection.local_host()

    def get_rpc_method_list(self) -> dict[str, Any]:
        """Return what the server tells about the target's methods: see PROTOCOL.md, Method list."""
        return cast(
            "dict[str, Any]", self._connection.request("get_rpc_method_list", self._timeout)
        )

    def close_rpc(self) -> None:
        """Close the connection. Calls that other threads wait for end in `ConnectionLost`."""
        self._connection.close()

    # More than the established.

    def ping_rpc(self) -> None:
        """Make sure that the server answers. With our servers also while a method runs there."""
        with contextlib.suppress(ValueError):  # an older server knows no ping, but it has answered
            self._connection.request("ping", self._timeout)

    def with_rpc_timeout(self, timeout: float | None) -> Driver:
        """Return the methods of the target, with another time-out.

        Parameters
        ----------
        timeout : float or None
            Seconds that a call may take. None: no limit.

        Examples
        --------
        ::

            client.with_rpc_timeout(60).calibrate()
        """
        return cast("Driver", RemoteMethods(self, timeout))

    @property
    def __rpc__(self) -> Driver:
        """The methods of the target and nothing else: also those named like one of the client's."""
        return cast("Driver", RemoteMethods(self, self._timeout))

    def __getattr__(self, name: str) -> Any:
        if "_connection" not in self.__dict__:  # not initialised: a copy in the making
            raise AttributeError(name)
        method = find_method(self, name, self._timeout)
        self.__dict__[name] = method  # what is announced stays so; the next look-up ends here
        return method

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._method_names()})

    def __enter__(self) -> Driver:
        """Return the client itself, as what it stands for."""
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
        if "_connection" not in self.__dict__:
            return object.__repr__(self)
        state = ", connection lost" if self._connection.lost is not None else ""
        return f"<pc_rpc.Client of {self._target_label()}{state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a connection cannot be copied or pickled; make a new Client instead")

    # For RemoteMethod.

    def _method_names(self) -> Collection[str]:
        return self._connection.side.methods

    def _target_label(self) -> str:
        target = self._connection.side.selected_target
        return (
            f"{self._connection.peer}"
            if target is None
            else f"{target!r} at {self._connection.peer}"
        )

    def _invoke(self, name: str, args: Any, kwargs: Any, timeout: float | None) -> Any:
        return self._connection.call(name, args, kwargs, timeout)

    def _described(self) -> Mapping[str, Any]:
        if self._description_cache is None:
            try:
                self._description_cache = self.get_rpc_method_list()
            except Exception:  # whatever it is: who wants to read documentation is not to suffer
                return {}
        return self._description_cache
