"""Access to a site: host names, origins, tokens, addresses; over real connections."""

import argparse
import asyncio
import http.client
import json
import os
import socket
import ssl

import pyon
import pytest
import trustme
from pyon.tcp_options import add_page_options
from pyon.web import Access, Conversation, Door, Site, Spelling, View, door_of, serving
from pyon.web import _site as site_module
from pyon.web._access import Refused, is_loopback
from pyon.web._door import require_guard
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

TOKEN = "a-token-of-24-characters"
SPELLING = Spelling(pyon.decode, lambda path: pyon.encode(list(path)), str)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><title>the page</title>")

    async def attend(websocket):
        view = View(lambda: {"a": "<b>"}, SPELLING)
        await Conversation(websocket, view, lambda message: None, lambda: {"hello": 1}).attend()

    return Site(tmp_path, attend)


async def ask(port, path="/", method="GET", body=None, tls=None, **headers):
    """Return the status, the headers and the body of an answer."""

    def run():
        make = http.client.HTTPConnection
        kwargs = {}
        if tls is not None:
            make, kwargs = http.client.HTTPSConnection, {"context": tls}
        connection = make("127.0.0.1", port, timeout=30, **kwargs)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(run)


async def to_the_end(page):
    while True:
        await page.recv()


def own(port):
    return {"Origin": f"http://127.0.0.1:{port}"}


# Pure.

HERE = {"host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "10.0.0.7", "Lab.example:8000"],
)
def test_a_host_name_that_no_other_site_can_have_is_accepted(host):
    Access(names=frozenset({"lab.example"})).check_place({"host": host}, needs_origin=False)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
     "127.0.0.1@evil.example", "evil.example:80:80", "[::1].evil.example", "127.0.0.1:8000/x",
     "localhost, evil.example", "2130706433.example", "0x7f000001"],
)  # fmt: skip
def test_a_host_name_that_another_site_could_have_is_refused(host):
    with pytest.raises(Refused, match="--host-name") as refused:
        Access().check_place({"host": host}, needs_origin=False)
    assert refused.value.status == 421


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://127.0.0.1:8001", "http://127.0.0.1", "null", "",
     "http://127.0.0.1:8000.evil.example", "http://localhost:8000", "file://"],
)  # fmt: skip
def test_an_origin_other_than_ours_is_refused(origin):
    with pytest.raises(Refused, match="another site"):
        Access().check_place({**HERE, "origin": origin}, needs_origin=False)


def test_with_tls_an_origin_without_it_is_refused():
    Access().check_place({**HERE, "origin": "https://127.0.0.1:8000"}, needs_origin=True)
    with pytest.raises(Refused):
        Access(encrypted=True).check_place(
            {**HERE, "origin": "http://127.0.0.1:8000"}, needs_origin=True
        )


def test_a_request_with_an_effect_needs_an_origin():
    Access().check_place(HERE, needs_origin=False)
    with pytest.raises(Refused, match="no Origin header"):
        Access().check_place(HERE, needs_origin=True)


@pytest.mark.parametrize("shown", [{}, {"site": ""}, {"site": TOKEN}, {"other": "x"}])
def test_without_the_cookie_nobody_enters(shown):
    with pytest.raises(Refused) as refused:
        Access(TOKEN).check_entered(shown)
    assert refused.value.status == 401


@pytest.mark.parametrize("token", [None, "", 7, [TOKEN], TOKEN[:-1], TOKEN + "x", "\ud800"])
def test_a_wrong_token_is_refused(token):
    with pytest.raises(Refused):
        Access(TOKEN).check_token(token)


def test_the_cookie_does_not_reveal_the_token_and_survives_a_restart():
    assert TOKEN not in Access(TOKEN).proof
    Access(TOKEN).check_entered({"site": Access(TOKEN).proof})
    assert TOKEN not in repr(Access(TOKEN)) + repr(Door(token=TOKEN))


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("::ffff:10.0.0.1", False),
     ("fe80::1%eth0", False), ("", False), ("localhost", False)],
)  # fmt: skip
def test_loopback_addresses_are_recognised(address, loopback):
    assert is_loopback(address) is loopback


def test_beyond_this_computer_a_token_and_tls_are_demanded():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    require_guard(["127.0.0.1", "::1"], Door())
    require_guard(["10.0.0.1"], Door(token=TOKEN, tls=context))
    for door in (Door(), Door(token=TOKEN), Door(tls=context)):
        with pytest.raises(ValueError, match=r"refusing .* 10\.0\.0\.1"):
            require_guard(["127.0.0.1", "10.0.0.1"], door)


@pytest.mark.parametrize("bind", ["0.0.0.0", "", "::"])
async def test_bound_addresses_are_checked_before_the_first_answer(site, bind):
    with pytest.raises((ValueError, OSError)):  # no IPv6 here, perhaps
        async with serving(site, Door(bind)):
            raise AssertionError("served")


async def test_an_address_of_a_page_that_cannot_be_bound_is_named(site):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: .*already"):
            async with serving(site, Door(port=port)):
                pass
    with pytest.raises(socket.gaierror, match=r"no\.such\.host\.invalid port 0: "):
        async with serving(site, Door("no.such.host.invalid")):
            pass


def test_a_short_token_is_refused():
    with pytest.raises(ValueError, match="16 characters"):
        Door(token="secret")


# Options.


def options(*words, **kwargs):
    parser = argparse.ArgumentParser()
    add_page_options(parser, **kwargs)
    return parser.parse_args(words)


def test_without_options_a_page_is_for_this_computer():
    assert door_of(options()) == Door("127.0.0.1", 0)


def test_a_token_is_made_where_one_is_always_demanded():
    first, second = (door_of(options(), always_token=True).token for _ in range(2))
    assert len(first) >= 32
    assert first != second


@pytest.mark.skipif(os.name != "posix", reason="rights of files are another thing elsewhere")
def test_a_token_that_others_can_read_is_refused(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        door_of(options("--token-file", str(file)))
    file.chmod(0o600)
    assert door_of(options("--token-file", str(file))).token == TOKEN


def test_https_needs_both_files():
    with pytest.raises(ValueError, match="--https-key"):
        door_of(options("--https-cert", "x"))


# Served.


async def test_the_page_its_files_and_nothing_else(site):
    async with serving(site, Door()) as served:
        status, headers, body = await ask(served.port)
        assert (status, "the page" in body) == (200, True)
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        status, headers, _ = await ask(served.port, "/static/tree.js")
        assert (status, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        for path in ("/static/..%2f_site.py", "/static/../_site.py", "/index.html", "/static/"):
            assert (await ask(served.port, path))[0] == 404, path


@pytest.mark.parametrize("path", ["/", "/static/look.css", "/entered", "/enter", "/nowhere"])
async def test_a_name_that_was_rebound_gets_nothing(site, path):
    async with serving(site, Door()) as served:
        status, _, body = await ask(served.port, path, Host=f"evil.example:{served.port}")
        assert status == 421
        assert "the page" not in body


async def test_a_page_of_another_origin_gets_nothing(site):
    async with serving(site, Door()) as served:
        assert (await ask(served.port, Origin="http://evil.example"))[0] == 403


async def test_a_web_socket_of_another_origin_is_refused(site):
    async with serving(site, Door()) as served:
        url = f"ws://127.0.0.1:{served.port}/live"
        for origin in ("http://evil.example", "null", None):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, origin=origin)
            assert refused.value.response.status_code == 403
        async with connect(url, origin=f"http://127.0.0.1:{served.port}") as page:
            assert b'"hello":1' in await page.recv()


async def test_a_web_socket_under_a_name_that_was_rebound_is_refused(site):
    async with serving(site, Door()) as served:
        with pytest.raises(InvalidStatus):
            await connect(
                f"ws://evil.example:{served.port}/live",
                host="127.0.0.1",
                origin=f"http://evil.example:{served.port}",
            )


async def test_without_the_token_one_gets_a_form_and_no_values(site):
    async with serving(site, Door(token=TOKEN)) as served:
        status, _, body = await ask(served.port)
        assert status == 401
        assert "the page" not in body
        assert "token" in body
        assert (await ask(served.port, "/entered"))[0] == 401
        with pytest.raises(InvalidStatus):
            await connect(
                f"ws://127.0.0.1:{served.port}/live", origin=f"http://127.0.0.1:{served.port}"
            )


async def test_with_the_token_one_gets_a_cookie_that_scripts_cannot_read(site):
    async with serving(site, Door(token=TOKEN)) as served:
        assert served.url.endswith(f"/#token={TOKEN}")
        form = json.dumps({"token": TOKEN})
        status, headers, _ = await ask(served.port, "/enter", "POST", form, **own(served.port))
        assert status == 204
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        pair = cookie.partition(";")[0]
        assert (await ask(served.port, Cookie=pair))[0] == 200
        async with connect(
            f"ws://127.0.0.1:{served.port}/live",
            origin=f"http://127.0.0.1:{served.port}",
            additional_headers={"Cookie": pair},
        ) as page:
            assert b'"hello":1' in await page.recv()


@pytest.mark.parametrize(
    "form", [json.dumps({"token": "x" * 24}), "{}", "[]", "", "[" * 100_000, "x" * 100_000]
)
async def test_with_a_wrong_token_one_gets_nothing(site, form):
    async with serving(site, Door(token=TOKEN)) as served:
        status, headers, _ = await ask(served.port, "/enter", "POST", form, **own(served.port))
        assert status == 401
        assert headers["set-cookie"] is None


async def test_a_page_of_another_site_cannot_enter_with_the_token(site):
    async with serving(site, Door(token=TOKEN)) as served:
        form = json.dumps({"token": TOKEN})
        for headers in ({}, {"Origin": "http://evil.example"}):
            assert (await ask(served.port, "/enter", "POST", form, **headers))[0] == 403


async def test_beyond_this_computer_with_both(site, tmp_path):
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with serving(site, Door("0.0.0.0", token=TOKEN, tls=server)) as served:
        assert served.url.startswith("https://")
        form = json.dumps({"token": TOKEN})
        origin = {"Origin": f"https://127.0.0.1:{served.port}"}
        answer = await ask(served.port, "/enter", "POST", form, client, **origin)
        assert answer[0] == 204
        assert "Secure" in answer[1]["set-cookie"]


async def test_an_invalid_message_ends_the_connection_of_a_page(site):
    async with serving(site, Door()) as served:
        for nonsense in ("x", "[]", "[" * 100_000, b"x", '{"rows": 7}'):
            async with connect(
                f"ws://127.0.0.1:{served.port}/live", origin=f"http://127.0.0.1:{served.port}"
            ) as page:
                await page.send(nonsense)
                with pytest.raises(ConnectionClosed):
                    await to_the_end(page)


async def test_pages_are_bounded_in_number(site, monkeypatch):
    monkeypatch.setattr(site_module, "MOST_PAGES", 1)
    async with serving(site, Door()) as served:
        url, origin = f"ws://127.0.0.1:{served.port}/live", f"http://127.0.0.1:{served.port}"
        async with connect(url, origin=origin) as page:
            await page.recv()
            with pytest.raises(InvalidStatus):
                await connect(url, origin=origin)


async def test_the_port_is_free_after_serving(site):
    async with serving(site, Door()) as served:
        pass
    with socket.create_server(("127.0.0.1", served.port)):
        pass
