"""Markdown files of the repository, as pages of the documentation.

Each is copied at the beginning of the build. Links between such files become links between their
copies; a link to another file of the repository becomes its text and the path of the file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PAGES = {
    "packages/pyon/FORMAT.md": "reference/pyon-format.md",
    "packages/pc-rpc/PROTOCOL.md": "reference/pc-rpc-protocol.md",
    "packages/sync-struct/PROTOCOL.md": "reference/sync-struct-protocol.md",
    "packages/pyon/README.md": "packages/pyon.md",
    "packages/pc-rpc/README.md": "packages/pc-rpc.md",
    "packages/sync-struct/README.md": "packages/sync-struct.md",
    "packages/fire-and-forget/README.md": "packages/fire-and-forget.md",
    "packages/remote-exec/README.md": "packages/remote-exec.md",
    "packages/pyon/CHANGELOG.md": "changelogs/pyon.md",
    "packages/pc-rpc/CHANGELOG.md": "changelogs/pc-rpc.md",
    "packages/sync-struct/CHANGELOG.md": "changelogs/sync-struct.md",
    "packages/fire-and-forget/CHANGELOG.md": "changelogs/fire-and-forget.md",
    "packages/remote-exec/CHANGELOG.md": "changelogs/remote-exec.md",
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing/index.md",
    "ARCHITECTURE.md": "contributing/architecture.md",
}
"""Files of the repository, and their pages."""

LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def page_of(source: str) -> str:
    """Return the text of the page of a file."""
    folder = Path(source).parent

    def relinked(match: re.Match[str]) -> str:
        text, path, anchor = match[1], match[2], match[3] or ""
        linked = os.path.normpath(folder / path).replace(os.sep, "/")
        if linked not in PAGES:
            return f"{text} (`{linked}`)"
        here = Path(PAGES[source]).parent
        return f"[{text}]({os.path.relpath(PAGES[linked], here).replace(os.sep, '/')}{anchor})"

    return LINK.sub(relinked, (ROOT / source).read_text(encoding="utf-8"))


def write_pages(app) -> None:
    for source, page in PAGES.items():
        path = Path(app.srcdir, page)
        path.parent.mkdir(exist_ok=True)
        text = page_of(source)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app) -> dict[str, bool]:
    app.connect("builder-inited", write_pages, priority=1)
    return {"parallel_read_safe": True}
