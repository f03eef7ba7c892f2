"""The client side of output: prints and logs here what code prints and logs at the controller.

The one idea to keep in mind: records are passed to the user's streams and log handlers, in a thread
of ours. These may do anything, including calls of the controller, and so may signal handlers and
finalisers. The output of such a nested call is not followed, so that the call cannot deadlock.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pyon.forks
from pc_rpc import Client

from remote_exec._requests import connection_of

logger = logging.getLogger("remote_exec")


class Follower:
    """Prints and logs here the output of one connection's code, while a request is pending.

    With our clients, which several threads may use at once, output is shown while the code runs;
    with others, after the request.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._live = isinstance(client, Client)
        self._lock = threading.Lock()
        self._following: set[int] = set()  # threads whose nested calls would deadlock
        self._finished: int | None = None  # finished calls; None: unknown, to be requested
        self._connection = 0
        pyon.forks.register(self)

    def forked(self) -> None:
        """Forget the threads of the parent, in the child of a fork."""
        self._lock = threading.Lock()
        self._following = set()
        self._finished = None

    def follow(self, request: Callable[[], Any]) -> Any:
        """Make a request; return its result when its output has been delivered."""
        if threading.get_ident() in self._following:
            return request()
        with self._lock:
            self._following.add(threading.get_ident())
            try:
                return self._follow(request)
            finally:
                self._following.clear()

    def _follow(self, request: Callable[[], Any]) -> Any:
        if self._finished is None or connection_of(self._client) != self._connection:
            self._finished = self._client.keep_output()
            self._connection = connection_of(self._client)
        if self._finished is None:  # a best-effort client without a connection
            return request()
        reader = _Reader(self._client, self._finished, self._following)
        self._finished = None
        if self._live:
            reader.start()
        try:
            result = request()
        except BaseException as error:
            reader.given_up = True
            if hasattr(error, "parent_traceback"):  # raised at the controller
                self._finished = self._client.keep_output()  # wakes the reader
                reader.read_rest()
            raise
        self._finished = reader.read_rest()
        warn_if_lost(self._client, self._connection)
        return result


def warn_if_lost(client: Any, connection: int) -> None:
    """Log a warning if a request was made on another connection, whose output is not kept."""
    if connection_of(client) != connection:
        logger.warning("reconnected: the output of this call stayed at the controller")


class _Reader(threading.Thread):
    """Reads the output of one request, until one more call has finished."""

    def __init__(self, client: Any, finished: int, following: set[int]) -> None:
        super().__init__(name="remote-exec output", daemon=True)
        # Without a time-out: the output in a reply that comes too late would be lost.
        self._client = client.with_rpc_timeout(None) if isinstance(client, Client) else client
        self._known = finished
        self._following = following
        self.given_up = False

    def run(self) -> None:
        self._following.add(threading.get_ident())
        with contextlib.suppress(ConnectionError):  # the request raises the same
            while not self.given_up and self._read(self._known) == self._known:
                pass

    def read_rest(self) -> int:
        """Read the remaining output after the request; return the number of finished calls."""
        if self.ident is not None:
            self.join()
        with contextlib.suppress(ConnectionError):  # the request has its result; output may be lost
            return self._read(-1)  # never equal to the number, so this does not wait
        return self._known

    def _read(self, known: int) -> int:
        reply = self._client.read_output(known)
        if reply is None:  # a best-effort client without a connection
            raise ConnectionError("the connection has been lost")
        records, finished = reply
        deliver(records)
        return int(finished)


def deliver(records: list[Any]) -> None:
    """Print and log here records of output from the controller."""
    for kind, *details in records:
        try:
            _deliver(kind, details)
        except Exception:  # of the user's streams and handlers; the other records follow
            logger.warning("output of sent code could not be written here", exc_info=True)


def _deliver(kind: str, details: list[Any]) -> None:
    if kind == "log":
        level, name, text = details
        target = logging.getLogger(name)
        if target.isEnabledFor(level):
            target.log(level, "%s", text)
        return
    stream = getattr(sys, kind)
    if stream is None:  # a Windows program without a console
        return
    (text,) = details
    try:
        stream.write(text)
    except UnicodeEncodeError as error:  # the encoding here lacks characters of the text
        stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
    stream.flush()
