"""A blocking connection that is made again: the current one, and the thread that makes the next.

The one idea to keep in mind: callers never connect. While there is no connection and one is wanted,
a thread makes the attempts. So a caller can leave at its deadline, by Ctrl-C, or because the client
was closed, whatever the attempt is waiting for. The thread has weak references only, and ends when
the client is not referred to any more.

Signal handlers and finalisers may call the client at any point of this code. The lock protects a
few assignments only; see `Reconnecting.changing`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import weakref
from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

from pyon import forks
from pyon.tcp import format_address

from pc_rpc._attempts import is_foreseen, without_frames
from pc_rpc._connection import BlockingConnection
from pc_rpc._deadlines import LONGEST
from pc_rpc._errors import ConnectionLost, RpcError
from pc_rpc._interrupts import Interrupts
from pc_rpc._proxy import warn_unclosed
from pc_rpc._states import States

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pc_rpc._attempts import Attempts
    from pc_rpc._states import State

_logger = logging.getLogger("pc_rpc")


class Reconnecting:
    """The connection of a client, while there is one, and the search for the next.

    Parameters
    ----------
    where : tuple
        Host, port and name of the target.
    options : dict
        Keyword arguments of each `BlockingConnection`.
    attempts : Attempts
        When attempts may be made.
    state_cb : callable or None
        Called at each change of the state.

    Attributes
    ----------
    connection : BlockingConnection or None
        The current one. None: it was lost, or closed, or not made yet.
    last : BlockingConnection or None
        The last one that was made.
    """

    def __init__(
        self,
        where: tuple[str, int, Any],
        options: dict[str, Any],
        attempts: Attempts,
        state_cb: Callable[[State], object] | None,
    ) -> None:
        self.where = where
        self.timeout: float | None = options["timeout"]
        self.connection: BlockingConnection | None = None
        self.last: BlockingConnection | None = None
        self.made = 0  # connections so far
        self.closed = False
        self.thread: threading.Thread | None = None
        self.attempts = attempts
        self.foreign: ConnectionLost | None = None  # in the child of a fork: the error of calls
        self._options = options
        self._states = States(state_cb)
        self._interrupts = Interrupts()
        self._changing = threading.RLock()
        self._opening: socket.socket | None = None  # the socket of an attempt
        self._wake = allocate_lock()  # released to wake the thread at once
        self._wake.acquire()
        forks.register(self)

    @property
    def label(self) -> str:
        """Target and server, for messages."""
        host, port, target = self.where
        peer = format_address((host, port))
        return f"{target!r} at {peer}" if isinstance(target, str) else peer

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other threads from changing the state.

        Raises
        ------
        RpcError
            This thread is changing it already: it was interrupted by a signal handler or finaliser.
        """
        if self._changing._is_owned():  # type: ignore[attr-defined]
            raise RpcError(
                f"{self.label}: the client was called by a signal handler or finaliser at the "
                "moment when its connection was lost or made; nothing was sent"
            )
        with self._changing:
            yield

    # The current connection.

    def adopt(self, connection: BlockingConnection) -> None:
        """Use a new connection; close it if there is one already, or the client is closed."""
        with self.changing():
            taken = self.connection is None and not self.closed
            if taken:
                self.attempts.made(time.monotonic())
                self._states.note("connected")
                self.made += 1
                before, self.last = self.last, connection
                changed = before is not None and connection.side.come_after(before.side)
                self.connection = connection
        if not taken:
            connection.close()
            return
        if before is not None:
            before.close()  # a server that is stopping may not have closed it yet
        self._was_made(connection, changed)
        self._states.deliver()

    def drop(self, connection: BlockingConnection, reason: BaseException | None) -> None:
        """Note that a connection was lost. May be called again."""
        self._interrupts.held_back(self._drop, connection, reason)
        self._states.deliver()

    def _drop(self, connection: BlockingConnection, reason: BaseException | None) -> None:
        with self.changing():
            if self.connection is not connection:
                return
            self.connection = None
            self.attempts.lost(time.monotonic(), reason)
            self._states.note("lost")
        self._was_lost(reason)

    # For derived classes.

    def _is_wanted(self) -> bool:
        """Return whether attempts to connect should be made."""
        raise NotImplementedError

    def _time_for_attempt(self) -> float | None:
        """Return the seconds that an attempt may take."""
        raise NotImplementedError

    def _was_made(self, connection: BlockingConnection, changed: bool) -> None:
        """Called after a connection was made; `changed`: its methods differ from before."""

    def _was_lost(self, reason: BaseException | None) -> None:
        """Called after the connection was lost."""

    def _has_failed(self, error: Exception) -> None:
        """Called after an attempt has failed."""

    # The search.

    def search(self) -> None:
        """Start a thread that connects, unless there is one, or no need for it."""
        with self.changing():
            if self.thread is not None or self.connection is not None or self.closed:
                return
            host, port, _ = self.where
            self.thread = thread = threading.Thread(
                target=_search,
                args=(weakref.ref(self), self._wake),
                name=f"reconnect to {host}:{port}",
                daemon=True,
            )
        try:
            thread.start()
        except BaseException:
            self.thread = None
            raise

    def step(self) -> float | None:
        """Try to connect, if an attempt is due.

        Return the seconds until the next step; None: the search is over. For the thread.
        """
        with self.changing():
            if self.closed or self.connection is not None or not self._is_wanted():
                self.thread = None
                return None
            pause = self.attempts.due - time.monotonic()
        if pause <= 0:
            try:
                self.adopt(self.connect())
            except Exception as error:  # at the top of a thread: the waiting callers get it
                if not is_foreseen(error):
                    _logger.exception("%s: connecting again failed", self.label)
                self.note_failure(error)
            except BaseException:  # of a callback: the next search starts another thread
                self.thread = None
                raise
        return max(0.0, min(pause, LONGEST))

    def connect(self) -> BlockingConnection:
        """Return a new connection."""
        options = {**self._options, "connect_timeout": self._time_for_attempt()}
        try:
            return BlockingConnection(*self.where, begun=self._begin_attempt, **options)
        finally:
            self._opening = None

    def _begin_attempt(self, sock: socket.socket) -> None:
        self._opening = sock
        if self.closed:
            raise ConnectionAbortedError("closed by close_rpc()")

    def note_failure(self, error: Exception) -> None:
        """Note that an attempt has failed."""
        without_frames(error)
        with self.changing():
            self.attempts.failed(time.monotonic(), error)
        self._has_failed(error)

    # The end.

    def close(self) -> None:
        """Close the connection and stop reconnecting."""
        if self.foreign is None:
            self._interrupts.held_back(self._close)
            self._states.deliver()

    def _close(self) -> None:
        with self._changing:
            if not self.closed:
                self._states.note("closed")
            self.closed = True
            self.connection = None
        with contextlib.suppress(RuntimeError):  # closed before
            self._wake.release()
        if (opening := self._opening) is not None:
            with contextlib.suppress(OSError):  # not connected yet, or not any more
                opening.shutdown(socket.SHUT_RDWR)
        if self.last is not None:
            self.last.close()

    def forked(self) -> None:
        """See `pyon.forks`: the child has no threads, and those of the parent may hold the lock."""
        if self.foreign is None:  # not forked before
            self.foreign = ConnectionLost(
                f"connection to {self.label} lost: made in another process, {os.getppid()}; "
                "make a new client here"
            )
        self._states.forget()
        self._changing = threading.RLock()

    def __del__(self) -> None:
        if self.__dict__.get("foreign", self) is None and not self.closed:
            warn_unclosed(self)  # type: ignore[arg-type]
            self.close()


def _search(reference: weakref.ref[Reconnecting], wake: Any) -> None:
    """Make attempts until there is a connection, or none is wanted. Runs in the thread."""
    while (client := reference()) is not None and (pause := client.step()) is not None:
        del client  # so that it can be freed during the pause
        wake.acquire(timeout=pause)
