"""A client for what an experiment can do without: no network error gets through.

The one idea to keep in mind: a plain connection, a policy that is only arithmetic (`Backoff`), and
a thread that makes a new connection when the last one was lost. The thread refers weakly to all of
it: when nobody uses the client any more, it ends.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from pyon import forks
from pyon.backoff import Backoff
from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT
from pyon.tcp import format_address

from pc_rpc._best_effort_stream import BestEffortStream
from pc_rpc._connection import BlockingConnection
from pc_rpc._errors import ConnectionLost, IncompatibleServer, RpcError, TargetLeased
from pc_rpc._methods import Proxy, warn_unclosed
from pc_rpc._migration import takes_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from pc_rpc._protocol import AutoTarget

_logger = logging.getLogger(__name__)

MAX_RETRY_FACTOR = 8
"""The longest wait between attempts, in units of the first: a device that was off for a night is
back within a minute of its start, and the log of that night is short."""


class _Reconnecting:
    """The connection of a `BestEffortClient`, while there is one, and the request for the next.

    Parameters
    ----------
    where : tuple
        Host, port and name of the target.
    retry : float
        Seconds until the first new attempt to connect.
    state_cb : callable or None
        Told of each change.
    options : dict
        Of each `BlockingConnection`.
    """

    def __init__(
        self,
        where: tuple[str, int, Any],
        retry: float,
        state_cb: Callable[[bool], object] | None,
        options: dict[str, Any],
    ) -> None:
        self.where = where
        self.timeout: float | None = options["timeout"]
        self.connection: BlockingConnection | None = None
        self.last_error: BaseException | None = None
        self._streams: frozenset[str] = frozenset()
        self._options = options
        self._state_cb = state_cb
        self._backoff = Backoff(retry, retry * MAX_RETRY_FACTOR)
        self._mutex = threading.RLock()  # signal handlers and finalisers may come back to it
        self._told: object = None  # of which kind of error the log has been told
        self._told_lease: object = None  # of which lease
        self._closed = threading.Event()
        self._broken = threading.Event()
        self._foreign: ConnectionLost | None = None  # in the child of a fork: why it is of no use
        forks.register(self)

    # What remote methods call through.

    @property
    def names(self) -> Collection[str] | None:
        """Names of the methods, None while there is no connection."""
        connection = self.connection
        return None if connection is None else connection.names

    @property
    def label(self) -> str:
        """Target and server, as people write them."""
        host, port, target = self.where
        peer = format_address((host, port))
        return f"{target!r} at {peer}" if isinstance(target, str) else peer

    @property
    def connected(self) -> bool:
        """Whether there is a connection now, as far as the last call could tell."""
        return self.connection is not None and self._foreign is None

    def invoke(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Any:
        """Call a method; None while there is no connection."""
        if name in self.streams:  # the method was looked up before any was known
            return self.stream(name, args, kwargs, timeout)
        return self.guarded(lambda connection: connection.invoke(name, args, kwargs, timeout))

    @property
    def streams(self) -> frozenset[str]:
        """Names of those that give their result item by item, as far as they were ever known."""
        if self.connection is not None:
            self._streams = self.connection.streams
        return self._streams

    def stream(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> BestEffortStream:
        """Return the iterator of such a method, an empty one while there is no connection."""
        connection = self.connection

        def lost(error: BaseException) -> None:
            if connection is not None and self._foreign is None:
                self._drop(connection, error)

        found = self.guarded(lambda connection: connection.stream(name, args, kwargs, timeout))
        return BestEffortStream(found, lost)

    def described(self) -> Mapping[str, Any]:
        """Return the method list, an empty one if it cannot be had now."""
        connection = self.connection
        return {} if connection is None else connection.described()

    def guarded(self, use: Callable[[BlockingConnection], Any]) -> Any:
        """Return what `use` gives with the connection; None if there is none."""
        if self._foreign is not None:
            raise self._foreign
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
            if self._foreign is None:
                self._drop(connection, error)
            return None

    # Connecting.

    def start(self) -> None:
        """Try to connect, then keep at it in a thread.

        Raises
        ------
        IncompatibleServer, ValueError
            The server does not have that target: nothing that time would mend.
        """
        if not self.connect(first=True):
            self._broken.set()
        host, port, _ = self.where
        self.thread = threading.Thread(
            target=_keep_connected,
            args=(weakref.ref(self), self._broken, self._closed, self._backoff),
            name=f"reconnect to {host}:{port}",
            daemon=True,
        )
        self.thread.start()

    def connect(self, *, first: bool = False) -> bool:
        """Try to connect; return whether there is a connection now."""
        try:
            connection = BlockingConnection(*self.where, **self._options)
        except Exception as error:
            remote = hasattr(error, "parent_traceback")  # the target cannot be made, yet
            if not (remote or isinstance(error, (OSError, RpcError, ValueError))):
                raise
            if first and _is_mistake(error):
                raise
            self._note_error(error)
            return False
        with self._mutex:
            closed = self._closed.is_set()
            if not closed:
                self.connection, self._told = connection, None
        if closed:
            connection.close()
            return False
        self._backoff.reset()
        self._tell(True)
        return True

    def _note_error(self, error: BaseException) -> None:
        """Tell the log of the first error of each kind since there was a connection."""
        self.last_error = error.with_traceback(None)  # it leads to this object
        serious = _is_mistake(error)
        kind = type(error) if serious else OSError
        with self._mutex:
            told, self._told = self._told, kind
        if told is not kind:
            level = logging.ERROR if serious else logging.WARNING
            _logger.log(level, "%s: %s; calls give None until it is back", self.label, error)

    def _note_lease(self, error: TargetLeased) -> None:
        """Tell the log of a lease that keeps calls out, once."""
        self.last_error = error.with_traceback(None)
        lease = error.purpose, error.peer
        with self._mutex:
            told, self._told_lease = self._told_lease, lease
        if told != lease:
            _logger.warning("%s: %s; calls give None until that is over", self.label, error)

    def _drop(self, connection: BlockingConnection, error: BaseException) -> None:
        """Note that a connection was lost."""
        connection.close()
        with self._mutex:
            if self.connection is not connection:
                return
            self.connection = None
        self._note_error(error)
        self._tell(False)
        self._broken.set()

    def _tell(self, connected: bool) -> None:
        if self._state_cb is not None:
            try:
                self._state_cb(connected)
            except Exception:
                _logger.exception("the callback of a BestEffortClient failed")

    def close(self) -> None:
        """Close the connection and cease to make it again."""
        with self._mutex:
            self._closed.set()
            connection, self.connection = self.connection, None
        self._broken.set()
        if connection is not None:
            connection.close()

    def forked(self) -> None:
        """See `pyon.forks`: there is no thread here, and those of the parent may hold the locks."""
        if self._foreign is None:  # not forked before
            self._foreign = ConnectionLost(
                f"connection to {self.label} lost: made in another process, {os.getppid()}; "
                "make a new client here"
            )
        self._mutex = threading.RLock()
        self._closed, self._broken = threading.Event(), threading.Event()

    def __del__(self) -> None:
        if self._closed.is_set() or self._foreign is not None:
            return
        warn_unclosed(self)
        self.close()


def _is_mistake(error: BaseException) -> bool:
    """Say whether the server answered and has no such target: nothing that time would mend."""
    remote = hasattr(error, "parent_traceback")
    named = isinstance(error, (IncompatibleServer, ValueError))
    return named and not isinstance(error, OSError) and not remote


def _keep_connected(
    reference: weakref.ref[_Reconnecting],
    broken: threading.Event,
    closed: threading.Event,
    backoff: Backoff,
) -> None:
    """Make the connection again, whenever it was lost: what the background thread does."""
    while True:
        broken.wait()
        if closed.wait(backoff.next()):
            return
        broken.clear()
        core = reference()
        if core is None:
            return
        if not core.connect():
            broken.set()
        del core  # or nobody could see that its last user has gone


class BestEffortClient(Proxy[Any]):
    """A client whose calls give None while the server cannot be reached, or the target is leased.

    Network errors are suppressed and the connection is made again in the background. Other errors
    are raised, those that the remote method raises and arguments that cannot be sent included. May
    be used from any number of threads, but not in the child of a fork: make a new one there.

    A server that is there, but has no such target, is an error of the program: raised when the
    object is made, and written to the log if it turns out later.

    Parameters
    ----------
    host, port, target_name : str, int, str or AutoTarget
        As for `Client`.
    firstcon_timeout : float, optional
        Seconds that making the object may take, for a first attempt to connect.
    retry : float, optional
        Seconds until the first new attempt to connect; grows up to eight times as long.
    timeout : float or None, optional
        Seconds that a call may take: beyond it, the server counts as lost. None: no limit.
    state_cb : callable, optional
        Called with True when a connection was made and with False when it was lost, from whichever
        thread found out; it must not block.
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
        """Whether there is a connection now, as far as the last call could tell."""
        return self._target.connected

    @property
    def last_error(self) -> BaseException | None:
        """The last network error, or `TargetLeased`; None if there was none."""
        return self._target.last_error

    # The established names.

    def get_selected_target(self) -> str | None:
        """Return the name of the selected target, None while there is no connection."""
        selected: str | None = self._target.guarded(lambda c: c.side.selected_target)
        return selected

    def get_rpc_id(self) -> tuple[list[str], str | None] | None:
        """Return the server's targets and description, None while there is no connection."""
        known: tuple[list[str], str | None] | None
        known = self._target.guarded(lambda c: (list(c.side.targets), c.side.description))
        return known

    def get_local_host(self) -> str | None:
        """Return the address of the local end, None while there is no connection."""
        host: str | None = self._target.guarded(lambda c: c.local_host())
        return host

    def get_rpc_method_list(self) -> Any:
        """Return what the server tells about the methods, None while there is no connection."""
        return self._target.guarded(lambda c: c.request("get_rpc_method_list"))

    def close_rpc(self) -> None:
        """Close the connection and cease to make it again. Returns at once."""
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
