"""The page of `sync-struct web` in a browser: display, keyboard, accessibility, attacks."""

import contextlib
import functools
import http.server
import threading

import numpy as np
import pytest
from playwright.sync_api import expect
from pyon.web import Door
from serving_thread import in_thread
from sync_struct import Notifier, publish
from sync_struct.web import showing

ROW, COLUMN = np.indices((48, 64))


def oven():
    return Notifier(
        {
            "temperature": 391.5,
            "history": np.linspace(293, 391, 500),
            "camera": np.exp(-((ROW - 20) ** 2) / 90 - (COLUMN - 30) ** 2 / 200),
            "scan": {"points": [float(x) for x in range(50)], "done": False},
            "notes": "first line\nsecond line",
            "axes": ["x", "y"],
        }
    )


def row(page, path, tree="#tree"):
    return page.locator(f"{tree} [data-path={path!r}]")


def value(page, path, tree="#tree"):
    return row(page, path, tree).locator("> .head .value")


def is_live(page):
    expect(page.locator("body[data-live=true]")).to_be_attached()


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def focused(page):
    return page.evaluate("document.activeElement.dataset.path")


def colours(locator):
    """Return the number of colours in a canvas."""
    return locator.evaluate(
        """canvas => {
            if (!canvas.width) return 0;
            const pen = canvas.getContext("2d");
            const {data} = pen.getImageData(0, 0, canvas.width, canvas.height);
            return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )


# Display.


def test_the_tree_is_updated_as_the_structure_changes(open_page, show):
    published = oven()
    served, _ = show({"oven": published})
    page = open_page(f"{served.url}#open=oven&open=oven/scan")
    expect(value(page, "oven/temperature")).to_have_text("391.5")
    published["temperature"] = 400.25
    expect(value(page, "oven/temperature")).to_have_text("400.25")
    published["scan"]["new"] = "here"
    expect(value(page, "oven/scan/new")).to_have_text("'here'")
    del published["scan"]
    expect(row(page, "oven/scan")).to_have_count(0)
    expect(row(page, "oven/scan/new")).to_have_count(0)
    expect(page.locator("[role=treeitem]")).to_have_count(6)


def test_scalars_have_a_history_arrays_are_lines_and_images(open_page, show):
    published = oven()
    served, _ = show({"oven": published})
    page = open_page(f"{served.url}#open=oven&open=oven/history&open=oven/camera")
    expect(value(page, "oven/temperature")).to_have_text("391.5")
    assert colours(row(page, "oven/temperature").locator(".spark")) == 0
    published["temperature"] = 395.0
    expect(value(page, "oven/temperature")).to_have_text("395.0")
    assert colours(row(page, "oven/temperature").locator(".spark")) > 1
    expect(row(page, "oven/history").get_by_role("img")).to_have_attribute(
        "aria-label", "line of 500 points"
    )
    assert colours(row(page, "oven/history").locator(".lines canvas")) > 5
    image = row(page, "oven/camera").locator(".image > canvas")
    expect(image).to_have_attribute("aria-label", "image of 48 by 64, from 1.3106e-6 to 1")
    assert colours(image) > 100
    expect(row(page, "oven/camera").locator(".scale")).to_contain_text("1.3106e-6")
    published["camera"] = np.zeros((2, 3))
    expect(image).to_have_attribute("aria-label", "image of 2 by 3, from 0 to 0")
    published["history"] = np.array([1 + 1j, 2 - 1j])
    expect(row(page, "oven/history").get_by_role("img")).to_have_attribute(
        "aria-label", "line of 2 points"
    )


def test_the_page_goes_on_without_a_reload_when_the_publisher_restarts(open_page):
    with contextlib.ExitStack() as stack:
        publisher = publish("127.0.0.1", 0, {"oven": Notifier({"x": 1})})
        port = publisher.port
        served = stack.enter_context(in_thread(lambda: showing("127.0.0.1", port, ["oven"])))
        page = open_page(f"{served.url}#open=oven")
        expect(value(page, "oven/x")).to_have_text("1")
        page.evaluate("window.same = true")
        is_live(page)
        publisher.close()
        expect(page.locator("#states")).to_contain_text("oven stale since")
        expect(page.locator("#trouble")).to_contain_text("oven: ")
        expect(value(page, "oven/x")).to_have_text("1")
        stack.enter_context(publish("127.0.0.1", port, {"oven": Notifier({"x": 2})}))
        expect(value(page, "oven/x")).to_have_text("2")
        is_live(page)
        expect(page.locator("#trouble")).to_have_text("")
        assert page.evaluate("window.same")


def test_the_page_goes_on_without_a_reload_when_its_own_server_restarts(open_page, show):
    published = oven()
    with publish("127.0.0.1", 0, {"oven": published}) as publisher:
        first = in_thread(lambda: showing("127.0.0.1", publisher.port, ["oven"]))
        with first as served:
            page = open_page(f"{served.url}#open=oven")
            is_live(page)
            page.evaluate("window.same = true")
        expect(page.locator("#states")).to_contain_text("this page stale since")
        expect(page.locator("#trouble")).to_contain_text("No connection")
        published["temperature"] = 1.0
        again = functools.partial(
            showing, "127.0.0.1", publisher.port, ["oven"], Door(port=served.port)
        )
        with in_thread(again):
            is_live(page)
            expect(value(page, "oven/temperature")).to_have_text("1.0")
            assert page.evaluate("window.same")


# Keyboard, search, pins.


def test_the_keyboard_moves_the_focus_in_the_tree(open_page, show):
    served, _ = show({"oven": oven(), "lab": Notifier({"x": 1})})
    page = open_page(served.url)
    expect(row(page, "lab")).to_be_visible()
    page.locator("#theme").focus()
    press(page, "Tab")
    assert focused(page) == "oven"
    press(page, "ArrowRight")
    expect(row(page, "oven/temperature")).to_be_visible()
    expect(row(page, "oven")).to_have_attribute("aria-expanded", "true")
    press(page, "ArrowRight", "ArrowDown")
    assert focused(page) == "oven/history"
    press(page, "Enter")
    expect(row(page, "oven/history").locator(".lines canvas")).to_be_visible()
    press(page, "End")
    assert focused(page) == "lab"
    press(page, "Home", "ArrowDown", "p")
    expect(page.locator("#cards h3")).to_have_text("oven/temperature")
    press(page, "ArrowLeft")
    assert focused(page) == "oven"
    press(page, " ")
    expect(row(page, "oven/temperature")).to_have_count(0)
    item = row(page, "lab")
    expect(item).to_have_attribute("aria-level", "1")
    expect(item).to_have_attribute("aria-posinset", "2")
    expect(item).to_have_attribute("aria-setsize", "2")


def test_focus_stays_in_the_tree_when_a_row_goes(open_page, show):
    published = oven()
    served, _ = show({"oven": published})
    page = open_page(f"{served.url}#open=oven&open=oven/scan")
    row(page, "oven/scan/done").focus()
    del published["scan"]
    expect(row(page, "oven/scan")).to_have_count(0)
    assert focused(page) == "oven"


def test_search_finds_a_path_and_goes_back(open_page, show):
    served, _ = show({"oven": oven()})
    page = open_page(served.url)
    is_live(page)
    press(page, "/")
    page.keyboard.type("scan POINTS")
    expect(page.locator("#found-note")).to_have_text("1 found.")
    expect(value(page, "oven/scan/points", "#found-tree")).to_have_text("list of 50")
    press(page, "ArrowDown", "Enter")
    expect(page.locator("#found-tree .lines canvas")).to_be_visible()
    page.locator("#search").press("Escape")
    expect(page.locator("#found")).to_be_hidden()
    expect(row(page, "oven")).to_be_visible()


def test_pins_are_kept_in_the_address(open_page, show):
    published = oven()
    served, _ = show({"oven": published})
    page = open_page(f"{served.url}#open=oven")
    row(page, "oven/temperature").get_by_role("button").click()
    row(page, "oven/camera").get_by_role("button").click()
    expect(page.locator("#cards .image > canvas")).to_be_visible()
    other = open_page(page.url)
    expect(other.locator("#cards h3")).to_have_text(["oven/temperature", "oven/camera"])
    published["temperature"] = 5.0
    expect(other.locator("#cards .card >> nth=0").locator(".value")).to_have_text("5.0")
    other.get_by_label("Unpin oven/temperature").click()
    expect(other.locator("#cards h3")).to_have_text(["oven/camera"])


@pytest.mark.parametrize(
    "mark", ["pin=%5B%5B", "pin=oven/none", "open=%22", "open=oven/%3D[1]", "pin=" + "x" * 5000]
)
def test_an_address_with_invalid_parts_is_harmless(open_page, show, mark):
    served, _ = show({"oven": oven()})
    page = open_page(f"{served.url}#open=oven&{mark}")
    expect(value(page, "oven/temperature")).to_have_text("391.5")


def test_on_a_phone_nothing_is_wider_than_the_screen(open_page, show):
    served, _ = show({"oven": oven()})
    pins = "&".join(f"pin=oven/{name}" for name in ("temperature", "history", "camera"))
    page = open_page(f"{served.url}#open=oven&{pins}", "phone")
    expect(page.locator("#cards .image > canvas")).to_be_visible()
    row(page, "oven/scan").locator("> .head").tap()
    expect(row(page, "oven/scan/points")).to_be_visible()
    wide = """[...document.querySelectorAll("body *")]
        .filter(e => e.getBoundingClientRect().right > 390.5).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(wide) == []
    for box in page.evaluate(
        "[...document.querySelectorAll('.head, button, input')].map(e => e.clientHeight)"
    ):
        assert box >= 36


# Colour schemes and accessibility.


def test_the_colour_scheme_is_that_of_the_system_until_the_user_chooses(open_page, show):
    served, _ = show({"oven": oven()})
    dark, light = open_page(served.url, "dark"), open_page(served.url, "light")

    def ground(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert [ground(dark), ground(light)] == ["rgb(19, 23, 26)", "rgb(246, 247, 247)"]
    dark.get_by_label("Light colours").click()
    assert ground(dark) == ground(light)
    dark.reload()
    assert ground(dark) == ground(light)
    light.emulate_media(color_scheme="dark")
    expect(light.locator("html[data-theme=dark]")).to_be_attached()


@pytest.mark.parametrize("screen", ["light", "dark", "phone"])
def test_axe_finds_nothing(open_page, show, accessible, screen):
    published = oven()
    served, _ = show({"oven": published})
    names = ("history", "camera", "scan", "notes")
    marks = "&".join(f"open=oven/{name}&pin=oven/{name}" for name in names)
    page = open_page(f"{served.url}#open=oven&pin=oven/temperature&{marks}", screen)
    published["temperature"] = 3.0
    expect(value(page, "oven/temperature")).to_have_text("3.0")
    row(page, "oven/notes").scroll_into_view_if_needed()
    expect(row(page, "oven/notes").locator("pre")).to_be_visible()
    accessible(page)
    page.locator("#search").fill("o")
    expect(page.locator("#found-note")).to_contain_text("found")
    accessible(page)


def test_axe_finds_nothing_in_the_form_for_the_token(open_page, show, accessible):
    served, _ = show({"oven": oven()}, Door(token="a-token-of-24-characters"))
    page = open_page(served.url.partition("#")[0], expect_errors=True)
    expect(page.get_by_label("The token")).to_be_visible()
    accessible(page)


# Attacks.

HTML = "<img src=x onerror='window.attacked = true'><script>window.attacked = true</script>"


def test_values_and_keys_that_are_html_stay_text(open_page, show):
    served, _ = show(
        {"oven": Notifier({"a": HTML, HTML: 1, "list": [HTML], "s": {HTML: {HTML: 2}}})}
    )
    page = open_page(f"{served.url}#open=oven&open=oven/a&pin=oven/a&open=oven/list&open=oven/s")
    expect(row(page, "oven/a").locator("pre")).to_have_text(HTML)
    expect(page.locator("#cards pre")).to_have_text(HTML)
    expect(page.locator("#tree .name", has_text="<img").first).to_be_visible()
    page.locator("#search").fill("img")
    expect(page.locator("#found-note")).to_have_text("3 found.")
    assert page.evaluate("document.querySelectorAll('img, main script').length") == 0
    assert page.evaluate("window.attacked") is None


def test_no_script_but_ours_runs_in_the_page(open_page, show):
    served, _ = show({"oven": oven()})
    page = open_page(served.url, expect_errors=True)
    attempt = "document.body.innerHTML += \"<img src=x onerror='window.attacked = 1'>\""
    with contextlib.suppress(Exception):
        page.evaluate(attempt)
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.setAttribute("nonce", "x");
            try { script.append("window.attacked = 1"); document.body.append(script); } catch {}
        }"""
    )
    assert page.evaluate("window.attacked") is None


@contextlib.contextmanager
def foreign_page(text):
    """Return a context with the port of another site."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_page_of_another_site_sees_nothing(open_page, show):
    served, _ = show({"oven": oven()})
    script = """
        <title>asking</title><script>
        const heard = [];
        const socket = new WebSocket("ws://127.0.0.1:%d/live");
        socket.onmessage = () => heard.push("message");
        socket.onclose = async () => {
            try { heard.push(await (await fetch("http://127.0.0.1:%d/")).text()); } catch {}
            document.title = "heard " + heard.length;
        };
        </script>"""
    with foreign_page(script % (served.port, served.port)) as port:
        page = open_page(f"http://127.0.0.1:{port}/", expect_errors=True)
        expect(page).to_have_title("heard 0")


def test_a_name_that_was_rebound_to_this_computer_sees_nothing(open_page, show):
    served, _ = show({"oven": oven()})
    page = open_page(f"http://evil.example:{served.port}/", expect_errors=True)
    expect(page.locator("body")).to_contain_text("this site has other names")


TOKEN = "a-token-of-24-characters"


def test_the_token_in_the_address_opens_the_page_and_is_taken_out_of_it(open_page, show):
    served, _ = show({"oven": oven()}, Door(token=TOKEN))
    page = open_page(f"{served.url}&open=oven", expect_errors=True)
    expect(value(page, "oven/temperature")).to_have_text("391.5")
    assert TOKEN not in page.url
    assert "open=oven" in page.url
    assert page.evaluate("document.cookie") == ""
    page.reload()
    expect(value(page, "oven/temperature")).to_have_text("391.5")


def test_without_the_token_one_sees_a_form_and_with_a_wrong_one_a_refusal(open_page, show):
    served, _ = show({"oven": oven()}, Door(token=TOKEN))
    page = open_page(f"{served.url.partition('#')[0]}#token=wrong", expect_errors=True)
    expect(page.locator("#said")).to_have_text("Wrong token.")
    page.get_by_label("The token").fill(TOKEN)
    page.get_by_role("button", name="Enter").click()
    expect(row(page, "oven")).to_be_visible()


@pytest.mark.timeout(300)
def test_of_200_mb_and_100_000_keys_the_page_shows_a_part_and_says_so(open_page, show):
    line = np.zeros(20_000_000)
    line[12_345_678] = 7.0
    big = Notifier(
        {
            "line": line,
            "image": np.ones((2048, 2048)),
            "keys": {f"key{i}": i for i in range(100_000)},
            "list": [{"i": i} for i in range(5000)],
            "text": "x" * 1_000_000,
        }
    )
    served, _ = show({"big": big})
    names = ("line", "image", "keys", "list", "text")
    marks = "&".join(f"open=big/{name}" for name in names)
    page = open_page(f"{served.url}#open=big&{marks}")
    expect(row(page, "big/line").locator("figcaption")).to_contain_text(
        "20,000,000 points: smallest and largest of each"
    )
    expect(row(page, "big/image").locator("figcaption")).to_contain_text("2,048 x 2,048, means of")
    page.locator("#tree .more").first.scroll_into_view_if_needed()
    expect(page.locator("#tree .more").first).to_have_text("… 99,900 more")
    page.locator("#tree .more").first.click()
    expect(page.locator("#tree .more").first).to_have_text("… 99,500 more")
    big["keys"]["key7"] = "changed"
    row(page, "big/keys/key7").scroll_into_view_if_needed()
    expect(value(page, "big/keys/key7")).to_have_text("'changed'")
    row(page, "big/keys").locator("> .head").click()
    expect(page.locator("#tree .more").first).to_have_text("… 4,900 earlier")
    row(page, "big/list").locator("> .head").click()
    expect(row(page, "big/text").locator(".panel p")).to_have_text("980,000 more characters")
    page.locator("#search").fill("keys/key99999")
    expect(value(page, "big/keys/key99999", "#found-tree")).to_have_text("99999")
    assert page.evaluate("document.querySelectorAll('*').length") < 20_000
