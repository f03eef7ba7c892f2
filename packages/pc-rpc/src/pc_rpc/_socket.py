"""A connected socket for the blocking client, plain or TLS: never blocks, except to wait for it.

The one idea to keep in mind: the socket stays non-blocking, and waiting is a separate step. So one
thread can wait to read while another one writes, each with a deadline of its own, and an
interruption (Ctrl-C in a notebook) while waiting costs no byte. TLS runs over memory, under a lock,
because one `ssl.SSLSocket` must not be read and written by two threads at once.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from pyon.forks import drop_descriptor
from pyon.tcp import set_keepalive

from pc_rpc._deadlines import RECHECK, remaining

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

PIECE_SIZE = 2**20
"""Bytes of one write: more than a socket takes at once, so that no large buffer is cut in vain."""

TLS_PIECE_SIZE = 2**18
"""Plain bytes encrypted ahead of the socket: enough to keep it busy."""

_RECEIVE_TIMEOUT = struct.pack("@ll", 0, int(RECHECK * 1e6))  # a `struct timeval`

Queue = deque[bytes | memoryview]


class NonBlockingSocket:
    """A connected plain socket.

    Parameters
    ----------
    sock : socket
        Connected.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_keepalive(sock)
        self._sock = sock
        self.at_once, self.waits = _waiting_receive(sock)
        """The flags of a step that must not wait; and whether `recv` does wait without them."""
        self.send: Callable[..., int] = sock.send
        self.recv: Callable[..., bytes] = sock.recv
        """Functions in C that send what the socket takes, and receive, on a plain socket."""
        self.plain = True
        """Whether `send` and `recv` may be used: there is no TLS in between."""
        self._polls: list[Any] = []  # those that nobody uses now: each is for one wait at a time

    def recv_into(self, buffer: memoryview) -> int:
        """Receive into `buffer`; zero bytes: the peer has closed.

        Raises
        ------
        BlockingIOError
            Nothing came yet.
        """
        return self._sock.recv_into(buffer, 0, *self.at_once)

    def receive(self, size: int) -> bytes:
        """Wait for bytes, but no longer than `RECHECK`, and receive so many at most.

        Raises
        ------
        BlockingIOError
            Nothing came.
        """
        if self.waits or self.wait_readable(RECHECK):
            return self._sock.recv(size)
        raise BlockingIOError

    def wait_readable(self, timeout: float | None) -> bool:
        """Wait until `recv_into` has something to say, for so many seconds; return whether it has.

        It waits with ``poll``, where there is one: that knows no limit on file numbers, unlike
        ``select``.
        """
        if not hasattr(select, "poll"):
            return bool(select.select([self._sock], [], [], timeout)[0])
        polls = self._polls
        try:
            poll = polls.pop() if polls else _poll(self._sock, select.POLLIN)
        except ValueError:  # it was closed just now: to read tells so
            return True
        try:
            return bool(poll.poll(None if timeout is None else timeout * 1e3))
        finally:
            polls.append(poll)

    def wait_writable(self, timeout: float | None, or_readable: bool) -> tuple[bool, bool]:
        """Wait for room to write; return whether there is some, and whether something came in."""
        if not hasattr(select, "poll"):
            reading = [self._sock] if or_readable else []
            readable, writable, _ = select.select(reading, [self._sock], [], timeout)
            return bool(writable), bool(readable)
        try:
            poll = _poll(self._sock, select.POLLOUT | (select.POLLIN if or_readable else 0))
        except ValueError:  # it was closed just now: to write tells so
            return True, False
        found = 0
        for _, event in poll.poll(None if timeout is None else timeout * 1e3):
            found |= event
        return bool(found & ~select.POLLIN), bool(found & select.POLLIN)

    def write(self, queue: Queue) -> None:
        """Write all that is queued.

        Raises
        ------
        BlockingIOError
            The socket took no more: the rest is still in the queue.
        """
        while queue:
            chunk = queue[0]
            piece = chunk if len(chunk) <= PIECE_SIZE else chunk[:PIECE_SIZE]
            size = self._sock.send(piece, *self.at_once)
            if size == len(chunk):
                queue.popleft()
            else:
                queue[0] = memoryview(chunk)[size:]

    def shutdown(self) -> None:
        """End the connection: threads that wait for it are woken."""
        with contextlib.suppress(OSError):  # the peer was faster
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket: nobody may be using it any more."""
        self._sock.close()

    def forget(self) -> None:
        """Leave the connection alone: it belongs to the process that forked this one."""
        drop_descriptor(self._sock.fileno())

    def getsockname(self) -> object:
        """Return the address of the local end."""
        return self._sock.getsockname()


def _waiting_receive(sock: socket.socket) -> tuple[tuple[int], bool]:
    """Set a socket up; return the flags of a step that must not wait, and whether others do.

    To wait for bytes and to receive them in one step costs one change of threads less. That takes
    a socket that blocks, for a while, and a flag for the steps that must not. Linux has both.
    """
    if sys.platform == "linux":
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _RECEIVE_TIMEOUT)
        except OSError:  # another layout of the same fields
            pass
        else:
            if sock.gettimeout() is not None:
                sock.settimeout(None)
            return (socket.MSG_DONTWAIT,), True
    sock.settimeout(0)
    return (0,), False


def _poll(sock: socket.socket, events: int) -> select.poll:
    poll = select.poll()
    poll.register(sock, events)
    return poll


class TlsSocket(NonBlockingSocket):
    """The client's end of TLS on a connected socket.

    Parameters
    ----------
    sock : socket
        Connected.
    context : ssl.SSLContext
        What to present and whom to trust.
    hostname : str
        The name of the server, for contexts that compare it.
    deadline : float or None
        Of the TLS handshake.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, hostname: str, deadline: float | None
    ) -> None:
        super().__init__(sock)
        import ssl

        self.plain = False
        self._lock = threading.Lock()  # one thread at a time in the TLS state
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._want_read = (ssl.SSLWantReadError, ssl.SSLSyscallError)
        self._closed_by_peer = (ssl.SSLZeroReturnError, ssl.SSLEOFError)
        self._ciphertext: Queue = deque()
        self._received = bytearray(TLS_PIECE_SIZE)
        self._handshake(deadline)

    def _handshake(self, deadline: float | None) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except self._want_read:
                self._flush_all(deadline)
                if not super().wait_readable(remaining(deadline)):
                    raise TimeoutError("timed out") from None
                self._feed()
            except OSError:  # refused by us: the alert tells the server why
                with contextlib.suppress(OSError):
                    self._flush_all(deadline)
                raise
            else:
                self._flush_all(deadline)
                return

    def _flush_all(self, deadline: float | None) -> None:
        self._collect()
        while self._ciphertext:
            try:
                super().write(self._ciphertext)
            except BlockingIOError:
                self.wait_writable(remaining(deadline), False)

    def _collect(self) -> None:
        if ciphertext := self._outgoing.read():
            self._ciphertext.append(ciphertext)

    def _feed(self) -> None:
        size = self._sock.recv_into(self._received, 0, *self.at_once)
        if size:
            self._incoming.write(memoryview(self._received)[:size])
        else:
            self._incoming.write_eof()

    def recv_into(self, buffer: memoryview) -> int:
        """See `NonBlockingSocket`; decrypts. BlockingIOError: what came is no whole record yet."""
        with self._lock:
            if not self._tls.pending():
                with contextlib.suppress(BlockingIOError):
                    self._feed()
            try:
                return cast("int", self._tls.read(len(buffer), buffer))  # with a buffer: an int
            except self._closed_by_peer:
                return 0
            except self._want_read as error:
                raise BlockingIOError from error

    def receive(self, size: int) -> bytes:
        """See `NonBlockingSocket`; decrypts."""
        if not self.wait_readable(RECHECK):
            raise BlockingIOError
        buffer = bytearray(size)
        return bytes(buffer[: self.recv_into(memoryview(buffer))])

    def wait_readable(self, timeout: float | None) -> bool:
        """See `NonBlockingSocket`; what was decrypted with an earlier record counts as well."""
        if self._tls.pending() or self._incoming.pending:
            return True
        return super().wait_readable(timeout)

    def write(self, queue: Queue) -> None:
        """See `NonBlockingSocket`; what was encrypted and not yet written goes with the next."""
        super().write(self._ciphertext)
        while queue:
            with self._lock:
                size = self._tls.write(queue[0][:TLS_PIECE_SIZE])
                self._collect()
            if size == len(queue[0]):
                queue.popleft()
            else:
                queue[0] = memoryview(queue[0])[size:]
            super().write(self._ciphertext)
