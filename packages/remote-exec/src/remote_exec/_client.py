"""The experiment's side: sending code, calling it, seeing what it prints.

Everything here is built on the methods of `RemoteExecServer` as any RPC client calls them.
"""

from __future__ import annotations

import copy
import functools
import keyword
import sys
from collections.abc import Callable
from typing import Any

from remote_exec._following import Follower
from remote_exec._sending import DEFINE, Sent, Source, source_of

# Executed as it is, for whatever arguments: the values are passed to the function as values.
_CONNECT = '''
def _connect_global_rpc(name, host, port, target):
    """Make an RPC client known to this connection and to later ones, unless that has been done."""
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
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
        raise ValueError(f"expected an identifier as the name of the client, got {name!r}")
    client = (
        controller_rexec.client if isinstance(controller_rexec, RemoteExec) else controller_rexec
    )
    if host is None:
        host = client.get_local_host()
    client.add_code(_CONNECT)
    client.call("_connect_global_rpc", name, host, port, target)


class RemoteExec:
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
        self.client = client
        self._deadline = deadline
        # Established servers have add_code(code) and call(function, ...), no more.
        self._established = not hasattr(client, "call_within")
        if self._established and deadline is not None:
            raise TypeError("this controller is of the established stack: it knows no deadlines")
        self._sent = Sent()
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
        if self._established:
            self.client.add_code(code)
            return
        self._do(
            lambda: self.client.add_code(
                code, deadline=self._deadline, origin=origin, first_line=first_line
            )
        )

    def call(self, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in the namespace of the connection and return its value.

        Raises
        ------
        TimeoutError
            It was still running after the deadline.
        """
        if self._established:
            return self.client.call(function, *args, **kwargs)
        return self._do(lambda: self.client.call_within(self._deadline, function, *args, **kwargs))

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
        caller = sys._getframe(1)
        source = source_of(function, (caller.f_code.co_filename, caller.f_lineno))
        self._execute(source)
        return functools.wraps(function)(functools.partial(self.call, source.name))

    def _execute(self, source: Source) -> None:
        news = self._sent.news(source)
        if source.needs:
            self.add_code(source.needs)
        if source.constants:
            self.add_code(DEFINE)
            self.call("_remote_exec_define", source.constants)
        for one in news:
            self.add_code(one.code, origin=one.origin, first_line=one.first_line)
        self._sent.add(source)

    def with_deadline(self, deadline: float | None) -> RemoteExec:
        """Return the same interface with another deadline, in seconds; None for no limit."""
        other = copy.copy(self)
        other._deadline = deadline
        return other

    def _do(self, request: Callable[[], Any]) -> Any:
        """Make a request, and bring its output here."""
        return request() if self._output is None else self._output.follow(request)
