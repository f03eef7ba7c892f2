"""The experiment's side: sending code, calling it, seeing what it prints."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from pc_rpc import AsyncioClient

from remote_exec._following import Follower
from remote_exec._requests import Request, Requester, connecting, source_for_caller


def connect_global_rpc(
    controller_rexec: Any,
    host: str | None = None,
    port: int = 3251,
    target: str = "master_dataset_db",
    name: str = "dataset_db",
) -> None:
    """Create a global RPC client in a controller, for all its remote execution connections.

    With the default parameters it connects to the dataset database, so that code which executes in
    the controller has direct access to datasets. Connections that exist already do not see it,
    except for the one that is used here. If the controller has a global object of that name, it is
    left as it is.

    Parameters
    ----------
    controller_rexec : pc_rpc.Client or RemoteExec
        The RPC client connected to the controller's remote execution interface.
    host : str, optional
        The host to connect the RPC client to. By default the local end of the connection of
        `controller_rexec`: the machine that this runs on, as the controller sees it.
    port : int
        TCP port to connect the RPC client to.
    target : str
        Name of the RPC target.
    name : str
        Name of the object in the controller's global namespace: an identifier.

    Raises
    ------
    ValueError
        `name` cannot be used as a name in code.
    TypeError
        The client is for asyncio: `AsyncioRemoteExec.connect_global_rpc` is for those.
    """
    client = (
        controller_rexec.client if isinstance(controller_rexec, RemoteExec) else controller_rexec
    )
    _require_blocking(client)
    for request in connecting(host, port, target, name, client.get_local_host):
        request.make(client)


class RemoteExec(Requester):
    """Executes code in a controller, by way of an RPC client of its remote execution interface.

    What the code prints and logs comes out here while it runs, as if it were executed here.

    Parameters
    ----------
    client : pc_rpc.Client
        Connected to the controller's remote execution target. Remains the caller's to close.
    output : bool, optional
        Set to False to leave what code prints and logs to the controller.
    deadline : float, optional
        Seconds that every call may take before it is interrupted. None: as long as it takes.

    Notes
    -----
    May be used from several threads; they wait for each other.

    Examples
    --------
    ::

        with Client("camera.lab", 3250, "camera_rexec") as client:
            rexec = RemoteExec(client)
            find_spot = rexec.send(find_spot)
            x, y = find_spot(threshold=0.5)
    """

    def __init__(self, client: Any, *, output: bool = True, deadline: float | None = None) -> None:
        _require_blocking(client)
        super().__init__(client, deadline)
        self._output = Follower(client) if output and not self._established else None

    def add_code(self, code: str, *, origin: str | None = None, first_line: int = 1) -> None:
        """Execute code in the namespace of the connection.

        Parameters
        ----------
        code : str
            Valid Python code. What it defines stays in the namespace.
        origin : str, optional
            File that the code comes from, and `first_line` its first line there, for tracebacks.
        first_line : int, optional
            See `origin`.
        """
        self._make(self._adding(code, origin, first_line))

    def call(self, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in the namespace of the connection and return its value.

        Raises
        ------
        TimeoutError
            It was still running after the deadline.
        """
        return self._make(self._calling(function, args, kwargs))

    def send(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Send a function; return one that calls it there. Also a decorator: ``@rexec.send``.

        Its source is sent, and with it what it uses of its module, as it is now: functions and
        classes as source, imported names as imports, other values as such if PYON has their type.
        Decorators are sent, except for this one and those above it. All other names must be in
        the namespace already: ``controller_driver`` is, and what `add_code` defined.

        Raises
        ------
        TypeError
            It cannot be sent: a lambda, a method, a function without source, one that uses local
            variables of the function around it, or one that uses what cannot be sent or is not
            there. The message names all of it, and nothing was sent.
        """
        source = source_for_caller(function)
        for request in self._sending(source):
            self._make(request)
        return functools.wraps(function)(functools.partial(self.call, source.name))

    def _make(self, request: Request) -> Any:
        """Make a request, and bring its output here."""
        if self._output is None:
            return request.make(self.client)
        return self._output.follow(lambda: request.make(self.client))


def _require_blocking(client: Any) -> None:
    if isinstance(client, AsyncioClient):
        raise TypeError("this client is for asyncio: use remote_exec.AsyncioRemoteExec with it")
