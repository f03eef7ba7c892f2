"""Both ends of the conversation as pure code: no socket, no loop."""

from __future__ import annotations

import itertools
import json

import pyon
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pc_rpc import AutoTarget, IncompatibleServer, ProtocolError
from pc_rpc._client_side import ClientSide
from pc_rpc._outcome import Outcome
from pc_rpc._protocol import FEATURES, ServerSide, arguments
from pyon.framing import HEAD_SIZE, Message, Receiver, frame_size

GREETING = b'{"targets":["main"],"description":null,"features":["pyon_v2"]}'

FEATURE_SETS = [
    (),
    *(
        ("pyon_v2", *extra)
        for n in range(len(FEATURES))
        for extra in itertools.combinations(FEATURES[1:], n)
    ),
]


def greeted(line):
    """Return a client's half that has read a greeting."""
    client = ClientSide("198.51.100.7:3249")
    take(client, client.greet()[0], line)
    return client


def take(client, step, line):
    """Have the client's half take a step of the handshake with this answer."""
    client.expect(step)
    assert client.receive(Message(line)) is step
    assert client.result(step) is None


def selection(client, target):
    """Return the line that selects a target."""
    return client.select(target)[1][0].removesuffix(b"\n")


def pair(offered=FEATURES, *, client_limit=10**6, server_limit=10**6):
    """Return both halves after the handshake."""
    client = ClientSide("198.51.100.7:3249", limit=client_limit)
    server = ServerSide(["main"], None, limit=server_limit)
    greeting = json.loads(server.greeting())
    assert tuple(greeting["features"]) == FEATURES
    greeting["features"] = [*offered, "what_nobody_knows"]
    step, chunks = client.greet()
    assert chunks == [b"ARTIQ pc_rpc\n"]
    take(client, step, json.dumps(greeting).encode())
    step, chunks = client.select(AutoTarget)
    assert server.read_selection(chunks[0].removesuffix(b"\n")) == "main"
    assert server.features.version == client.features.version
    take(client, step, b'{"echo"}')
    return client, server


def carry(chunks, side):
    """Return chunks as the message that the other side's receiver makes of them."""
    receiver = Receiver(limit=side.limit, raw_buffers=side.features.raw_buffers)
    (message,) = receiver.feed(b"".join(bytes(chunk) for chunk in chunks))
    return message


def returned(value):
    outcome = Outcome()
    outcome.result = value
    return outcome


def exchange(client, server, value):
    call, chunks = client.encode_call("echo", (value,), {"key": value})
    client.expect(call)
    request = server.read_request(carry(chunks, server))
    if request.error is not None:
        reply = server.refusal(request.number, request.error)
    else:
        name, args, kwargs = arguments(request.content)
        assert name == "echo"
        assert len(args) == 1
        assert list(kwargs) == ["key"]
        reply = server.reply(request.number, returned(args[0]))
    assert client.receive(carry(reply, client)) is call
    return client.result(call)


@pytest.mark.parametrize("offered", FEATURE_SETS)
@pytest.mark.parametrize("value", [5, "caf\xe9\u2028", [1, (2,)], {"a": None}, b"x" * 100_000])
def test_values_pass_with_any_selection_of_features(offered, value):
    assert exchange(*pair(offered), value) == value


def test_large_data_travels_beside_the_line():
    client, _ = pair()
    _, chunks = client.encode_call("echo", (b"x" * 100_000,), {})
    assert chunks[0].startswith(b'{"buffers":[100000],"id":1,"action":"call"')
    assert len(chunks) == 2


@pytest.mark.parametrize("offered", FEATURE_SETS)
def test_an_exception_passes_with_any_selection_of_features(offered):
    client, server = pair(offered)
    call, chunks = client.encode_call("echo", (), {})
    client.expect(call)
    request = server.read_request(carry(chunks, server))
    client.receive(carry(server.refusal(request.number, ValueError("a", "b")), client))
    with pytest.raises(ValueError, match="'a', 'b'"):
        client.result(call)


@pytest.mark.parametrize("offered", [(), ("pyon_v2",), FEATURES])
@given(data=st.data())
def test_every_reply_goes_to_its_own_call_whatever_was_given_up(offered, data):
    client, server = pair(offered)
    ordered = "request_ids" not in offered
    calls, replies = [], []
    for number in range(data.draw(st.integers(1, 8))):
        call, chunks = client.encode_call("echo", (number,), {})
        client.expect(call)
        request = server.read_request(carry(chunks, server))
        calls.append(call)
        replies.append((number, carry(server.reply(request.number, returned(number)), client)))
    given_up = data.draw(st.sets(st.sampled_from(calls)))
    for call in given_up:
        client.abandon(call)
    if not ordered:
        replies = data.draw(st.permutations(replies))
    for number, reply in replies:
        matched = client.receive(reply)
        assert (matched is None) == (calls[number] in given_up)
        if matched is not None:
            assert client.result(matched) == number
    assert client.lost(EOFError()) == []


def test_a_call_given_up_is_cancelled_at_a_server_that_knows_ids():
    client, server = pair()
    call, chunks = client.encode_call("echo", (), {})
    assert client.abandon(call) == []  # never sent, so that there is nothing to cancel
    call, chunks = client.encode_call("echo", (), {})
    client.expect(call)
    request = server.read_request(carry(client.abandon(call), server))
    assert (request.action, request.number) == ("cancel", None)
    assert request.content["request"] == server.read_request(carry(chunks, server)).number
    old, _ = pair(["pyon_v2"])
    call, _ = old.encode_call("echo", (), {})
    old.expect(call)
    assert old.abandon(call) == []


def test_requests_are_pending_until_the_connection_ends():
    client, _ = pair()
    calls = [client.encode_call("echo", (), {})[0] for _ in range(3)]
    for call in calls:
        client.expect(call)
    client.abandon(calls[1])
    assert client.lost(EOFError()) == [calls[0], calls[2]]
    assert client.lost(EOFError()) == []


# Limits: one for both directions, at it and one past it.


def fill(size_of, size):
    """Return a text that makes a message of exactly that size."""
    return "x" * (size - size_of(""))


@pytest.mark.parametrize("offered", [(), ("pyon_v2",), FEATURES])
def test_a_request_up_to_the_limit_passes_and_one_beyond_names_both_numbers(offered):
    client, _ = pair(offered, client_limit=5000)

    def size(text):
        return frame_size(client.encode_call("echo", (text,), {})[1]) - 1

    text = fill(size, 5000)
    call, chunks = client.encode_call("echo", (text,), {})
    assert frame_size(chunks) == 5001
    with pytest.raises(ValueError, match=r"call of echo\(\) has 5001 bytes.* limit of 5000 bytes"):
        client.encode_call("echo", (text + "x",), {})
    client.expect(call)
    assert client.lost(EOFError()) == [call]


@pytest.mark.parametrize("offered", [(), ("pyon_v2",), FEATURES])
@pytest.mark.parametrize("value", ["x" * 5000, b"x" * 5000])
def test_a_request_beyond_the_limit_of_the_server_is_answered_with_both_numbers(offered, value):
    client, server = pair(offered, server_limit=5000)
    with pytest.raises(ValueError, match=r"request has \d+ bytes.* limit of 5000 bytes"):
        exchange(client, server, value)
    assert exchange(client, server, "small") == "small"


@pytest.mark.parametrize("offered", [(), ("pyon_v2",), FEATURES])
@pytest.mark.parametrize("value", ["x" * 6000, b"x" * 6000])
def test_a_reply_beyond_the_limit_names_both_numbers_at_either_end(offered, value):
    for limits in ({"client_limit": 5000}, {"server_limit": 5000}):
        client, server = pair(offered, **limits)
        call, chunks = client.encode_call("echo", (), {})
        client.expect(call)
        number = server.read_request(carry(chunks, server)).number
        client.receive(carry(server.reply(number, returned(value)), client))
        with pytest.raises(ValueError, match=r"reply.* has \d+ bytes.* limit of 5000 bytes"):
            client.result(call)
        assert exchange(client, server, "small") == "small"


def test_what_cannot_be_encoded_is_a_type_error_of_the_caller():
    client, server = pair()
    with pytest.raises(TypeError) as caught:
        client.encode_call("echo", ([1, object()],), {})
    assert "in the arguments of echo()" in caught.value.__notes__
    call, chunks = client.encode_call("echo", (), {})
    client.expect(call)
    number = server.read_request(carry(chunks, server)).number
    client.receive(carry(server.reply(number, returned({"a": [object()]})), client))
    with pytest.raises(TypeError, match=r"the result cannot be encoded.*object"):
        client.result(call)
    assert exchange(client, server, 5) == 5


# Peers that break the protocol.


@pytest.mark.parametrize(
    "line",
    [b"", b"HTTP/1.1 400 Bad Request", b"\x15\x03\x01\x00\x02\x02", b"[]", b"5", b"{}", b"\xff",
     b'{"targets":5,"description":null}', b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_greeting_is_a_protocol_error(line):
    with pytest.raises(ProtocolError, match="expected the greeting of an RPC server"):
        greeted(line)


def test_a_greeting_with_raw_control_characters_is_read():
    client = greeted('{"targets": ["m"], "description": "\u2603\t\x0b\x85"}'.encode())
    assert client.description == "\u2603\t\x0b\x85"


@pytest.mark.parametrize("line", [b"", b"5", b"{", b"null", b'"abc"'])
def test_what_is_no_set_of_methods_is_a_protocol_error(line):
    client = greeted(GREETING)
    with pytest.raises(ProtocolError, match="expected the set of method names"):
        take(client, client.select("main")[0], line)


@pytest.mark.parametrize("line", [b"{}", b"[]", b'{"__jsonclass__":["set",[[]]]}'])
def test_an_empty_set_of_methods_in_any_spelling(line):
    client = greeted(GREETING)
    take(client, client.select("main")[0], line)
    assert client.methods == frozenset()


@pytest.mark.parametrize(
    "reply",
    [b"", b"{", b"5", b"[]", b"{}", b'{"status":"ok"}', b'{"status":"maybe","ret":1}',
     b'{"status":["ok"],"ret":1}', b'{"status":"failed"}', b"\xff\xfe"],
)  # fmt: skip
def test_a_malformed_reply_is_a_protocol_error_of_its_caller(reply):
    client, server = pair(["pyon_v2"])
    call, _ = client.encode_call("echo", (), {})
    client.expect(call)
    assert client.receive(Message(reply)) is call
    with pytest.raises(ProtocolError, match=r"expected a reply to the call of echo\(\), got b"):
        client.result(call)
    assert exchange(client, server, 5) == 5


@pytest.mark.parametrize("offered", [("pyon_v2",), FEATURES])
def test_a_reply_to_no_request_is_a_protocol_error(offered):
    client, server = pair(offered)
    with pytest.raises(ProtocolError, match="reply to no request"):
        client.receive(carry(server.confirm(7 if len(offered) > 1 else None), client))


def test_a_reply_to_another_request_answers_none_of_those_that_are_pending():
    client, server = pair(FEATURES)
    call, _ = client.encode_action("ping")
    client.expect(call)
    with pytest.raises(ProtocolError, match="reply to no request"):
        client.receive(carry(server.confirm(call.number + 1), client))
    assert call.reply is None
    assert client.receive(carry(server.confirm(call.number), client)) is call


@pytest.mark.parametrize("line", [b"", b"zzz", b"main x", b"main request_ids", b"main  pyon_v2"])
def test_a_selection_of_what_was_not_offered_is_a_protocol_error(line):
    with pytest.raises(ProtocolError, match=r"unknown target|unsupported features"):
        ServerSide(["main"], None).read_selection(line)


@pytest.mark.parametrize("line", [b"", b"{", b"5", b"[]", b"\xff", b"{1}"])
def test_an_undecodable_request_is_a_protocol_error(line):
    _, server = pair(["pyon_v2"])
    with pytest.raises(ProtocolError, match=r"undecodable request|expected a request"):
        server.read_request(Message(line))


def test_a_request_in_any_order_of_keys_and_with_unknown_ones_is_read():
    _, server = pair(["pyon_v2"])
    request = server.read_request(
        Message(b'{"kwargs":{},"new":1,"args":[1,2],"name":"echo","action":"call"}')
    )
    assert arguments(request.content) == ("echo", [1, 2], {})


def test_an_oversize_request_without_an_id_ends_a_connection_that_has_ids():
    _, server = pair(server_limit=100)
    with pytest.raises(ProtocolError, match="5000 bytes without an id"):
        server.read_request(Message(b"x" * HEAD_SIZE, (), 5000))


@pytest.mark.parametrize(
    "content",
    [{"name": 5, "args": [], "kwargs": {}}, {"name": "x", "args": 5, "kwargs": {}},
     {"name": "x", "args": [], "kwargs": []}],
)  # fmt: skip
def test_a_call_of_the_wrong_form_is_a_type_error(content):
    with pytest.raises(TypeError, match="expected a name, a list of arguments"):
        arguments(dict(content))


# Targets.


@pytest.mark.parametrize("targets", [[], ["alpha", "beta"]])
def test_auto_target_lists_the_targets_unless_there_is_one(targets):
    client = greeted(ServerSide(targets, None).greeting().encode())
    with pytest.raises(ValueError, match=" ".join(targets) or "none"):
        client.select(AutoTarget)


def test_an_unknown_target_is_never_sent_and_the_error_lists_those_there_are():
    client = greeted(ServerSide(["beta", "alpha"], None).greeting().encode())
    with pytest.raises(IncompatibleServer, match="'zzz', the server has: alpha beta"):
        client.select("zzz")
    assert selection(client, "beta").startswith(b"beta pyon_v2")
    with pytest.raises(ValueError, match="'beta' has been selected already"):
        client.select("alpha")


def test_a_non_ascii_target_and_description_pass():
    server = ServerSide(["caf\xe9"], "\u2603")
    client = greeted(server.greeting().encode())
    assert client.description == "\u2603"
    assert server.read_selection(selection(client, "caf\xe9")) == "caf\xe9"


def test_requests_have_the_established_form():
    client, _ = pair(["pyon_v2"])
    assert client.encode_call("echo", (5,), {})[1] == [
        b'{"action":"call","name":"echo","args":{"__jsonclass__":["tuple",[[5]]]},"kwargs":{}}\n'
    ]
    client, _ = pair([])
    assert client.encode_action("get_rpc_method_list")[1] == [
        b'{"action": "get_rpc_method_list"}\n'
    ]
    assert pyon.decode(client.encode_call("echo", (5,), {"a": 1})[1][0].rstrip()) == {
        "action": "call", "name": "echo", "args": (5,), "kwargs": {"a": 1}
    }  # fmt: skip
