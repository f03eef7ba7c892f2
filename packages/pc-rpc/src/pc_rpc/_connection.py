"""A connection for the calls of any number of threads, without a thread of its own.

The one idea to keep in mind: a call sends its request (`_sending`), waits for the reply, perhaps as
the thread that reads for all (`_receiving`), and decodes it. Requests of many threads are in flight
together, and a call that is given up leaves its reply pending. Ctrl-C gives a call up, too. It is
delayed until the thread waits, except on the fast path (`_lean_call`), where an exception does no
harm at any moment.

Signal handlers and finalisers run on the thread that they interrupt, at any point of this code, and
may call the client, too. Hence all locks are reentrant, so that a thread never waits for a lock of
its own, and each change of the state is one step.
"""

from __future__ import annotations

import contextlib
import os
import time
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pyon import forks
from pyon.framing import DEFAULT_LIMIT, REPLY_LINE_LIMIT
from pyon.tcp import format_address

from pc_rpc import _lean_call
from pc_rpc._call import Call
from pc_rpc._client_side import ClientSide
from pc_rpc._client_streams import closed, encode_stream
from pc_rpc._connecting import connect, shake_hands
from pc_rpc._deadlines import deadline_of
from pc_rpc._errors import ConnectionLost, RpcError
from pc_rpc._protocol import AutoTarget, Chunks
from pc_rpc._proxy import warn_unclosed
from pc_rpc._remote_stream import RemoteStream
from pc_rpc._sending import Sending
from pc_rpc._unreachable import wanted

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pc_rpc._stream_call import StreamCall

LEAN = True
"""Whether calls may take the fast path. Tests of the general path switch it off."""

DESCRIPTION_TIMEOUT = 5.0
"""Seconds that fetching the method list may take. A server whose event loop is busy answers later:
somebody who asks for help, or has mistyped a name, should not wait for that."""


class BlockingConnection(Sending):
    """One connection to a server; for any thread.

    Parameters
    ----------
    host, port : str, int
        Where the server is.
    timeout : float or None, optional
        Default time-out of a request, in seconds. None: no limit.
    connect_timeout : float or None, optional
        Seconds for connection, greeting and selection together. None: as `timeout`.
    target_name : str, AutoTarget or None, optional
        The target to select; None: select it later.
    ssl : ssl.SSLContext, optional
        Speak TLS.
    limit : int, optional
        Maximum size of a message in bytes, in both directions.
    line_limit : int, optional
        Maximum size of the line of a reply in bytes.
    wait_for_leases : bool, optional
        As for `Client`.
    again : str, optional
        How to connect again, as the end of an error message.
    begun : callable, optional
        Called with each socket before it connects. To shut that down ends the attempt.

    Attributes
    ----------
    side : ClientSide
        The negotiated features and the pending calls.
    """

    def __init__(
        self,
        host: str,
        port: int,
        target_name: str | AutoTarget | type[AutoTarget] | None = None,
        *,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        ssl: ssl.SSLContext | None = None,
        limit: int = DEFAULT_LIMIT,
        line_limit: int = REPLY_LINE_LIMIT,
        wait_for_leases: bool = False,
        again: str = "make a new client to connect again",
        begun: Callable[[socket.socket], object] | None = None,
    ) -> None:
        first = timeout if connect_timeout is None else connect_timeout
        deadline = deadline_of(first)
        self.timeout = timeout
        super().__init__(
            ClientSide(
                format_address((host, port)),
                limit=limit,
                line_limit=line_limit,
                tls=ssl is not None,
                wait_for_leases=wait_for_leases,
                again=again,
            )
        )
        self.lean = False  # whether calls may take the fast path
        self._freed = False  # whether the socket was closed
        self._description: Mapping[str, Any] | None = None
        what = wanted(self.side.peer, target_name)
        self._socket = connect(host, port, ssl, deadline, what, begun)
        forks.register(self)
        try:
            shake_hands(self.side, self._socket, self._receiver, target_name, first, deadline)
        except BaseException:
            self.close()
            raise
        self._selected()

    def select(self, target_name: str | AutoTarget | type[AutoTarget]) -> None:
        """Select a target and learn its methods. A time-out or interruption ends the connection."""
        call, chunks = self.side.select(target_name)
        try:
            self._complete(call, chunks, self.timeout, deadline_of(self.timeout))
            self.side.configure(self._receiver)
        except BaseException:
            self.close()
            raise
        self._selected()

    def _selected(self) -> None:
        """Set the state that depends on the handshake."""
        self._partial, self._received_at = self._receiver.pending > 0, time.monotonic()
        plain = self._socket.plain
        ids, roomy = self.side.features.request_ids, self.side.takes(_lean_call.READ_SIZE)
        self.lean = LEAN and plain and ids and roomy

    # Calls.

    @property
    def names(self) -> Collection[str]:
        """Names of the methods of the selected target."""
        return self.side.methods

    @property
    def streams(self) -> frozenset[str]:
        """Names of the methods that return streams."""
        return self.side.streams

    @property
    def gone(self) -> Mapping[str, str]:
        """Methods that the server has no longer, each with the text of the error."""
        return self.side.requests.gone

    @property
    def label(self) -> str:
        """Target and server, for messages."""
        return self.side.label

    made = 1
    """Connections so far: see `Client.get_rpc_connection_count`."""

    def ready(self) -> BlockingConnection:
        """Return the connection itself; see `LastingConnection.ready`."""
        return self

    @property
    def state(self) -> str:
        """The state, to be shown behind the label."""
        return "" if self.side.reason is None else ", connection lost"

    invoke = _lean_call.invoke  # the fast path, which falls back to the general one

    def call(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> Any:
        """Do what `invoke` does, on the general path."""
        return self.complete(*self.side.encode_call(name, args, kwargs), timeout)

    def stream(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> RemoteStream:
        """Return the iterator over a stream."""
        return RemoteStream(self, *encode_stream(self.side, name, args, kwargs), timeout)

    def request(self, action: str, fields: Mapping[str, Any] | None = None) -> Any:
        """Make a request other than a call of a method, and return the result."""
        return self.act(action, self.timeout, fields)

    def act(
        self, action: str, timeout: float | None, fields: Mapping[str, Any] | None = None
    ) -> Any:
        """Do what `request` does, with another time-out."""
        return self.complete(*self.side.encode_action(action, fields), timeout)

    def complete(self, call: Call, chunks: Chunks, timeout: float | None) -> Any:
        """Send a request and return the result."""
        return self._complete(call, chunks, timeout, deadline_of(timeout))

    def described(self) -> Mapping[str, Any]:
        """Return the method list, an empty one if it is not available."""
        if self._description is None:
            try:
                timeout = DESCRIPTION_TIMEOUT if self.timeout is None else self.timeout
                timeout = min(timeout, DESCRIPTION_TIMEOUT)
                self._description = dict(self.act("get_rpc_method_list", timeout))
            except Exception:  # missing documentation is not an error
                return {}
        return self._description

    def look(self) -> None:
        """Check whether the server has closed the connection since the last reply."""
        if self.side.reason is None and not self._in_the_middle(get_ident()):
            self.interrupts.held_back(self._look_for_the_end)

    def look_again(self) -> bool:
        """Return False: the methods of one connection do not change."""
        return False

    def _complete(
        self, call: Call, chunks: Chunks, timeout: float | None, deadline: float | None
    ) -> Any:
        self.refuse_in_the_middle(call)
        if self.side.reason is not None:
            raise self.side.error_for(call)
        self.interrupts.held_back(self._exchange, call, chunks, timeout, deadline)
        return self._result(call)

    def refuse_in_the_middle(self, call: Call) -> None:
        """Raise `RpcError` if this thread is in the middle of a message."""
        if self._in_the_middle(get_ident()):
            raise RpcError(
                f"{self.side.peer}: the {call.what} was tried by a signal handler or finaliser in "
                "the middle of a message that its own thread sends or reads; it was not sent"
            )

    def _result(self, call: Call) -> Any:
        if call.reply is None:
            self._free()
            raise self.side.error_for(call)
        return self.side.result(call)

    def exchange_part(
        self, call: StreamCall, chunks: Chunks, more: Chunks, timeout: float | None
    ) -> None:
        """Send the request of a stream, unless it was sent, and `more`; wait for a message.

        Raises
        ------
        TimeoutError, ConnectionLost
            As for calls. If the connection is lost after the message arrived, nothing is raised.
        """
        self.refuse_in_the_middle(call)
        if self.side.reason is None:
            deadline = deadline_of(timeout)
            self.interrupts.held_back(self._exchange, call, chunks, timeout, deadline, more)
        if call.reply is None:
            self._free()
            raise self.side.error_for(call)

    def leave(self, call: StreamCall) -> None:
        """Have the server end a stream, without waiting for that."""
        if call.sent and self.side.reason is None:
            self.interrupts.held_back(self._give_up, call)

    def finish(self, call: StreamCall, timeout: float | None) -> None:
        """End a stream and wait for that; raise the exception of its generator, if any."""
        more = self.side.abandon(call) if call.sent else ()
        if not more or self.side.reason is not None:
            return
        while not call.at_end:
            call.forget()
            self.exchange_part(call, (), more, timeout)
            more = ()
        closed(self.side, call)

    def _exchange(
        self,
        call: Call,
        chunks: Chunks,
        timeout: float | None,
        deadline: float | None,
        more: Chunks = (),
    ) -> None:
        """Send a request and wait for its reply, or for the end of the connection."""
        try:
            if not call.sent or self._unsent:
                self._send(call, chunks, deadline)
            if more:
                with contextlib.suppress(ConnectionLost):  # messages received before come first
                    self._send(Call(0, call.what), more, deadline)
            if call.reply is None:
                self._wait(call, deadline)
        except TimeoutError:
            self._give_up(call)
            raise self.side.too_late(call, timeout) from None
        except BaseException as error:
            self._clean_up(error)
            self._give_up(call)
            raise

    # The end.

    def close(self) -> None:
        """Close the connection. Pending calls raise `ConnectionLost`. May be called again."""
        self.interrupts.held_back(self._end)

    def _end(self) -> None:
        reason = ConnectionLost("closed by close_rpc()")
        if not self._free(reason):  # another thread uses the socket: wake it
            self._lose(reason)
            self._free()

    def _free(self, reason: BaseException | None = None) -> bool:
        """Close the socket unless a thread uses it; return whether it was closed.

        The last thread that uses it calls this again.

        Parameters
        ----------
        reason : BaseException or None, optional
            Why the connection ends, if that is not noted yet.
        """
        taken = []
        try:
            for lock in (self._sending, self._leading, self._reading):
                if not lock.acquire(blocking=False):
                    return False
                taken.append(lock)
            if reason is not None:
                self._note_end(reason)
            self._socket.close()
            self._freed = True
            return True
        finally:
            for lock in taken:
                self._release(lock)

    def forked(self) -> None:
        """See `pyon.forks`."""
        self.side.lost(ConnectionLost(f"made in another process, {os.getppid()}"))
        self._socket.forget()

    def __del__(self) -> None:
        if "_socket" not in self.__dict__:  # there was no connection
            return
        if self.side.reason is None:
            warn_unclosed(self)
        if not self._freed:
            self._socket.close()

    def local_host(self) -> str:
        """Return the address of the local end."""
        try:
            name = self._socket.getsockname()
        except OSError as error:  # closed
            if self.side.reason is None:
                self.side.lost(error)
            raise self.side.error_for() from error
        return str(name[0]) if isinstance(name, tuple) else str(name)
