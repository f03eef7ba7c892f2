"""When the next attempt to connect may be made, and the errors of failed attempts; pure code.

No clock and no socket: the caller passes the time. The one idea to keep in mind: a connection that
is lost as soon as it was made counts as a failed attempt. Otherwise a server that closes each
connection would get attempts without a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyon.backoff import JITTER, Backoff

from pc_rpc._errors import MAX_REBUILT, ConnectionLost, IncompatibleServer, LeaseLost, RpcError

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST_WAIT = 0.05
"""Seconds after the first failed attempt of a client whose callers wait: a controller that is
restarted listens again within a second."""

LONGEST_WAIT = 2.0
"""Seconds that these waits grow to: a call with a longer time-out finds the server when it is
back."""

UNLIMITED_CALL = 10.0
"""Seconds that connecting again may take for a call without a time-out: most controllers are back
by then, and a server that is switched off should be reported."""


NEEDS_RECONNECT = "state_cb= needs reconnect=True: without it there is only one connection"
AGAIN = "the next call connects again"
"""How to connect again, as the end of an error message."""


class Attempts:
    """The attempts to connect again since a connection was lost.

    Parameters
    ----------
    first, longest : float
        Seconds between attempts: the first wait, and the longest.
    at_once : bool
        Whether the first attempt is due as soon as the connection was lost.
    jitter : float, optional
        See `pyon.backoff.Backoff`.

    Attributes
    ----------
    due : float
        The time from which the next attempt may be made.
    failed_times : int
        Number of failed attempts since the connection was lost.
    reason : BaseException or None
        Why the connection was lost.
    last_error : BaseException or None
        Why the last attempt failed, None if none has failed since the loss.
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
        self._settled = longest  # seconds after which a connection counts as a success
        self._made: float | None = None

    def made(self, now: float) -> None:
        """Note that a connection was made."""
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
    """Return whether an attempt to connect may raise this; otherwise it is a defect here.

    A remote exception means that the server could not make the target.
    """
    return isinstance(error, (OSError, RpcError, ValueError)) or hasattr(error, "parent_traceback")


def is_mistake(error: BaseException) -> bool:
    """Return whether the server answered and has no such target: further attempts are useless."""
    remote = hasattr(error, "parent_traceback")
    named = isinstance(error, (IncompatibleServer, ValueError))
    return named and not isinstance(error, OSError) and not remote


def without_frames(error: BaseException) -> BaseException:
    """Remove the tracebacks of an error and of its causes and contexts; return the error.

    A client that keeps an error with its traceback would keep itself alive: the frames refer to it.
    """
    part: BaseException | None = error
    for _ in range(MAX_REBUILT):
        if part is None:
            break
        part.__traceback__ = None
        part = part.__cause__ or part.__context__
    return error


def was_not_sent(error: ConnectionLost, reason: BaseException | None) -> bool:
    """Return whether no byte of a call was sent, so that it may be sent on another connection.

    Parameters
    ----------
    error : ConnectionLost
        The error of the call.
    reason : BaseException or None
        Why the connection of the call was lost. An error with another cause arrived as a reply,
        from a server that stopped, or from the method.
    """
    return not error.sent and reason is not None and error.__cause__ is reason


def no_connection(
    label: str, what: str, attempts: Attempts, failed_times: int, seconds: float
) -> str:
    """Return the message of the error of a call that got no new connection in time.

    Parameters
    ----------
    label : str
        Target and server.
    what : str
        Description of the request.
    attempts : Attempts
        The attempts since the loss.
    failed_times : int
        Number of attempts that failed while the call waited.
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
    """Return the error of a call of a closed client."""
    return ConnectionLost(
        f"connection to {label} lost: closed by close_rpc(); the {what} was not sent"
    )


def not_the_target(error: Exception, what: str) -> Exception:
    """Return the error of a call if the server does not have the target: see `is_mistake`."""
    text = f"{error}; the {what} was not sent"
    return IncompatibleServer(text) if isinstance(error, IncompatibleServer) else ValueError(text)


def lease_lost(label: str, purposes: Iterable[str], what: str) -> LeaseLost:
    """Return the error of a call within the block of a lease that was lost with its connection."""
    leases = " and ".join(map(repr, purposes))
    return LeaseLost(
        f"connection to {label} lost, and with it the lease for {leases}; the {what} was not sent: "
        "leave the block of the lease to connect again"
    )
