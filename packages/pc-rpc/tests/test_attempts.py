"""When attempts to connect may be made, and their errors: tables, without a clock."""

from __future__ import annotations

import pytest
from pc_rpc import ConnectionLost, IncompatibleServer, ProtocolError
from pc_rpc._attempts import (
    Attempts,
    is_foreseen,
    is_mistake,
    no_connection,
    was_not_sent,
    without_frames,
)


def due(story, *, at_once):
    """Return when the next attempt may be after each event of a story."""
    attempts = Attempts(1.0, 4.0, at_once=at_once, jitter=0)
    times = []
    for now, what in story:
        if what == "made":
            attempts.made(now)
        else:
            getattr(attempts, what)(now, OSError("away"))
            times.append(attempts.due)
    return times


@pytest.mark.parametrize(
    ("at_once", "story", "times"),
    [
        # A call waits: the first attempt is due at once, then the waits double up to the longest.
        (
            True,
            [(0, "made"), (10, "lost"), (10, "failed"), (11, "failed"), (13, "failed")],
            [10, 11, 13, 17],
        ),
        # After a connection that has lived the waits begin anew.
        (
            True,
            [
                (0, "made"),
                (10, "lost"),
                (10, "failed"),
                (11, "failed"),
                (13, "made"),
                (17, "lost"),
                (17, "failed"),
            ],
            [10, 11, 13, 17, 18],
        ),
        # One that was lost as soon as it was made counts as an attempt that failed.
        (True, [(0, "made"), (3, "lost"), (4, "made"), (5, "lost"), (7, "made")], [4, 7]),
        # In the background nobody waits.
        (False, [(0, "made"), (10, "lost"), (11, "failed")], [11, 13]),
        (False, [(0, "failed"), (1, "failed"), (3, "failed"), (7, "failed")], [1, 3, 7, 11]),
    ],
)
def test_when_the_next_attempt_is_due(at_once, story, times):
    assert due(story, at_once=at_once) == times


def test_attempts_are_counted_from_one_loss_to_the_next():
    attempts = Attempts(1.0, 4.0, at_once=True)
    error = OSError("away")
    attempts.failed(0, error)
    attempts.failed(1, error)
    assert (attempts.failed_times, attempts.last_error) == (2, error)
    attempts.lost(2, EOFError("closed"))
    assert (attempts.failed_times, attempts.last_error) == (0, None)


def remote(error):
    error.parent_traceback = []
    return error


@pytest.mark.parametrize(
    ("error", "foreseen", "mistake"),
    [
        (ConnectionRefusedError(), True, False),
        (TimeoutError(), True, False),
        (ProtocolError(), True, False),
        (ConnectionLost(""), True, False),
        (IncompatibleServer(), True, True),
        (ValueError("AutoTarget"), True, True),
        (remote(ValueError("no instrument")), True, False),
        (remote(KeyError("no instrument")), True, False),
        (KeyError(), False, False),
    ],
)
def test_errors_of_attempts_are_classified(error, foreseen, mistake):
    assert (is_foreseen(error), is_mistake(error)) == (foreseen, mistake)


def test_a_call_is_made_again_only_if_nothing_of_it_was_sent():
    reason = EOFError("closed")

    def lost(*, sent, cause):
        error = ConnectionLost("lost", sent=sent)
        error.__cause__ = cause
        return error

    assert was_not_sent(lost(sent=False, cause=reason), reason)
    assert not was_not_sent(lost(sent=True, cause=reason), reason)
    assert not was_not_sent(lost(sent=False, cause=None), reason)  # a server that stops says so
    assert not was_not_sent(lost(sent=False, cause=None), None)


@pytest.mark.parametrize(
    ("failed", "text"),
    [
        (0, "; there was no new one within 2.5 s;"),
        (1, "; 1 attempt to connect again failed within 2.5 s (the last one: away);"),
        (7, "; 7 attempts to connect again failed within 2.5 s (the last one: away);"),
    ],
)
def test_the_error_names_the_failed_attempts(failed, text):
    attempts = Attempts(1.0, 4.0, at_once=True)
    attempts.lost(0, EOFError("closed by the server"))
    if failed:
        attempts.failed(1, OSError("away"))
    assert no_connection("'laser' at ::1", "call of f()", attempts, failed, 2.5) == (
        f"connection to 'laser' at ::1 lost: closed by the server{text} the call of f() was not "
        "sent"
    )


def test_an_error_that_is_kept_keeps_no_frames():
    try:
        try:
            raise OSError("cause")
        except OSError as error:
            raise ValueError("effect") from error
    except ValueError as error:
        kept = without_frames(error)
    assert kept.__traceback__ is None
    assert kept.__cause__.__traceback__ is None
