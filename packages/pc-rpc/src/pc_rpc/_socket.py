"""A connected socket for the blocking client, plain or TLS: blocks in explicit waits only.

The one idea to keep in mind: reading and writing do not block, and waiting is a separate step. So
one thread can wait to read while another one writes, each with its own deadline, and an
interruption (Ctrl-C in a notebook) while waiting loses no byte. TLS runs over memory, under a lock,
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
"""Maximum size of one write in bytes: more than a socket takes at once."""

TLS_PIECE_SIZE = 2**18
"""Plain bytes that are encrypted before the socket takes them: enough to keep it busy."""

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
        """The flags of a step that must not block; and whether `recv` blocks without them."""
        self.send: Callable[..., int] = sock.send
        self.recv: Callable[..., bytes] = sock.recv
        """The socket's functions in C, for a plain socket."""
        self.plain = True
        """Whether `send` and `recv` may be used: not with TLS."""
        self._polls: list[Any] = []  # free poll objects: each is for one wait at a time

    def recv_into(self, buffer: memoryview) -> int:
        """Receive into `buffer` and return the number of bytes; zero: the peer has closed.

        Raises
        ------
        BlockingIOError
            No bytes have arrived.
        """
        return self._sock.recv_into(buffer, 0, *self.at_once)

    def receive(self, size: int) -> bytes:
        """Wait for bytes, for `RECHECK` at most, and receive at most `size` of them.

        Raises
        ------
        BlockingIOError
            No bytes have arrived.
        """
        if self.waits or self.wait_readable(RECHECK):
            return self._sock.recv(size)
        raise BlockingIOError

    def wait_readable(self, timeout: float | None) -> bool:
        """Wait until `recv_into` would not block; return False after `timeout` seconds.

        It uses ``poll`` where there is one: unlike ``select``, that has no limit on file numbers.
        """
        if not hasattr(select, "poll"):
            return bool(select.select([self._sock], [], [], timeout)[0])
        polls = self._polls
        try:
            poll = polls.pop() if polls else _poll(self._sock, select.POLLIN)
        except ValueError:  # it was closed just now: reading raises the error
            return True
        try:
            return bool(poll.poll(None if timeout is None else timeout * 1e3))
        finally:
            polls.append(poll)

    def wait_writable(self, timeout: float | None, or_readable: bool) -> tuple[bool, bool]:
        """Wait for room to write; return whether there is some, and whether bytes have arrived."""
        if not hasattr(select, "poll"):
            reading = [self._sock] if or_readable else []
            readable, writable, _ = select.select(reading, [self._sock], [], timeout)
            return bool(writable), bool(readable)
        try:
            poll = _poll(self._sock, select.POLLOUT | (select.POLLIN if or_readable else 0))
        except ValueError:  # it was closed just now: writing raises the error
            return True, False
        found = 0
        for _, event in poll.poll(None if timeout is None else timeout * 1e3):
            found |= event
        return bool(found & ~select.POLLIN), bool(found & select.POLLIN)

    def write(self, queue: Queue) -> None:
        """Write everything in the queue.

        Raises
        ------
        BlockingIOError
            The socket took only a part: the rest is still in the queue.
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
        """End the connection, and wake the threads that wait for it."""
        with contextlib.suppress(OSError):  # the peer has closed already
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, which no thread may be using any more."""
        self._sock.close()

    def forget(self) -> None:
        """Drop the descriptor only: the connection belongs to the parent process."""
        drop_descriptor(self._sock.fileno())

    def getsockname(self) -> object:
        """Return the address of the local end."""
        return self._sock.getsockname()


def _waiting_receive(sock: socket.socket) -> tuple[tuple[int], bool]:
    """Set a socket up; return the flags of a step that must not block, and whether others block.

    To wait for bytes and receive them in one step saves a thread switch. That needs a socket with a
    receive time-out, and a flag for the steps that must not block. Linux has both.
    """
    if sys.platform == "linux":
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _RECEIVE_TIMEOUT)
        except OSError:  # the system has another layout of `struct timeval`
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
        The own certificate, and those to trust.
    hostname : str
        The name of the server, for contexts that check it.
    deadline : float or None
        Deadline of the TLS handshake.
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
            except OSError:  # we refuse: send the alert, which tells the server why
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
        """See `NonBlockingSocket`; decrypts. BlockingIOError: there is no complete record yet."""
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
        """See `NonBlockingSocket`; bytes that were decrypted before count, too."""
        if self._tls.pending() or self._incoming.pending:
            return True
        return super().wait_readable(timeout)

    def write(self, queue: Queue) -> None:
        """See `NonBlockingSocket`; encrypted bytes that were not written go before the next."""
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
