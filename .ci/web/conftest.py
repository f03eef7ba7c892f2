"""Fixtures of the tests in a browser, which ``python3 noxfile.py -s web`` runs."""

import contextlib
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

sys.path.insert(0, str(Path(__file__).parent))

import chromium
from serving_thread import in_thread
from sync_struct import publish
from sync_struct.web import showing

expect.set_options(timeout=30_000)  # milliseconds

AXE = (Path(__file__).parent / "assets" / "axe-4.14.1.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def browser():
    with chromium.browsing() as started:
        yield started


@pytest.fixture
def open_page(browser):
    """Return a function that opens a URL; errors in the page fail the test."""
    with contextlib.ExitStack() as stack:
        errors = []

        def open_it(url, screen="light", expect_errors=False, **more):
            context = browser.new_context(**chromium.SCREENS[screen], **more)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(30_000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            if not expect_errors:
                page.on("console", lambda m: m.type == "error" and errors.append(m.text))
            page.goto(url)
            return page

        yield open_it
    assert [one for one in errors if "WebSocket" not in one and "ERR_CONN" not in one] == []


@pytest.fixture
def show():
    """Return a function that publishes and shows notifiers, and returns site and publisher."""
    with contextlib.ExitStack() as stack:

        def show_them(notifiers, door=None):
            publisher = stack.enter_context(publish("127.0.0.1", 0, notifiers))
            served = stack.enter_context(
                in_thread(lambda: showing("127.0.0.1", publisher.port, [*notifiers], door))
            )
            return served, publisher

        yield show_them


@pytest.fixture
def accessible():
    """Return a function that fails if axe reports a violation in a page."""

    def check(page):
        page.evaluate(AXE)
        found = page.evaluate("async () => (await axe.run()).violations")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []

    return check
