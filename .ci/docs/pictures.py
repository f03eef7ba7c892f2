"""Pictures of the terminal, drawn by the build: of a structure that is published and followed.

They show what `sync-struct watch` shows: its own view of a mirrored structure, written to a
terminal of rich's that keeps what it was given.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from rich.console import Console
from sync_struct import Notifier, mirror, publish
from sync_struct._cli_view import View  # the view of the command: the picture is to be the truth

WIDTH, HEIGHT = 80, 17  # characters
SECONDS = np.arange(120)


def oven() -> Notifier:
    """Return the structure of the tutorial, a while after its set point was changed."""
    row, column = np.indices((32, 80))
    return Notifier(
        {
            "temperature": 391.4,
            "history": 293 + 107 * (1 - np.exp(-np.clip(SECONDS - 40, 0, None) / 30)),
            "camera": np.exp(-((row - 14) ** 2) / 60 - (column - 45) ** 2 / 300),
            "shutter": "open",
        }
    )


def draw_watch(path: Path) -> None:
    """Draw what `sync-struct watch` shows of a structure, while one of its values changes."""
    published = oven()
    with publish("127.0.0.1", 0, {"oven": published}) as publisher:
        view = View("oven at 127.0.0.1 port 3252")
        with mirror("127.0.0.1", publisher.port, "oven", notify_cb=view.note) as seen:
            published["temperature"] = 391.9
            seen.wait(lambda structure: structure["temperature"] == 391.9, timeout=30)
            view.target, view.state = seen.read, seen.state
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_terminal=True
    )
    console.print(view, height=HEIGHT)
    path.parent.mkdir(exist_ok=True)
    picture = console.export_svg(title="sync-struct watch 127.0.0.1 3252 oven")
    # The fonts would come from a server far away; the reader's own do as well.
    path.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL), encoding="utf-8")


def draw(app) -> None:
    draw_watch(Path(app.srcdir, "pictures", "watch.svg"))


def setup(app) -> dict[str, bool]:
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True}
