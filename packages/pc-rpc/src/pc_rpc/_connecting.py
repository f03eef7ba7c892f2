"""How the connection of a blocking client begins: an address that answers, TLS, the handshake.

The one idea to keep in mind: no other thread knows the connection yet. So there are no locks, and
Ctrl-C is not delayed: any error or interruption ends the connection.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

from pyon.framing import FramingError, Message

from pc_rpc._deadlines import RECHECK, remaining, within
from pc_rpc._errors import RpcError
from pc_rpc._lookup import AddressInfo, look_up
from pc_rpc._socket import NonBlockingSocket, TlsSocket
from pc_rpc._unreachable import explained, explained_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from pyon.framing import Receiver

    from pc_rpc._call import Call
    from pc_rpc._client_side import ClientSide
    from pc_rpc._protocol import AutoTarget, Chunks

READ_SIZE = 4096
"""Bytes of a read that should bring one line. Each read allocates them, so it is no more."""


def connect(
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    deadline: float | None,
    what: str,
    begun: Callable[[socket.socket], object] | None = None,
) -> NonBlockingSocket:
    """Connect to a server, within a deadline.

    `begun` is called with each socket before it connects. To shut that down ends the attempt.

    Raises
    ------
    TimeoutError
        There was no connection before the deadline.
    OSError
        The server cannot be reached. The text names `what`.
    """
    try:
        sock = _connect_any(look_up(host, port, deadline), deadline, begun)
    except OSError as error:
        raise explained(error, what) from error
    try:
        if context is None:
            return NonBlockingSocket(sock)
        return TlsSocket(sock, context, host, deadline)
    except OSError as error:
        sock.close()
        raise explained_tls(error, what) from error.__cause__
    except BaseException:
        sock.close()
        raise


def _connect_any(
    found: list[AddressInfo],
    deadline: float | None,
    begun: Callable[[socket.socket], object] | None = None,
) -> socket.socket:
    """Connect to the first of the addresses that answers; each gets its share of the time."""
    failure = OSError("no address")
    for tried, (family, kind, protocol, _, address) in enumerate(found):
        left = remaining(deadline)
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            if begun is not None:
                begun(sock)
            if left is not None:
                sock.settimeout(left / (len(found) - tried))
            sock.connect(address)
            return sock
        except OSError as error:
            failure = error
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        if sock is not None:
            sock.close()
    raise failure


def shake_hands(
    side: ClientSide,
    sock: NonBlockingSocket,
    receiver: Receiver,
    target_name: str | AutoTarget | type[AutoTarget] | None,
    timeout: float | None,
    deadline: float | None,
) -> None:
    """Greet the server and select a target; None: greet only.

    Raises
    ------
    TimeoutError
        The deadline has passed; the message names `timeout`.
    ConnectionLost, ProtocolError, IncompatibleServer, ValueError
        As for `ClientSide`.
    """
    side.configure(receiver)
    _take_step(side, sock, receiver, *side.greet(), timeout, deadline)
    if target_name is not None:
        _take_step(side, sock, receiver, *side.select(target_name), timeout, deadline)
        side.configure(receiver)


def _take_step(
    side: ClientSide,
    sock: NonBlockingSocket,
    receiver: Receiver,
    call: Call,
    chunks: Chunks,
    timeout: float | None,
    deadline: float | None,
) -> None:
    try:
        if deadline is not None:
            remaining(deadline)  # raises, so that nothing is sent after the deadline
        if side.greeted and sock.wait_readable(0):  # closed, or an unexpected message
            for message in _read(side, sock, receiver):
                side.receive(message)
        side.expect(call)
        unsent = deque(chunks)
        while unsent:
            try:
                sock.write(unsent)
            except BlockingIOError:
                sock.wait_writable(within(deadline, RECHECK), False)
        messages: list[Message] = []
        while not messages:
            if deadline is None or sock.wait_readable(within(deadline, RECHECK)):
                messages = _read(side, sock, receiver)
        side.receive(messages.pop(0))
    except (OSError, EOFError, RpcError, FramingError) as error:
        if isinstance(error, TimeoutError) and error.errno is None:  # ours, not the network's
            raise side.too_late(call, timeout) from None
        side.lost(error.with_traceback(None))
        raise side.error_for(call) from error
    side.result(call)
    for message in messages:
        side.receive(message)


def _read(side: ClientSide, sock: NonBlockingSocket, receiver: Receiver) -> list[Message]:
    """Receive bytes and return the messages that they complete."""
    try:
        data = sock.receive(READ_SIZE)
    except BlockingIOError:  # nothing yet, or no whole record of TLS
        return []
    if not data:
        raise side.closed_by_peer(receiver.pending)
    if data.find(b"\n") == len(data) - 1 and not receiver.pending:
        return [Message(data[:-1])]  # nearly always: exactly one line
    return receiver.feed(data)
