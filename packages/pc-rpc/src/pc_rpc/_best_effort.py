"""A client for what an experiment can do without: no network error gets through.

The one idea to keep in mind: a plain `Client`, a policy that is only arithmetic (`Backoff`), and a
thread that makes a new `Client` when the last one was lost.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT

from pc_rpc._client import Client
from pc_rpc._errors import ConnectionLost, RpcError
from pc_rpc._remote import RemoteMethods, find_method

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


class Backoff:
    """How long to wait between attempts: the first wait, then twice as long each time, up to a cap.

    Examples
    --------
    >>> backoff = Backoff(5.0)
    >>> [backoff.next() for _ in range(5)]
    [5.0, 10.0, 20.0, 40.0, 40.0]
    >>> backoff.reset(); backoff.next()
    5.0
    """

    def __init__(self, first: float, factor: float = MAX_RETRY_FACTOR) -> None:
        self._first = first
        self._cap = first * factor
        self._wait = first

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        wait, self._wait = self._wait, min(2 * self._wait, self._cap)
        return wait

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self._wait = self._first


class BestEffortClient:
    """A client whose calls give None while the server cannot be reached.

    Network errors are suppressed and the connection is made again in the background. Other errors
    are raised, those that the remote method raises and arguments that cannot be sent included. May
    be used from any number of threads.

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
    """

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
        self._where = (host, port, target_name)
        self._first_timeout = firstcon_timeout
        self._options: dict[str, Any] = {
            "ssl": ssl,
            "limit": limit,
            "line_limit": line_limit,
        }
        self._timeout = timeout
        self._state_cb = state_cb
        self._backoff = Backoff(retry)
        self._mutex = threading.Lock()
        self._client: Client | None = None
        self._last_error: BaseException | None = None
        self._warned = False
        self._closed = threading.Event()
        self._broken = threading.Event()
        if not self._connect():
            self._broken.set()
        self._thread = threading.Thread(
            target=self._keep_connected, name=f"reconnect to {host}:{port}", daemon=True
        )
        self._thread.start()

    # Connecting.

    def _connect(self) -> bool:
        try:
            client = Client(*self._where, self._first_timeout, **self._options)
        except Exception as error:
            remote = hasattr(error, "parent_traceback")  # the target cannot be made, yet
            if not (remote or isinstance(error, (OSError, RpcError, ValueError))):
                raise
            self._note_error(error)
            return False
        client._timeout = self._timeout  # that of the attempt to connect was another one
        with self._mutex:
            if self._closed.is_set():
                client.close_rpc()
                return False
            self._client, self._warned = client, False
        self._backoff.reset()
        self._tell(True)
        return True

    def _keep_connected(self) -> None:
        """Make the connection again, whenever it was lost: what the background thread does."""
        while True:
            self._broken.wait()
            if self._closed.wait(self._backoff.next()):
                return
            self._broken.clear()
            if not self._connect():
                self._broken.set()

    def _note_error(self, error: BaseException) -> None:
        """Warn once for each time that the server is away."""
        self._last_error = error
        with self._mutex:
            warned, self._warned = self._warned, True
        if not warned:
            _logger.warning("%s: %s; calls give None until it is back", self._target_label(), error)

    def _drop(self, client: Client, error: BaseException) -> None:
        """Note that a client has lost its connection."""
        client.close_rpc()
        with self._mutex:
            if self._client is not client:
                return
            self._client = None
        self._note_error(error)
        self._tell(False)
        self._broken.set()

    def _tell(self, connected: bool) -> None:
        if self._state_cb is not None:
            try:
                self._state_cb(connected)
            except Exception:
                _logger.exception("the callback of a BestEffortClient failed")

    @property
    def connected(self) -> bool:
        """Whether there is a connection now, as far as the last call could tell."""
        return self._client is not None

    @property
    def last_error(self) -> BaseException | None:
        """The last network error, None if there was none."""
        return self._last_error

    # The established names.

    def get_selected_target(self) -> str | None:
        """Return the name of the selected target, None while there is no connection."""
        client = self._client
        return None if client is None else client.get_selected_target()

    def get_rpc_id(self) -> tuple[list[str], str | None] | None:
        """Return the server's targets and description, None while there is no connection."""
        client = self._client
        return None if client is None else client.get_rpc_id()

    def get_local_host(self) -> str | None:
        """Return the address of the local end, None while there is no connection."""
        client = self._client
        return None if client is None else client.get_local_host()

    def get_rpc_method_list(self) -> Any:
        """Return what the server tells about the methods, None while there is no connection."""
        return self._guarded(lambda client: client.get_rpc_method_list())

    def close_rpc(self) -> None:
        """Close the connection and cease to make it again. Returns at once."""
        with self._mutex:
            self._closed.set()
            client, self._client = self._client, None
        self._broken.set()
        if client is not None:
            client.close_rpc()

    # Methods.

    def _guarded(self, use: Callable[[Client], Any]) -> Any:
        """Return what `use` gives with the client that is connected; None if there is none."""
        client = self._client
        if client is None:
            return None
        try:
            return use(client)
        except (ConnectionLost, TimeoutError) as error:
            if hasattr(error, "parent_traceback"):
                raise  # the method itself raised it
            self._drop(client, error)
            return None

    def _invoke(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Any:
        return self._guarded(lambda client: client._invoke(name, args, kwargs, timeout))

    def _method_names(self) -> Collection[str] | None:
        client = self._client
        return None if client is None else client._method_names()

    def _target_label(self) -> str:
        host, port, target = self._where
        return f"{target!r} at {host}:{port}" if isinstance(target, str) else f"{host}:{port}"

    def _described(self) -> Mapping[str, Any]:
        client = self._client
        return {} if client is None else client._described()

    def with_rpc_timeout(self, timeout: float | None) -> Any:
        """Return the methods of the target, with another time-out. See `Client`."""
        return RemoteMethods(self, timeout)

    @property
    def __rpc__(self) -> Any:
        """The methods of the target and nothing else: also those named like one of the client's."""
        return RemoteMethods(self, self._timeout)

    def __getattr__(self, name: str) -> Any:
        if "_client" not in self.__dict__:  # not initialised: a copy in the making
            raise AttributeError(name)
        return find_method(self, name, self._timeout)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(self._method_names() or ())})

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
        state = "connected" if self.connected else "not connected"
        return f"<pc_rpc.BestEffortClient of {self._target_label()}, {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a connection cannot be copied or pickled; make a new client instead")
