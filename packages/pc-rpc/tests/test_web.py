"""The control panel, over a WebSocket, without a browser."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import struct
import sys

import pytest
from pc_rpc import Server
from pc_rpc.web import controlling
from pyon.web import Door
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

TOKEN = "a-token-of-24-characters"
DOOR = Door(token=TOKEN)


class Stage:
    """A stage."""

    def __init__(self):
        self.called = []
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.never = asyncio.Event()

    def move(self, to: float, *, fast: bool = False) -> float:
        """Move, in millimetres."""
        self.called.append((to, fast))
        if to > 100:
            raise ValueError("beyond the end")
        return to

    async def home(self):
        self.begun.set()
        try:
            await self.never.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def count(self, n: int):
        for number in range(n):
            yield number


async def cookie_of(port):
    def ask():
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as http_:
            headers = {"Origin": f"http://127.0.0.1:{port}"}
            http_.request("POST", "/enter", json.dumps({"token": TOKEN}), headers)
            return http_.getresponse().headers["set-cookie"].partition(";")[0]

    return await asyncio.to_thread(ask)


class Page:
    """The messages of a browser, without drawing."""

    def __init__(self, socket):
        self.socket = socket
        self.states, self.targets, self.calls, self.rows = {}, {}, {}, {}

    async def say(self, **message):
        await self.socket.send(json.dumps(message))

    async def until(self, fact):
        async with asyncio.timeout(30):
            while not fact():
                message = await self.socket.recv()
                (length,) = struct.unpack_from("<I", message)
                header = json.loads(message[4 : 4 + length])
                self.states |= header.get("states", {})
                self.targets |= header.get("targets", {})
                self.calls |= {call["number"]: call for call in header.get("calls", ())}
                self.rows |= {row["id"]: row for row in header["rows"]}
                await self.say(drawn=True)

    async def call(self, number, method, **typed):
        await self.say(call=number, target="stage", method=method, typed=typed)

    def state(self, number):
        return self.calls.get(number, {}).get("state")

    async def end_of(self, number):
        await self.until(lambda: self.state(number) not in (None, "running"))
        return self.calls[number]


@contextlib.asynccontextmanager
async def operating(port, cookie, desk="desk"):
    async with connect(
        f"ws://127.0.0.1:{port}/live",
        origin=f"http://127.0.0.1:{port}",
        additional_headers={"Cookie": cookie},
    ) as socket:
        page = Page(socket)
        await page.say(desk=desk)
        yield page


@pytest.fixture
async def stage():
    return Stage()


@pytest.fixture
async def panel(stage):
    async with Server({"stage": stage}, "Table 3") as server:
        await server.start("127.0.0.1", 0)
        async with controlling("127.0.0.1", server.port, None, DOOR) as served:
            yield served.port, await cookie_of(served.port)


def is_live(page):
    return page.states.get("stage", {}).get("state") == "live"


async def test_a_page_is_told_of_the_methods_and_nothing_is_called(panel, stage):
    async with operating(*panel) as page:
        await page.until(lambda: is_live(page) and page.targets)
        methods = {one["name"]: one for one in page.targets["stage"]["methods"]}
        assert set(methods) == {"move", "home", "count"}
        assert methods["move"]["doc"] == "Move, in millimetres."
        assert [one["kind"] for one in methods["move"]["fields"]] == ["float", "bool"]
    assert stage.called == []
    assert not stage.begun.is_set()


async def test_a_submitted_call_is_made_once_and_its_result_shown(panel, stage):
    async with operating(*panel) as page:
        await page.until(lambda: is_live(page))
        await page.call(1, "move", to="5", fast="true")
        await page.call(1, "move", to="5", fast="true")  # sent twice
        assert (await page.end_of(1))["title"] == "move(5.0, fast=True)"
        await page.say(rows={'["1"]': [True, 100, 0]})
        await page.until(lambda: page.rows.get('["1"]', {}).get("line") == "5.0")
    assert stage.called == [(5.0, True)]


async def test_an_error_comes_with_the_traceback_of_the_server(panel):
    async with operating(*panel) as page:
        await page.until(lambda: is_live(page))
        await page.call(1, "move", to="200")
        call = await page.end_of(1)
        assert (call["state"], call["error"]) == ("failed", "ValueError: beyond the end")
        assert 'raise ValueError("beyond the end")' in call["traceback"]


async def test_a_call_with_a_mistake_is_an_error_and_not_made(panel, stage):
    async with operating(*panel) as page:
        await page.until(lambda: is_live(page))
        await page.call(1, "move", to="far")
        assert "expected a number" in (await page.end_of(1))["error"]
        await page.call(2, "__init__")
        assert "there is no method" in (await page.end_of(2))["error"]
        await page.say(call=3, target="other", method="move", typed={})
        assert "there is no target" in (await page.end_of(3))["error"]
    assert stage.called == []


async def test_a_slow_call_can_be_cancelled(panel, stage):
    async with operating(*panel) as page:
        await page.until(lambda: is_live(page))
        await page.call(1, "home")
        await page.until(lambda: page.state(1) == "running")
        await stage.begun.wait()
        await page.say(cancel=1)
        assert (await page.end_of(1))["state"] == "cancelled"
        await asyncio.wait_for(stage.cancelled.wait(), 30)


async def test_items_of_a_stream_are_shown_as_they_arrive(panel):
    async with operating(*panel) as page:
        await page.until(lambda: is_live(page))
        await page.call(1, "count", n="3")
        assert (await page.end_of(1))["items"] == 3
        await page.say(rows={'["1"]': [False, 0, 0]})
        await page.until(lambda: page.rows.get('["1"]', {}).get("line") == "[0, 1, 2]")


async def test_a_call_goes_on_when_its_page_is_away_and_is_found_by_it_only(panel, stage):
    async with operating(*panel) as page:
        await page.until(lambda: is_live(page))
        await page.call(1, "home")
        await stage.begun.wait()
    async with operating(*panel, desk="another") as page:
        await page.until(lambda: is_live(page))
        assert page.calls == {}
    async with operating(*panel) as page:
        await page.until(lambda: page.state(1) == "running")
        assert not stage.cancelled.is_set()
        await page.say(cancel=1)
        await page.end_of(1)


async def test_calls_are_bounded_in_number(panel):
    async with operating(*panel) as page:
        await page.until(lambda: is_live(page))
        for number in range(1, 12):
            await page.call(number, "home")
        assert "10 calls are running" in (await page.end_of(11))["error"]
        for number in range(100, 140):
            await page.call(number, "move", to="1")
        await page.end_of(139)
        for number in range(1, 11):
            await page.say(cancel=number)
            await page.end_of(number)


@pytest.mark.parametrize(
    "message",
    [
        {"call": 1, "target": "stage", "method": "move"},
        {"call": 1, "target": "stage", "method": "move", "typed": {"to": 5}},
        {"call": "1", "target": "stage", "method": "move", "typed": {}},
        {"desk": "again"},
        {"desk": "x" * 1000},
        {"call": 1, "target": "stage", "method": "move", "typed": {"to": "1" * 250_000}},
        {},
    ],
    ids=range(7),
)
async def test_a_page_that_sends_invalid_messages_is_closed(panel, stage, message):
    async with operating(*panel) as page:
        await page.say(**message)
        with pytest.raises(ConnectionClosed):
            await page.until(lambda: False)
    assert stage.called == []


async def test_a_server_that_restarts_is_found_again_with_its_new_methods(stage):
    class Other:
        def new(self):
            pass

    async with Server({"stage": stage}) as server:
        await server.start("127.0.0.1", 0)
        port = server.port
        panel = controlling("127.0.0.1", port, "stage", DOOR)
        served = await panel.__aenter__()
        cookie = await cookie_of(served.port)
    try:
        async with operating(served.port, cookie) as page:
            await page.until(lambda: page.states.get("stage", {}).get("state") == "stale")
            await page.call(1, "move", to="1")
            assert "nothing was called" in (await page.end_of(1))["error"]
            async with Server({"stage": Other()}) as server:
                await server.start("127.0.0.1", port)
                await page.until(lambda: is_live(page))
                assert [one["name"] for one in page.targets["stage"]["methods"]] == ["new"]
    finally:
        await panel.__aexit__(None, None, None)


# Attacks.


@pytest.mark.parametrize("path", ["/", "/live", "/entered", "/enter", "/static/calls.js", "/call"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
async def test_only_messages_on_the_web_socket_have_an_effect(panel, stage, path, method):
    port, cookie = panel

    def ask():
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as http_:
            call = {"call": 1, "target": "stage", "method": "move", "typed": {"to": "1"}}
            headers = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{port}"}
            http_.request(method, f"{path}?call=1", json.dumps(call), headers)
            http_.getresponse().read()

    await asyncio.to_thread(ask)
    assert stage.called == []


async def test_requests_without_the_token_or_from_another_page_are_refused(panel):
    port, cookie = panel
    own, foreign = f"http://127.0.0.1:{port}", "http://evil.example"
    url = f"ws://127.0.0.1:{port}/live"
    for origin, shown in ((own, ""), (own, cookie[:-1]), (foreign, cookie), (None, cookie)):
        with pytest.raises(InvalidStatus):
            await connect(url, origin=origin, additional_headers={"Cookie": shown})


async def test_there_is_a_token_also_on_this_computer(stage):
    async with controlling("127.0.0.1", 1) as served:
        assert re.search(r"#token=[\w-]{32}$", served.url)
        with pytest.raises(InvalidStatus):
            await connect(
                f"ws://127.0.0.1:{served.port}/live", origin=f"http://127.0.0.1:{served.port}"
            )


# The command.


async def command(*words):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pc_rpc",
        "web",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_command_says_where_the_panel_is_and_ends_with_a_signal():
    process = await command("127.0.0.1", "1", "stage")
    try:
        line = (await process.stdout.readline()).decode()
        assert re.fullmatch(r"control panel at http://127\.0\.0\.1:[0-9]+/#token=[\w-]+\n", line)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (process.returncode, out, err) == (0, b"", b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_command_names_an_address_that_it_cannot_listen_on():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = await command("127.0.0.1", "1", "--port", str(port))
        _, err = await process.communicate()
    assert process.returncode == 2  # a mistake of the command line, as with `serve`
    assert f"cannot listen on 127.0.0.1 port {port}".encode() in err


async def test_the_command_refuses_to_serve_other_machines_without_tls():
    process = await command("127.0.0.1", "1", "--bind", "0.0.0.0")
    out, err = await process.communicate()
    assert process.returncode == 2
    assert out == b""
    assert b"--https-cert" in err
