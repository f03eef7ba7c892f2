"""Who has a target to itself, who waits for that, and until when: pure code without a clock.

The one idea to keep in mind: a lease belongs to a connection. It is *taken* first: from then on no
calls of others begin. It is *granted* when those that run have ended. It is over when all of its
claims were given back, or its connection was lost; or it is *lost*, because it was not renewed in
time or somebody broke it: then the connection makes no calls until it has given its claims back, so
that nobody goes on without knowing.
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
"""Claims of one connection at a time: more than any program has blocks within each other. Each is a
few hundred bytes that a client can have the server keep, and is looked at when anything changes."""


@dataclass(frozen=True, eq=False)
class Claim:
    """One request for a lease.

    Attributes
    ----------
    who : hashable
        The connection that makes it.
    number : int
        Id of the request; it names the claim until that is given back.
    purpose : str
        What the lease is for, for people.
    ttl : float
        Seconds that the lease lasts without a sign of life.
    client, peer : str
        What the client says of itself, and its address.
    until : float or None, optional
        Time until which it waits for the leases of others. None: as long as it takes.
    calls : bool, optional
        Calls are a sign of life.
    """

    who: Hashable
    number: int
    purpose: str
    ttl: float
    client: str = ""
    peer: str = ""
    until: float | None = None
    calls: bool = False

    @property
    def whose(self) -> str:
        """The client, as people write it."""
        return f"{self.client} ({self.peer})" if self.client else self.peer


class Event(NamedTuple):
    """What has happened.

    Attributes
    ----------
    kind : str
        `TAKEN`: no calls of other connections begin any more. `GRANTED`, `REFUSED`, `CANCELLED`:
        the claim is to be answered. `ENDED`: calls of others may begin. `LOST`: the same, and
        those of its own connection may not. `CLEARED`: now these may as well.
    claim : Claim
        Of a lease with several claims, the first one.
    text : str, optional
        Why it has ended, as the end of a sentence.
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
        Those that were not given back, by number. The first one names the purpose.
    first : Claim
        The one that it was taken for.
    heard : float
        Time of the last sign of life.
    since : float
        Time since which it has been granted; before, that at which it was taken.
    granted : bool
        The calls of others have ended.
    """

    claims: dict[int, Claim]
    first: Claim
    heard: float
    since: float
    granted: bool = False

    @property
    def deadline(self) -> float:
        """Time at which it is lost without a sign of life."""
        return self.heard + self.ttl

    @property
    def ttl(self) -> float:
        """Seconds that it lasts: the longest that is claimed."""
        return max(claim.ttl for claim in self.claims.values())

    @property
    def calls(self) -> bool:
        """Whether calls are a sign of life."""
        return any(claim.calls for claim in self.claims.values())


@dataclass
class Loss:
    """What became of a lease that its connection has lost, and has not given back yet."""

    text: str
    claims: set[int] = field(default_factory=set)


class Leases:
    """The leases of one target, one at a time. Times are given, on any clock that never goes back.

    Attributes
    ----------
    lease : Lease or None
        The one that is taken.
    waiting : deque of Claim
        Those that wait for it to end, in their order.
    """

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.waiting: deque[Claim] = deque()
        self._lost: dict[Hashable, Loss] = {}

    # What is so.

    def loss_of(self, who: Hashable) -> str | None:
        """Return how a connection has lost its lease, None unless it still has to hear of that."""
        loss = self._lost.get(who)
        return None if loss is None else loss.text

    def may_call(self, who: Hashable) -> bool:
        """Say whether calls of a connection may begin."""
        if who in self._lost:
            return False
        return self.lease is None or self.lease.first.who == who

    def is_full(self, who: Hashable) -> bool:
        """Say whether a connection has as many claims as it may."""
        lease = self.lease
        mine = len(lease.claims) if lease is not None and lease.first.who == who else 0
        return mine + sum(claim.who == who for claim in self.waiting) >= MAX_CLAIMS

    @property
    def due(self) -> float | None:
        """The time at which to `look` next; None: nothing ends by itself."""
        times = [claim.until for claim in self.waiting if claim.until is not None]
        if self.lease is not None and self.lease.granted:
            times.append(self.lease.deadline)
        return min(times, default=None)

    # What is asked.

    def ask(self, claim: Claim, now: float) -> list[Event]:
        """Take in a request for a lease."""
        lease = self.lease
        if claim.who in self._lost:
            return [Event(REFUSED, claim)]
        if lease is not None and lease.first.who == claim.who:  # a lease within a lease
            lease.claims[claim.number] = claim
            lease.heard = now
            return [Event(GRANTED, claim)] if lease.granted else []
        if lease is None and not self.waiting:
            self.waiting.append(claim)
            return self.advance(now)
        if claim.until is not None and claim.until <= now:
            return [Event(REFUSED, claim)]
        self.waiting.append(claim)
        return []

    def advance(self, now: float) -> list[Event]:
        """Have the first of those that wait take the lease, unless somebody has it."""
        if self.lease is not None or not self.waiting:
            return []
        claim = self.waiting.popleft()
        self.lease = Lease({claim.number: claim}, claim, now, now)
        for other in [other for other in self.waiting if other.who == claim.who]:
            self.waiting.remove(other)
            self.lease.claims[other.number] = other
        return [Event(TAKEN, claim)]

    def drained(self, now: float) -> list[Event]:
        """Grant the lease: no call of another connection runs any more."""
        lease = self.lease
        if lease is None or lease.granted:
            return []
        lease.granted, lease.heard, lease.since = True, now, now
        return [Event(GRANTED, claim) for claim in lease.claims.values()]

    def hear(self, who: Hashable, now: float) -> bool:
        """Take in a sign of life; say whether the connection has the lease."""
        lease = self.lease
        if lease is None or lease.first.who != who:
            return False
        lease.heard = now
        return True

    def excuse(self, now: float, seconds: float) -> None:
        """Give the lease so much time, at least: the server has not listened."""
        if self.lease is not None:
            self.lease.heard = max(self.lease.heard, now + seconds - self.lease.ttl)

    def release(self, who: Hashable, number: int) -> list[Event]:
        """Take a claim back, that of a lease that was lost included. Other numbers are ignored."""
        loss = self._lost.get(who)
        if loss is not None and number in loss.claims:
            loss.claims.discard(number)
            if loss.claims:
                return []
            del self._lost[who]
            return [Event(CLEARED, Claim(who, number, "", 0))]
        lease = self.lease
        if lease is None or lease.first.who != who or number not in lease.claims:
            return []
        claim = lease.claims.pop(number)
        unanswered = [] if lease.granted else [Event(CANCELLED, claim)]
        return unanswered if lease.claims else [*unanswered, self._end(ENDED, "given back")]

    def cancel(self, who: Hashable, number: int) -> list[Event]:
        """Take back a claim that nobody waits for any more. Other numbers are ignored."""
        for claim in self.waiting:
            if claim.who == who and claim.number == number:
                self.waiting.remove(claim)
                return [Event(CANCELLED, claim)]
        return self.release(who, number)

    def leave(self, who: Hashable) -> list[Event]:
        """Note that a connection has ended: nothing of it waits, and its lease is over."""
        self._lost.pop(who, None)
        self.waiting = deque(claim for claim in self.waiting if claim.who != who)
        if self.lease is not None and self.lease.first.who == who:
            return [self._end(ENDED, "its connection has ended")]
        return []

    def break_(self, text: str) -> list[Event]:
        """Have the lease be lost; `text` says to whom."""
        return list(self._lose(text))

    def look(self, now: float, *, busy: bool) -> list[Event]:
        """Take in what time has brought.

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
            lease.heard = now
        elif lease.deadline <= now:
            events += self._lose(f"it was not renewed within {lease.ttl:g} s")
        return events

    # How it ends.

    def _lose(self, text: str) -> Iterator[Event]:
        lease = self.lease
        if lease is None:
            return
        if lease.granted:
            self._lost[lease.first.who] = Loss(text, set(lease.claims))
            yield self._end(LOST, text)
        else:
            yield from [Event(CANCELLED, claim, text) for claim in lease.claims.values()]
            yield self._end(ENDED, text)

    def _end(self, kind: str, text: str) -> Event:
        assert self.lease is not None
        ended, self.lease = self.lease, None
        return Event(kind, ended.first, text)
