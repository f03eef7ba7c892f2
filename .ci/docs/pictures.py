"""Pictures of the terminal and of pages in a browser, drawn by the build.

The picture of `sync-struct watch` is a frame of the command in a pseudo-terminal, drawn by rich.
The pictures of pages are screenshots of Chromium; without Chromium, they are grey bars.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import logging
import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.console import Console
from rich.text import Text
from sync_struct import Notifier, publish

sys.path.insert(0, str(Path(__file__).parents[1] / "web"))

import chromium
import laser
from pc_rpc import Server
from pc_rpc.web import controlling
from pyon.web import Door
from serving_thread import in_thread
from sync_struct.web import showing

WIDTH, HEIGHT = 80, 17  # characters
TIMEOUT = 60.0  # seconds, for a frame of the terminal
HOME = "\x1b[H"
"""The escape sequence at the beginning of each frame."""

GREY = """<svg xmlns="http://www.w3.org/2000/svg" width="640" height="24">
<rect width="640" height="24" fill="#ccc"/></svg>"""

SECONDS = np.arange(120)


def oven() -> Notifier:
    """Return the structure of the tutorial, a while after a change of the set point."""
    row, column = np.indices((32, 80))
    return Notifier(
        {
            "temperature": 391.4,
            "history": 293 + 107 * (1 - np.exp(-np.clip(SECONDS - 40, 0, None) / 30)),
            "camera": np.exp(-((row - 14) ** 2) / 60 - (column - 45) ** 2 / 300),
            "shutter": "open",
        }
    )


def frames(terminal: int) -> Iterator[str]:
    """Yield the complete frames that a program draws in a terminal."""
    decoder, text = codecs.getincrementaldecoder("utf-8")(), ""
    while True:
        try:
            data = os.read(terminal, 2**16)
        except OSError:  # the program has ended
            return
        *complete, text = (text + decoder.decode(data)).split(HOME)
        yield from complete


def frame_with(text: str, shown: Iterator[str]) -> str:
    """Return the next frame that contains a text."""
    for frame in shown:
        if text in frame:
            return frame
    raise RuntimeError(f"sync-struct watch has ended before it showed {text}")


@contextlib.contextmanager
def watching(port: int) -> Iterator[Iterator[str]]:
    """Run `sync-struct watch` in a terminal; yield its frames."""
    import pty
    import termios

    own, its = pty.openpty()
    termios.tcsetwinsize(its, (HEIGHT, WIDTH))
    unset = {"COLUMNS", "LINES", "NO_COLOR"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    program = Path(sys.executable).with_name("sync-struct")
    command = [program, "watch", "127.0.0.1", str(port), "oven"]
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**environment, "TERM": "xterm-256color"}
    ) as process:
        os.close(its)
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        try:
            yield frames(own)
        finally:
            timer.cancel()
            process.kill()
            os.close(own)


def draw_watch(path: Path) -> None:
    """Draw the terminal of `sync-struct watch`, just after a value has changed."""
    path.parent.mkdir(exist_ok=True)
    if os.name == "nt":  # without pseudo-terminals
        path.write_text(GREY, encoding="utf-8")
        return
    published = oven()
    with (
        publish("127.0.0.1", 0, {"oven": published}) as publisher,
        watching(publisher.port) as shown,
    ):
        frame_with("391.4", shown)
        published["temperature"] = 391.9
        frame = frame_with("391.9", shown).replace(f"port {publisher.port}", "port 3252")
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_terminal=True
    )
    console.print(Text.from_ansi(frame.replace("\r\n", "\n")))
    picture = console.export_svg(title="sync-struct watch 127.0.0.1 3252 oven")
    # Without the web fonts, which would be loaded from another server.
    path.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL), encoding="utf-8")


def laboratory() -> Notifier:
    """Return a structure with values of every kind."""
    row, column = np.indices((256, 256))
    rings = np.hypot(row - 118, column - 140)
    return Notifier(
        {
            "temperature": 391.4,
            "pressure": 3.2e-7,
            "setpoint": 400.0,
            "shutter": "open",
            "history": 293 + 107 * (1 - np.exp(-np.clip(np.arange(600) - 120, 0, None) / 150)),
            "camera": 900 * np.exp(-(rings**2) / 5000) * (1 + np.cos(rings / 5)) + row / 4,
            "scan": {"points": [round(float(x), 3) for x in np.sin(np.arange(80) / 6)], "done": 0},
            "laser": {"wavelength": 422.67, "locked": True, "axes": ["x", "y"]},
        }
    )


def draw_structures(folder: Path, browser) -> None:
    """Draw the page of `sync-struct web`, after its numbers have changed for some frames."""
    shown = ("temperature", "pressure", "history", "camera")
    marks = "&".join([f"pin=oven/{name}" for name in shown] + ["open=oven", "open=oven/scan"])
    published = laboratory()
    with (
        publish("127.0.0.1", 0, {"oven": published}) as publisher,
        in_thread(lambda: showing("127.0.0.1", publisher.port, ["oven"], Door())) as served,
    ):
        for screen, how in chromium.SCREENS.items():
            page = browser.new_context(**how).new_page()
            page.goto(f"{served.url}#{marks}&open=oven/scan/points")
            change(page, published)
            page.screenshot(path=folder / f"structures-{screen}.png")
            page.context.close()


def change(page, published: Notifier) -> None:
    """Change numbers, and wait until the page has drawn each of them."""
    random = np.random.default_rng(1)
    for temperature, part in zip(391 + random.normal(size=16), random.normal(size=16), strict=True):
        published["temperature"] = round(float(temperature), 2)
        published["pressure"] = round(3.2e-7 * (1 + 0.05 * float(part)), 9)
        shown = page.locator(".card[data-path='oven/temperature'] .value")
        page.wait_for_function(
            "([element, text]) => element.textContent === text",
            arg=[shown.element_handle(), repr(published["temperature"])],
        )
        page.wait_for_timeout(120)  # its history keeps ten numbers a second


class TunableLaser(laser.Laser):
    """A tunable laser, on a serial line."""

    def spectrum(self, exposure: Annotated[float, "s"] = 0.1):
        """Return the counts of the spectrometer."""
        x = np.linspace(-4, 4, 400)
        counts = 900 * np.exp(-(x**2) * 8) + 200 * np.exp(-((x - 1.6) ** 2) * 30) + 20
        return {"counts": counts, "saturated": False, "exposure": exposure}

    async def calibrate(self, points: int = 20):
        """Calibrate the wavelength meter; takes a minute."""
        await asyncio.sleep(3 * points)


@contextlib.asynccontextmanager
async def panel():
    async with Server({"laser": TunableLaser()}, "Laser of table 3") as server:
        await server.start("127.0.0.1", 0)
        async with controlling("127.0.0.1", server.port) as served:
            yield served


def draw_panel(folder: Path, browser) -> None:
    """Draw the page of `pc-rpc web`, after some calls."""
    with in_thread(panel) as served:
        for screen, how in chromium.SCREENS.items():
            page = browser.new_context(**how).new_page()
            page.goto(served.url)
            for power in ("7", "0.5"):
                page.locator("form[aria-label=set_power] [name=power]").fill(power)
                page.get_by_role("button", name="Call set_power").click()
            page.get_by_role("button", name="Call spectrum").click()
            spectrum = page.locator(".call").first
            spectrum.locator(".head", has_text="float64 400").click()
            spectrum.locator(".lines canvas").wait_for()
            if screen != "phone":
                page.get_by_role("button", name="Call calibrate").click()
                page.locator(".spinner:visible").wait_for()
            page.screenshot(path=folder / f"controls-{screen}.png")
            for button in page.locator(".cancel:visible").all():  # so that the next page can call
                button.click()
                page.locator(".call[data-state=cancelled]").wait_for()
            page.context.close()


def grey(path: Path) -> None:
    """Write a grey bar, in place of a screenshot."""
    header = struct.pack(">IIBBBBB", 640, 24, 8, 0, 0, 0, 0)
    data = zlib.compress((b"\0" + b"\xcc" * 640) * 24)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )


def draw_pages(folder: Path) -> None:
    if chromium.path() is None:
        for screen in chromium.SCREENS:
            for page in ("structures", "controls"):
                grey(folder / f"{page}-{screen}.png")
        return
    with chromium.browsing() as browser:
        draw_structures(folder, browser)
        draw_panel(folder, browser)


def draw(app) -> None:
    logging.getLogger("pc_rpc").setLevel(logging.WARNING)
    folder = Path(app.srcdir, "pictures")
    draw_watch(folder / "watch.svg")
    draw_pages(folder)


def setup(app) -> dict[str, bool]:
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True}
