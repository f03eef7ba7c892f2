"""RemoteExec: the client side. Sends code, calls it, shows its output."""

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

    With the default parameters the client connects to the dataset database, so that code in the
    controller has direct access to datasets. The client is known to the connection used here and to
    all later connections, not to other existing ones. An existing global object of the same name is
    kept.

    Parameters
    ----------
    controller_rexec : pc_rpc.Client or RemoteExec
        The RPC client connected to the controller's remote execution interface.
    host : str, optional
        The host to connect the RPC client to. By default the local address of the connection of
        `controller_rexec`, which is this machine as the controller sees it.
    port : int
        TCP port to connect the RPC client to.
    target : str
        Name of the RPC target.
    name : str
        Name of the object in the controller's global namespace: an identifier.

    Raises
    ------
    ValueError
        `name` is not an identifier, or it is reserved.
    TypeError
        The client is an asyncio client: use `AsyncioRemoteExec.connect_global_rpc`.
    """
    client = (
        controller_rexec.client if isinstance(controller_rexec, RemoteExec) else controller_rexec
    )
    _require_blocking(client)
    for request in connecting(host, port, target, name, client.get_local_host):
        request.make(client)


class RemoteExec(Requester):
    """Executes code in a controller, through an RPC client of its remote execution interface.

    What the code prints and logs is printed and logged here while it runs.

    Parameters
    ----------
    client : pc_rpc.Client
        Connected to the controller's remote execution target. The caller closes it.
    output : bool, optional
        Set to False to leave what code prints and logs to the controller.
    deadline : float, optional
        Seconds that every call may take before it is interrupted. None: no limit.

    Notes
    -----
    May be used from several threads; their calls are made one after the other.

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
            File that the code is from, for tracebacks.
        first_line : int, optional
            Number of the code's first line in that file.
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

        The source is sent, and with it the global names that it uses, with their present values:
        functions and classes as source, imported names as imports, other values if PYON has their
        type. Decorators are sent, except for this one and those above it. All other names must
        exist in the namespace already, as ``controller_driver`` does, and names defined by
        `add_code`.

        Raises
        ------
        TypeError
            The function cannot be sent: it is a lambda or a method, it has no source, it uses local
            variables of an enclosing function, or it uses a name that cannot be sent or is missing
            at the controller. The message names all of these. None of the function's code was
            executed.
        """
        source = source_for_caller(function)
        for request in self._sending(source):
            self._make(request)
        return functools.wraps(function)(functools.partial(self.call, source.name))

    def _make(self, request: Request) -> Any:
        """Make a request, with its output shown here."""
        if self._output is None:
            return request.make(self.client)
        return self._output.follow(lambda: request.make(self.client))


def _require_blocking(client: Any) -> None:
    if isinstance(client, AsyncioClient):
        raise TypeError("this client is for asyncio: use remote_exec.AsyncioRemoteExec with it")
