"""What the page of `sync-struct web` costs a browser: frame times, and memory after some minutes.

A publisher sets an array of 1,000 points 50 times a second and an image of 512 x 512 ten times a
second; Chromium, without a screen and without a GPU, shows both as cards. Needs Playwright, psutil
and a Chromium on the path::

    python benchmarks/in_the_browser.py --minutes 10
"""

import argparse
import asyncio
import contextlib
import shutil
import statistics
import sys
import threading
import time

import numpy as np
import psutil
from playwright.sync_api import sync_playwright
from sync_struct import Notifier, publish
from sync_struct.web import showing

POINTS, LINES_PER_SECOND = 1000, 50
SIDE, IMAGES_PER_SECOND = 512, 10
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()  # noqa: SIM905

RECORD = """() => {
    window.frames_ = [];
    window.drawn = 0;
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (message) {
        window.drawn += message.includes("drawn");
        return send.call(this, message);
    };
    let last = performance.now();
    requestAnimationFrame(function step(now) {
        window.frames_.push(now - last);
        last = now;
        requestAnimationFrame(step);
    });
}"""


@contextlib.contextmanager
def shown(port):
    """Return a context with the address of the page, which is served by a background thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    page = showing("127.0.0.1", port, ["bench"])
    try:
        yield run(page.__aenter__()).url
    finally:
        run(page.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def change(published, until, made):
    """Set line and image at their rates, and count the changes."""
    random = np.random.default_rng(1)
    lines = random.normal(size=(16, POINTS)).cumsum(axis=1)
    images = random.random((4, SIDE, SIDE))
    begun = time.monotonic()
    while time.monotonic() < until:
        tick = made["lines"]
        published["line"] = lines[tick % 16] + tick
        made["lines"] += 1
        if tick % (LINES_PER_SECOND // IMAGES_PER_SECOND) == 0:
            published["image"] = images[made["images"] % 4]
            made["images"] += 1
        time.sleep(max(0.0, begun + (tick + 1) / LINES_PER_SECOND - time.monotonic()))


def memory(browser, page):
    """Return the bytes of the page's JavaScript, and of the browser's largest process."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = page.evaluate("performance.memory.usedJSHeapSize")
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [one["id"] for one in processes if one["type"] == "renderer"]
    return heap, max(psutil.Process(pid).memory_info().rss for pid in renderers)


def measure(page, seconds):
    page.evaluate("() => { window.frames_.length = 0; window.drawn = 0; }")
    page.wait_for_timeout(1000 * seconds)
    return page.evaluate("() => [window.frames_, window.drawn]")


def report(frames, drawn, seconds, made):
    ordered = sorted(frames)
    print(f"made: {made['lines'] / seconds:.1f} lines/s, {made['images'] / seconds:.1f} images/s")
    print(
        f"drawn by the page: {drawn / seconds:.1f} updates/s; {len(frames) / seconds:.1f} frames/s"
    )
    print(
        f"time between frames: median {statistics.median(ordered):.1f} ms, "
        f"p95 {ordered[int(0.95 * len(ordered))]:.1f} ms, longest {ordered[-1]:.0f} ms"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    seconds = 60 * parser.parse_args().minutes
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no Chromium on the path")
    published = Notifier({"line": np.zeros(POINTS), "image": np.zeros((SIDE, SIDE))})
    made = {"lines": 0, "images": 0}
    with (
        publish("127.0.0.1", 0, {"bench": published}) as publisher,
        shown(publisher.port) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(f"{url}#pin=bench/line&pin=bench/image&open=bench")
        page.locator("#cards .image > canvas").wait_for()
        page.evaluate(RECORD)
        until = time.monotonic() + seconds + 5
        changing = threading.Thread(target=change, args=(published, until, made))
        changing.start()
        measure(page, 3)  # compiled and warm
        before = memory(browser, page)
        counted = dict(made)
        frames, drawn = measure(page, seconds - 3)
        after = memory(browser, page)
        report(frames, drawn, seconds - 3, {key: made[key] - counted[key] for key in made})
        for name, *both in zip(("JavaScript heap", "renderer process"), before, after, strict=True):
            print(f"{name}: {both[0] / 2**20:.1f} MiB, {both[1] / 2**20:.1f} MiB at the end")
        changing.join()
        browser.close()


if __name__ == "__main__":
    main()
