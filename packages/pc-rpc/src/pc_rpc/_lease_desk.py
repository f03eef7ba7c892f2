"""The leases of one target at the server: applies the events of `_leases` to the sessions.

The one idea to keep in mind: each connection has a seat at the `Desk` of its target. The desk
drives `Leases` with the clock of the event loop, replies to claims, and bars the schedules of the
connections that may not call. Only a schedule decides whether a call may begin.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from pc_rpc._errors import LeaseLost, TargetLeased
from pc_rpc._lease_requests import LeaseFields
from pc_rpc._leases import (
    CLEARED,
    ENDED,
    GRANTED,
    LOST,
    MAX_CLAIMS,
    REFUSED,
    TAKEN,
    Claim,
    Event,
    Leases,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pc_rpc._lease_seat import Seat

_logger = logging.getLogger("pc_rpc")

TIMER_DELAY = 0.1
"""Maximum delay of a timer of an idle loop, in seconds. If it is later, a method has blocked the
loop, and messages of clients were not read meanwhile."""

GRACE = 1.0
"""Seconds to read such messages, so that no client loses a lease because the loop was blocked."""


class Desk:
    """The leases of one target.

    Parameters
    ----------
    target : str
        Its name.
    leasable : bool
        Whether all connections share the target; otherwise it cannot be leased.
    """

    def __init__(self, target: str, *, leasable: bool) -> None:
        self.target = target
        self.leasable = leasable
        self._leases = Leases()
        self._seats: set[Seat] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, seat: Seat) -> None:
        """Add a new connection."""
        self._seats.add(seat)
        self._bar(seat)

    def holder(self) -> dict[str, Any] | None:
        """Return the lease as an object of the protocol; None if there is none."""
        lease = self._leases.lease
        if lease is None:
            return None
        claim, seconds = lease.first, max(self._now() - lease.since, 0)
        return {
            "target": self.target,
            "purpose": claim.purpose,
            "client": claim.client,
            "peer": claim.peer,
            "seconds": round(seconds, 3),
        }

    # Requests of seats.

    def ask(self, seat: Seat, number: int, asked: LeaseFields) -> None:
        """Add a claim; the reply is sent when it is granted or refused.

        Raises
        ------
        RuntimeError
            The connection has too many already.
        """
        if self._leases.is_full(seat):
            raise RuntimeError(f"a connection may request at most {MAX_CLAIMS} leases at a time")
        now = self._now()
        until = None if asked.wait is None else now + asked.wait
        claim = Claim(
            seat, number, asked.purpose, asked.ttl, asked.client, seat.peer, until, asked.calls
        )
        self._handle(self._leases.ask(claim, now))
        self._bar(seat)  # a further claim may make calls a sign of life

    def renew(self, seat: Seat) -> None:
        """Renew the lease.

        Raises
        ------
        LeaseLost
            The connection has no lease, or has lost it.
        """
        if not self._leases.renew(seat, self._now()):
            raise self.lost(seat) or LeaseLost(f"this client has no lease of {self.target!r}")

    def release(self, seat: Seat, number: int) -> str | None:
        """Release a claim; return why its lease was lost, if it was."""
        text = self._leases.loss_of(seat)
        self._handle(self._leases.release(seat, number))
        return text

    def cancel(self, seat: Seat, number: int) -> None:
        """Remove a claim whose caller has given it up."""
        self._handle(self._leases.cancel(seat, number))

    def leave(self, seat: Seat) -> None:
        """Note that a connection has ended. Its calls may still run."""
        self._handle(self._leases.leave(seat))

    def forget(self, seat: Seat) -> None:
        """Remove a connection that has ended, when none of its calls runs."""
        self._seats.discard(seat)
        self._grant_if_drained()

    def break_(self, seat: Seat, asked: LeaseFields) -> dict[str, Any] | None:
        """End the lease of any connection; return the lease as `holder` does."""
        broken = self.holder()
        by = f"{asked.client} ({seat.peer})" if asked.client else seat.peer
        reason = f": {asked.purpose!r}" if asked.purpose else ""
        self._handle(self._leases.break_(f"it was broken by {by}{reason}"))
        return broken

    def call_ended(self, seat: Seat) -> None:
        """Note that a call of a watched connection has ended."""
        self._leases.renew(seat, self._now())
        self._grant_if_drained()

    # Errors.

    def lost(self, seat: Seat) -> LeaseLost | None:
        """Return the error for a connection that has lost its lease; None if it has not."""
        text = self._leases.loss_of(seat)
        return None if text is None else LeaseLost(f"the lease of {self.target!r} was lost: {text}")

    def refusal(self, seat: Seat) -> LeaseLost | TargetLeased:
        """Return the error for a call that may not begin now."""
        return self.lost(seat) or self._leased()

    def _leased(self) -> TargetLeased:
        lease, waiting = self._leases.lease, self._leases.waiting
        if lease is None:
            first = waiting[0] if waiting else None
            return TargetLeased(
                f"the target {self.target!r} is about to be leased"
                + (f" for {first.purpose!r} by {first.claimant}" if first is not None else "")
            )
        claim, seconds = lease.first, max(self._now() - lease.since, 0.0)
        clock = time.strftime("%H:%M:%S", time.localtime(time.time() - seconds))
        return TargetLeased(
            f"the target {self.target!r} is leased for {claim.purpose!r} by {claim.claimant} "
            f"since {clock} ({seconds:.0f} s)",
            claim.purpose,
            claim.client,
            claim.peer,
            round(seconds, 3),
        )

    # Events.

    def _handle(self, events: Iterable[Event]) -> None:
        for event in events:
            self._log(event)
            if event.kind == TAKEN:
                self._lease_taken()
            elif event.kind in {ENDED, LOST}:
                self._lease_ended()
            elif event.kind == CLEARED:
                self._unbar(event.claim.owner)
            else:
                self._answer(event)
        self._set_timer()

    def _lease_taken(self) -> None:
        for seat in self._seats.copy():
            self._bar(seat)
            if seat.schedule.barred and not seat.side.features.lease_waits:
                seat.refuse_waiting()
        self._grant_if_drained()

    def _lease_ended(self) -> None:
        """Let others call. A waiting claim takes the lease after the calls that wait now."""
        for seat in self._seats:
            self._unbar(seat)
        if self._leases.waiting:
            asyncio.get_running_loop().call_soon(self._advance)

    def _advance(self) -> None:
        self._handle(self._leases.advance(self._now()))

    def _unbar(self, seat: Any) -> None:
        was_barred = seat.schedule.barred
        self._bar(seat)
        if seat.schedule.barred:
            seat.refuse_waiting()  # the connection has lost its lease
            seat.end_streams()
        elif was_barred:
            asyncio.get_running_loop().call_soon(seat.resume)

    def _bar(self, seat: Seat) -> None:
        """Set which calls of a connection may begin, and whether their ends are reported."""
        lease = self._leases.lease
        mine = lease is not None and lease.first.owner is seat
        counted = lease is not None and mine and lease.calls
        seat.watched = counted or (lease is not None and not mine and not lease.granted)
        seat.schedule.bar(barred=not self._leases.may_call(seat), counted=counted)

    def _grant_if_drained(self) -> None:
        """Grant a lease that was taken, if no calls of other connections run."""
        lease = self._leases.lease
        if lease is None or lease.granted:
            return
        if any(seat.schedule.active for seat in self._seats if seat is not lease.first.owner):
            return
        self._handle(self._leases.drained(self._now()))
        for seat in self._seats:
            self._bar(seat)

    def _answer(self, event: Event) -> None:
        seat: Any = event.claim.owner
        if event.kind == GRANTED:
            seat.confirm(event.claim.number)
        elif event.kind == REFUSED:
            seat.refuse(event.claim.number, self.refusal(seat))
        elif event.text:
            error = LeaseLost(f"the lease of {self.target!r} was not granted: {event.text}")
            seat.refuse(event.claim.number, error)
        else:
            seat.confirm_cancelled(event.claim.number)

    def _log(self, event: Event) -> None:
        claim = event.claim
        if event.kind == GRANTED and event.claim.number == self._first_number():
            _logger.info(
                "target %r: leased for %r by %s", self.target, claim.purpose, claim.claimant
            )
        elif event.kind in {ENDED, LOST}:
            _logger.info(
                "target %r: the lease for %r by %s is over: %s",
                self.target, claim.purpose, claim.claimant, event.text,
            )  # fmt: skip

    def _first_number(self) -> int | None:
        lease = self._leases.lease
        return None if lease is None else lease.first.number

    # Time.

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _set_timer(self) -> None:
        due, timer = self._leases.due, self._timer
        if timer is not None and (due is None or due < timer.when()):
            timer.cancel()
            timer = None
        if timer is None and due is not None:
            timer = asyncio.get_running_loop().call_at(due, self._timer_expired)
        self._timer = timer

    def _timer_expired(self) -> None:
        assert self._timer is not None
        now, late = self._now(), self._now() - self._timer.when()
        self._timer = None
        if late > TIMER_DELAY:
            self._leases.extend(now, GRACE)
        lease = self._leases.lease
        holder: Any = None if lease is None else lease.first.owner
        busy = holder is not None and holder.schedule.active
        self._handle(self._leases.expire(now, busy=busy))
