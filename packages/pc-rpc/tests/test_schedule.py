"""Order, limits and cancellation of a connection's calls: pure code, no socket, no event loop."""

from __future__ import annotations

import pytest
from pc_rpc import _schedule
from pc_rpc._schedule import Call, Schedule


class Server:
    """Acts on a schedule as a connection does, and records the calls that started."""

    def __init__(self, **options):
        self.schedule = Schedule(**options)
        self.started = []

    def ask(self, *numbers, **options):
        calls = [Call(number, f"method{number}", **options) for number in numbers]
        for call in calls:
            self.schedule.add(call)
            self.go_on()
        return calls

    def go_on(self):
        while (call := self.schedule.next()) is not None:
            self.started.append(call.number)

    def end(self, *calls):
        for call in calls:
            self.schedule.done(call)
            self.go_on()


def test_calls_start_one_after_the_other_in_their_order():
    server = Server(ids=True)
    first, second, third = server.ask(1, 2, 3)
    assert server.started == [1]
    server.end(first)
    assert server.started == [1, 2]
    server.end(second, third)
    assert server.started == [1, 2, 3]
    assert not server.schedule.busy


def test_without_ids_nothing_is_read_until_the_call_has_ended():
    server = Server()
    assert server.schedule.wants_more
    (call,) = server.ask(None)
    assert not server.schedule.wants_more
    server.end(call)
    assert server.schedule.wants_more


def test_without_ids_calls_never_run_in_parallel():
    server = Server(parallel=True)
    server.ask(None, None)
    assert server.started == [None]


@pytest.mark.parametrize(("parallel", "most"), [(False, 1), (True, _schedule.MAX_IN_PARALLEL)])
def test_as_many_calls_as_allowed_run_at_a_time(parallel, most):
    server = Server(ids=True, parallel=parallel)
    calls = server.ask(*range(most + 1))
    assert server.started == list(range(most))
    server.end(calls[0])
    assert server.started == list(range(most + 1))


def test_calls_that_run_in_parallel_end_in_any_order():
    server = Server(ids=True, parallel=True)
    first, second, third = server.ask(1, 2, 3)
    server.end(second, third)
    assert server.schedule.busy
    server.end(first)
    assert not server.schedule.busy


# Limits: at each and one beyond it.


def test_at_most_so_many_requests_are_read_in_advance():
    server = Server(ids=True)
    first, *_ = server.ask(*range(_schedule.MAX_WAITING))
    assert server.schedule.wants_more
    server.ask(-1)
    assert not server.schedule.wants_more
    server.end(first)
    assert server.schedule.wants_more


def test_at_most_so_many_bytes_of_requests_are_read_in_advance():
    server = Server(ids=True)
    first, second = server.ask(1, 2, size=_schedule.MAX_WAITING_SIZE - 1)
    assert server.schedule.wants_more  # the first one runs: it is not counted
    server.ask(3, size=1)
    assert not server.schedule.wants_more
    server.end(first)
    assert server.schedule.wants_more
    server.end(second)
    server.ask(4, size=_schedule.MAX_WAITING_SIZE)
    assert not server.schedule.wants_more


# Immediate calls.


def test_an_immediate_call_starts_before_those_that_wait():
    server = Server(ids=True)
    server.ask(1, 2)
    (ahead,) = server.ask(3, immediate=True)
    assert server.started == [1, 3]
    assert ahead.ahead
    server.end(ahead)
    assert server.started == [1, 3]  # it took no turn


def test_an_immediate_call_without_ids_waits_for_its_turn():
    server = Server()
    (first,) = server.ask(None)
    (second,) = server.ask(None, immediate=True)
    assert server.started == [None]
    server.end(first)
    assert server.started == [None, None]
    assert not second.ahead


def test_beyond_their_limit_immediate_calls_wait_for_their_turn():
    server = Server(ids=True)
    server.ask(0)
    calls = server.ask(*range(1, _schedule.MAX_IN_PARALLEL + 2), immediate=True)
    assert len(server.started) == _schedule.MAX_IN_PARALLEL + 1
    assert not calls[-1].ahead
    server.end(calls[0])
    assert server.ask(-1, immediate=True)[0].ahead


def test_while_a_method_list_is_made_no_other_is_asked_for():
    server = Server(ids=True)
    server.ask(1)
    (listing,) = server.ask(2, immediate=True, lists=True)
    assert server.started == [1, 2]
    assert not server.schedule.wants_more
    server.end(listing)
    assert server.schedule.wants_more


# Back-pressure.


def test_for_a_client_that_does_not_read_nothing_is_started_or_read():
    server = Server(ids=True)
    (first,) = server.ask(1)
    server.schedule.congested = True
    server.end(first)
    server.ask(2)
    assert server.started == [1]
    assert not server.schedule.wants_more
    server.schedule.congested = False
    server.go_on()
    assert server.started == [1, 2]
    assert server.schedule.wants_more


@pytest.mark.parametrize("immediate", [False, True])
def test_a_client_that_half_closed_is_read_to_the_end_after_its_last_reply(immediate):
    server = Server(ids=True)
    (call,) = server.ask(1, immediate=immediate)
    server.schedule.half_closed = True
    assert not server.schedule.wants_more
    server.end(call)
    assert server.schedule.wants_more


# Cancellation.


class Task:
    cancelled = False

    def cancel(self):
        self.cancelled = True


def test_a_waiting_call_that_is_cancelled_must_not_begin_and_is_still_replied_to():
    server = Server(ids=True)
    first, second, third = server.ask(1, 2, 3)
    server.schedule.cancel(2)
    server.end(first)
    assert (second.wanted, third.wanted) == (False, True)
    assert server.started == [1, 2]  # to be replied to in its turn


def test_a_call_that_runs_is_cancelled_by_its_id():
    server = Server(ids=True, parallel=True)
    calls = server.ask(1, 2)
    for call in calls:
        call.task = Task()
    server.schedule.cancel(2)
    assert [call.task.cancelled for call in calls] == [False, True]


def test_an_immediate_call_is_cancelled_by_its_id():
    server = Server(ids=True)
    (call,) = server.ask(1, immediate=True)
    call.task = Task()
    server.schedule.cancel(1)
    assert call.task.cancelled


@pytest.mark.parametrize("number", [0, 99, None, True, 1.0, "1", [1], {}])
def test_an_unknown_id_cancels_nothing(number):
    server = Server(ids=True)
    calls = server.ask(1, 2)
    server.schedule.cancel(number)
    assert all(call.wanted for call in calls)


def test_without_ids_nothing_is_cancelled():
    server = Server()
    (call,) = server.ask(None)
    server.schedule.cancel(None)
    assert call.wanted


# The end.


def test_after_the_end_nothing_begins_and_what_runs_goes_on():
    server = Server(ids=True, parallel=False)
    running, ahead = *server.ask(1), *server.ask(2, immediate=True)
    waiting = server.ask(3, 4)
    waiting_still = server.schedule.withdraw()
    assert [call.number for call in waiting_still] == [3, 4]
    assert not any(call.wanted for call in [running, ahead, *waiting])
    server.end(running)
    assert server.schedule.busy
    server.end(ahead)
    assert not server.schedule.busy
    assert server.started == [1, 2]
    assert not server.ask(5)[0].wanted


def test_immediate_calls_that_have_not_started_at_the_end_are_forgotten():
    schedule = Schedule(ids=True)
    call = Call(1, "method", immediate=True)
    schedule.add(call)
    assert schedule.busy
    assert schedule.withdraw() == [call]
    assert not schedule.busy
    assert schedule.next() is None


def test_an_adopted_call_runs_until_it_is_done():
    schedule, call = Schedule(ids=True), Call(7, "method")
    schedule.turns += 1
    schedule.adopt(call)
    assert schedule.running == [call]
    schedule.cancel(7)
    assert not call.wanted
    schedule.done(call)
    assert schedule.running == []
    assert schedule.idle


def test_several_method_lists_that_one_read_brought_are_all_awaited():
    server = Server(ids=True)
    first, second = server.ask(1, 2, immediate=True, lists=True)
    assert server.started == [1, 2]
    server.end(first)
    assert not server.schedule.wants_more
    server.end(second)
    assert server.schedule.wants_more


def test_a_new_schedule_is_idle_and_wants_requests():
    call, schedule = Call(1, "method"), Schedule()
    assert (call.size, call.begun, call.ahead, call.wanted) == (0, False, False, True)
    assert (call.result, call.error, call.failure, call.chunks, call.task) == (None,) * 5
    assert (schedule.congested, schedule.half_closed, schedule.turns) == (False, False, 0)
    assert schedule.running == list(schedule.waiting) == []


# A call and its arguments.


def test_a_call_keeps_no_reference_to_its_arguments_or_its_result():
    class Target:
        def method(self, x, *, y):
            self.got = (x, y)
            return [x, y]

    target, call = Target(), Call(1, "method", [5], {"y": 6})
    call.invoke(target)
    assert (call.begun, call.args, call.kwargs) == (True, None, None)
    assert target.got == (5, 6)
    assert call.take() == [5, 6]
    assert call.take() is None


def test_whatever_a_method_raises_is_kept_in_its_call():
    class Target:
        def exit(self):
            raise SystemExit(3)

    call = Call(1, "exit")
    call.invoke(Target())
    assert isinstance(call.error, SystemExit)
