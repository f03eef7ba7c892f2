"""Holder, queue and expiry of leases: pure code, with the times of the tests."""

from __future__ import annotations

import random

import pytest
from pc_rpc._leases import (
    CANCELLED,
    CLEARED,
    ENDED,
    GRANTED,
    LOST,
    MAX_CLAIMS,
    REFUSED,
    TAKEN,
    Claim,
    Leases,
)


def claim(who, number=1, *, ttl=10.0, until=None, calls=False):
    return Claim(who, number, f"work of {who}", ttl, "a program", "::1 port 1", until, calls)


def told(events):
    return [(event.kind, event.claim.owner, event.claim.number) for event in events]


def held(*, who="a", now=0.0, ttl=10.0):
    leases = Leases()
    leases.ask(claim(who, ttl=ttl), now)
    leases.drained(now)
    return leases


def test_a_lease_is_taken_at_once_and_granted_when_the_calls_of_others_have_ended():
    leases = Leases()
    assert told(leases.ask(claim("a"), 0)) == [(TAKEN, "a", 1)]
    assert leases.may_call("a")
    assert not leases.may_call("b")
    assert leases.due is None  # it does not expire before it is granted
    assert told(leases.drained(5)) == [(GRANTED, "a", 1)]
    assert leases.drained(6) == []
    assert leases.due == 15
    assert told(leases.release("a", 1)) == [(ENDED, "a", 1)]
    assert leases.may_call("b")
    assert leases.due is None


@pytest.mark.parametrize(
    ("heard", "busy", "now", "lost"),
    [
        ([], False, 9.9, False),
        ([], False, 10, True),
        ([4], False, 13.9, False),
        ([4], False, 14, True),
        ([4, 8], False, 14, False),
        ([], True, 1000, False),
    ],
)
def test_a_lease_is_lost_without_a_sign_of_life(heard, busy, now, lost):
    leases = held()
    assert all(leases.renew("a", time) for time in heard)
    assert told(leases.expire(now, busy=busy)) == ([(LOST, "a", 1)] if lost else [])
    assert leases.may_call("a") is not lost
    assert leases.may_call("b") is lost
    assert leases.renew("a", now) is not lost


def test_a_call_that_ran_gives_the_whole_time_again():
    leases = held()
    leases.expire(1000, busy=True)
    assert leases.due == 1010


def test_a_connection_that_lost_its_lease_may_not_call_until_it_has_released_all_claims():
    leases = held()
    assert told(leases.ask(claim("a", 2), 1)) == [(GRANTED, "a", 2)]
    leases.expire(11, busy=False)
    assert leases.loss_of("a") == "it was not renewed within 10 s"
    assert told(leases.ask(claim("b"), 12)) == [(TAKEN, "b", 1)]
    leases.drained(12)
    assert told(leases.ask(claim("a", 3), 12)) == [(REFUSED, "a", 3)]
    assert leases.release("a", 7) == leases.release("a", 2) == []
    assert not leases.may_call("a")
    assert told(leases.release("a", 1)) == [(CLEARED, "a", 1)]
    assert leases.loss_of("a") is None
    assert not leases.may_call("a")  # for it is b's now
    assert leases.may_call("b")


def test_a_lease_within_a_lease_ends_with_the_last_of_them_and_lasts_as_the_longest():
    leases = held(ttl=10)
    leases.ask(claim("a", 2, ttl=60), 5)
    assert leases.due == 65
    assert leases.release("a", 2) == []
    assert leases.due == 15
    assert told(leases.release("a", 1)) == [(ENDED, "a", 1)]


def test_claims_are_granted_in_order():
    leases = held()
    for who in "bcd":
        assert leases.ask(claim(who), 1) == []
    for who, following in zip("abc", "bcd", strict=True):
        leases.release(who, 1)
        assert leases.lease is None
        assert told(leases.advance(2)) == [(TAKEN, following, 1)]
        assert leases.advance(2) == []
        leases.drained(2)


def test_no_claim_overtakes_the_queue_between_two_leases():
    leases = held()
    leases.ask(claim("b"), 1)
    leases.release("a", 1)
    assert leases.ask(claim("c"), 2) == []
    assert told(leases.ask(claim("d", until=2), 2)) == [(REFUSED, "d", 1)]
    assert told(leases.advance(3)) == [(TAKEN, "b", 1)]


def test_two_claims_of_one_connection_that_wait_are_one_lease():
    leases = held()
    leases.ask(claim("b", 1), 1)
    leases.ask(claim("c"), 1)
    leases.ask(claim("b", 2), 1)
    leases.release("a", 1)
    leases.advance(2)
    assert told(leases.drained(2)) == [(GRANTED, "b", 1), (GRANTED, "b", 2)]
    assert [waiting.owner for waiting in leases.waiting] == ["c"]


def test_a_claim_is_refused_when_its_wait_is_over():
    leases = held(ttl=100)
    assert told(leases.ask(claim("b", until=1), 1)) == [(REFUSED, "b", 1)]
    assert leases.ask(claim("b", 2, until=5), 1) == []
    assert leases.due == 5
    assert leases.expire(4.9, busy=False) == []
    assert told(leases.expire(5, busy=False)) == [(REFUSED, "b", 2)]
    assert leases.due == 100


def test_a_claim_that_was_given_up_is_removed_in_any_state():
    leases = held()
    leases.ask(claim("b", 5), 1)
    assert told(leases.cancel("b", 5)) == [(CANCELLED, "b", 5)]
    assert leases.cancel("b", 5) == []
    assert told(leases.cancel("a", 1)) == [(ENDED, "a", 1)]  # its answer was on the way
    leases.ask(claim("c"), 2)
    assert told(leases.cancel("c", 1)) == [(CANCELLED, "c", 1), (ENDED, "c", 1)]
    assert leases.lease is None


def test_a_connection_that_has_ended_holds_and_waits_for_nothing():
    leases = held()
    leases.ask(claim("b"), 1)
    leases.ask(claim("b", 2), 1)
    leases.ask(claim("c"), 1)
    assert leases.leave("b") == []
    (event,) = leases.leave("a")
    assert (event.kind, event.text) == (ENDED, "its connection has ended")
    assert told(leases.advance(2)) == [(TAKEN, "c", 1)]


def test_a_lost_lease_is_forgotten_with_its_connection():
    leases = held()
    leases.break_("it was broken")
    assert leases.leave("a") == []
    assert leases.loss_of("a") is None
    assert leases.may_call("a")


def test_a_lease_that_is_broken_is_lost_with_the_reason():
    leases = held()
    (event,) = leases.break_("it was broken by b: 'beam dump'")
    assert (event.kind, event.text) == (LOST, "it was broken by b: 'beam dump'")
    assert leases.loss_of("a") == event.text
    assert leases.break_("once more") == []


def test_a_lease_that_is_broken_before_it_was_granted_is_refused():
    leases = Leases()
    leases.ask(claim("a"), 0)
    events = leases.break_("it was broken")
    assert told(events) == [(CANCELLED, "a", 1), (ENDED, "a", 1)]
    assert events[0].text == "it was broken"
    assert leases.may_call("a")


def test_a_server_that_could_not_read_extends_the_lease():
    leases = held(ttl=10)
    leases.extend(50, 1)
    assert leases.expire(50.9, busy=False) == []
    assert told(leases.expire(51, busy=False)) == [(LOST, "a", 1)]
    leases.extend(51, 1)  # without a lease, it does nothing


@pytest.mark.parametrize("calls", [False, True])
def test_calls_are_a_sign_of_life_if_the_claim_asks_for_it(calls):
    leases = Leases()
    leases.ask(claim("a", calls=calls), 0)
    assert leases.lease.calls is calls


def test_a_connection_has_a_maximum_number_of_claims():
    leases = held()
    for who, begin in (("a", 2), ("b", 1)):
        for number in range(begin, MAX_CLAIMS + 1):
            assert not leases.is_full(who)
            leases.ask(claim(who, number), 1)
        assert leases.is_full(who)
        assert not leases.is_full("c")


class Laboratory:
    """Fifty connections, at random, on a simulated clock; invariants are checked at each step."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.leases = Leases()
        self.now = 0.0
        self.numbers = {}
        self.believes = {}  # the granted claims of each connection, as it was told
        self.stalled = {}  # connections that give no sign of life, until when
        self.heard = {}
        self.alive = set(range(50))
        self.granted = self.lost = self.waited = 0

    def act(self, events):
        for event in events:
            who = event.claim.owner
            if event.kind == GRANTED:
                self.granted += 1
                self.believes.setdefault(who, set()).add(event.claim.number)
                self.heard[who] = self.now
            elif event.kind == LOST:
                self.lost += 1
                assert self.now - self.heard[who] >= 10 or "broken" in event.text
            elif event.kind == TAKEN:
                self.act(self.leases.drained(self.now))
            elif event.kind == REFUSED:
                self.waited += 1
        self.check()

    def check(self):
        may = [who for who in self.alive if self.believes.get(who) and self.leases.may_call(who)]
        assert len(may) <= 1, "two holders"
        lease = self.leases.lease
        if lease is not None:
            assert lease.first.owner in self.alive
            assert all(not self.leases.may_call(who) for who in self.alive - {lease.first.owner})
            assert may in ([], [lease.first.owner])

    def step(self):
        who = self.random.choice(sorted(self.alive))
        if self.stalled.get(who, 0) <= self.now:
            self.do(who)
        self.now += self.random.expovariate(2)
        while (due := self.leases.due) is not None and due <= self.now:
            self.act(self.leases.expire(due, busy=False))
        lease = self.leases.lease
        if lease is not None:
            assert self.now - self.heard[lease.first.owner] < 10, "a lease past its time"
            if self.stalled.get(lease.first.owner, 0) <= self.now and self.random.random() < 0.5:
                self.heard[lease.first.owner] = self.now
                assert self.leases.renew(lease.first.owner, self.now)
        elif self.leases.waiting:
            self.act(self.leases.advance(self.now))

    def do(self, who):
        what = self.random.random()
        mine = self.believes.get(who, set())
        number = self.numbers[who] = self.numbers.get(who, 0) + 1
        if what < 0.5:
            wait = self.random.choice([0, 5, 30, None])
            until = None if wait is None else self.now + wait
            if self.leases.may_call(who):
                self.heard[who] = self.now
            self.act(self.leases.ask(claim(who, number, until=until), self.now))
        elif what < 0.8 and mine:
            self.act(self.leases.release(who, mine.pop()))
        elif what < 0.9:
            self.stalled[who] = self.now + self.random.choice([3, 30])
        elif what < 0.92:
            self.act(self.leases.break_("it was broken"))
        elif what < 0.97:
            self.alive.discard(who)
            self.believes.pop(who, None)
            self.act(self.leases.leave(who))
            self.alive.add(max(self.alive) + 50)  # another client connects
        else:
            self.act(self.leases.cancel(who, self.random.randrange(number + 1)))
            self.believes.get(who, set()).intersection_update(self.claims_of(who))

    def claims_of(self, who):
        lease, loss = self.leases.lease, self.leases._lost.get(who)
        mine = set(lease.claims) if lease is not None and lease.first.owner == who else set()
        return mine | (loss.claims if loss is not None else set())


@pytest.mark.parametrize("seed", range(5))
def test_an_hour_of_fifty_clients_that_die_and_stall_at_random(seed):
    laboratory = Laboratory(seed)
    while laboratory.now < 3600:
        laboratory.step()
    assert laboratory.granted > 50
    assert laboratory.lost > 10
    assert laboratory.waited > 50
