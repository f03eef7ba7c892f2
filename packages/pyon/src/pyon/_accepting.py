"""The listening sockets of a server: bound before a client can connect, closed in every child.

The one idea to keep in mind: every socket has exactly one owner that is called after a fork. The
`Acceptor` owns listening sockets, and accepted ones until a transport of asyncio has taken them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from pyon import forks, tcp
from pyon.asyncio_tasks import end, keep

__all__ = ["Acceptor", "bind", "cannot_listen"]

_logger = logging.getLogger("pyon.asyncio_server")

PORT_ATTEMPTS = 10
"""Attempts to find one port that is free on all addresses, when the system chooses the port."""

BACKLOG = 1024
"""Connections that the system queues until they are accepted, unless its own limit is lower. After
a restart of a server all its clients connect at once; a client that does not get into the queue
retries after a second or more."""

ACCEPTED_AT_ONCE = 100
"""Maximum number of connections accepted in one iteration of the loop: the default of asyncio."""

RETRY_INTERVAL = 1.0
"""Seconds between attempts after accepting has failed, for example because descriptors are used up.
The listening socket stays readable, so the loop would spin without a pause."""

REMINDER_INTERVAL = 60
"""Failed attempts between two log messages, so that a night without descriptors does not fill the
disk."""

STOP_GRACE = 1.0
"""Seconds for which connections that are just being opened may end."""


def addresses_of(sockets: Sequence[socket.socket]) -> list[tuple[str, int]]:
    """Return host and port of each socket."""
    return [sock.getsockname()[:2] for sock in sockets]


BIND_HINTS = {
    errno.EADDRINUSE: "; is the server running already?",
    errno.EADDRNOTAVAIL: "; is it an address of this computer?",
}

ASYNCIO_WORDS = re.compile(r"error while attempting to bind on address \(.*\): (\[errno \d+\] )?")
"""What asyncio puts before the system's reason: the address, as a tuple."""


async def bind(host: str | Sequence[str] | None, port: int) -> list[socket.socket]:
    """Return sockets that are bound but do not listen yet; see `AsyncioServer.start`."""
    if host is not None and not isinstance(host, str) and not host:
        raise ValueError("expected at least one address to bind, got an empty list")
    attempt = 1
    while True:
        sockets = await _bind_once(host, port)
        ports = {address[1] for address in addresses_of(sockets)}
        if len(ports) == 1:
            return sockets
        # The system chose a port for each address: use the lowest one for all addresses.
        _close(sockets)
        try:
            return await _bind_once(host, min(ports))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == PORT_ATTEMPTS:
                raise
        attempt += 1


async def _bind_once(host: str | Sequence[str] | None, port: int) -> list[socket.socket]:
    """Bind with asyncio, which resolves names and sets socket options; return its sockets."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    except OSError as error:
        raise cannot_listen(error, host, port) from error
    try:
        sockets = [sock.dup() for sock in server.sockets]
    finally:
        server.close()
    for sock in sockets:
        sock.setblocking(False)
    return sockets


def cannot_listen(error: OSError, host: str | Sequence[str] | None, port: int) -> OSError:
    """Return an error of the same class and number that names the address, with a hint."""
    hosts = [host or "all interfaces"] if host is None or isinstance(host, str) else host
    number, reason = error.errno, error.strerror or str(error)
    if number is None and "could not bind on any address" in reason:  # asyncio, since Python 3.12
        number = errno.EADDRNOTAVAIL
        reason = os.strerror(number)
    reason = ASYNCIO_WORDS.sub("", reason)
    text = f"cannot listen on {', '.join(hosts)} port {port}: {reason}"
    if isinstance(error, socket.gaierror):
        return socket.gaierror(number, f"{text}; is the name right?")
    if number is None:
        return type(error)(text)
    return OSError(number, text + BIND_HINTS.get(number, ""))


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        tcp.shutdown(sock)
        sock.close()


class Acceptor:
    """Accepts connections on sockets, and owns the sockets until `close`.

    Parameters
    ----------
    sockets : sequence of socket
        The result of `bind`.
    serve : callable
        A coroutine function that is called with each accepted socket and passes it to a transport.
        It must handle its own errors.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        serve: Callable[[socket.socket], Coroutine[Any, Any, None]],
    ) -> None:
        self._sockets = list(sockets)
        self._serve = serve
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Task[None]] = set()  # Windows: one task for each socket
        self._opening: set[asyncio.Task[None]] = set()
        self._accepted: set[socket.socket] = set()  # accepted, and not yet taken by a transport
        self._failures = 0  # failed attempts since the last connection
        self._retry: asyncio.TimerHandle | None = None
        forks.register(self)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket."""
        return addresses_of(self._sockets)

    def start(self) -> None:
        """Start to listen and to accept."""
        for sock in self._sockets:
            sock.listen(BACKLOG)
        self._watch()

    async def close(self) -> None:
        """Close the listening sockets, and end connections that are just being opened."""
        if self._retry is not None:
            self._retry.cancel()
        self._unwatch()
        sockets, self._sockets = self._sockets, []
        _close(sockets)
        await end(self._waiting | self._opening, STOP_GRACE)
        for sock in self._accepted:  # cancelled before a transport took them
            sock.close()
        self._accepted.clear()

    def forked(self) -> None:
        """See `forks.ForkAware`."""
        for sock in (*self._sockets, *self._accepted):
            forks.drop_descriptor(sock.fileno())
        self._sockets = []

    def _watch(self) -> None:
        self._retry = None
        for sock in self._sockets:
            try:
                self._loop.add_reader(sock.fileno(), self._accept, sock)
            except NotImplementedError:  # the loop of Windows has sock_accept instead
                keep(self._waiting, self._wait_and_accept(sock))

    def _unwatch(self) -> None:
        for task in self._waiting:
            task.cancel()
        for sock in self._sockets:
            try:
                self._loop.remove_reader(sock.fileno())
            except NotImplementedError:
                return

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._take(sock)

    async def _wait_and_accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(listening)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return
            self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        if self._failures:
            self._failures = 0
            _logger.warning("%s: connections are accepted again", self._label())
        sock.setblocking(False)
        self._accepted.add(sock)
        keep(self._opening, self._open(sock))

    async def _open(self, sock: socket.socket) -> None:
        try:
            await self._serve(sock)
        finally:
            self._accepted.discard(sock)

    def _pause(self, error: OSError) -> None:
        """Stop accepting for `RETRY_INTERVAL`: no descriptor or no memory is left."""
        if not self._sockets or self._retry is not None:  # closed, or in the child of a fork
            return
        self._unwatch()
        self._retry = self._loop.call_later(RETRY_INTERVAL, self._watch)
        if self._failures % REMINDER_INTERVAL == 0:
            _logger.warning(
                "%s: no connection can be accepted: %s; retrying every %g s",
                self._label(),
                error.strerror or error,
                RETRY_INTERVAL,
            )
        self._failures += 1

    def _label(self) -> str:
        return ", ".join(map(tcp.format_address, self.addresses))
