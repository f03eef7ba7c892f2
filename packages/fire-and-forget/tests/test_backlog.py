"""Which calls are made, wait or are dropped; without threads and clocks."""

import logging

import pytest
from fire_and_forget._backlog import Backlog, Changes
from fire_and_forget._call import Call
from hypothesis import given
from hypothesis import strategies as st


def call(label, *args):
    return Call(label, print, None, args, {})


def drain(backlog):
    """Make the running and the waiting calls; return them in the order in which they were made."""
    made = []
    while backlog.running is not None:
        made.append((backlog.running.label, *backlog.running.args))
        backlog.advance()
    return made


POLICIES = [("drop", None), ("latest", None), ("queue", 1), ("queue", 3)]

# A step is a call of one of three methods, or the end of the running call.
STEPS = st.lists(st.sampled_from(["x", "y", "z", None]), max_size=40)


@pytest.mark.parametrize("policy", POLICIES)
@given(steps=STEPS)
def test_every_call_is_accounted_for_and_order_is_kept(policy, steps):
    backlog = Backlog(*policy)
    offered, made = [], []
    for number, step in enumerate(steps):
        if step is not None:
            backlog.offer(call(step, number))
            offered.append((step, number))
        elif backlog.running is not None:
            made.append((backlog.running.label, *backlog.running.args))
            backlog.advance()
        counts = backlog.counts()
        assert counts["made"] + counts["waiting"] + counts["dropped"] == len(offered)
    made += drain(backlog)
    assert made == sorted(made, key=lambda entry: entry[1])
    assert set(made) <= set(offered)
    assert len(made) == backlog.counts()["made"]


@given(steps=STEPS)
def test_latest_makes_the_last_call_of_every_method(steps):
    backlog = Backlog("latest", None)
    last, made = {}, {}
    for number, step in enumerate(steps):
        if step is not None:
            backlog.offer(call(step, number))
            last[step] = number
        elif backlog.running is not None:
            made[backlog.running.label] = backlog.running.args[0]
            backlog.advance()
    made.update(drain(backlog))
    assert made == last


def test_drop_names_the_call_that_is_running_and_counts():
    backlog = Backlog("drop", None)
    assert backlog.offer(call("Stage.move")) is None
    level, text = backlog.offer(call("Stage.home"))
    assert level == logging.WARNING
    assert text == "dropped a call of Stage.home: Stage.move is still running (1 dropped so far)"


@pytest.mark.parametrize("last", [["open", "close"], ["close", "open"]])
def test_latest_ends_with_the_last_calls_in_their_order(last):
    backlog = Backlog("latest", None)
    for label in ["expose", "open", "close", *last]:
        backlog.offer(call(label))
    assert [label for (label,) in drain(backlog)] == ["expose", *last]


def test_a_replaced_call_is_logged_at_level_debug():
    backlog = Backlog("latest", None)
    backlog.offer(call("move", 1))
    assert backlog.offer(call("move", 2)) is None
    level, text = backlog.offer(call("move", 3))
    assert level == logging.DEBUG
    assert "a newer one takes its place" in text


@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_queue_holds_no_more_than_its_size(size):
    backlog = Backlog("queue", size)
    entries = [backlog.offer(call("log", n)) for n in range(size + 2)]
    assert [entry is None for entry in entries] == [True] * (size + 1) + [False]
    assert drain(backlog) == [("log", n) for n in range(size + 1)]


def test_a_closed_backlog_makes_accepted_calls_and_drops_later_ones():
    backlog = Backlog("queue", 5)
    backlog.offer(call("first"))
    backlog.offer(call("second"))
    backlog.closed = True
    level, text = backlog.offer(call("late"))
    assert level == logging.WARNING
    assert "the background has ended" in text
    assert drain(backlog) == [("first",), ("second",)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("skip", None), "'drop', 'latest' or 'queue', not 'skip'"),
        (("queue", None), "is needed there"),
        (("drop", 3), "goes with when_busy='queue'"),
        (("queue", 0), "at least 1, not 0"),
    ],
)
def test_contradictory_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Backlog(*arguments)


def test_waiting_calls_are_dropped_one_by_one():
    backlog = Backlog("queue", 2)
    for n in range(3):
        backlog.offer(call("log", n))
    entries = backlog.drop_all("the loop has ended")
    assert backlog.running is None
    assert [level for level, _ in entries] == [logging.WARNING] * 2
    assert [text for _, text in entries] == [
        f"dropped a call of log: the loop has ended ({n} dropped so far)" for n in (1, 2)
    ]
    assert [call.args for call in backlog.dropped_calls] == [(1,), (2,)]
    assert backlog.counts() == {"made": 1, "dropped": 2, "failed": 0, "waiting": 0}


def test_each_failure_counts():
    backlog = Backlog("queue", 1)
    for _ in range(2):
        backlog.offer(call("log"))
        backlog.count_failure()
        backlog.advance()
    assert backlog.counts()["failed"] == 2


def test_in_a_child_changes_of_other_threads_are_removed_and_those_of_its_own_go_on():
    changes, done = Changes(), []
    changes._thread = -1  # a thread of the parent
    assert changes.carry_out(lambda: done.append("in the parent")) == []
    changes.forked()
    changes.carry_out(lambda: done.append("in the child"))
    assert done == ["in the child"]

    def forking():
        changes.carry_out(lambda: done.append("nested"))
        changes.forked()

    changes.carry_out(forking)
    assert done == ["in the child", "nested"]
