"""A client for optional instruments: it suppresses network errors.

The one idea to keep in mind: it is a `Reconnecting` connection that is made again as soon as it was
lost, and whose callers do not wait for that.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT

from pc_rpc._attempts import Attempts, is_foreseen, is_mistake, without_frames
from pc_rpc._best_effort_stream import BestEffortStream
from pc_rpc._errors import ConnectionLost, TargetLeased
from pc_rpc._migration import takes_context
from pc_rpc._proxy import Proxy
from pc_rpc._reconnecting import Reconnecting

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from pc_rpc._connection import BlockingConnection
    from pc_rpc._protocol import AutoTarget
    from pc_rpc._states import State

_logger = logging.getLogger("pc_rpc")

MAX_RETRY_FACTOR = 8
"""The longest wait between attempts, as a multiple of the first: a device that was off for a night
is connected within a minute of its start, and the log of that night is short."""


class _Reconnecting(Reconnecting):
    """The `Target` of a `BestEffortClient`.

    Parameters
    ----------
    where : tuple
        Host, port and name of the target.
    retry : float
        Seconds until the first new attempt to connect.
    state_cb : callable or None
        Called at each change of the state.
    options : dict
        Keyword arguments of each `BlockingConnection`.
    """

    def __init__(
        self,
        where: tuple[str, int, Any],
        retry: float,
        state_cb: Callable[[bool], object] | None,
        options: dict[str, Any],
    ) -> None:
        def notify(state: State) -> None:
            if state_cb is not None and state != "closed":
                state_cb(state == "connected")

        super().__init__(
            where,
            options,
            Attempts(retry, retry * MAX_RETRY_FACTOR, at_once=False),
            notify if state_cb is not None else None,
        )
        self.last_error: BaseException | None = None
        self._streams: frozenset[str] = frozenset()
        self._logged: object = None  # the kind of error that was logged last
        self._logged_lease: object = None  # the lease that was logged last

    # Calls.

    @property
    def names(self) -> Collection[str] | None:
        """Names of the methods, None while there is no connection."""
        connection = self.connection
        return None if connection is None else connection.names

    @property
    def gone(self) -> Mapping[str, str]:
        """Methods that the server has no longer, each with the text of the error."""
        return {} if self.last is None else self.last.gone

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known. The next call may find it lost."""
        return self.connection is not None and self.foreign is None

    def invoke(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Any:
        """Call a method; None while there is no connection."""
        if name in self.streams:  # the method was looked up before any was known
            return self.stream(name, args, kwargs, timeout)
        return self.suppressing(lambda connection: connection.invoke(name, args, kwargs, timeout))

    @property
    def streams(self) -> frozenset[str]:
        """Names of the methods that return streams, of the last connection if there is none."""
        if self.connection is not None:
            self._streams = self.connection.streams
        return self._streams

    def stream(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> BestEffortStream:
        """Return the iterator over a stream, an empty one while there is no connection."""
        connection = self.connection

        def lost(error: BaseException) -> None:
            if connection is not None:
                self._lose(connection, error)

        found = self.suppressing(lambda connection: connection.stream(name, args, kwargs, timeout))
        return BestEffortStream(found, lost)

    def described(self) -> Mapping[str, Any]:
        """Return the method list, an empty one if it is not available."""
        connection = self.connection
        return {} if connection is None else connection.described()

    def look_again(self) -> bool:
        """Return False: an attribute look-up does not wait for a new connection here."""
        return False

    def suppressing(self, use: Callable[[BlockingConnection], Any]) -> Any:
        """Return the result of `use` with the connection; None after a network error."""
        if self.foreign is not None:
            raise self.foreign
        connection = self.connection
        if connection is None:
            return None
        try:
            return use(connection)
        except TargetLeased as error:
            if getattr(error, "parent_traceback", ()):
                raise  # the method itself raised it
            self._note_lease(error)
            return None
        except (ConnectionLost, TimeoutError) as error:
            if hasattr(error, "parent_traceback"):
                raise  # the method itself raised it
            self._lose(connection, error)
            return None

    def _lose(self, connection: BlockingConnection, error: BaseException) -> None:
        """Close a connection after a network error."""
        if self.foreign is None:
            connection.close()
            self.drop(connection, without_frames(error))

    # Connecting.

    def start(self) -> None:
        """Try to connect once; if that fails, a thread goes on trying.

        Raises
        ------
        IncompatibleServer, ValueError
            The server does not have that target, so that further attempts are useless.
        """
        try:
            self.adopt(self.connect())
        except Exception as error:
            if is_mistake(error) or not is_foreseen(error):
                raise
            self.note_failure(error)
            self.search()

    def _is_wanted(self) -> bool:
        return True

    def _time_for_attempt(self) -> float | None:
        timeout: float = self._options["connect_timeout"]
        return timeout

    def _was_made(self, connection: BlockingConnection, changed: bool) -> None:
        self._logged = None

    def _was_lost(self, reason: BaseException | None) -> None:
        assert reason is not None
        self._note_error(reason)
        self.search()

    def _has_failed(self, error: Exception) -> None:
        self._note_error(error)

    def _note_error(self, error: BaseException) -> None:
        """Log the first error of each kind since there was a connection."""
        self.last_error = error
        serious = is_mistake(error)
        kind = type(error) if serious else OSError
        logged, self._logged = self._logged, kind
        if logged is not kind:
            level = logging.ERROR if serious else logging.WARNING
            _logger.log(level, "%s: %s; calls return None until it is back", self.label, error)

    def _note_lease(self, error: TargetLeased) -> None:
        """Log a lease of another client, once."""
        self.last_error = without_frames(error)
        lease = error.purpose, error.peer
        logged, self._logged_lease = self._logged_lease, lease
        if logged != lease:
            _logger.warning("%s: %s; calls return None until it ends", self.label, error)


class BestEffortClient(Proxy[Any]):
    """A client whose calls return None while the server is not reachable or the target is leased.

    Network errors are suppressed and the connection is made again in the background. Other errors
    are raised, including those of the remote method and of arguments that cannot be encoded. May
    be used from any number of threads, but not in the child of a fork: make a new one there.

    A server that answers, but does not have the target, is an error of the program: it is raised by
    the constructor, and logged if it turns out later.

    Parameters
    ----------
    host, port, target_name : str, int, str or AutoTarget
        As for `Client`.
    firstcon_timeout : float, optional
        Seconds that each attempt to connect may take, including the one of the constructor.
    retry : float, optional
        Seconds until the first new attempt to connect; grows up to eight times as long.
    timeout : float or None, optional
        Seconds that a call may take; then the connection counts as lost. None: no limit.
    state_cb : callable, optional
        Called with True when a connection was made and with False when it was lost, from any
        thread; it must not block.
    ssl, limit, line_limit
        As for `Client`.

    Raises
    ------
    IncompatibleServer, ValueError
        The server answered, and does not have that target.
    """

    @takes_context("client_context")
    def __init__(
        self,
        host: str,
        port: int,
        target_name: str | AutoTarget | type[AutoTarget],
        firstcon_timeout: float = 1.0,
        retry: float = 5.0,
        *,
        timeout: float | None = None,
        state_cb: Callable[[bool], object] | None = None,
        ssl: ssl.SSLContext | None = None,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REPLY_LINE_LIMIT,
    ) -> None:
        self._target: _Reconnecting = _Reconnecting(
            (host, port, target_name),
            retry,
            state_cb,
            {
                "timeout": timeout,
                "connect_timeout": firstcon_timeout,
                "ssl": ssl,
                "limit": limit,
                "line_limit": line_limit,
            },
        )
        try:
            self._target.start()
        except BaseException:
            self._target.close()
            raise

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known. The next call may find it lost."""
        return self._target.connected

    @property
    def last_error(self) -> BaseException | None:
        """The last network error, or `TargetLeased`; None if there was none."""
        return self._target.last_error

    # The established names.

    def get_selected_target(self) -> str | None:
        """Return the name of the selected target, None while there is no connection."""
        selected: str | None = self._target.suppressing(lambda c: c.side.selected_target)
        return selected

    def get_rpc_id(self) -> tuple[list[str], str | None] | None:
        """Return the server's targets and description, None while there is no connection."""
        known: tuple[list[str], str | None] | None
        known = self._target.suppressing(lambda c: (list(c.side.targets), c.side.description))
        return known

    def get_local_host(self) -> str | None:
        """Return the address of the local end, None while there is no connection."""
        host: str | None = self._target.suppressing(lambda c: c.local_host())
        return host

    def get_rpc_method_list(self) -> Any:
        """Return signatures and docstrings of the methods, None while there is no connection."""
        return self._target.suppressing(lambda c: c.request("get_rpc_method_list"))

    def get_rpc_connection_count(self) -> int:
        """Return the number of connections made so far."""
        return self._target.made

    def close_rpc(self) -> None:
        """Close the connection and stop reconnecting. Returns at once."""
        self._target.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

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
        state = "connected" if self.connected else "not connected"
        return f"<pc_rpc.BestEffortClient of {self._target.label}, {state}>"
