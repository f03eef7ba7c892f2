"""A blocking connection that is made again: the one of the moment, and the thread for the next.

The one idea to keep in mind: nobody who calls ever connects. While there is no connection and
somebody wants one, a thread makes the attempts, so a caller can leave at its deadline, by Ctrl-C or
because the client was closed, whatever the attempt is waiting for. The thread refers weakly to all
of it: when nobody uses the client any more, it ends.

Signal handlers and finalisers may call the client in the middle of all this. What is locked is a
few assignments; see `Reconnecting.changing`.
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
from pc_rpc._methods import warn_unclosed
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
        Of each `BlockingConnection`.
    attempts : Attempts
        When they may be.
    state_cb : callable or None
        Told of each change.

    Attributes
    ----------
    connection : BlockingConnection or None
        The one for calls. None: it was lost, or closed, or not made yet.
    last : BlockingConnection or None
        The last one that there was.
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
        self.made = 0  # connections
        self.closed = False
        self.thread: threading.Thread | None = None
        self.attempts = attempts
        self.foreign: ConnectionLost | None = None  # in the child of a fork: why it is of no use
        self._options = options
        self._states = States(state_cb)
        self._interrupts = Interrupts()
        self._changing = threading.RLock()
        self._opening: socket.socket | None = None  # that of an attempt
        self._wake = allocate_lock()  # held, unless the thread is to look around at once
        self._wake.acquire()
        forks.register(self)

    @property
    def label(self) -> str:
        """Target and server, as people write them."""
        host, port, target = self.where
        peer = format_address((host, port))
        return f"{target!r} at {peer}" if isinstance(target, str) else peer

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other threads from changing the state.

        Raises
        ------
        RpcError
            This thread is changing it already: a signal handler or finaliser has come in between.
        """
        if self._changing._is_owned():  # type: ignore[attr-defined]
            raise RpcError(
                f"{self.label}: the client was called by a signal handler or finaliser in the "
                "moment in which its connection was lost or made; nothing was sent"
            )
        with self._changing:
            yield

    # The connection that there is.

    def adopt(self, connection: BlockingConnection) -> bool:
        """Take a new connection, unless there is one or none is wanted; say whether it was."""
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
            return False
        if before is not None:
            before.close()  # which a server that stops may not have closed yet
        self._was_made(connection, changed)
        self._states.tell()
        return True

    def drop(self, connection: BlockingConnection, reason: BaseException | None) -> None:
        """Note that a connection was lost. May be called again."""
        self._interrupts.held_back(self._drop, connection, reason)
        self._states.tell()

    def _drop(self, connection: BlockingConnection, reason: BaseException | None) -> None:
        with self.changing():
            if self.connection is not connection:
                return
            self.connection = None
            self.attempts.lost(time.monotonic(), reason)
            self._states.note("lost")
        self._was_lost(reason)

    # What those who derive from it decide.

    def _is_wanted(self) -> bool:
        """Say whether there should be attempts to connect now."""
        raise NotImplementedError

    def _time_for_attempt(self) -> float | None:
        """Return the seconds that an attempt may take."""
        raise NotImplementedError

    def _was_made(self, connection: BlockingConnection, changed: bool) -> None:
        """Note that there is a connection now, and whether its methods are others than before."""

    def _was_lost(self, reason: BaseException | None) -> None:
        """Note that there is none any more."""

    def _has_failed(self, error: Exception) -> None:
        """Note that an attempt has failed."""

    # The search.

    def search(self) -> None:
        """Have a thread connect, unless one does, or there is no need."""
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
        """Try to connect, if it is time. Return the seconds until the next step; None: it is over.

        To be called by the thread.
        """
        with self.changing():
            if self.closed or self.connection is not None or not self._is_wanted():
                self.thread = None
                return None
            pause = self.attempts.due - time.monotonic()
        if pause <= 0:
            try:
                self.adopt(self.connect())
            except Exception as error:  # of the top of a thread: told to those who wait
                if not is_foreseen(error):
                    _logger.exception("%s: connecting again failed", self.label)
                self.note_failure(error)
            except BaseException:  # of a callback: another thread will search the next time
                self.thread = None
                raise
        return max(0.0, min(pause, LONGEST))

    def connect(self) -> BlockingConnection:
        """Return a new connection, of which nobody knows yet."""
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
        """Close the connection and cease to make it again."""
        if self.foreign is None:
            self._interrupts.held_back(self._close)
            self._states.tell()

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
        """See `pyon.forks`: there is no thread here, and those of the parent may hold the locks."""
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
    """Make attempts until there is a connection, or none is wanted: what the thread does."""
    while (core := reference()) is not None and (pause := core.step()) is not None:
        del core  # or nobody could see that its last user has gone
        wake.acquire(timeout=pause)
