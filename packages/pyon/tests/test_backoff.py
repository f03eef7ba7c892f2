"""backoff: waits grow up to a maximum, and two clients wait for different times."""

import pytest
from pyon.backoff import JITTER, Backoff


def test_waits_double_up_to_the_longest():
    backoff = Backoff(0.1, 1.0, jitter=0)
    assert [backoff.next() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_after_a_success_the_first_wait_is_short_again():
    backoff = Backoff(1.0, 8.0, jitter=0)
    backoff.next(), backoff.next()
    backoff.reset()
    assert backoff.next() == 1.0


def test_chance_takes_off_no_more_than_the_jitter():
    waits = [Backoff(1.0, 8.0).next() for _ in range(1000)]
    assert 1 - JITTER <= min(waits) < max(waits) <= 1.0
    assert len(set(waits)) > 900


def test_a_first_wait_beyond_the_longest_is_cut():
    assert Backoff(10.0, 2.0, jitter=0).next() == 2.0


@pytest.mark.parametrize(
    "wrong", [(-1.0, 1.0, 0.5), (1.0, -1.0, 0.5), (1.0, 1.0, 2.0), (float("nan"), 1.0, 0.5)]
)
def test_senseless_waits_are_refused(wrong):
    first, longest, jitter = wrong
    with pytest.raises(ValueError, match="expected waits"):
        Backoff(first, longest, jitter=jitter)
