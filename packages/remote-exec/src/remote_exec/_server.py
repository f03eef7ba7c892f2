"""The controller's side: the target that accepts code.

A client that reaches it runs code with the rights of the controller. So each call is checked for
the client that makes it (`_access`); each connection and each piece of code leaves a line in the
log.
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

__tracebackhide__ = True  # its frames are no business of callers: see pc_rpc

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
        Seconds that any call may take, also if its caller allows more. None: no limit.
    allow_remote : bool, optional
        Execute code for clients on other machines that have shown no TLS certificate: **everybody
        who reaches the port then runs code with the rights of this process**. Otherwise their
        calls raise `PermissionError`.
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
        self._admit()
        found = self._namespace.find(function)
        return _value(await self._run(lambda: found(*args, **kwargs), deadline))

    async def keep_output(self, keep: bool = True) -> int:
        """Keep what code prints and logs from now on for `read_output`, or do so no longer.

        Has a `read_output` that is waiting return. Returns the number of calls that have finished.
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
        self._admit()
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

    @property
    def _label(self) -> str:
        """What the log calls the connection: of a shared target, the one that makes the call."""
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
    """Return a deadline, or raise what is wrong with it."""
    if deadline is not None and not (isinstance(deadline, int | float) and deadline > 0):
        raise ValueError(f"a deadline is a positive number of seconds or None, not {deadline!r}")
    return deadline


def _value(outcome: Outcome) -> Any:
    error = outcome.error
    if error is None:
        return outcome.value
    if isinstance(error, SystemExit | asyncio.CancelledError):
        # They would end the controller, or look as if it were being stopped: not the code's to do.
        raise RuntimeError(f"the code raised {type(error).__name__}: {error}") from error
    raise error
