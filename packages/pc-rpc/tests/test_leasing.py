"""Leases between clients and servers: refused and waiting calls, errors, and ends of leases."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyon
import pytest
from pc_rpc import (
    BestEffortClient,
    Client,
    ConnectionLost,
    IncompatibleServer,
    LeaseLost,
    TargetLeased,
    immediate,
)
from pc_rpc._cli import main
from pc_rpc._leases import MAX_CLAIMS
from pc_rpc._shared import MOST_SHOWN

pytestmark = pytest.mark.usefixtures("either_road")

LONG = 30


class Laser:
    """Records calls; `ramp` and `grind` end when the test releases them."""

    def __init__(self):
        self.called = []
        self.ramping = threading.Event()
        self.may_end = threading.Event()
        self.stepped = threading.Event()
        self.over = asyncio.Event()

    def set_power(self, power):
        self.called.append(power)
        return power

    async def ramp(self):
        self.ramping.set()
        await self.over.wait()
        return "ramped"

    def grind(self):
        self.ramping.set()
        self.may_end.wait(LONG)
        return "ground"

    def steps(self, number):
        try:
            yield from range(number)
        finally:
            self.stepped.set()

    @immediate
    def abort(self):
        self.over.set()
        return "aborted"


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as executor:
        yield executor


@pytest.fixture
def laser():
    return Laser()


@pytest.fixture(params=[{}, {"allow_parallel": True}, {"worker_threads": True}], ids=str)
def server(request, serve, laser):
    return serve({"laser": laser, "other": Laser()}, **request.param)


@pytest.fixture
def client(server, connect):
    """Make clients of the target."""
    return lambda **options: connect(server.port, "laser", **options)


def waiting(server, target="laser"):
    """Return the number of claims that wait at the server."""
    desk = server.server._shared.desk(target)
    return server.do(lambda: len(desk._leases.waiting))


def calls_waiting(server):
    """Return the number of calls that wait at the server for the end of a lease."""
    desk = server.server._shared.desk("laser")
    return server.do(lambda: sum(len(seat.schedule.waiting) for seat in desk._seats))


def heard(server):
    """Return the time of the holder's last sign of life, on the server's clock."""
    lease = server.server._shared.desk("laser")._leases.lease
    return lease.renewed


def until(condition):
    """Wait until a condition holds at the server."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline


def test_a_leased_target_refuses_others_with_holder_purpose_and_time(client):
    holder, other = client(), client()
    with holder.lease("scan 4711", ttl=10):
        assert holder.set_power(1) == 1
        with pytest.raises(TargetLeased, match=r"leased for 'scan 4711' by .* since ..:..:..") as e:
            other.set_power(2)
        assert (e.value.purpose, e.value.peer) == ("scan 4711", other.get_rpc_lease()["peer"])
        assert f"process {holder.get_rpc_lease()['client'].split()[-1]}" in str(e.value)
        assert e.value.seconds >= 0
    assert other.set_power(3) == 3
    assert other.get_rpc_lease() is None


def test_immediate_calls_pings_and_method_lists_pass_during_a_lease(server, client, connect):
    holder, other = client(), client()
    with holder.lease("scan"):
        assert other.abort() == "aborted"
        other.ping_rpc()
        assert "set_power" in other.get_rpc_method_list()["methods"]
        assert connect(server.port, "other").set_power(1) == 1  # each target has its own


def test_a_client_that_waits_for_leases_waits_no_longer_than_its_time_out(
    server, client, pool, laser
):
    holder, other = client(), client(wait_for_leases=True)
    with holder.lease("scan"):
        with pytest.raises(TimeoutError):
            other.with_rpc_timeout(0.1).set_power(1)
        until(lambda: calls_waiting(server) == 0)
        call = pool.submit(other.set_power, 2)
        until(lambda: calls_waiting(server) == 1)
        assert holder.set_power(3) == 3
        assert not call.done()
    assert call.result(LONG) == 2
    assert laser.called == [3, 2]


def test_a_lease_waits_for_the_calls_that_run_and_keeps_new_ones_out(client, pool, laser):
    runner, holder, other = client(), client(), client()
    running = pool.submit(runner.ramp)
    assert laser.ramping.wait(LONG)

    def take():
        with holder.lease("scan"):
            return holder.set_power(1), running.done()

    taking = pool.submit(take)
    until(lambda: other.get_rpc_lease() is not None)
    with pytest.raises(TargetLeased):
        other.set_power(2)
    assert not taking.done()
    other.abort()
    assert taking.result(LONG)[0] == 1
    assert running.result(LONG) == "ramped"


def test_calls_that_were_read_in_advance_wait_or_are_refused(server, client, pool, laser):
    patient, holder, hasty = client(wait_for_leases=True), client(), client()
    running = pool.submit(hasty.ramp)
    assert laser.ramping.wait(LONG)
    behind = pool.submit(hasty.set_power, 1)
    if server.server._shared.parallel:
        until(behind.done)
    else:
        until(lambda: calls_waiting(server) == 1)
    taking = pool.submit(holder.lease("scan").__enter__)
    until(lambda: hasty.get_rpc_lease() is not None)
    waits = pool.submit(patient.set_power, 2)
    until(lambda: calls_waiting(server) == 1)
    hasty.abort()
    lease = taking.result(LONG)
    assert running.result(LONG) == "ramped"
    if server.server._shared.parallel:  # it need not wait behind `ramp`
        assert behind.result(LONG) == 1
    else:
        with pytest.raises(TargetLeased):
            behind.result(LONG)
    assert not waits.done()
    lease.__exit__(None, None, None)
    assert waits.result(LONG) == 2


def test_leases_are_granted_in_order(server, client, pool):
    holder, order, taking = client(), [], []

    def take(number):
        with (other := client()).lease(f"scan {number}", wait=None):
            order.append((number, other.get_rpc_lease()["purpose"]))

    with holder.lease("scan"):
        for number in range(5):
            taking.append(pool.submit(take, number))
            until(lambda number=number: waiting(server) == number + 1)
        assert order == []
    for one in taking:
        one.result(LONG)
    assert order == [(number, f"scan {number}") for number in range(5)]


def test_between_two_leases_every_connection_that_waits_has_its_turn(server, client, pool, laser):
    first, second, other = client(), client(), client(wait_for_leases=True)

    def take():
        with second.lease("second", wait=None):
            return second.set_power("second")

    with first.lease("first"):
        taking = pool.submit(take)
        until(lambda: waiting(server) == 1)
        call = pool.submit(other.set_power, "between")
        until(lambda: calls_waiting(server) == 1)
    assert (call.result(LONG), taking.result(LONG)) == ("between", "second")
    assert laser.called == ["between", "second"]


@pytest.mark.parametrize("wait", [0, 0.05])
def test_the_error_after_waiting_for_a_lease_names_its_holder(client, wait):
    holder, other = client(), client()
    with holder.lease("scan"):
        with pytest.raises(TargetLeased, match="'scan'"), other.lease("mine", wait=wait):
            pytest.fail("two holders")
        assert holder.set_power(1) == 1
    with other.lease("mine", wait=wait):
        assert other.set_power(1) == 1


def test_a_lease_within_a_lease_and_of_another_thread_is_the_same_one(client, pool):
    holder, other = client(), client()
    with holder.lease("outer"):
        with holder.lease("inner"):
            assert pool.submit(holder.set_power, 1).result(LONG) == 1
        assert other.get_rpc_lease()["purpose"] == "outer"
        with pytest.raises(TargetLeased):
            other.set_power(2)
    assert other.set_power(2) == 2


def test_a_lease_ends_with_its_connection(server, client, pool):
    holder, other, third = client(), client(), client(wait_for_leases=True)
    lease = holder.lease("scan")
    with lease:
        call = pool.submit(third.set_power, 1)
        until(lambda: calls_waiting(server) == 1)
        holder.close_rpc()
        assert call.result(LONG) == 1
        assert other.set_power(1) == 1
        with pytest.raises(ConnectionLost):
            holder.set_power(2)


def test_a_lease_is_renewed_by_itself(server, client):
    holder = client()
    with holder.lease("scan", ttl=1.5) as lease:
        began = heard(server)
        until(lambda: heard(server) > began)
        assert (lease.lost, holder.set_power(2)) == (None, 2)


def test_a_client_without_a_sign_of_life_loses_the_lease_and_its_next_call_fails(
    client, laser, caplog
):
    caplog.set_level(logging.INFO, "pc_rpc")
    holder, other = client(), client(wait_for_leases=True)
    with holder.lease("scan", ttl=0.2, renew=False) as lease:
        assert other.set_power("next") == "next"
        for _ in range(3):
            with pytest.raises(LeaseLost, match=r"lost: it was not renewed within 0.2 s"):
                holder.set_power("unknowingly")
        with pytest.raises(LeaseLost), holder.lease("again"):
            pytest.fail("it must leave the block first")
        assert holder.abort() == "aborted"
        with pytest.raises(LeaseLost):
            lease.renew()
        assert "not renewed" in lease.lost
    assert holder.set_power("afterwards") == "afterwards"
    assert laser.called == ["next", "afterwards"]
    messages = [record.getMessage() for record in caplog.records]
    assert any("leased for 'scan' by" in message for message in messages)
    assert any("is over: it was not renewed within 0.2 s" in message for message in messages)


def test_a_thread_that_renews_a_lease_notices_its_loss(client):
    holder, other = client(), client()
    with holder.lease("scan", ttl=1) as lease:
        other.break_lease("beam dump")
        until(lambda: lease.lost is not None)
        assert "'beam dump'" in lease.lost


def test_calls_renew_a_lease_where_nothing_else_does(server, client):
    holder = client()
    with holder.lease("scan", renew=False) as lease:
        for renew in (lambda: holder.set_power(1), lease.renew):
            began = heard(server)
            renew()
            assert heard(server) > began
        assert lease._thread is None


def test_a_call_that_runs_keeps_the_lease(server, client, pool, laser):
    holder, other = client(), client()
    with holder.lease("scan", ttl=1, renew=False):
        running = pool.submit(holder.ramp)
        assert laser.ramping.wait(LONG)
        began = heard(server)
        until(lambda: heard(server) > began)
        with pytest.raises(TargetLeased):
            other.set_power(1)
        other.abort()
        assert running.result(LONG) == "ramped"


def test_a_method_that_blocks_the_event_loop_costs_nobody_the_lease(serve, connect, pool):
    laser, other = Laser(), Laser()
    server = serve({"laser": laser, "other": other})
    holder, elsewhere = connect(server.port, "laser"), connect(server.port, "other")
    with holder.lease("scan", ttl=0.8) as lease:
        running = pool.submit(elsewhere.grind)
        assert other.ramping.wait(LONG)
        assert not other.may_end.wait(1)
        other.may_end.set()
        assert running.result(LONG) == "ground"
        assert (holder.set_power(1), lease.lost) == (1, None)


def test_unread_messages_extend_a_lease(serve, connect, pool):
    """The sign of life comes after more data than one read takes, when the event loop resumes."""
    other = Laser()
    server = serve({"laser": Laser(), "other": other})
    elsewhere = connect(server.port, "other")
    with (
        socket.create_connection(("127.0.0.1", server.port), LONG) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(b"ARTIQ pc_rpc\nlaser pyon_v2 request_ids leases\n")
        sock.sendall(b'{"id":1,"action":"lease","purpose":"scan","ttl":0.8}\n')
        assert lines.readline() + lines.readline() + lines.readline() != b""
        running = pool.submit(elsewhere.grind)
        assert other.ramping.wait(LONG)
        silent = b'{"action":"cancel","request":0,"more":"%s"}\n' % (b"x" * 10_000) * 100
        sending = pool.submit(sock.sendall, silent + b'{"id":2,"action":"renew_lease"}\n')
        assert not other.may_end.wait(1)
        other.may_end.set()
        assert lines.readline() == b'{"id":2,"status":"ok","ret":null}\n'
        sending.result(LONG)
        assert running.result(LONG) == "ground"


def test_the_holder_of_a_broken_lease_gets_the_reason(client, laser, caplog):
    caplog.set_level(logging.INFO, "pc_rpc")
    holder, administrator = client(), client()
    with holder.lease("scan"):
        broken = administrator.break_lease("beam dump")
        assert broken["purpose"] == "scan"
        with pytest.raises(LeaseLost, match=r"lost: it was broken by .*: 'beam dump'"):
            holder.set_power(1)
        with administrator.lease("repair"):
            assert administrator.set_power(2) == 2
            with pytest.raises(LeaseLost):
                holder.set_power(3)
        assert administrator.break_lease() is None
    assert holder.set_power(4) == 4
    assert laser.called == [2, 4]
    assert any("is over: it was broken by" in record.getMessage() for record in caplog.records)


def test_a_lease_after_a_broken_one_waits_for_the_running_call(client, pool, laser):
    holder, administrator = client(), client()
    with holder.lease("scan"):
        running = pool.submit(holder.ramp)
        assert laser.ramping.wait(LONG)
        administrator.break_lease()
        taking = pool.submit(administrator.lease("repair").__enter__)
        until(lambda: holder.get_rpc_lease() is not None)
        assert not taking.done()
        administrator.abort()
        taking.result(LONG).__exit__(None, None, None)
        assert running.result(LONG) == "ramped"


def test_a_call_that_outlives_its_connection_is_waited_for(serve, connect, pool):
    laser = Laser()
    server = serve({"laser": laser}, worker_threads=True)
    gone, holder = connect(server.port), connect(server.port)
    running = pool.submit(gone.grind)
    assert laser.ramping.wait(LONG)
    gone.close_rpc()
    assert isinstance(running.exception(LONG), ConnectionLost)
    taking = pool.submit(holder.lease("scan").__enter__)
    until(lambda: holder.get_rpc_lease() is not None)
    assert not taking.done()
    laser.may_end.set()
    taking.result(LONG).__exit__(None, None, None)


def test_a_claim_that_is_given_up_is_removed(server, client, pool):
    holder, other = client(), client()
    with holder.lease("scan"):
        hasty = client(timeout=0.1)
        lease = hasty.lease("mine", wait=0.05)
        lease._fields["wait"] = 3600  # the server would have it wait longer than its caller does
        lease._timeout = lambda of_calls: 0.05
        with pytest.raises(TimeoutError), lease:
            pytest.fail("two holders")
        until(lambda: waiting(server) == 0)
    assert other.set_power(1) == 1


def test_an_instance_for_each_connection_cannot_be_leased(serve, connect):
    client = connect(serve({"laser": Laser}).port)
    with pytest.raises(ValueError, match="made for each connection"), client.lease("scan"):
        pytest.fail("nothing to lease")
    assert client.set_power(1) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"purpose": ""}, "the purpose of the lease"),
        ({"purpose": "x" * 201}, "at most 200 characters"),
        ({"purpose": "x", "ttl": 0}, "ttl: expected 0.1 to 86400 seconds, got 0"),
        ({"purpose": "x", "ttl": float("nan")}, "ttl: expected"),
        ({"purpose": "x", "wait": -1}, "wait: expected a number of seconds or None"),
    ],
)
def test_an_invalid_lease_is_refused_at_once(client, options, message):
    with pytest.raises(ValueError, match=message):
        client().lease(**options)


def test_a_lease_is_for_one_block(client):
    lease = client().lease("scan")
    with lease:
        pass
    with pytest.raises(RuntimeError, match="for one block"), lease:
        pytest.fail("used twice")


def test_an_older_server_knows_no_leases(scripted_peer, greet, connect):
    def script(sock, lines):
        greet(sock, lines)
        assert lines.readline() == b""

    client = connect(scripted_peer(script).port)
    for use in (client.lease("scan").__enter__, client.break_lease, client.get_rpc_lease):
        with pytest.raises(IncompatibleServer, match="knows no leases"):
            use()
    client.close_rpc()


@pytest.mark.parametrize("features", [b"", b" pyon_v2", b" pyon_v2 request_ids"])
def test_an_older_client_gets_the_message_about_a_lease(serve, connect, features):
    server = serve({"laser": Laser()})
    call = b'{"id": 1, "action": "call", "name": "set_power", "args": [1], "kwargs": {}}\n'
    with (
        connect(server.port).lease("scan 4711"),
        socket.create_connection(("127.0.0.1", server.port), LONG) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(b"ARTIQ pc_rpc\n")
        assert json.loads(lines.readline())["leases"][0]["purpose"] == "scan 4711"
        sock.sendall(b"laser" + features + b"\n" + call + call)
        lines.readline()
        for _ in range(2):
            reply = lines.readline()
            assert b'"failed"' in reply
            assert b'"GenericRemoteException"' in reply
            assert b"pc_rpc.TargetLeased: the target 'laser' is leased for 'scan 4711' by" in reply


def test_the_messages_about_leases_byte_for_byte(serve):
    """PROTOCOL.md, Leases, byte for byte."""
    server = serve({"laser": Laser()})
    with (
        socket.create_connection(("127.0.0.1", server.port), LONG) as sock,
        sock.makefile("rb") as lines,
    ):

        def ask(line):
            sock.sendall(line + b"\n")
            return lines.readline()

        assert b'"leases"' in ask(b"ARTIQ pc_rpc")
        ask(b"laser pyon_v2 request_ids leases")
        claim = b'{"id":1,"action":"lease","purpose":"scan","ttl":10,"wait":0,"client":"me"}'
        assert ask(claim) == b'{"id":1,"status":"ok","ret":null}\n'
        assert ask(b'{"id":2,"action":"renew_lease"}') == b'{"id":2,"status":"ok","ret":null}\n'
        lease = json.loads(ask(b'{"id":3,"action":"get_lease"}'))["ret"]
        assert lease.pop("seconds") >= 0
        peer = f"127.0.0.1:{sock.getsockname()[1]}"
        assert lease == {"target": "laser", "purpose": "scan", "client": "me", "peer": peer}
        release = b'"action":"release_lease","lease":1}'
        assert ask(b'{"id":4,' + release) == b'{"id":4,"status":"ok","ret":null}\n'
        assert ask(b'{"id":5,"action":"break_lease"}') == b'{"id":5,"status":"ok","ret":null}\n'
        assert b'"status":"failed"' in ask(b'{"id":6,"action":"renew_lease"}')
        for wrong in (
            b"",
            b',"purpose":5',
            b',"purpose":"x","ttl":"y"',
            b',"purpose":"x","wait":-1',
        ):
            assert b'"status":"failed"' in ask(b'{"id":7,"action":"lease"' + wrong + b"}")
        assert b'"status":"failed"' in ask(b'{"id":8,"action":"release_lease","lease":"x"}')
        ask(claim)
        sock.sendall(b'{"action":"cancel","request":1}\n')  # as one whose answer was on the way
        assert ask(b'{"id":9,"action":"get_lease"}') == b'{"id":9,"status":"ok","ret":null}\n'


def test_the_claims_of_a_connection_are_limited_in_number(serve):
    server = serve({"laser": Laser()})
    with (
        socket.create_connection(("127.0.0.1", server.port), LONG) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(b"ARTIQ pc_rpc\nlaser pyon_v2 request_ids leases\n")
        claims = [b'{"id":%d,"action":"lease","purpose":"x"}\n' % n for n in range(MAX_CLAIMS + 1)]
        sock.sendall(b"".join(claims))
        replies = [lines.readline() for _ in range(MAX_CLAIMS + 3)][2:]
        assert all(b'"ok"' in reply for reply in replies[:-1])
        assert b"at most 100 leases" in replies[-1]


def test_the_leases_in_a_greeting_are_limited_in_number(serve):
    server = serve({f"laser{number}": Laser() for number in range(MOST_SHOWN + 2)})
    with contextlib.ExitStack() as stack:
        for number in range(MOST_SHOWN + 2):
            client = stack.enter_context(Client("127.0.0.1", server.port, f"laser{number}"))
            stack.enter_context(client.lease("\N{GRINNING FACE}" * 200, renew=False))
        with Client("127.0.0.1", server.port, None) as client:
            assert len(client._target.side.leases) == MOST_SHOWN


def test_without_the_feature_the_actions_are_unknown(serve):
    server = serve({"laser": Laser()})
    with (
        socket.create_connection(("127.0.0.1", server.port), LONG) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(b"ARTIQ pc_rpc\nlaser pyon_v2 leases\n" + b'{"action":"get_lease"}\n')
        assert b"Unknown action: get_lease" in [lines.readline() for _ in range(3)][-1]


def test_a_lease_without_references_is_not_renewed(client):
    holder, other = client(), client(wait_for_leases=True)
    lease = holder.lease("scan", ttl=0.2).__enter__()
    thread = lease._thread
    del lease
    gc.collect()
    assert other.set_power(1) == 1
    thread.join(LONG)
    assert not thread.is_alive()


def test_a_best_effort_client_gives_none_while_the_target_is_leased(server, client, caplog):
    holder = client()
    with BestEffortClient("127.0.0.1", server.port, "laser") as monitor:
        with holder.lease("scan"):
            for _ in range(3):
                assert monitor.set_power(1) is None
            assert monitor.connected
        assert monitor.set_power(2) == 2
    assert sum("leased for 'scan'" in record.getMessage() for record in caplog.records) == 1


def test_the_list_of_a_server_shows_the_leases(server, client):
    with client().lease("scan"):
        with Client("127.0.0.1", server.port, None) as other:
            (lease,) = other._target.side.leases
        assert (lease["target"], lease["purpose"]) == ("laser", "scan")


def test_the_streams_of_a_lease_that_is_lost_end_and_say_why(client, laser):
    holder, administrator = client(), client()
    with holder.lease("scan"):
        steps = holder.steps(10**6)
        assert next(steps) == 0
        administrator.break_lease("beam dump")
        with pytest.raises(LeaseLost, match="beam dump"):
            list(steps)
        assert laser.stepped.wait(LONG)
    assert list(holder.steps(3)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("argument", "program"),
    [
        ("/home/anna/scan.py", "scan.py"),
        ("/opt/lab/alignment/__main__.py", "alignment"),  # python -m alignment
        ("__main__.py", "__main__.py"),
        ("-", "stdin"),  # python - < scan.py
        ("-c", "python -c"),
        ("", "python"),
    ],
)
def test_the_holder_of_a_lease_is_shown_with_the_name_of_its_program(
    serve, connect, monkeypatch, argument, program
):
    monkeypatch.setattr("sys.argv", [argument])
    laser = connect(serve({"laser": Laser()}).port, "laser")
    with laser.lease("scan 4711"):
        name = laser.get_rpc_lease()["client"]
    assert re.fullmatch(rf"{program} of .+ on .+, process {os.getpid()}", name)


# The command.


@pytest.fixture
def run(serve, capsys):
    """Run the command with a server of a laser: status, stdout, stderr."""
    port = serve({"laser": Laser(), "other": Laser()}).port

    def run(command, *arguments):
        status = main([command, "127.0.0.1", str(port), *arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    run.port = port
    return run


def test_the_command_shows_and_breaks_leases(run, connect, monkeypatch):
    holder = connect(run.port, "laser")
    with holder.lease("scan 4711"):
        (lease,) = json.loads(run("leases", "--json")[1])
        assert pyon.decode(run("leases")[1])[0]["client"] == lease["client"]
        assert pyon.decode(run("list-targets")[1])["leases"][0]["target"] == "laser"
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        whose = rf"leased for 'scan 4711' by .*, process {os.getpid()} \(.*\) since "
        assert re.search(f"^laser: {whose}", run("leases")[1])
        assert re.search(rf"^laser  \({whose}.*\)\nother\n$", run("list-targets")[1])
        status, out, err = run("call", "-t", "laser", "set_power", "1")
        assert (status, out) == (75, "")
        assert err.startswith("pc-rpc: the target 'laser' is leased for 'scan 4711' by ")
        assert run("call", "-t", "other", "set_power", "1")[0] == 0
        status, _, err = run("call", "-t", "laser", "--wait", "--timeout", "0.3", "set_power", "1")
        assert (status, "no reply" in err) == (3, True)
        status, out, _ = run("break-lease", "laser", "--reason", "beam dump")
        assert (status, out.startswith("broken: leased for 'scan 4711' by")) == (0, True)
        with pytest.raises(LeaseLost, match="'beam dump'"):
            holder.set_power(1)
    assert run("break-lease", "laser")[1] == "laser was not leased\n"
    assert run("leases")[1] == "no leases\n"
    assert run("list-targets")[1] == "laser\nother\n"


def test_leases_of_a_hostile_server_are_shown_and_harmless(scripted_peer, capsys, monkeypatch):
    def script(sock, lines):
        lines.readline()
        leases = b'[{"target":"a\\u001b[2J","seconds":"x"},5,{"target":[]},{"seconds":1e400}]'
        sock.sendall(b'{"targets":["main"],"description":null,"leases":%s}\n' % leases)

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    peer = scripted_peer(script)
    assert main(["leases", "127.0.0.1", str(peer.port)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "leased for None by None" in shown


# Tasks.


async def test_tasks_of_a_client_share_a_lease(server, client, laser, asyncio_client):
    async with asyncio_client(server.port, "laser") as holder:
        async with holder.lease("scan", ttl=1.5) as lease:
            began = heard(server)
            assert await asyncio.gather(*map(holder.set_power, range(3))) == [0, 1, 2]
            await asyncio.to_thread(until, lambda: heard(server) > began)
            assert (await holder.get_rpc_lease())["purpose"] == "scan"
            with pytest.raises(TargetLeased):
                await asyncio.to_thread(client().set_power, 1)
        assert lease.lost is None
        assert await holder.get_rpc_lease() is None


async def test_a_task_whose_lease_is_broken_gets_an_error(server, asyncio_client):
    async with (
        asyncio_client(server.port, "laser") as holder,
        asyncio_client(server.port, "laser", wait_for_leases=True) as other,
    ):
        async with holder.lease("scan", renew=False) as lease:
            waits = asyncio.ensure_future(other.set_power(1))
            await other.ping_rpc()
            assert not waits.done()
            assert (await other.break_lease("beam dump"))["purpose"] == "scan"
            assert await waits == 1
            with pytest.raises(LeaseLost, match="beam dump"):
                await holder.set_power(2)
            with pytest.raises(LeaseLost):
                await lease.renew()
        assert "beam dump" in lease.lost
        assert await holder.set_power(3) == 3


async def test_a_task_that_is_cancelled_while_it_waits_for_a_lease_has_none(server, asyncio_client):
    async with (
        asyncio_client(server.port, "laser") as holder,
        asyncio_client(server.port, "laser") as other,
    ):
        async with holder.lease("scan"):
            task = asyncio.ensure_future(other.lease("mine", wait=None).__aenter__())
            await other.ping_rpc()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await other.set_power(1) == 1
        assert await holder.get_rpc_lease() is None


async def test_calls_in_flight_of_a_lease_that_is_lost_are_refused(server, asyncio_client, laser):
    async with (
        asyncio_client(server.port, "laser") as holder,
        asyncio_client(server.port, "laser") as other,
    ):
        async with holder.lease("scan"):
            calls = [asyncio.ensure_future(holder.ramp()) for _ in range(5)]
            await asyncio.to_thread(laser.ramping.wait, LONG)
            await holder.ping_rpc()
            await other.break_lease()
            await other.abort()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert ended[0] == "ramped"
            assert all(end == "ramped" or isinstance(end, LeaseLost) for end in ended)
        assert await holder.set_power(1) == 1


def test_the_repr_of_a_lease_shows_its_state(serve, connect):
    client = connect(serve({"main": Laser()}).port)
    lease = client.lease("scan 4711")
    assert repr(lease) == "<pc_rpc lease for 'scan 4711': not taken>"
    with lease:
        assert repr(lease).endswith(": taken>")
    assert repr(lease).endswith(": given back>")
