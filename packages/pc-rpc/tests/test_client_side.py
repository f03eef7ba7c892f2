"""The client's end of the conversation, without a connection: its methods, and its errors."""

from __future__ import annotations

import pytest
from pc_rpc import ConnectionLost
from pc_rpc._client_side import ClientSide
from pc_rpc._protocol import HANDSHAKE_LIMIT
from pyon.framing import Message, Receiver

FEATURES = '"pyon_v2","raw_buffers","request_ids"'
GREETING = b'{"targets":["main"],"description":"a laser","features":[%s]}'
METHODS = b'{"__jsonclass__":["set",[["echo"]]]}'


def connected(features=FEATURES, **options):
    side = ClientSide("198.51.100.7:3249", **options)
    answer(side, side.greet()[0], GREETING % features.encode())
    answer(side, side.select("main")[0], METHODS)
    return side


def answer(side, call, line):
    side.expect(call)
    assert side.receive(Message(line)) is call
    return side.result(call)


def test_a_handshake_is_two_steps_that_are_answered_like_calls():
    side, receiver = ClientSide("198.51.100.7:3249", limit=1000), Receiver()
    side.configure(receiver)
    assert (receiver.limit, receiver.raw_buffers) == (HANDSHAKE_LIMIT, False)
    assert not side.greeted
    call, chunks = side.greet()
    assert chunks == [b"ARTIQ pc_rpc\n"]
    assert answer(side, call, GREETING % FEATURES.encode()) is None
    assert side.greeted
    assert (side.targets, side.description) == (["main"], "a laser")
    assert side.label == "198.51.100.7:3249"
    call, chunks = side.select("main")
    assert chunks == [b"main pyon_v2 raw_buffers request_ids\n"]
    assert answer(side, call, METHODS) is None
    assert side.methods == {"echo"}
    assert side.label == "'main' at 198.51.100.7:3249"
    side.configure(receiver)
    assert (receiver.limit, receiver.raw_buffers) == (1000, True)


@pytest.mark.parametrize("features", ["", '"pyon_v2"', FEATURES])
def test_pending_calls_get_the_reason_once_when_the_connection_ends(features):
    side = connected(features)
    calls = [side.encode_call("echo", (n,), {})[0] for n in range(3)]
    for call in calls:
        side.expect(call)
    side.abandon(calls[1])
    reason = side.closed_by_peer(5)
    assert side.lost(reason) == [calls[0], calls[2]]
    assert side.lost(OSError("later")) == []
    assert side.reason is reason


@pytest.mark.parametrize(
    ("sent", "said"), [(True, "may have been executed"), (False, "was not sent")]
)
def test_the_error_of_a_dead_connection_says_what_where_whether_it_was_sent_and_what_to_do(
    sent, said
):
    side = connected(again="make a new Client to connect again")
    call, _ = side.encode_call("echo", (), {})
    if sent:
        side.expect(call)
    side.lost(side.closed_by_peer(0))
    error = side.error_for(call)
    assert isinstance(error, ConnectionLost)
    assert error.sent is sent
    assert error.__cause__ is side.reason
    assert str(error) == (
        "connection to 198.51.100.7:3249 lost: closed by the server; "
        f"the call of echo() {said}; make a new Client to connect again"
    )


@pytest.mark.parametrize(
    ("tls", "hint"), [(False, "the port may speak TLS"), (True, "refused this client's cert")]
)
@pytest.mark.parametrize(
    "reason", [EOFError("closed by the server"), ConnectionResetError("reset")]
)
def test_a_server_that_closes_before_its_greeting_has_a_likely_reason(tls, hint, reason):
    side = ClientSide("198.51.100.7:3249", tls=tls)
    call, _ = side.greet()
    side.lost(reason)
    error = side.error_for(call)
    assert hint in str(error)
    assert not error.sent


def test_closing_the_client_in_the_handshake_is_the_only_reason_given():
    side = ClientSide("198.51.100.7:3249")
    side.lost(ConnectionLost("closed by close_rpc()"))
    assert str(side.error_for()) == "connection to 198.51.100.7:3249 lost: closed by close_rpc()"


def test_the_error_of_a_time_out_names_the_request():
    side = connected()
    call, _ = side.encode_call("echo", (), {})
    text = "no reply to the call of echo() from 198.51.100.7:3249 within 2 s"
    assert str(side.too_late(call, 2)) == text
    step, _ = ClientSide("198.51.100.7:3249").greet()
    assert (
        str(side.too_late(step, 2)) == "198.51.100.7:3249 did not answer within the time-out of 2 s"
    )
