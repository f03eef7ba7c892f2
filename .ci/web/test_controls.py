"""The page of `pc-rpc web` in a browser: forms, results, errors, slow calls, and attacks."""

import asyncio
import contextlib
import threading

import laser as laser_driver
import numpy as np
import pytest
from pc_rpc import Server
from pc_rpc.web import controlling
from playwright.sync_api import expect
from serving_thread import in_thread

HTML = "<img/src=x/onerror=window.attacked=true>"  # no white space: also the name of a target


class Laser(laser_driver.Laser):
    """A laser.

    Driven over a line.
    """

    def __init__(self):
        super().__init__()
        self.cancelled = threading.Event()

    def spectrum(self, points: int = 300):
        """Return a spectrum."""
        return {"x": np.linspace(0, 1, points), "name": HTML}

    def image(self):
        """Take an image."""
        return np.outer(np.arange(20.0), np.arange(30.0))

    async def calibrate(self):
        """Calibrate; takes long."""
        try:
            await asyncio.sleep(3600)
        finally:
            self.cancelled.set()


def hostile(self, a=HTML):
    pass


hostile.__doc__ = f"{HTML}\n\n{HTML}"
Hostile = type("Hostile", (), {HTML: hostile, "__doc__": HTML})


@contextlib.asynccontextmanager
async def served(targets, description=None):
    async with Server(targets, description) as server:
        await server.start("127.0.0.1", 0)
        async with controlling("127.0.0.1", server.port) as panel:
            yield panel


@pytest.fixture
def laser():
    return Laser()


@pytest.fixture
def panel(open_page, laser):
    """Return a function that opens the panel on a kind of screen."""
    with in_thread(lambda: served({"laser": laser}, "Laser of table 3")) as site:

        def open_it(screen="light"):
            page = open_page(site.url, screen, expect_errors=True)  # 401 before the token
            expect(page.locator("body[data-live=true]")).to_be_attached()
            expect(page.get_by_role("button", name="Call set_power")).to_be_enabled()
            return page

        yield open_it


def form(page, method):
    return page.get_by_role("form", name=method)


def call(page, method):
    page.get_by_role("button", name=f"Call {method}", exact=True).click()
    return page.locator(".call").first


def test_a_form_has_a_field_for_each_parameter(panel, laser):
    page = panel()
    expect(page).to_have_title("Laser of table 3 · pc-rpc")
    fields = form(page, "set_power")
    expect(fields.locator("[name=power]")).to_have_attribute("inputmode", "decimal")
    expect(fields.get_by_role("textbox", name="power number")).to_be_editable()
    expect(fields.locator(".unit")).to_have_text("W")
    expect(fields.locator(".help")).to_have_text("At most 1.")
    expect(fields.locator("[name=mode]").locator("option")).to_have_text(
        ["default: 'slow'", "slow", "fast"]
    )
    fields.locator("[name=power]").fill("0.5")
    fields.locator("[name=ramp]").select_option("True")
    fields.locator("[name=mode]").select_option("fast")
    fields.locator("[name=power]").press("Enter")
    expect(page.locator(".call h3")).to_have_text("set_power(0.5, True, 'fast')")
    expect(page.locator(".call .value")).to_have_text("0.5")
    assert laser.called == [(0.5, True, "fast")]


def test_results_are_shown_as_trees_lines_and_images(panel):
    page = panel()
    result = call(page, "spectrum")
    expect(result.locator(".name")).to_have_text(["result", "x", "name"])
    result.locator(".head", has_text="float64 300").click()
    expect(result.locator(".lines canvas")).to_be_visible()
    expect(call(page, "image").locator(".image > canvas")).to_be_visible()
    page.locator(".call").first.get_by_role("button", name="Remove image()").click()
    expect(page.locator(".call")).to_have_count(1)


def test_the_traceback_of_an_error_is_collapsed(panel):
    page = panel()
    form(page, "set_power").locator("[name=power]").fill("7")
    failed = call(page, "set_power")
    expect(failed.locator(".error")).to_have_text("ValueError: too much for the crystal")
    expect(failed.locator("pre")).to_be_hidden()
    failed.locator("summary").click()
    expect(failed.locator("pre")).to_contain_text("in set_power")
    form(page, "set_power").locator("[name=power]").fill("much")
    expect(call(page, "set_power").locator(".error")).to_have_text(
        "power: expected a number, got 'much'"
    )


def test_a_slow_call_has_a_spinner_until_it_is_cancelled(panel, laser):
    page = panel()
    slow = call(page, "calibrate")
    expect(slow.locator(".spinner")).to_be_visible()
    slow.get_by_role("button", name="Cancel calibrate()").click()
    expect(slow.locator(".how")).to_contain_text("cancelled")
    expect(slow.locator(".spinner")).to_be_hidden()
    assert laser.cancelled.wait(30)


def test_opening_reloading_and_moving_the_focus_call_nothing(panel, laser):
    page = panel()
    page.reload()
    expect(page.get_by_role("button", name="Call set_power")).to_be_enabled()
    for _ in range(20):
        page.keyboard.press("Tab")
    page.locator("#search").fill("power")
    expect(form(page, "image")).to_be_hidden()
    expect(form(page, "set_power")).to_be_visible()
    assert laser.called == []
    expect(page.locator(".call")).to_have_count(0)


def test_on_a_phone_the_result_scrolls_into_view(panel):
    page = panel("phone")
    result = call(page, "image")
    expect(result.locator(".image > canvas")).to_be_in_viewport()
    wide = """[...document.querySelectorAll("body *")]
        .filter(e => e.getBoundingClientRect().right > 390.5).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(wide) == []


@pytest.mark.parametrize("screen", ["light", "dark", "phone"])
def test_axe_finds_nothing_at_the_panel(panel, accessible, screen):
    page = panel(screen)
    accessible(page)
    form(page, "set_power").locator("[name=power]").fill("7")
    failed = call(page, "set_power")
    failed.locator("summary").click()
    expect(call(page, "spectrum").locator("[role=treeitem]")).to_have_count(3)
    expect(call(page, "calibrate").locator(".spinner")).to_be_visible()
    form(page, "set_power").locator("summary").click()
    accessible(page)


def test_a_method_list_and_results_that_are_html_stay_text(open_page):
    hostile_one = Hostile()
    with in_thread(lambda: served({HTML: hostile_one, "laser": Laser()}, HTML)) as site:
        page = open_page(site.url, expect_errors=True)
        expect(page.locator("#title")).to_have_text(HTML)
        expect(page.locator(".target > h2").first).to_have_text(HTML)
        expect(page.locator(".method h3", has_text="<img")).to_have_text(HTML)
        result = call(page, "spectrum")
        expect(result.locator(".value", has_text="<img")).to_be_visible()
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert page.evaluate("window.attacked") is None


def test_a_foreign_page_that_knows_the_port_calls_nothing(open_page, laser):
    with in_thread(lambda: served({"laser": laser})) as site:
        page = open_page(f"http://evil.example:{site.port}/", expect_errors=True)
        expect(page.locator("body")).to_contain_text("this site has other names")
        script = """async port => {
            const call = {call: 1, target: "laser", method: "set_power", typed: {power: "1"}};
            const body = JSON.stringify(call);
            for (const path of ["/", "/enter", "/live"]) {
                const url = `http://127.0.0.1:${port}${path}`;
                try { await fetch(url, {method: "POST", mode: "no-cors", body}); } catch {}
            }
            return new Promise(resolve => {
                const socket = new WebSocket(`ws://127.0.0.1:${port}/live`);
                socket.onopen = () => resolve("open");
                socket.onclose = () => resolve("closed");
            });
        }"""
        blank = open_page("about:blank", expect_errors=True)
        assert blank.evaluate(script, site.port) == "closed"
    assert laser.called == []
