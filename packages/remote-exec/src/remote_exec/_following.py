"""The caller's side of output: what code there prints and logs comes out here while it runs.

The one idea to keep in mind: what comes is handed to streams and log handlers of the user, in a
thread of ours. They may do anything, call the controller included, and so may signal handlers and
finalisers. A call that is made in the middle of another one is not followed; it waits for nothing.
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
    """Brings here what the code of one connection writes, while requests are being served.

    With clients that may be used from several threads at once, ours, it comes live; with others as
    soon as the request is done.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._live = isinstance(client, Client)
        self._lock = threading.Lock()
        self._following: set[int] = set()  # threads that would wait for themselves
        self._finished: int | None = None  # not known: to be asked
        self._connection = 0
        pyon.forks.register(self)

    def forked(self) -> None:
        """Forget the threads of the parent, in the child of a fork."""
        self._lock = threading.Lock()
        self._following = set()
        self._finished = None

    def follow(self, request: Callable[[], Any]) -> Any:
        """Make a request; return when it and its output are here."""
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
        if self._finished is None:  # a best-effort client, which has no connection now
            return request()
        reader = _Reader(self._client, self._finished, self._following)
        self._finished = None
        if self._live:
            reader.start()
        try:
            result = request()
        except BaseException as error:
            reader.given_up = True
            if hasattr(error, "parent_traceback"):  # it came from the other end
                self._finished = self._client.keep_output()  # wakes the reader
                reader.read_rest()
            raise
        self._finished = reader.read_rest()
        warn_if_lost(self._client, self._connection)
        return result


def warn_if_lost(client: Any, connection: int) -> None:
    """Tell the log if a request was made on another connection, whose output is not kept."""
    if connection_of(client) != connection:
        logger.warning("connected again: what this call has printed stayed at the controller")


class _Reader(threading.Thread):
    """Reads what the code of one request writes, until one more call has finished."""

    def __init__(self, client: Any, finished: int, following: set[int]) -> None:
        super().__init__(name="remote-exec output", daemon=True)
        # Without a time-out: a reply that comes too late would take its output along.
        self._client = client.with_rpc_timeout(None) if isinstance(client, Client) else client
        self._known = finished
        self._following = following
        self.given_up = False

    def run(self) -> None:
        self._following.add(threading.get_ident())
        with contextlib.suppress(ConnectionError):  # of which the request tells
            while not self.given_up and self._read(self._known) == self._known:
                pass

    def read_rest(self) -> int:
        """Read what is left when the request is over; return the number of finished calls."""
        if self.ident is not None:
            self.join()
        with contextlib.suppress(ConnectionError):  # the result is here, which counts more
            return self._read(-1)  # which is never the number, so that this does not wait
        return self._known

    def _read(self, known: int) -> int:
        reply = self._client.read_output(known)
        if reply is None:  # as above
            raise ConnectionError("the connection has been lost")
        records, finished = reply
        deliver(records)
        return int(finished)


def deliver(records: list[Any]) -> None:
    """Write and log here what was written and logged there."""
    for kind, *details in records:
        try:
            _deliver(kind, details)
        except Exception:  # streams and handlers are the user's; the rest is still to come
            logger.warning("output of sent code could not be written here", exc_info=True)


def _deliver(kind: str, details: list[Any]) -> None:
    if kind == "log":
        level, name, text = details
        target = logging.getLogger(name)
        if target.isEnabledFor(level):
            target.log(level, "%s", text)
        return
    stream = getattr(sys, kind)
    if stream is None:  # a program without a console, on Windows
        return
    (text,) = details
    try:
        stream.write(text)
    except UnicodeEncodeError as error:  # the terminal there knew more characters than ours
        stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
    stream.flush()
