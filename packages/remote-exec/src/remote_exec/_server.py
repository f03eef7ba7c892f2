"""The controller's side: the target that accepts code, and the loop that serves it with a driver.

Who can reach the port runs code with the rights of the controller. So the loop decides where it may
listen, and every connection and every piece of code leaves a line in the log.
"""

from __future__ import annotations

import contextvars
import functools
import ipaddress
import logging
import socket
import ssl as ssl_module
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pc_rpc import Client, Server, current_peer, immediate, simple_server_loop

from remote_exec._namespace import Namespace, digest
from remote_exec._output import Output, Record
from remote_exec._running import Outcome, Runner

logger = logging.getLogger("remote_exec")

# How long `read_output` waits when there is nothing to report. Short enough for the time-outs that
# clients set for themselves, long enough to cost nothing.
OUTPUT_POLL = 5.0


class RemoteExecServer:
    """RPC target that executes code: one for each connection, with a namespace of its own.

    Plain functions run in a thread, one after the other; what is awaitable is awaited on the event
    loop. Made on the event loop, by the server that serves it.

    Parameters
    ----------
    initial_namespace : mapping of str to object
        The controller-wide names. Copied into the namespace, where it is known itself as
        ``controller_initial_namespace``.
    deadline : float, optional
        Seconds that any call may take, whatever callers ask for. None: no limit.
    """

    def __init__(
        self, initial_namespace: Mapping[str, Any], *, deadline: float | None = None
    ) -> None:
        self._namespace = Namespace(initial_namespace)
        self._runner = Runner(self._namespace.name)
        self._deadline = _checked(deadline)
        self._output: Output | None = None
        self._finished = 0
        self._label = f"{current_peer()} ({self._namespace.name})"
        logger.info("%s: connected", self._label)

    async def add_code(
        self,
        code: str,
        *,
        deadline: float | None = None,
        origin: str | None = None,
        first_line: int = 1,
    ) -> None:
        """Execute code in the namespace.

        Parameters
        ----------
        code : str
            Valid Python code. What it defines stays in the namespace.
        deadline : float, optional
            Seconds that it may take before it is interrupted. None: as long as it takes.
        origin : str, optional
            File that the code comes from, and `first_line` its first line there, for tracebacks.
        first_line : int, optional
            See `origin`.

        Raises
        ------
        TimeoutError
            It was still running after `deadline`.
        """
        compiled = self._namespace.compile(code, origin, first_line)
        logger.info("%s: code of %d characters, sha256 %s", self._label, len(code), digest(code))
        _value(await self._run(lambda: self._namespace.execute(compiled), deadline))

    async def call(self, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in the namespace and return its value.

        Parameters
        ----------
        function : str
            Its name. Coroutine functions are awaited.
        *args, **kwargs
            Its arguments.
        """
        found = self._namespace.find(function)
        return _value(await self._run(lambda: found(*args, **kwargs), None))

    async def call_within(
        self, deadline: float | None, function: str, /, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a function in the namespace and return its value, unless it takes too long.

        Parameters
        ----------
        deadline : float or None
            Seconds that it may take before it is interrupted. None: as long as it takes.
        function : str
            Its name. Coroutine functions are awaited.
        *args, **kwargs
            Its arguments.

        Raises
        ------
        TimeoutError
            It was still running after `deadline`.
        """
        found = self._namespace.find(function)
        return _value(await self._run(lambda: found(*args, **kwargs), deadline))

    async def keep_output(self, keep: bool = True) -> int:
        """Keep what code prints and logs from now on for `read_output`, or do so no longer.

        Has a `read_output` that is waiting return. Returns the number of calls that have finished.
        """
        if self._output is not None:
            self._output.wake()
        if keep and self._output is None:
            self._output = Output()
        elif not keep and self._output is not None:
            self._output.close()
            self._output = None
        return self._finished

    @immediate
    async def read_output(self, finished: int) -> tuple[list[Record], int]:
        """Fetch what code has printed and logged, waiting for a few seconds if there is nothing.

        Parameters
        ----------
        finished : int
            The number of finished calls that the caller knows of: it does not wait if there are
            more.

        Returns
        -------
        records : list
            Lists: "stdout" or "stderr" and a text, or "log", level, name of the logger and a text.
        finished : int
            The number of calls (of code, too) that have finished.
        """
        output = self._output  # it may be given up meanwhile
        if output is None:
            return [], self._finished
        if self._finished == finished:
            await output.wait(OUTPUT_POLL)
        return output.take(), self._finished

    def close(self) -> None:
        """Forget the namespace, at the end of the connection."""
        if self._output is not None:
            self._output.close()
        self._runner.close()
        self._namespace.close()
        logger.info("%s: connection closed", self._label)

    async def _run(self, function: Callable[[], Any], deadline: float | None) -> Outcome:
        limits = [limit for limit in (_checked(deadline), self._deadline) if limit is not None]
        output = self._output
        context = contextvars.copy_context() if output is None else output.context()
        try:
            return await self._runner.run(function, min(limits, default=None), context)
        finally:
            self._finished += 1
            if output is not None:
                output.wake()


def _checked(deadline: float | None) -> float | None:
    if deadline is not None and not deadline > 0:
        raise ValueError(f"a deadline is a positive number of seconds or None, not {deadline!r}")
    return deadline


def _value(outcome: Outcome) -> Any:
    if outcome.error is None:
        return outcome.value
    raise _from_sent_code(outcome.error)


def _from_sent_code(error: BaseException) -> BaseException:
    """Take the frames of this package, which are no business of the caller, off a traceback."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:  # `raise error from error` makes a circle
        seen.add(id(link))
        trace = link.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__package__") == __package__:
            trace = trace.tb_next
        BaseException.with_traceback(link, trace)
        link = link.__cause__
    return error


def simple_rexec_server_loop(
    target_name: str,
    target: Any,
    host: str | Sequence[str] | None,
    port: int,
    description: str | None = None,
    *,
    deadline: float | None = None,
    allow_remote: bool = False,
    ssl: ssl_module.SSLContext | None = None,
    allow_parallel: bool = False,
    worker_threads: bool = False,
    ready_cb: Callable[[Server], object] | None = None,
) -> None:
    """Run a server with remote execution support, until a client or a signal ends it.

    It has two targets: the driver under `target_name`, and a `RemoteExecServer` for each connection
    under the same name followed by ``_rexec``. Sent code finds the driver as ``controller_driver``.

    Parameters
    ----------
    target_name : str
        Name of the driver's target.
    target : object
        The driver.
    host : str, sequence of str or None
        Bind address or addresses; None means all interfaces.
    port : int
        TCP port. 0 has the system choose one.
    description : str, optional
        What the server tells people about itself.
    deadline : float, optional
        Seconds that any call of sent code may take. None: as long as it takes.
    allow_remote : bool, optional
        Accept connections from other machines without asking them for a certificate: **everybody
        who reaches the port then runs code with the rights of this process**.
    ssl, allow_parallel, worker_threads, ready_cb
        As for `pc_rpc.simple_server_loop`.

    Raises
    ------
    ValueError
        An address can be reached from other machines, and neither does `ssl` ask clients for a
        certificate nor is `allow_remote` set.
    """
    if not (allow_remote or _asks_for_certificate(ssl)):
        _require_loopback(host)
    initial_namespace = {"controller_driver": target}
    targets = {
        target_name: target,
        target_name + "_rexec": functools.partial(
            RemoteExecServer, initial_namespace, deadline=deadline
        ),
    }
    try:
        simple_server_loop(
            targets,
            host,
            port,
            description,
            ssl=ssl,
            allow_parallel=allow_parallel,
            worker_threads=worker_threads,
            ready_cb=ready_cb,
        )
    finally:
        del initial_namespace["controller_driver"]  # not ours to close
        for shared in initial_namespace.values():
            if isinstance(shared, Client):  # as connect_global_rpc makes them
                shared.close_rpc()


def _asks_for_certificate(context: ssl_module.SSLContext | None) -> bool:
    return context is not None and context.verify_mode == ssl_module.CERT_REQUIRED


def _require_loopback(host: str | Sequence[str] | None) -> None:
    for name in [host] if host is None or isinstance(host, str) else host:
        reachable = _beyond_loopback(name)
        if reachable:
            raise ValueError(
                f"refusing to execute code for whoever reaches {reachable}: bind to ::1 or "
                "127.0.0.1, or pass ssl= with a context that asks clients for a certificate (as "
                "pyon.tcp.server_context makes), or allow_remote=True if you trust the network"
            )


def _beyond_loopback(host: str | None) -> str | None:
    """Return an address that `host` means and that other machines may reach, if there is one."""
    if not host:
        return "all interfaces"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return None  # it cannot be bound either, which is for the server to say
    addresses = [str(entry[4][0]) for entry in found]
    return next((a for a in addresses if not ipaddress.ip_address(a).is_loopback), None)
