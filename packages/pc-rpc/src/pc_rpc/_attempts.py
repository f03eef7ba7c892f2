"""When a lost connection may be made again, and what is said of the attempts; pure code.

No clock and no socket: whoever drives `Attempts` says what time it is. The one idea to keep in
mind: a connection that was lost as soon as it was made counts as an attempt that has failed, or a
server that closes each connection would be visited without a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyon.backoff import JITTER, Backoff

from pc_rpc._errors import MAX_REBUILT, ConnectionLost, IncompatibleServer, LeaseLost, RpcError

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST_WAIT = 0.05
"""Seconds after a failed attempt of a client whose callers wait: a controller that is restarted
listens again within a second."""

LONGEST_WAIT = 2.0
"""Seconds that these waits grow to: a caller whose time-out is longer sees the server return."""

UNLIMITED_CALL = 10.0
"""Seconds that connecting again may take for a call without a time-out: most controllers are back
by then, and who waits for a server that is switched off wants to know."""


NEEDS_RECONNECT = "state_cb= needs reconnect=True: without it there is only one connection"
AGAIN = "the next call connects again"
"""How to connect again, as the end of a sentence for people."""


class Attempts:
    """The attempts to connect again since a connection was lost.

    Parameters
    ----------
    first, longest : float
        Seconds between attempts: of the first wait, and in the long run.
    at_once : bool
        Whether the first attempt is due as soon as the connection was lost.
    jitter : float, optional
        See `pyon.backoff.Backoff`.

    Attributes
    ----------
    due : float
        When the next attempt may be.
    failed_times : int
        Attempts that failed since the connection was lost.
    reason : BaseException or None
        Why the connection was lost.
    last_error : BaseException or None
        Why the last attempt failed, None if there was none since then.
    """

    def __init__(
        self, first: float, longest: float, *, at_once: bool, jitter: float = JITTER
    ) -> None:
        self.due = 0.0
        self.failed_times = 0
        self.reason: BaseException | None = None
        self.last_error: BaseException | None = None
        self._at_once = at_once
        self._backoff = Backoff(first, longest, jitter=jitter)
        self._settled = longest  # seconds of life after which a connection counts as a success
        self._made: float | None = None

    def made(self, now: float) -> None:
        """Note that there is a connection."""
        self._made = now

    def lost(self, now: float, reason: BaseException | None) -> None:
        """Note that the connection was lost."""
        self.reason, self.last_error, self.failed_times = reason, None, 0
        settled = self._made is not None and now - self._made >= self._settled
        if settled:
            self._backoff.reset()
        self.due = now if settled and self._at_once else now + self._backoff.next()

    def failed(self, now: float, error: BaseException) -> None:
        """Note that an attempt failed."""
        self.last_error = error
        self.failed_times += 1
        self.due = now + self._backoff.next()


def is_foreseen(error: BaseException) -> bool:
    """Say whether it is among the errors of an attempt to connect; else something is broken here.

    A remote exception says that the server cannot make the target, yet.
    """
    return isinstance(error, (OSError, RpcError, ValueError)) or hasattr(error, "parent_traceback")


def is_mistake(error: BaseException) -> bool:
    """Say whether the server answered and has no such target: nothing that time would mend."""
    remote = hasattr(error, "parent_traceback")
    named = isinstance(error, (IncompatibleServer, ValueError))
    return named and not isinstance(error, OSError) and not remote


def without_frames(error: BaseException) -> BaseException:
    """Take the frames off an error, and off those behind it; return it.

    A client that keeps it would be kept by it: frames refer to those that have called them.
    """
    part: BaseException | None = error
    for _ in range(MAX_REBUILT):
        if part is None:
            break
        part.__traceback__ = None
        part = part.__cause__ or part.__context__
    return error


def was_not_sent(error: ConnectionLost, reason: BaseException | None) -> bool:
    """Say whether nothing of a call has left, so that sending it is no repetition.

    Parameters
    ----------
    error : ConnectionLost
        What the call raised.
    reason : BaseException or None
        Why the connection of the call is gone. Another error with that class came as a reply: a
        server that stopped, or a method, has raised it.
    """
    return not error.sent and reason is not None and error.__cause__ is reason


def no_connection(
    label: str, what: str, attempts: Attempts, failed_times: int, seconds: float
) -> str:
    """Return the text of the error of a call that waited in vain for a new connection.

    Parameters
    ----------
    label : str
        Target and server, as people write them.
    what : str
        What was to be sent.
    attempts : Attempts
        What is known.
    failed_times : int
        Attempts that failed while the call waited.
    seconds : float
        How long it waited.
    """
    reason = attempts.reason
    text = f"connection to {label} lost"
    if reason is not None:
        text += f": {str(reason) or type(reason).__name__}"
    if failed_times:
        tries = "1 attempt" if failed_times == 1 else f"{failed_times} attempts"
        text += f"; {tries} to connect again failed within {seconds:.3g} s"
    else:
        text += f"; there was no new one within {seconds:.3g} s"
    if attempts.last_error is not None:
        text += f" (the last one: {attempts.last_error})"
    return f"{text}; the {what} was not sent"


def closed_by_user(label: str, what: str) -> ConnectionLost:
    """Return the error of a call that cannot be made because the client was closed."""
    return ConnectionLost(
        f"connection to {label} lost: closed by close_rpc(); the {what} was not sent"
    )


def not_the_target(error: Exception, what: str) -> Exception:
    """Return the error of a call whose server was found without its target: see `is_mistake`."""
    text = f"{error}; the {what} was not sent"
    return IncompatibleServer(text) if isinstance(error, IncompatibleServer) else ValueError(text)


def lease_lost(label: str, purposes: Iterable[str], what: str) -> LeaseLost:
    """Return the error of a call in a block of a lease which was lost with its connection."""
    leases = " and ".join(map(repr, purposes))
    return LeaseLost(
        f"connection to {label} lost, and with it the lease for {leases}; the {what} was not sent: "
        "leave the block of the lease to connect again"
    )
