"""The controller side: the target that accepts code.

A client that reaches it runs code with the rights of the controller. So the client of each call is
checked (`_access`), and each connection and each piece of code is logged.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Mapping
from typing import Any

from pc_rpc import current_peer, immediate

from remote_exec._access import require_admission
from remote_exec._namespace import Namespace, digest
from remote_exec._output import Output, Record
from remote_exec._running import Outcome, Runner

logger = logging.getLogger("remote_exec")

__tracebackhide__ = True  # pc_rpc removes these frames from tracebacks for callers

# Seconds that `read_output` waits while there is no output: less than the usual time-outs of
# clients, and so much that repeating it costs nothing.
OUTPUT_POLL = 5.0


class RemoteExecServer:
    """RPC target that executes code: an instance for each connection, with its own namespace.

    Plain functions run in a thread, one after the other; awaitable results are awaited on the event
    loop. The server that serves it creates it on the event loop.

    Parameters
    ----------
    initial_namespace : mapping of str to object
        The controller-wide names. They are copied into the namespace. The mapping itself is there
        as ``controller_initial_namespace``.
    deadline : float, optional
        Seconds that any call may take, also if its caller allows more. None: no limit.
    allow_remote : bool, optional
        Execute code for clients on other machines that have presented no TLS certificate:
        **everyone who can reach the port then runs code with the rights of this process**.
        Otherwise their calls raise `PermissionError`.
    """

    def __init__(
        self,
        initial_namespace: Mapping[str, Any],
        *,
        deadline: float | None = None,
        allow_remote: bool = False,
    ) -> None:
        self._namespace = Namespace(initial_namespace)
        self._runner = Runner(self._namespace.name)
        self._deadline = checked_deadline(deadline)
        self._allow_remote = allow_remote
        self._output: Output | None = None
        self._finished = 0
        self._peer = current_peer() or "this process"
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
            Seconds that the code may take before it is interrupted. None: no limit.
        origin : str, optional
            File that the code is from, for tracebacks.
        first_line : int, optional
            Number of the code's first line in that file.

        Raises
        ------
        TimeoutError
            The code was still running after `deadline`.
        """
        self._admit()
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
        self._admit()
        found = self._namespace.find(function)
        return _value(await self._run(lambda: found(*args, **kwargs), None))

    async def call_within(
        self, deadline: float | None, function: str, /, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a function in the namespace and return its value, unless it takes too long.

        Parameters
        ----------
        deadline : float or None
            Seconds that the call may take before it is interrupted. None: no limit.
        function : str
            Its name. Coroutine functions are awaited.
        *args, **kwargs
            Its arguments.

        Raises
        ------
        TimeoutError
            The function was still running after `deadline`.
        """
        self._admit()
        found = self._namespace.find(function)
        return _value(await self._run(lambda: found(*args, **kwargs), deadline))

    async def keep_output(self, keep: bool = True) -> int:
        """Start or stop keeping what code prints and logs for `read_output`.

        A waiting `read_output` returns. Returns the number of finished calls.
        """
        self._admit()
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
        """Fetch what code has printed and logged; wait for a few seconds if there is nothing.

        Parameters
        ----------
        finished : int
            The number of finished calls that the caller knows. If it differs from the present
            number, this does not wait.

        Returns
        -------
        records : list
            Lists: "stdout" or "stderr" and a text, or "log", level, name of the logger and a text.
        finished : int
            The number of finished calls, those of `add_code` included.
        """
        self._admit()
        output = self._output  # `keep_output(False)` may remove it meanwhile
        if output is None:
            return [], self._finished
        if self._finished == finished:
            await output.wait(OUTPUT_POLL)
        return output.take(), self._finished

    def close(self) -> None:
        """Remove the namespace, at the end of the connection."""
        if self._output is not None:
            self._output.close()
        self._runner.close()
        self._namespace.close()
        logger.info("%s: connection closed", self._label)

    @property
    def _label(self) -> str:
        """The connection's name in the log; for a shared target, that of the current call."""
        return f"{current_peer() or self._peer} ({self._namespace.name})"

    def _admit(self) -> None:
        if not self._allow_remote:
            try:
                require_admission()
            except PermissionError as error:
                logger.warning("%s: refused: %s", self._label, error)
                raise

    async def _run(self, function: Callable[[], Any], deadline: float | None) -> Outcome:
        limits = [
            limit for limit in (checked_deadline(deadline), self._deadline) if limit is not None
        ]
        output = self._output
        context = contextvars.copy_context() if output is None else output.context()
        try:
            return await self._runner.run(function, min(limits, default=None), context)
        finally:
            self._finished += 1
            if output is not None:
                output.wake()


def checked_deadline(deadline: float | None) -> float | None:
    """Return a deadline; raise ValueError if it is not positive."""
    if deadline is not None and not (isinstance(deadline, int | float) and deadline > 0):
        raise ValueError(f"a deadline is a positive number of seconds or None, not {deadline!r}")
    return deadline


def _value(outcome: Outcome) -> Any:
    error = outcome.error
    if error is None:
        return outcome.value
    if isinstance(error, SystemExit | asyncio.CancelledError):
        # They would end the controller, or appear as the cancellation of the call.
        raise RuntimeError(f"the code raised {type(error).__name__}: {error}") from error
    raise error
