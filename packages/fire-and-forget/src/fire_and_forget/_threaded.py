"""FFProxy: the target's methods run in one long-lived worker thread.

The worker refers to the calls, never to the proxy. So an unreferenced proxy is collected, and its
thread ends once the accepted calls have been made.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from time import monotonic
from types import CoroutineType

from fire_and_forget._call import logger
from fire_and_forget._forks import register, require_own_process
from fire_and_forget._proxy import Proxy

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from typing import Any

    from fire_and_forget._backlog import Backlog, Change, Changes, LogEntry, WhenBusy
    from fire_and_forget._call import Call, OnError

# Seconds: long enough for a slow instrument to finish its last command, short enough that people do
# not kill a program whose instrument is dead.
EXIT_TIMEOUT = 5.0


class FFProxy(Proxy):
    """Run the methods of an object in the background.

    Calls on the proxy return at once, with None; the target's method runs in a worker thread that
    belongs to this proxy. No two calls run at the same time, also when several threads call the
    proxy. The target may be any object with callable attributes, an RPC client included, or a
    callable, which is then called by calling the proxy. A name that the target does not have raises
    `AttributeError` at once.

    An exception in the target becomes a logged warning with its traceback; the proxy goes on.

    Parameters
    ----------
    target : object
        The object whose methods are called, or a callable.
    when_busy : {"drop", "latest", "queue"}
        The treatment of a call that is made while another one runs. "drop": it is dropped with a
        warning. "latest": it waits, and of several waiting calls of the same method only the newest
        is made. "queue": up to `queue_size` calls wait; further calls are dropped with a warning.
        Calls are made in the order in which they were submitted.
    queue_size : int, optional
        The number of calls that may wait, at least 1. For "queue" only.
    on_error : callable, optional
        Called in the worker thread with each exception of the target, instead of the warning.
    exit_timeout : float, optional
        Seconds that the interpreter's exit waits for the accepted calls; calls that have not ended
        by then are abandoned with a warning. 0 abandons them at once, None waits without a limit.

    Notes
    -----
    Any thread may use a proxy, and so may signal handlers and finalisers. Attributes that start
    with ``ff_`` belong to the proxy, those that start with an underscore are not forwarded.

    Examples
    --------
    >>> log = []
    >>> background = FFProxy(log)
    >>> background.append(42)
    >>> background.ff_join()
    >>> log
    [42]
    """

    __slots__ = ("_worker",)

    def __init__(
        self,
        target: Any,
        *,
        when_busy: WhenBusy = "drop",
        queue_size: int | None = None,
        on_error: OnError | None = None,
        exit_timeout: float | None = EXIT_TIMEOUT,
    ) -> None:
        super().__init__(target, when_busy, queue_size, on_error)
        self._worker = _Worker(self._backlog, self._changes, exit_timeout)
        weakref.finalize(self, self._worker.close).atexit = False

    def ff_join(self, timeout: float | None = None) -> None:
        """Wait until no call runs and none waits.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; 0 does not wait, None waits without a limit.

        Raises
        ------
        TimeoutError
            A call was still running or waiting after `timeout`. It goes on.
        RuntimeError
            It would wait for itself: in a background call of this proxy, or in a signal handler
            that interrupts a call of the proxy. Or the proxy was used in the parent process before
            a fork.
        """
        self._worker.wait_idle(timeout)

    def ff_counts(self) -> dict[str, int]:
        """Return the numbers of calls that were "made", "dropped" and "failed", or are "waiting".

        A running call counts as made; a failed call counts as made and as failed.
        """
        return self._worker.counts()

    def _submit(self, call: Call) -> None:
        self._worker.submit(call)


class _Worker(threading.Thread):
    """The thread of one proxy. It starts with the first call and ends when closed and idle."""

    def __init__(self, backlog: Backlog, changes: Changes, exit_timeout: float | None) -> None:
        self._make_thread()
        # Reentrant, as a Condition is by default: a signal handler or a finaliser may use the proxy
        # in a thread that holds the lock.
        self.changed = threading.Condition()
        self._backlog = backlog
        self._changes = changes
        self._exit_timeout = exit_timeout
        self._process = os.getpid()
        self._parent: int | None = None  # the process that has the thread, if this is its child
        register(self)

    def forked(self) -> None:
        """See `register`: the thread and its calls are in the parent."""
        self.changed = threading.Condition()
        self._changes.forked()
        if self.ident is not None:
            self._parent = self._process
        else:
            self._make_thread()  # for Python 3.13 the threads of the parent have ended here
        self._process = os.getpid()

    def _make_thread(self) -> None:
        super().__init__(name="fire-and-forget", daemon=True)

    def submit(self, call: Call) -> None:
        require_own_process(self._parent)
        self._change(lambda: self._offer(call))

    def close(self) -> None:
        """Accept no more calls; the thread ends after the accepted ones."""
        self._change(self._backlog.close)

    def counts(self) -> dict[str, int]:
        with self.changed:
            return self._backlog.counts()

    def wait_idle(self, timeout: float | None) -> None:
        require_own_process(self._parent)
        if threading.current_thread() is self:
            raise RuntimeError("ff_join in a background call would wait for itself")
        if self._changes.interrupted:  # by a signal handler or a finaliser
            raise RuntimeError("ff_join in the middle of a call of the proxy would wait for itself")
        with self.changed:
            if self.changed.wait_for(lambda: self._backlog.running is None, timeout):
                return
            running = self._backlog.running
            label = running.label if running else ""
        raise TimeoutError(f"{label} is still running after {timeout} s")

    def finish_by(self, started: float) -> None:
        """At exit, wait for the accepted calls; log which ones are abandoned."""
        timeout = self._exit_timeout
        self.join(None if timeout is None else max(0.0, started + timeout - monotonic()))
        with self.changed:
            running = self._backlog.running
            waiting = self._backlog.counts()["waiting"]
        if running is not None:
            logger.warning("abandoned at exit: %s and %d waiting calls", running.label, waiting)

    def run(self) -> None:
        while self._make_next():
            pass

    def _change(self, change: Change) -> None:
        """Change the backlog; then log and free dropped calls, without the lock.

        Log handlers, and finalisers of arguments, are users' code and may wait for the lock.
        """
        with self.changed:
            try:
                entries = self._changes.carry_out(change)
            finally:
                self.changed.notify_all()
        self._backlog.dropped_calls.clear()
        for entry in entries:
            logger.log(*entry)

    def _offer(self, call: Call) -> LogEntry | None:
        if self.ident is None and not self._backlog.closed:
            try:
                self.start()
            except RuntimeError as error:  # too many threads, or the interpreter is ending
                return self._backlog.drop(call, str(error))
        return self._backlog.offer(call)

    def _make_next(self) -> bool:
        # A separate method, so that an idle worker refers to no call, argument or target.
        with self.changed:
            self.changed.wait_for(lambda: self._backlog.running or self._backlog.closed)
            call = self._backlog.running
        if call is None:
            return False
        try:
            self._make(call)
        finally:
            call.release()  # before `ff_join` returns
            self._change(self._backlog.advance)
        return True

    def _make(self, call: Call) -> None:
        try:
            _refuse_coroutine(call())
        except BaseException as error:  # sys.exit() in a driver must not end this thread
            self._change(self._backlog.count_failure)
            try:
                call.report_failure(error)
            except BaseException as failed:  # of a log handler; the proxy goes on
                details = (type(failed), failed, failed.__traceback__, self)
                threading.excepthook(threading.ExceptHookArgs(details))


def _refuse_coroutine(result: object) -> None:
    if isinstance(result, CoroutineType):
        result.close()
        raise TypeError("the method is a coroutine function: use AsyncioFFProxy for this target")


def _finish_at_exit() -> None:
    workers = [thread for thread in threading.enumerate() if isinstance(thread, _Worker)]
    started = monotonic()
    for worker in workers:
        worker.close()
    for worker in workers:
        worker.finish_by(started)


# Worker threads are daemon threads, so the interpreter does not wait for them, and this function
# does. It would wait for other threads without a limit, and a dead instrument would block the exit.
atexit.register(_finish_at_exit)
