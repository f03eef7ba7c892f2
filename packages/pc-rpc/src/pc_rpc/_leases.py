"""The leases of a target: holder, queue and expiry; pure code without a clock.

The one idea to keep in mind: a lease belongs to a connection. First it is *taken*: from then on no
calls of other connections begin. It is *granted* when their running calls have ended. It is *ended*
when all its claims were released, or its connection has ended. It is *lost* if it was not renewed
in time, or another client broke it: then its connection may not make calls until it has released
its claims, so that no client continues without knowing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

TAKEN, GRANTED, REFUSED, CANCELLED = "taken", "granted", "refused", "cancelled"
ENDED, LOST, CLEARED = "ended", "lost", "cleared"
"""Kinds of events."""

MAX_CLAIMS = 100
"""Maximum number of claims of one connection: no program nests more blocks. Each claim takes a few
hundred bytes, and is iterated over at every change."""


@dataclass(frozen=True, eq=False)
class Claim:
    """One request for a lease.

    Attributes
    ----------
    owner : hashable
        The connection that makes it.
    number : int
        Id of the request; it identifies the claim until the claim is released.
    purpose : str
        Purpose of the lease, for people.
    ttl : float
        Seconds that the lease lasts without a sign of life.
    client, peer : str
        Description of the client, by itself, and its address.
    until : float or None, optional
        Time until which it waits for the leases of others. None: no limit.
    calls : bool, optional
        Whether calls are a sign of life.
    """

    owner: Hashable
    number: int
    purpose: str
    ttl: float
    client: str = ""
    peer: str = ""
    until: float | None = None
    calls: bool = False

    @property
    def claimant(self) -> str:
        """The client, for messages to people."""
        return f"{self.client} ({self.peer})" if self.client else self.peer


class Event(NamedTuple):
    """A change that the desk must act on.

    Attributes
    ----------
    kind : str
        `TAKEN`: calls of other connections may not begin. `GRANTED`, `REFUSED`, `CANCELLED`: reply
        to the claim. `ENDED`: calls of others may begin. `LOST`: the same, and those of its own
        connection may not begin. `CLEARED`: these may begin again.
    claim : Claim
        The claim; the first one of a lease with several claims.
    text : str, optional
        The reason for an end, as the end of a sentence.
    """

    kind: str
    claim: Claim
    text: str = ""


@dataclass
class Lease:
    """A lease that was taken.

    Attributes
    ----------
    claims : dict of int to Claim
        Its claims that were not released, by number.
    first : Claim
        The claim that it was taken for, which has the purpose.
    renewed : float
        Time of the last sign of life.
    since : float
        Time at which it was granted; before that, time at which it was taken.
    granted : bool
        Whether the calls of others have ended.
    """

    claims: dict[int, Claim]
    first: Claim
    renewed: float
    since: float
    granted: bool = False

    @property
    def deadline(self) -> float:
        """Time at which it expires without a sign of life."""
        return self.renewed + self.ttl

    @property
    def ttl(self) -> float:
        """Seconds that it lasts: the longest of its claims."""
        return max(claim.ttl for claim in self.claims.values())

    @property
    def calls(self) -> bool:
        """Whether calls are a sign of life."""
        return any(claim.calls for claim in self.claims.values())


@dataclass
class Loss:
    """A lost lease whose claims were not all released yet."""

    text: str
    claims: set[int] = field(default_factory=set)


class Leases:
    """The leases of one target, one at a time. Times are passed in, of any monotonic clock.

    Attributes
    ----------
    lease : Lease or None
        The current lease.
    waiting : deque of Claim
        Claims that wait for its end, in order.
    """

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.waiting: deque[Claim] = deque()
        self._lost: dict[Hashable, Loss] = {}

    # Queries.

    def loss_of(self, owner: Hashable) -> str | None:
        """Return why a connection has lost its lease; None if it has not, or has released it."""
        loss = self._lost.get(owner)
        return None if loss is None else loss.text

    def may_call(self, owner: Hashable) -> bool:
        """Say whether calls of a connection may begin."""
        if owner in self._lost:
            return False
        return self.lease is None or self.lease.first.owner == owner

    def is_full(self, owner: Hashable) -> bool:
        """Say whether a connection has the maximum number of claims."""
        lease = self.lease
        mine = len(lease.claims) if lease is not None and lease.first.owner == owner else 0
        return mine + sum(claim.owner == owner for claim in self.waiting) >= MAX_CLAIMS

    @property
    def due(self) -> float | None:
        """The time at which to call `expire` next; None if nothing expires."""
        times = [claim.until for claim in self.waiting if claim.until is not None]
        if self.lease is not None and self.lease.granted:
            times.append(self.lease.deadline)
        return min(times, default=None)

    # Requests.

    def ask(self, claim: Claim, now: float) -> list[Event]:
        """Add a claim: grant, queue or refuse it."""
        lease = self.lease
        if claim.owner in self._lost:
            return [Event(REFUSED, claim)]
        if lease is not None and lease.first.owner == claim.owner:  # a lease within a lease
            lease.claims[claim.number] = claim
            lease.renewed = now
            return [Event(GRANTED, claim)] if lease.granted else []
        if lease is None and not self.waiting:
            self.waiting.append(claim)
            return self.advance(now)
        if claim.until is not None and claim.until <= now:
            return [Event(REFUSED, claim)]
        self.waiting.append(claim)
        return []

    def advance(self, now: float) -> list[Event]:
        """Let the first waiting claim take the lease, if the target is not leased."""
        if self.lease is not None or not self.waiting:
            return []
        claim = self.waiting.popleft()
        self.lease = Lease({claim.number: claim}, claim, now, now)
        for other in [other for other in self.waiting if other.owner == claim.owner]:
            self.waiting.remove(other)
            self.lease.claims[other.number] = other
        return [Event(TAKEN, claim)]

    def drained(self, now: float) -> list[Event]:
        """Grant the lease: the calls of other connections have ended."""
        lease = self.lease
        if lease is None or lease.granted:
            return []
        lease.granted, lease.renewed, lease.since = True, now, now
        return [Event(GRANTED, claim) for claim in lease.claims.values()]

    def renew(self, owner: Hashable, now: float) -> bool:
        """Note a sign of life; return whether the connection has the lease."""
        lease = self.lease
        if lease is None or lease.first.owner != owner:
            return False
        lease.renewed = now
        return True

    def extend(self, now: float, seconds: float) -> None:
        """Extend the lease to `seconds` from now, at least: the server could not read requests."""
        if self.lease is not None:
            self.lease.renewed = max(self.lease.renewed, now + seconds - self.lease.ttl)

    def release(self, owner: Hashable, number: int) -> list[Event]:
        """Release a claim, also one of a lost lease. Unknown numbers are ignored."""
        loss = self._lost.get(owner)
        if loss is not None and number in loss.claims:
            loss.claims.discard(number)
            if loss.claims:
                return []
            del self._lost[owner]
            return [Event(CLEARED, Claim(owner, number, "", 0))]
        lease = self.lease
        if lease is None or lease.first.owner != owner or number not in lease.claims:
            return []
        claim = lease.claims.pop(number)
        unanswered = [] if lease.granted else [Event(CANCELLED, claim)]
        return unanswered if lease.claims else [*unanswered, self._end(ENDED, "given back")]

    def cancel(self, owner: Hashable, number: int) -> list[Event]:
        """Remove a claim whose caller has given it up. Unknown numbers are ignored."""
        for claim in self.waiting:
            if claim.owner == owner and claim.number == number:
                self.waiting.remove(claim)
                return [Event(CANCELLED, claim)]
        return self.release(owner, number)

    def leave(self, owner: Hashable) -> list[Event]:
        """Note that a connection has ended: remove its claims, and end its lease."""
        self._lost.pop(owner, None)
        self.waiting = deque(claim for claim in self.waiting if claim.owner != owner)
        if self.lease is not None and self.lease.first.owner == owner:
            return [self._end(ENDED, "its connection has ended")]
        return []

    def break_(self, text: str) -> list[Event]:
        """End the lease as lost; `text` is the reason, for its holder."""
        return list(self._lose(text))

    def expire(self, now: float, *, busy: bool) -> list[Event]:
        """End the lease and the waits of claims whose time is over.

        Parameters
        ----------
        now : float
            The time.
        busy : bool
            Whether a call of the lease's own connection runs, which is a sign of life.
        """
        over = [claim for claim in self.waiting if claim.until is not None and claim.until <= now]
        for claim in over:
            self.waiting.remove(claim)
        events = [Event(REFUSED, claim) for claim in over]
        lease = self.lease
        if lease is None or not lease.granted:
            return events
        if busy:
            lease.renewed = now
        elif lease.deadline <= now:
            events += self._lose(f"it was not renewed within {lease.ttl:g} s")
        return events

    # Ends.

    def _lose(self, text: str) -> Iterator[Event]:
        lease = self.lease
        if lease is None:
            return
        if lease.granted:
            self._lost[lease.first.owner] = Loss(text, set(lease.claims))
            yield self._end(LOST, text)
        else:
            yield from [Event(CANCELLED, claim, text) for claim in lease.claims.values()]
            yield self._end(ENDED, text)

    def _end(self, kind: str, text: str) -> Event:
        assert self.lease is not None
        ended, self.lease = self.lease, None
        return Event(kind, ended.first, text)
