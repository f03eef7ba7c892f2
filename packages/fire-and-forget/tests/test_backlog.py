"""The rules by which calls are made, kept waiting or dropped: no threads, no clock."""

import logging

import pytest
from fire_and_forget._backlog import Backlog, Changes
from fire_and_forget._call import Call
from hypothesis import given
from hypothesis import strategies as st


def call(label, *args):
    return Call(label, print, None, args, {})


def drain(backlog):
    """Make what is running and waiting; return it in the order in which it was made."""
    made = []
    while backlog.running is not None:
        made.append((backlog.running.label, *backlog.running.args))
        backlog.advance()
    return made


POLICIES = [("drop", None), ("latest", None), ("queue", 1), ("queue", 3)]

# A step is a call of one of three methods, or the end of the call that runs.
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
def test_latest_ends_as_the_last_calls_say(last):
    backlog = Backlog("latest", None)
    for label in ["expose", "open", "close", *last]:
        backlog.offer(call(label))
    assert [label for (label,) in drain(backlog)] == ["expose", *last]


def test_latest_is_no_news_in_the_log():
    backlog = Backlog("latest", None)
    backlog.offer(call("move", 1))
    assert backlog.offer(call("move", 2)) is None
    level, text = backlog.offer(call("move", 3))
    assert level == logging.DEBUG
    assert "a newer one takes its place" in text


@pytest.mark.parametrize("size", [1, 2, 100])
def test_queue_holds_its_size_and_not_one_more(size):
    backlog = Backlog("queue", size)
    losses = [backlog.offer(call("log", n)) for n in range(size + 2)]
    assert [loss is None for loss in losses] == [True] * (size + 1) + [False]
    assert drain(backlog) == [("log", n) for n in range(size + 1)]


def test_a_closed_backlog_finishes_what_it_has_and_drops_the_rest():
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


def test_what_is_given_up_is_dropped_call_by_call():
    backlog = Backlog("queue", 2)
    for n in range(3):
        backlog.offer(call("log", n))
    losses = backlog.give_up("the loop has ended")
    assert backlog.running is None
    assert [level for level, _ in losses] == [logging.WARNING] * 2
    assert [text for _, text in losses] == [
        f"dropped a call of log: the loop has ended ({n} dropped so far)" for n in (1, 2)
    ]
    assert [lost.args for lost in backlog.lost] == [(1,), (2,)]
    assert backlog.counts() == {"made": 1, "dropped": 2, "failed": 0, "waiting": 0}


def test_each_failure_counts():
    backlog = Backlog("queue", 1)
    for _ in range(2):
        backlog.offer(call("log"))
        backlog.count_failure()
        backlog.advance()
    assert backlog.counts()["failed"] == 2


def test_in_a_child_a_change_of_another_thread_is_forgotten_and_one_of_its_own_goes_on():
    changes, done = Changes(), []
    changes._thread = -1  # of the parent
    assert changes.carry_out(lambda: done.append("in the parent")) == []
    changes.forked()
    changes.carry_out(lambda: done.append("in the child"))
    assert done == ["in the child"]

    def forking():
        changes.carry_out(lambda: done.append("behind it"))
        changes.forked()

    changes.carry_out(forking)
    assert done == ["in the child", "behind it"]
